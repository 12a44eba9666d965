"""A whole study through the real DVC, of whose three GANs one collapses: what each stage makes of it."""

import json
import sqlite3

import pandas as pd
import pytest
import yaml

from pipeline.maintenance.workspace import create_workspace
from tests.test_dvc_behaviour import TINY, change_params, dvc, ran

pytestmark = [pytest.mark.slow, pytest.mark.soak]  # two minutes; the tests of each stage have its part

# The guard as it is, but that it takes one GAN for collapsed: laid over the workspace's own copy of the code.
GUARD = """

_guard = refuse_collapse


def refuse_collapse(history, gan, *, label, **more):
    if gan.collapse_patience_images and label.endswith("replicate 1 of 3") and len(history) > 2:
        raise CollapsedTraining(label, "the generator has collapsed (in a test)", "train on")
"""


def test_two_of_three_replicates_go_on_to_the_end(tmp_path):
    values = {**TINY, "study": TINY["study"] | {"replicates": 3}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    folder = tmp_path / "workspace"
    create_workspace(folder, changes=tmp_path / "tiny.yaml")
    monitor = folder / "pipeline/gan/monitor.py"
    monitor.write_text(monitor.read_text() + GUARD)
    output = dvc(folder, "repro")
    assert "GANs of 60 real images: 2 trained, 0 found finished, 1 collapsed" in output
    metrics = folder / "data/metrics"
    gans = json.loads((metrics / "collapsed/60.json").read_text())
    reason = "the generator has collapsed (in a test)"
    assert gans == {"gans": 3, "collapsed": [{"replicate": 1, "generator": 1, "reason": reason}]}

    cells = pd.read_csv(metrics / "cells.csv")
    numbers = cells.groupby("arm")["replicate"].agg(lambda column: sorted(set(column)))
    without = {"real", "real_affine", "extra_real"}
    assert {name: numbers[name] for name in numbers.index} == {
        name: [1, 2, 3] if name in without else [2, 3] for name in values["study"]["arms"]
    }
    comparison = json.loads((metrics / "comparison.json").read_text())
    assert {row["replicates"] for row in comparison["arms"]} == {2}
    assert "1 of 3 GANs collapsed." in comparison["verdict"]
    assert "1 of 3 GANs collapsed." in " ".join(output.split())  # the terminal breaks lines
    assert comparison["budgets"][0]["code"] != "gain"
    assert set(json.loads((metrics / "synthetic/60.json").read_text())["replicates"]) == {"2", "3"}

    page = (folder / "data/report/index.html").read_text()
    assert "1 of 3 GANs collapsed" in page and reason in page
    assert "export.replicate: found 1" in (folder / "data/export/REFUSED.md").read_text()
    assert "no generator registered: export.replicate: found 1" in output
    with sqlite3.connect(folder / "mlflow.db") as database:
        runs = [name for (name,) in database.execute("select name from runs")]
    assert {run.rpartition(" ")[2] for run in runs if "replicate" in run} == {"2", "3"}
    assert sum("gan · replicate" in run for run in runs) == 2

    assert ran(dvc(folder, "repro")) == set()
    # Another replicate is handed over without any training.
    change_params(folder, "export", replicate=2)
    assert ran(dvc(folder, "repro")) == {"export", "track"}
    assert (folder / "data/export/idx/manifest.json").is_file()
    # The collapsed GAN goes on from where it stopped; no other one is trained again, and what they drew stays.
    before = {path: path.read_bytes() for path in (folder / "data/gan/60").rglob("*.safetensors")}
    change_params(folder, "gan", collapse_patience_images=0)
    output = dvc(folder, "repro", "train_gan@60")
    assert "GANs of 60 real images: 1 trained, 2 found finished" in output
    assert len(before) == 2 and all(path.read_bytes() == data for path, data in before.items())
    assert (folder / "data/gan/60/0/generator.safetensors").is_file()

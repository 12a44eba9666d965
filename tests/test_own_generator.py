"""The example of docs/own-generator.md: the real DVC, a program of one's own, and a classifier of one's own."""

import json

import pytest
import yaml

from pipeline.maintenance.workspace import PROJECT, create_workspace
from tests.test_dvc_behaviour import TINY, dvc, ran

pytestmark = [pytest.mark.slow, pytest.mark.soak]  # four minutes; tests/foreign has each part of it

EXAMPLE = PROJECT / "docs/examples/own_generator.yaml"
NETWORK = """
from torch import nn


def make(*, num_classes, channels, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, num_classes))
"""


def test_the_example_runs_to_its_verdict_and_only_an_edit_runs_it_again(tmp_path):
    values = yaml.safe_load(EXAMPLE.read_text())
    for section in (
        "data",
        "study",
        "generation",
        "extractor",
        "evaluation",
        "report",
        "export",
        "execution",
    ):
        values[section] = values.get(section, {}) | TINY[section]
    values["classifier"] = TINY["classifier"] | {"network": "my_net:make", "code": "my_net.py"}
    changes = tmp_path / "changes.yaml"
    changes.write_text(yaml.safe_dump(values))
    (tmp_path / "my_net.py").write_text(NETWORK)
    folder = tmp_path / "w"
    params = create_workspace(folder, changes=changes)
    assert "generator: 2 run, 0 found finished, 0 failed" in dvc(folder, "repro")
    comparison = json.loads((folder / "data/metrics/comparison.json").read_text())
    assert comparison["verdict"] and "GAN" not in comparison["verdict"]
    card = (folder / "data/export/png/README.md").read_text()
    assert params.generator.name in card and "conditional GAN" not in card
    assert params.generator.name in (folder / "data/report/index.html").read_text(encoding="utf-8")

    assert ran(dvc(folder, "repro")) == set()

    code = folder / params.generator.code
    code.write_text(code.read_text().replace("COMPONENTS = 20", "COMPONENTS = 5"))
    edited = dvc(folder, "repro")
    assert "generator: 2 run, 0 found finished, 0 failed" in edited
    assert "train_augmented@60-1.0" in ran(edited)
    assert not {"train_baselines@60", "train_controls@60-1.0"} & ran(edited)  # they see no generator

    (folder / "my_net.py").write_text(NETWORK + "# edited\n")
    edited = dvc(folder, "repro")
    assert "train_gan@60" not in ran(edited)
    assert "baselines, 60 real: 4 classifiers trained, 0 found finished" in edited

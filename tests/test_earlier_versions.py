"""What earlier versions made is read: parameters, generators, exports of each format, workspaces, MLflow stores."""

import json
import re
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from pipeline.comparison.cells import load_cells
from pipeline.errors import SynthGainError
from pipeline.export.shards import FORMATS
from pipeline.export.verify import verify
from pipeline.gan.generators import load_generator
from pipeline.gan.sampling import synthetic_images
from pipeline.images import LabeledImages
from pipeline.params import load_params, parse_params
from pipeline.results import ResultFolders
from pipeline.study.grid import Grid
from pipeline.tracking.mirror import mirror
from pipeline.tracking.planned_runs import plan_runs
from pipeline.tracking.store import find_store

DATA = Path(__file__).parent / "data"
VERSIONS = sorted(path.name for path in DATA.glob("v*"))


MOVED = re.compile(r"(\S+): now called (\S+); move its value there")


# Keys that are new, and the value with which all is as it was.
NEW = {
    "data.channels": "auto",
    "data.unusable_images": "stop",
    "study.fill_to": "common",
    "study.metric": "accuracy",
    "study.pool": "none",
    "study.generators_train_on": "subset",
    "pool.images_per_labelled": 2,
    "pool.weight": 1.0,
    "pool.labelled_by": "affine_elastic",
    "pool.pseudo_label_threshold": 0.95,
    "pool.weak_policy": "affine",
    "pool.consistency_threshold": 0.95,
    **{f"generator.{name}": "" for name in ("command", "trained_on", "name", "author", "licence")},
    "generator.kind": "gan",
    "generator.code": "own/generator",
    "generator.minutes": 60,
    "generator.folder": "data/generated",
    "classifier.network": "compact",
    "classifier.code": "own/classifier",
    "classifier.logit_adjustment": 1.0,
    "classifier.reweighted_tail": 0.2,
    "augmentation.fill": 0,
    "augmentation.flips": "none",
    "augmentation.shift_translation": 0.125,
    "augmentation.color_brightness": 0.3,
    "augmentation.color_contrast": 0.3,
    "augmentation.color_saturation": 0.3,
    "augmentation.color_hue": 0.05,
    "augmentation.mixup_alpha": 0.2,
}


def with_new(values):
    for name, value in NEW.items():
        section, key = name.split(".")
        values.setdefault(section, {}).setdefault(key, value)
    return values


def with_moved(values, moved):
    """The values of a parameter file with its keys moved, as the messages say."""
    for old, new in moved.items():
        (section, key), (new_section, new_key) = old.split("."), new.split(".")
        values.setdefault(new_section, {})[new_key] = values[section].pop(key)
    return values


def count_from_one(metrics):
    """The tables with replicates from 1, as `dvc repro` makes them again: before, they counted from 0."""
    for path in metrics.rglob("*.csv"):
        table = pd.read_csv(path)
        table["replicate"] += 1
        table.to_csv(path, index=False)
    for path in (metrics / "synthetic").glob("*.json"):
        values = json.loads(path.read_text())
        values["replicates"] = {str(int(key) + 1): row for key, row in values["replicates"].items()}
        path.write_text(json.dumps(values))


@pytest.fixture(params=VERSIONS)
def made(request):
    """The folder of what one version made."""
    return DATA / request.param


@pytest.fixture
def workspace(made, tmp_path):
    """Its workspace, at another place than where it was made."""
    with tarfile.open(made / "workspace.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_there_is_a_version_to_come_back_to():
    assert "v0.1.0" in VERSIONS


def test_its_parameters_are_read(made):
    """Or refused, each moved key with its new name; with those names it is read."""
    try:
        params = load_params(made / "params.yaml")
    except SynthGainError as error:
        lines = str(error).splitlines()
        moved = dict(found.groups() for found in map(MOVED.search, lines) if found)
        missing = {line.split(": ")[1] for line in lines if "missing; every value" in line}
        whole = {"augmentation", "generator", "pool"}  # sections
        new = {name for name in NEW if name.partition(".")[0] not in whole}
        assert missing == whole | new and len(lines) == len(moved) + len(missing)
        values = with_new(with_moved(yaml.safe_load((made / "params.yaml").read_text()), moved))
        with pytest.raises(SynthGainError, match=r"^moved: export\.replicate: found 0; .* counted from 1$"):
            parse_params(values, where="moved")
        values["export"]["replicate"] += 1
        params = parse_params(values, where="moved")
    assert params.data.source == "mnist" and "synthetic_affine" in params.study.arms


def test_its_generator_draws_the_same_images(made):
    kept = LabeledImages.load(made / "synthetic.npz")
    generator, class_names, provenance = load_generator(made / "generator.safetensors", torch.device("cpu"))
    assert class_names == kept.class_names
    again = synthetic_images(
        generator,
        class_names=class_names,
        images_per_class=3,
        seed=kept.provenance["seed"],
        provenance=provenance,
        device=torch.device("cpu"),
        advance=lambda units, note="": None,
    )
    assert np.array_equal(again.labels, kept.labels)
    # Another kind of CPU rounds otherwise.
    assert np.abs(again.images.astype(int) - kept.images.astype(int)).max() <= 1


@pytest.mark.parametrize("name", FORMATS)
def test_its_exports_are_whole(made, name, tmp_path):
    folder = made / "export" / name
    assert verify(folder) == []
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"] == [3] * 10 and manifest["images"] == 30 and manifest["synthetic"]
    copy = tmp_path / name
    shutil.copytree(folder, copy)
    largest = max((path for path in copy.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    assert verify(copy)


def test_its_results_are_read_and_its_store_is_gone_on_with(workspace):
    values = yaml.safe_load((workspace / "params.yaml").read_text())
    if "augmentation" not in values:
        names = [name for name in values["classifier"] if name.startswith(("affine", "elastic"))]
        moved = {f"classifier.{name}": f"augmentation.{name}" for name in names}
        values = with_moved(values, moved | {"gan.collapse_patience": "gan.collapse_patience_images"})
        values["export"]["replicate"] += 1
        count_from_one(workspace / "data/metrics")
    params = parse_params(with_new(values), where="moved")
    cells, ignored = load_cells(workspace / "data/metrics/cells.csv", Grid.declared(params.study))
    assert len(cells) == 2 * 6 and ignored == 0
    store = find_store({}, workspace)
    with closing(sqlite3.connect(store.database)) as connection:  # as if the folder had never moved
        (old,) = {
            row[0].partition("/mlartifacts")[0]
            for row in connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id > 0")
        }
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, workspace.as_uri())
            )
        connection.commit()
    report = workspace / "data/report"
    (report / "figures").mkdir(parents=True)
    (report / "index.html").write_text("not kept")
    runs = plan_runs(
        params,
        ResultFolders.within(workspace / "data"),
        params_file=workspace / "params.yaml",
        report=report,
    )
    first = mirror(runs, experiment="synthgain-digits", store=store, root=workspace)
    assert first.kept + first.created == len(runs) and first.removed >= 1
    assert mirror(runs, experiment="synthgain-digits", store=store, root=workspace).created == 0

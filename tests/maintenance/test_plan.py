"""The plan of a workspace counts what `dvc repro` trains, and its estimate is a number."""

import json
import math
from pathlib import Path

import pytest
import yaml

from pipeline.errors import SynthGainError
from pipeline.maintenance.measured import nearest
from pipeline.maintenance.plan import count_stages, images_of, plan
from pipeline.params import overlay_params, parse_params

ROOT = Path(__file__).parents[2]
TINY = {
    "data": {"source": "digits", "image_size": 8, "validation_images": 200},
    "study": {
        "real_images": [60, "all"],
        "replicates": 2,
        "synthetic_per_real": [0.5, 1.0],
        "arms": ["real", "real_affine", "synthetic", "repeat"],
        "generators_per_replicate": 2,
    },
    "gan": {
        "total_images": 6400,
        "batch_size": 16,
        "generator_channels": [8, 8],
        "discriminator_channels": [8, 8, 8],
    },
    "generation": {"images_per_class": 140},
    "extractor": {"channels": 4, "feature_dim": 8},
    "classifier": {"channels": 4, "feature_dim": 8, "batch_size": 16, "steps": 40},
    "export": {"formats": ["npz"]},
}


@pytest.fixture
def workspace(tmp_path):
    """A workspace's dvc.yaml, and a function that gives its parameters with some changed."""
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())

    def params(**data):
        changes = tmp_path / "changes.yaml"
        changes.write_text(yaml.safe_dump(TINY | {"data": TINY["data"] | data}))
        return overlay_params(ROOT / "params.yaml", changes)

    return tmp_path, params


def test_a_plan_counts_what_is_trained_and_estimates_the_time(workspace):
    folder, params = workspace
    found = plan(folder, params())
    assert (found.shape, found.classes) == ((1, 8, 8), 10)
    # Of two budgets and two ratios: four stages of a matrix of both, and those of one of them.
    assert found.gans == 2 * 2 * 2 and found.cells == 2 * 2 * (2 + 2 * 2)
    assert found.synthetic_images == 2 * 2 * 140 * 10
    assert found.seconds.keys() == {"GANs", "classifiers", "the rest"}
    assert all(0 < seconds < math.inf for seconds in found.seconds.values())
    assert found.bytes > found.synthetic_images * 64


def test_stages_are_those_that_dvc_sees(workspace):
    import dvc.repo

    folder, params = workspace
    values = params().model_dump()
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    with dvc.repo.Repo.init(str(folder), no_scm=True) as repo:
        assert count_stages(folder, params()) == len(repo.index.stages)


def test_own_images_are_planned_once_they_are_prepared(workspace):
    folder, params = workspace
    with pytest.raises(
        SynthGainError, match=r"splits\.json: not of these parameters, or not there; `dvc repro prep"
    ):
        images_of(folder, params(source="folder"))
    (folder / "data/prepared").mkdir(parents=True)
    manifest = {"source": "folder", "image_size": 8, "channels": 3, "class_names": ["a", "b", "c"]}
    (folder / "data/prepared/splits.json").write_text(json.dumps(manifest))
    assert images_of(folder, params(source="folder")) == (3, (3, 8, 8))
    assert images_of(folder, params(source="svhn", image_size=32)) == (10, (3, 32, 32))


def test_a_generator_of_ones_own_takes_nobody_knows_how_long(workspace):
    folder, params = workspace
    own = {"kind": "command", "command": "python x.py {out}", "trained_on": "subset"}
    own |= {"name": "x", "author": "x", "licence": "x"}
    values = params().model_dump() | {"generator": params().generator.model_dump() | own}
    found = plan(folder, parse_params(values, where="params.yaml"))
    assert found.seconds.keys() == {"classifiers", "the rest"}
    assert found.gans == 2 * 2 * 2


def test_the_nearest_measured_row_is_of_the_same_kind_and_size(workspace):
    _, params = workspace

    def row(labels, **study):
        changed = params()
        return nearest(
            changed.model_copy(update={"study": changed.study.model_copy(update=study)}), labels=labels
        )

    alone, augmented = ["real", "synthetic"], ["real", "real_affine", "real_affine_elastic", "synthetic"]
    assert (row(150, arms=alone).labels, row(150, arms=alone).classic) == (100, "none")
    assert (
        row(150, arms=augmented).classic == "affine_elastic" and "gave" in row(150, arms=augmented).sentence
    )
    assert row(2999, arms=augmented).labels == 1000
    assert row(3001, arms=augmented) is None and row(30, arms=augmented) is None
    assert row(100, arms=augmented, imbalance={"3": 0.1}) is None
    assert row(100, arms=[*augmented, "real_shift"]) is None

"""`evaluate_synthetic` on small splits and an untrained extractor: the JSON contract, and clear refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from pipeline.checkpoints import file_sha256, save_checkpoint
from pipeline.classifier.network import EXTRACTOR_KIND, ConvNet
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, index_sha256
from pipeline.study.pool import PseudoLabels, pool_indices, save_pseudo_labels
from pipeline.study.subsets import real_subset
from stages import evaluate_synthetic

REAL_PARAMS = Path(__file__).parents[2] / "params.yaml"
CLASS_NAMES = ("zero", "one", "two")
SEED = 7
BUDGET = 30
ROW = {
    *(
        "fid",
        "fid_scale",
        "inception_score",
        "kid",
        "precision",
        "recall",
        "density",
        "coverage",
        "label_fidelity",
        "label_fidelity_images",
    ),
    *("fid_per_class", "label_fidelity_per_class"),
}


def pictures(seed, per_class, provenance):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    images = rng.integers(0, 120, size=(3 * per_class, 1, 12, 12)) + 60 * labels[:, None, None, None]
    return LabeledImages(images.astype(np.uint8), labels.astype(np.int64), CLASS_NAMES, provenance)


@pytest.fixture
def files(tmp_path):
    values = yaml.safe_load(REAL_PARAMS.read_text())
    values["seed"] = SEED
    values["study"] |= {"real_images": [BUDGET], "replicates": 2, "synthetic_per_real": [1.0]}
    values["evaluation"] |= {"images": 100, "neighbors": 3}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    pictures(1, 60, {}).save(tmp_path / "test.npz")
    pictures(3, 60, {}).save(tmp_path / "validation.npz")
    train = pictures(2, 60, {})
    train.save(tmp_path / "train.npz")
    subset = real_subset(train, budget=BUDGET, replicate=0, seed=SEED)
    for replicate in range(2):
        provenance = {**subset.provenance, "kind": "synthetic", "budget": BUDGET, "replicate": replicate}
        pictures(10 + replicate, 50, provenance).save(tmp_path / f"synthetic/{BUDGET}/{replicate}.npz")
    torch.manual_seed(0)
    arguments = {"channels": 4, "feature_dim": 6, "num_classes": 3, "image_size": 12}
    save_checkpoint(
        tmp_path / "extractor/extractor.safetensors",
        ConvNet(**arguments).state_dict(),
        {"kind": EXTRACTOR_KIND, "arguments": arguments, "feature_scale": 1.0},
    )
    return tmp_path


def arguments(files, **changes):
    values = {
        "budget": BUDGET,
        "synthetic": files / "synthetic",
        "collapsed": files / "collapsed",
        "labels": files / "pseudo_labels",
        "extractor": files / "extractor",
        "train": files / "train.npz",
        "validation": files / "validation.npz",
        "test": files / "test.npz",
        "out": files / "metrics",
        "params": files / "params.yaml",
    }
    return [text for name, value in (values | changes).items() for text in (f"--{name}", str(value))]


def run(files, **changes):
    app = typer.Typer()
    app.command()(evaluate_synthetic.main)
    return CliRunner().invoke(app, arguments(files, **changes))


def test_writes_the_agreed_table_and_the_same_bytes_again(files):
    result = run(files)
    assert result.exit_code == 0, result.output
    path = files / "metrics/30.json"
    table = json.loads(path.read_text())
    assert {key: table[key] for key in ("budget", "n", "neighbors", "features")} == {
        "budget": BUDGET,
        "n": 100,
        "neighbors": 3,
        "features": "domain",
    }
    assert table["extractor_sha256"] == file_sha256(files / "extractor/extractor.safetensors")
    assert 0 <= table["extractor_test_accuracy"] <= 1
    assert list(table["replicates"]) == ["1", "2"]
    for row in (table["floor"], table["copycat"], *table["replicates"].values()):
        assert set(row) - {"memorization"} == ROW
        assert set(row["fid_per_class"]) == set(row["label_fidelity_per_class"]) == set(CLASS_NAMES)
        numbers = [value for value in row.values() if not isinstance(value, dict)]
        assert np.isfinite([*numbers, *row["fid_per_class"].values()]).all()
    for row in table["replicates"].values():
        found = row["memorization"]
        assert isinstance(found["passed"], bool) and found["reason"]
        for space in ("pixel", "feature"):
            assert set(found[space]) == set(table["memorization"]["real_test"][space])
            assert len([pair for pair in found["closest_pairs"] if pair["space"] == space]) == 12
    assert "near copies" in table["memorization"]["rule"]
    assert "lowered" not in result.output
    before = path.read_bytes()
    run(files)
    assert path.read_bytes() == before


def test_says_when_n_is_lowered(files):
    values = yaml.safe_load((files / "params.yaml").read_text())
    values["evaluation"]["images"] = 5000
    (files / "params.yaml").write_text(yaml.safe_dump(values))
    result = run(files)
    assert "n lowered from evaluation.images 5000 to 150" in result.output
    assert json.loads((files / "metrics/30.json").read_text())["n"] == 150


def test_another_subset_than_the_gan_was_trained_on_is_one_line(files):
    values = yaml.safe_load((files / "params.yaml").read_text())
    (files / "params.yaml").write_text(yaml.safe_dump(values | {"seed": 8}))
    result = run(files)
    assert isinstance(result.exception, SynthGainError)
    (line,) = str(result.exception).splitlines()
    assert line.startswith("synthetic images of replicate 1: made from the real subset ")
    assert not (files / "metrics").exists()


def test_a_generator_that_repeats_its_training_images_does_not_pass(files):
    train = LabeledImages.load(files / "train.npz")
    subset = real_subset(train, budget=BUDGET, replicate=1, seed=SEED)
    copies = subset.subset(np.tile(np.arange(BUDGET), 5), {**subset.provenance, "kind": "synthetic"})
    copies.save(files / f"synthetic/{BUDGET}/1.npz")
    result = run(files)
    assert "replicate 2 does not pass the memorisation gate: 100.0% near copies" in result.output
    assert "raise gan.real_augmentation" in result.output
    assert "replicate 1 does not" not in result.output
    rows = json.loads((files / "metrics/30.json").read_text())["replicates"]
    assert [row["memorization"]["passed"] for row in rows.values()] == [True, False]


def test_copies_of_the_pool_do_not_pass_either_if_the_generator_was_trained_on_it(files):
    train = LabeledImages.load(files / "train.npz")
    given = {}
    for replicate in range(2):
        real = real_subset(train, budget=BUDGET, replicate=replicate, seed=SEED)
        pool = pool_indices(train, real, size="rest", seed=SEED)
        given[replicate] = PseudoLabels(
            train.labels[pool], np.ones(len(pool), np.float32), index_sha256(pool), 0.9
        )
    train.subset(pool, {**real.provenance, "kind": "synthetic"}).save(files / f"synthetic/{BUDGET}/1.npz")
    assert "does not pass" not in run(files).output
    save_pseudo_labels(files / f"pseudo_labels/{BUDGET}.npz", given)
    values = yaml.safe_load((files / "params.yaml").read_text())
    values["study"] |= {"pool": "rest", "generators_train_on": "pool"}
    (files / "params.yaml").write_text(yaml.safe_dump(values))
    said = run(files).output
    assert "replicate 2 does not pass the memorisation gate: 100.0% near copies" in said
    assert "replicate 1 does not" not in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": "many"}, "--budget: found many"),
        ({"budget": 40, "synthetic": "renamed"}, "the file says budget 30"),
        ({"extractor": "."}, "extractor.safetensors: no such file"),
        ({"synthetic": "."}, "0.npz: no such file"),
    ],
)
def test_what_is_missing_or_wrong_is_named(files, change, message):
    shutil.copytree(files / f"synthetic/{BUDGET}", files / "renamed/40")
    result = run(
        files, **{name: files / value if name == "synthetic" else value for name, value in change.items()}
    )
    assert result.exit_code != 0
    assert message in str(result.exception)

"""Stages whose arms a study does not declare: done in a second, since torch is not imported (two seconds)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save
from sklearn.datasets import load_digits

from pipeline.classifier.saved_cells import CELLS_KIND, load_cells
from pipeline.images import LabeledImages
from pipeline.study.label_filter import save_agreements
from pipeline.study.pool import save_pseudo_labels
from pipeline.study.trained_gans import TrainedGans, save_trained_gans
from tests.test_kills import tiny_params

ROOT = Path(__file__).parents[2]
# An import of torch would end the stage with an error.
WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What the stages read. The tiny study has neither rare classes nor a pool nor a filtered arm."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny_params(folder)
    data = load_digits()
    images = (data.images[:, None] * 15.9).astype("uint8")
    LabeledImages(images, data.target.astype("int64"), tuple("0123456789")).save(folder / "train.npz")
    save_trained_gans(folder / "collapsed/60.json", TrainedGans(2))
    save_pseudo_labels(folder / "pseudo_labels/60.npz", {})
    return folder


@pytest.mark.parametrize(
    ("stage", "reads"),
    [
        ("train_fill", "--train train.npz --synthetic synthetic --collapsed collapsed"),
        ("train_pool", "--train train.npz --labels pseudo_labels"),
        ("score_labels", "--train train.npz --synthetic synthetic --collapsed collapsed"),
        ("label_pool", "--train train.npz"),
    ],
)
def test_a_stage_with_nothing_to_train_does_not_import_torch(inputs, tmp_path, stage, reads):
    options = ["--budget", "60", *reads.split(), "--out", str(tmp_path / "out")]
    if not stage.startswith("train_"):
        options += ["--metrics", str(tmp_path / "metrics")]
    command = [sys.executable, "-c", WITHOUT_TORCH, f"stages.{stage}", *options]
    subprocess.run(command, cwd=inputs, env={"PYTHONPATH": str(ROOT)}, check=True)
    expected = tmp_path / "expected"
    if stage.startswith("train_"):
        (written,) = (tmp_path / "out/60").iterdir()
        assert load_cells(written) == ([], {})
        metadata = {"kind": CELLS_KIND, "arguments": {}, "cells": []}
        expected.write_bytes(save({}, metadata={"synthgain": json.dumps(metadata, sort_keys=True)}))
    else:
        written = tmp_path / "out/60.npz"
        (save_agreements if stage == "score_labels" else save_pseudo_labels)(expected, {})
    assert written.read_bytes() == expected.read_bytes()

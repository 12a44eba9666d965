"""The recipe of studies/colour_digits.py, and the tree that it writes."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.images import LabeledImages

SCRIPT = Path(__file__).parents[1] / "studies/colour_digits.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("colour_digits", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_grey(value):
    pixels = np.full((6, 1, 28, 28), value, dtype=np.uint8)
    return LabeledImages(pixels, np.arange(6, dtype=np.int64) % 2, ("0", "1"))


def test_a_digit_turns_its_patch_over_and_black_paper_leaves_it(script):
    patches, turned = (script.over_photographs(of_grey(value), seed=0) for value in (0, 255))
    assert patches.shape == (6, 32, 32, 3) and patches.std() > 10
    assert np.array_equal(turned[:, 2:-2, 2:-2], 255 - patches[:, 2:-2, 2:-2])
    assert np.array_equal(turned[:, :2], patches[:, :2])  # the border is no part of the digit
    assert not np.array_equal(script.over_photographs(of_grey(0), seed=1), patches)


def test_the_tree_has_a_file_for_each_digit_of_a_prepared_workspace(script, tmp_path):
    for name in ("train", "validation", "test"):
        of_grey(0).save(tmp_path / f"{name}.npz")
    script.write(tmp_path / "out", tmp_path)
    files = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")]
    assert len(files) == 18 and sum(file.startswith("train/1/") for file in files) == 6
    with Image.open(tmp_path / "out" / sorted(files)[0]) as image:
        assert image.size == (32, 32) and image.mode == "RGB"


def test_without_a_workspace_they_are_the_embedded_digits(script, tmp_path):
    splits = script.grey_digits(tmp_path)
    assert {name: len(split) for name, split in splits.items()} == {"train": 1397, "test": 400}

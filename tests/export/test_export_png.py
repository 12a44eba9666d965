"""The PNG tree: torchvision's ImageFolder reads it, and its folder names are safe on every file system."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.export.ids import sample_ids
from pipeline.export.png import class_folders, write_png
from pipeline.images import LabeledImages


def some_images(class_names, per_class=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(class_names)), per_class).astype(np.int64)
    images = rng.integers(0, 256, size=(len(labels), 1, 12, 8), dtype=np.uint8)
    return LabeledImages(images, labels, tuple(class_names))


def test_torchvision_reads_every_pixel_and_label(tmp_path):
    from torchvision.datasets import ImageFolder

    images = some_images(["0", "1", "T-shirt/top"])
    write_png(images, tmp_path)
    dataset = ImageFolder(tmp_path)
    assert dataset.classes == ["0", "1", "T-shirt_top"]
    assert len(dataset) == len(images)
    for (path, label), expected, sample_id in zip(
        dataset.samples, images.images[:, 0], sample_ids(images.labels), strict=True
    ):
        assert path.endswith(f"/{sample_id}.png") and sample_id.startswith(f"{label}-")
        pixels = np.asarray(dataset.loader(path).convert("L"))
        np.testing.assert_array_equal(pixels, expected)


def test_files_hold_eight_bit_grey_and_nothing_else(tmp_path):
    from PIL import Image

    write_png(some_images(["a"], per_class=1), tmp_path)
    with Image.open(tmp_path / "a/0-000000.png") as picture:
        assert (picture.mode, picture.size, picture.info) == ("L", (8, 12), {})


def test_the_same_images_give_the_same_bytes(tmp_path):
    contents = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        write_png(some_images(["a", "b"]), tmp_path / folder)
        root = tmp_path / folder
        contents.append({p.relative_to(root): p.read_bytes() for p in root.rglob("*.png")})
    assert contents[0] == contents[1] and len(contents[0]) == 8


@pytest.mark.parametrize(
    ("class_names", "folders"),
    [
        (["0", "1"], ["0", "1"]),
        (["T-shirt/top", "Ankle boot"], ["T-shirt_top", "Ankle boot"]),
        (["か", "ы"], ["か", "ы"]),
        (["..", ".hidden", ""], ["class_0", "hidden", "class_2"]),
        (["a", "A"], ["a_0", "A_1"]),
        (["a/b", "a:b", "a_b"], ["a_b_0", "a_b_1", "a_b_2"]),
        (["con", "nul.txt", "console"], ["con_0", "nul.txt_1", "console"]),
        (["con", "con_0"], ["con_0_0", "con_0"]),
    ],
)
def test_class_names_become_safe_folders(class_names, folders):
    assert class_folders(class_names) == folders


@settings(deadline=None)
@given(st.lists(st.text(max_size=80), max_size=8))
def test_any_class_names_become_distinct_safe_folders(class_names):
    folders = class_folders(class_names)
    assert len({name.casefold() for name in folders}) == len(class_names)
    for name in folders:
        assert name and name == name.strip(". ") and len(name.encode()) <= 255
        assert not set(name) & set('/\\:*?"<>|\0\n\r\t')

"""The folders of the PNG tree: names that every file system takes."""

import glob
import json
import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from pipeline.class_folders import class_folders, class_folders_before
from pipeline.export.manifest import CARD, CHECKSUMS, CROISSANT, MANIFEST
from pipeline.export.parquet import TABLE
from pipeline.export.verify import verify

from .conftest import synthetic_images


@pytest.mark.parametrize(
    ("class_names", "folders"),
    [
        (["0", "1"], ["0", "1"]),
        (["T-shirt/top", "Ankle boot"], ["T-shirt_top", "Ankle boot"]),
        (["か", "ы"], ["か", "ы"]),
        (["..", ".hidden", ""], ["class_0", "hidden", "class_2"]),
        (["a", "A"], ["a_0", "A_1"]),
        (["a/b", "a:b", "a_b"], ["a_b_0", "a_b_1", "a_b_2"]),
        (
            ["train", "test", "my-val 2", "trains", "validity"],
            ["class_0", "class_1", "class_2", "trains", "validity"],
        ),
        (["_a", "+", "=", "class_1"], ["class_0", "class_1_1", "class_2", "class_1"]),
        (["samples.parquet", "README.md", "Manifest.JSON"], ["class_0", "class_1", "class_2"]),
        (["con", "nul.txt", "console"], ["con_0", "nul.txt_1", "console"]),
        (["con", "con_0"], ["con_0_0", "con_0"]),
    ],
)
def test_class_names_become_safe_folders(class_names, folders):
    assert class_folders(class_names) == folders


def test_the_folders_are_none_of_the_files_of_an_export():
    """png.py says their names once more: it cannot import those that import it."""
    names = [MANIFEST, CARD, CROISSANT, CHECKSUMS, TABLE]
    assert class_folders(names) == [f"class_{label}" for label in range(5)]


FOREIGN = {
    "signs": ("+", "=", "C#", "C+"),
    "hidden": ("_private", ".hidden", "__", "a"),
    "splits": ("train", "test", "validation 2", "pre-eval"),
    "one split": ("dev", "cat", "dog"),
    "files of the export": ("samples.parquet", "README.md", "SHA256SUMS", "manifest.json", "croissant.json"),
    "case and form": ("a", "A", "ﬁ", "fi"),
    "long": ("x" * 200, "x" * 199 + "y", "手" * 200),
    "markup": ("<script>alert(1)</script>", "[x](http://a.b)", "`*_~|"),
}


@pytest.mark.parametrize("class_names", FOREIGN.values(), ids=FOREIGN)
def test_every_reader_finds_every_image_of_every_class(export, tmp_path, class_names):
    """Hugging Face, torchvision, glob and our own, with the names of the manifest for the folders."""
    counts = tuple(range(2, 2 + len(class_names)))
    folder = export(synthetic_images(counts=counts, class_names=class_names), formats=("png",)) / "png"
    assert verify(folder) == []
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["class_names"] == list(class_names)
    folders = manifest.get("class_folders") or class_folders_before(class_names)
    by_folder = dict(zip(folders, counts, strict=True))
    assert Counter(Path(path).parts[-2] for path in glob.glob(f"{folder}/*/*.png")) == by_folder
    torchvision = ImageFolder(folder)
    assert Counter(torchvision.classes[label] for label in torchvision.targets) == by_folder
    assert hugging_face(folder, tmp_path / "cache") == {"train": by_folder}


def hugging_face(folder, cache):
    """What `load_dataset(folder)` finds: the images of each class by its name, for each split."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own dependencies
        import datasets

        datasets.disable_progress_bars()
        loaded = datasets.load_dataset(str(folder), cache_dir=str(cache))
    return {
        split: Counter(data.features["label"].names[label] for label in data["label"])
        for split, data in loaded.items()
    }


def test_the_card_and_the_manifest_say_the_folder_of_a_class(export):
    folder = export(synthetic_images(class_names=("test", "<b>", "c")), formats=("png",)) / "png"
    card = (folder / "README.md").read_text()
    assert "| 0 | test | 9 | class_0 |\n| 1 | &#60;b&#62; | 5 | class_1 |\n| 2 | c | 7 | c |" in card


def test_folders_other_than_those_of_the_class_names_are_a_finding(export):
    folder = export(synthetic_images(class_names=("test", "a", "c")), formats=("png",)) / "png"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"class_folders": ["..", "a", "c"]}))
    assert "manifest.json: class_folders are not those of its class_names" in verify(folder)


@given(st.lists(st.text(max_size=80), max_size=8))
def test_any_class_names_become_distinct_safe_folders(class_names):
    folders = class_folders(class_names)
    assert len({name.casefold() for name in folders}) == len(class_names)
    for name in folders:
        assert name and name == name.strip(". ") and len(name.encode()) <= 255
        assert not set(name) & set('/\\:*?"<>|\0\n\r\t')

"""A whole export: the same bytes every time, nothing foreign touched, nothing half-written, nothing real."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SynthGainError
from pipeline.export import dataset
from pipeline.export.dataset import export_dataset, load_synthetic
from pipeline.export.selection import Selection
from pipeline.images import LabeledImages

SELECTION = Selection(1000, False, 0, "No gain was seen.")


def synthetic_images(seed=0, **provenance):
    made = {"kind": "synthetic", "budget": 1000, "replicate": 0, "seed": 42, "generator_sha256": "a" * 64}
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, size=(6, 1, 8, 8), dtype=np.uint8)
    return LabeledImages(images, np.repeat(np.arange(2), 3), ("cat|s", "dogs"), made | provenance)


def export(images, out, *, formats=("idx", "png"), force=False):
    export_dataset(images, out, formats=formats, source="folder", selection=SELECTION, force=force)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_exporting_again_gives_the_same_bytes_in_place_and_elsewhere(tmp_path):
    images = synthetic_images()
    export(images, tmp_path / "a")
    first = tree(tmp_path / "a")
    export(images, tmp_path / "a")
    export(images, tmp_path / "b/c")
    assert tree(tmp_path / "a") == tree(tmp_path / "b/c") == first
    assert {name.split("/")[0] for name in first} == {"idx", "png"}


def test_both_formats_hold_the_same_pixels(tmp_path):
    export(synthetic_images(), tmp_path)
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("idx", "png")]
    assert manifests[0]["pixel_sha256"] == manifests[1]["pixel_sha256"]
    assert manifests[0]["study"] == manifests[1]["study"] == SELECTION.facts()


@pytest.mark.parametrize("name", ["idx", "png"])
def test_the_card_says_synthetic_first_and_the_verdict(tmp_path, name):
    export(synthetic_images(), tmp_path)
    text = (tmp_path / name / "README.md").read_text()
    assert text.splitlines()[0] == "# Synthetic images, made by a generator: 6 of 2 classes"
    assert "the study does not recommend adding these images: No gain was seen." in text
    assert "| 0 | cat&#124;s | 3 |\n| 1 | dogs | 3 |\n" in text
    assert "1000 real training images of `folder`" in text and "seed 42" in text


def test_a_smaller_export_leaves_no_file_of_the_earlier_one(tmp_path):
    export(synthetic_images(), tmp_path)
    images = synthetic_images()
    export(images.subset(np.array([0, 3])), tmp_path)
    assert sorted(path.name for path in (tmp_path / "png").rglob("*.png")) == ["0-000000.png", "1-000000.png"]


@pytest.mark.parametrize("foreign", ["notes.txt", "cats/mine.png", "manifest.json", "README.md"])
def test_a_foreign_folder_is_refused_before_anything_is_written(tmp_path, foreign):
    path = tmp_path / "png" / foreign
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(SynthGainError, match=rf"png: holds {foreign}, which no export wrote; .* --force"):
        export(synthetic_images(), tmp_path)
    assert tree(tmp_path) == {f"png/{foreign}": b"mine"}


def test_a_foreign_file_in_an_earlier_export_is_refused(tmp_path):
    export(synthetic_images(), tmp_path)
    (tmp_path / "idx/mine.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(SynthGainError, match=r"idx: holds mine\.txt, which no export wrote"):
        export(synthetic_images(1), tmp_path)
    assert tree(tmp_path) == before


def test_force_moves_foreign_folders_aside_and_deletes_nothing(tmp_path):
    for content in ("first", "second"):
        (tmp_path / "png").mkdir(exist_ok=True)
        (tmp_path / "png/mine.txt").write_text(content)
        export(synthetic_images(), tmp_path, formats=["png"], force=True)
    assert (tmp_path / "png.before-1/mine.txt").read_text() == "first"
    assert (tmp_path / "png.before-2/mine.txt").read_text() == "second"
    assert not (tmp_path / "png/mine.txt").exists()


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "idx").write_text("mine")
    with pytest.raises(SynthGainError, match="idx: holds idx, which no export wrote"):
        export(synthetic_images(), tmp_path)
    assert (tmp_path / "idx").read_text() == "mine"


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "idx").mkdir()
    export(synthetic_images(), tmp_path, formats=["idx"])
    assert (tmp_path / "idx/manifest.json").is_file()


def test_a_failure_leaves_the_earlier_export_and_no_rubbish(tmp_path, monkeypatch):
    export(synthetic_images(), tmp_path, formats=["idx"])
    before = tree(tmp_path)

    def disk_full(images, folder):
        (folder / "half").write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(dataset.WRITERS, "idx", disk_full)
    with pytest.raises(OSError, match="No space left"):
        export(synthetic_images(1), tmp_path, formats=["idx"])
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["idx"]


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ({"kind": "real"}, "its kind is real, only synthetic may be exported"),
        ({"budget": "all"}, "its budget is all, only 1000 may be exported"),
        ({"replicate": 1}, "its replicate is 1, only 0 may be exported"),
    ],
)
def test_only_the_synthetic_images_asked_for_are_let_out(tmp_path, provenance, message):
    synthetic_images(**provenance).save(tmp_path / "0.npz")
    with pytest.raises(SynthGainError, match=message):
        load_synthetic(tmp_path / "0.npz", budget=1000, replicate=0)


def test_an_empty_file_is_refused(tmp_path):
    synthetic_images().subset(np.array([], dtype=np.int64)).save(tmp_path / "0.npz")
    with pytest.raises(SynthGainError, match="holds no image"):
        load_synthetic(tmp_path / "0.npz", budget=1000, replicate=0)

"""The manifest says what is there, and `sha256sum -c` agrees."""

import hashlib
import json
import shutil
import subprocess

import numpy as np
import pytest

from pipeline.export.idx import write_idx
from pipeline.export.manifest import foreign_files, write_manifest
from pipeline.export.png import write_png
from pipeline.images import LabeledImages

PROVENANCE = {
    "kind": "synthetic",
    "budget": 1000,
    "replicate": 0,
    "seed": 42,
    "images_per_class": 2,
    "generator_sha256": "a" * 64,
    "real_subset_sha256": "b" * 64,
}
STUDY = {"recommended": False, "verdict": "no gain was seen"}


@pytest.fixture(params=["idx", "png"])
def exported(request, tmp_path):
    rng = np.random.default_rng(0)
    images = LabeledImages(
        rng.integers(0, 256, size=(5, 1, 8, 12), dtype=np.uint8),
        np.array([0, 0, 1, 1, 1]),
        ("naïve cat", "dog"),
        PROVENANCE,
    )
    {"idx": write_idx, "png": write_png}[request.param](images, tmp_path)
    write_manifest(images, tmp_path, format_name=request.param, source="folder", study=STUDY)
    return images, tmp_path, request.param


def test_says_what_it_is_and_where_it_comes_from(exported):
    images, folder, format_name = exported
    manifest = json.loads((folder / "manifest.json").read_text())
    expected = {
        "schema": "synthgain-export",
        "schema_version": 1,
        "synthetic": True,
        "format": format_name,
        "source": "folder",
        "images": 5,
        "image_size": [8, 12],
        "class_names": ["naïve cat", "dog"],
        "counts": {"naïve cat": 2, "dog": 3},
        "study": STUDY,
        "pixel_sha256": hashlib.sha256(images.images.tobytes()).hexdigest(),
        "provenance": {
            key: PROVENANCE[key]
            for key in ("budget", "replicate", "seed", "generator_sha256", "real_subset_sha256")
        },
    }
    assert {key: manifest[key] for key in expected} == expected
    for path, facts in manifest["files"].items():
        content = (folder / path).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_sha256sum_accepts_every_file_and_notices_a_changed_one(exported):
    _, folder, _ = exported
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum")
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert len(result.stdout.splitlines()) == len(files)
    changed = next(path for path in files if path.suffix in (".gz", ".png"))
    changed.write_bytes(changed.read_bytes() + b"\0")
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stdout.count("FAILED") == 1


def test_own_files_are_told_from_foreign_ones(exported):
    _, folder, _ = exported
    assert foreign_files(folder) == []
    (folder / "notes").mkdir()
    (folder / "notes/mine.txt").write_text("mine")
    assert foreign_files(folder) == ["notes/mine.txt"]


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"schema": "other", "files": {"a.txt": {}}}'])
def test_without_a_manifest_of_ours_every_file_is_foreign(tmp_path, manifest):
    (tmp_path / "a.txt").write_text("mine")
    (tmp_path / "manifest.json").write_text(manifest)
    assert foreign_files(tmp_path) == ["a.txt", "manifest.json"]

"""The manifest says what is there and keeps to its schema, the card says it to people, `sha256sum -c` agrees."""

import hashlib
import json
import re
import shutil
import subprocess

import jsonschema
import pytest

from pipeline.export.licences import REAL_SOURCES, real_source
from pipeline.export.manifest import SCHEMA_VERSION, foreign_files, schema_file
from pipeline.export.shards import FORMATS
from pipeline.params import CLASSES_OF_SOURCE

from .conftest import METRICS, STUDY, synthetic_images


@pytest.fixture(params=FORMATS)
def folder(request, export):
    return export(formats=[request.param], shard_size=8) / request.param


def test_says_what_it_is_and_where_it_comes_from(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    jsonschema.validate(manifest, json.loads(schema_file(SCHEMA_VERSION).read_text()))
    images = synthetic_images()
    expected = {
        "schema": "synthgain-export",
        "schema_version": 3,
        "synthetic": True,
        "format": folder.name,
        "images": 21,
        "real_images": 0,
        "image_size": [8, 8],
        "class_names": list(images.class_names),
        "counts": [9, 5, 7],
        "shards": 3,
        "study": STUDY,
        "metrics": METRICS,
        "provenance": {
            "budget": 1000,
            "replicate": 0,
            "seed": 42,
            "z_dim": None,
            "generator_sha256": "a" * 64,
            "real_subset_sha256": "b" * 64,
        },
    }
    assert {key: manifest[key] for key in expected} == expected
    for path, facts in manifest["files"].items():
        content = (folder / path).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_latents_of_another_spread_and_several_generators_are_told(export):
    made = {"latent_std": 1.2, "generators_sha256": ["c" * 64, "d" * 64]}
    manifest = json.loads((export(synthetic_images(**made)) / "idx/manifest.json").read_text())
    jsonschema.validate(manifest, json.loads(schema_file(SCHEMA_VERSION).read_text()))
    assert manifest["provenance"].items() >= made.items()


def test_sha256sum_accepts_every_file_and_notices_a_changed_one(folder):
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum")
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert len(result.stdout.splitlines()) == len(files)
    files[0].write_bytes(files[0].read_bytes() + b"\0")
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stdout.count("FAILED") == 1


def test_the_card_says_synthetic_first_and_then_all_that_matters(folder):
    text = (folder / "README.md").read_text()
    assert (
        text.split("---\n\n")[1].splitlines()[0] == "# Synthetic images, made by a generator: 21 of 3 classes"
    )
    for part in (
        "The study does not recommend adding these images. No gain was seen.",
        "| 0 | cat&#124;s | 9 |\n| 1 | T-shirt/top | 5 |\n",
        "1000 real training images\nof MNIST",
        "seed 42, replicate 1;",
        "CC BY-SA 3.0",
        "| these synthetic images | 0.5 | 0.97 |\n| floor: real validation images | 0.07 | 0.99 |",
        "Not checked: whether an image resembles one of the training images.",
        "## Intended use\n\nTraining data beside real images",
        "never put them into a validation or test split",
        "## Limits",
        "## How to cite",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {"passed": True, "reason": "0.4% near copies in pixel space"},
            "(images too close to training images) was passed: 0.4% near copies in pixel space.",
        ),
        (
            {"passed": False, "reason": "30.0% near copies in pixel space"},
            "(images too close to training images) was **NOT passed**: 30.0% near copies in pixel space.",
        ),
    ],
)
def test_the_card_says_what_the_memorisation_gate_found(export, found, said):
    folder = export(formats=["npz"], metrics={**METRICS, "memorization": found}) / "npz"
    assert said in (folder / "README.md").read_text()


def test_every_published_source_has_a_licence_and_a_work_to_cite():
    assert set(REAL_SOURCES) == set(CLASSES_OF_SOURCE)
    for source in map(real_source, CLASSES_OF_SOURCE):
        confirmed = source.licence_url.startswith("https://") and not source.licence.startswith(
            "not confirmed"
        )
        open_question = not source.licence_url and re.match(r"not confirmed\..*https?://", source.licence)
        assert (confirmed or open_question) and source.citation


def test_a_licence_that_is_not_confirmed_is_not_asserted(export):
    folder = export(formats=["idx"], source="digits") / "idx"
    assert "\n\nOptical Recognition" in (text := (folder / "README.md").read_text())
    assert "Licence: not confirmed. scikit-learn, which ships the images, names none" in text
    assert json.loads((folder / "croissant.json").read_text())["license"].startswith("not confirmed.")


def test_own_files_are_told_from_foreign_ones(folder):
    assert foreign_files(folder) == []
    (folder / "notes").mkdir()
    (folder / "notes/mine.txt").write_text("mine")
    assert foreign_files(folder) == ["notes/mine.txt"]


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"schema": "other", "files": {"a.txt": {}}}'])
def test_without_a_manifest_of_ours_every_file_is_foreign(tmp_path, manifest):
    (tmp_path / "a.txt").write_text("mine")
    (tmp_path / "manifest.json").write_text(manifest)
    assert foreign_files(tmp_path) == ["a.txt", "manifest.json"]

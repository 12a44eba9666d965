"""The cards are the hub's: its own classes read their headers, and `datasets` finds the images by them."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.checkpoints import file_sha256
from pipeline.export.generator import export_generator
from pipeline.export.hub import dataset_header, size_category
from pipeline.export.shards import FORMATS
from pipeline.export.source import open_images

from .conftest import METRICS, STUDY, synthetic_images

# https://huggingface.co/docs/hub/repositories-licenses, those that these cards may name
LICENCES = {"cc-by-sa-3.0", "cc-by-sa-4.0", "mit", "other", "unknown"}


def header_of(folder):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(folder / "README.md")  # it refuses a header that it does not understand
    return card.data.to_dict(), card.text


@pytest.mark.parametrize("name", FORMATS)
def test_the_hub_reads_the_header_of_every_format(export, name):
    header, text = header_of(export(formats=[name]) / name)
    assert header["license"] == "cc-by-sa-3.0" and header["size_categories"] == ["n<1K"]
    assert header["task_categories"] == ["image-classification"] and "synthetic" in header["tags"]
    assert ("configs" in header) != (header.get("viewer") is False)
    assert text.lstrip().startswith("# Synthetic images")


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist", "kmnist", "svhn", "folder", "unknown"])
def test_a_licence_is_one_that_the_hub_knows_and_none_is_asserted(export, source):
    folder = export(formats=["npz"], source=source) / "npz"
    confirmed = json.loads((folder / "manifest.json").read_text())["source"]["licence_url"]
    header, _ = header_of(folder)
    assert header["license"] in LICENCES
    assert (header["license"] == "unknown") == (not confirmed)


@pytest.mark.parametrize("name", ["parquet", "arrow", "webdataset", "png"])
def test_a_folder_opens_as_a_data_set_with_pictures_and_the_split_train(export, tmp_path, name):
    images = synthetic_images(class_names=("a", "train", "ü"))
    folder = export(images, formats=[name], shard_size=8) / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own dependencies
        import datasets

        datasets.disable_progress_bars()
        found = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"] and len(found["train"]) == len(images)
    column = "png" if name == "webdataset" else "image"
    assert isinstance(found["train"].features[column], datasets.Image)
    pixels = {np.asarray(picture).tobytes() for picture in found["train"][column]}
    assert pixels == {image.tobytes() for image in images.images}
    if name == "parquet":
        assert found["train"].features["label"].names == list(images.class_names)


@given(st.integers(1, 10**9))
def test_the_size_is_within_the_bounds_that_its_name_states(images):
    units = {"K": 1000, "M": 10**6, "B": 10**9}
    bounds = [
        int(part) if part.isdigit() else int(part[:-1]) * units[part[-1]]
        for part in size_category(images).split("<")
        if part != "n"
    ]
    assert images < bounds[-1] and (len(bounds) == 1 or bounds[0] <= images)


def test_images_of_another_generator_are_under_another_licence(export):
    own = {
        "generator": {
            "kind": "folder",
            "name": "g",
            "author": "somebody",
            "licence": "of their own",
            "trained_on": "subset",
            "copies_of_real_images": 0,
        }
    }
    folder = export(formats=["npz"]) / "npz"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["provenance"] |= own
    assert "license: other\n" in dataset_header(manifest) and "- gan\n" not in dataset_header(manifest)


def test_the_generator_goes_along_with_a_card_that_the_hub_reads(tmp_path):
    from huggingface_hub import ModelCard

    weights, out = tmp_path / "generator.safetensors", tmp_path / "out"
    weights.write_bytes(b"weights")

    def write(**made):
        synthetic_images(**made).save(tmp_path / "images.npz")
        images = open_images(tmp_path / "images.npz")
        return export_generator(weights, out, images=images, source="mnist", study=STUDY, metrics=METRICS)

    assert write(generator_sha256=file_sha256(weights))
    assert (out / "generator/generator.safetensors").read_bytes() == b"weights"
    card = ModelCard.load(out / "generator/README.md")
    assert card.data.license == "cc-by-sa-3.0" and "synthetic" in card.data.tags
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found == {"fid": 0.5, "label_fidelity": 0.97}
    for part in (
        "## Intended use",
        "## Limits",
        "The study does not recommend adding these images. No gain was seen.",
        "It learned from 1000 real training images\nof MNIST, and from nothing else.",
        "| floor: real validation images | 0.07 | 0.99 |",
        "--model generator.safetensors",
    ):
        assert part in card.text
    images = open_images(tmp_path / "images.npz")
    picture = np.asarray(Image.open(out / "generator/samples.png"))
    height, width = images.image_size
    assert "](samples.png)" in card.text and len(picture) == len(images.class_names) * height
    for label in range(len(images.class_names)):
        (third,) = images.rows(np.flatnonzero(images.labels == label)[2:3])
        assert (picture[label * height :, 2 * width :][:height, :width] == third).all()
    # Images that another file made, or several, go without one.
    assert not write(generator_sha256="a" * 64) and not list((out / "generator").iterdir())

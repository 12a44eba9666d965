"""Colour through every format: each is read by its own reader, and checks itself as grey exports do."""

import hashlib
import io
import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.errors import SynthGainError
from pipeline.export.compression import encode_pngs
from pipeline.export.dataset import export_dataset
from pipeline.export.inspect import inspect, save_contact_sheet
from pipeline.export.readers import read_samples
from pipeline.export.shards import FORMATS
from pipeline.export.verify import verify

from .conftest import samples_of, synthetic_images

IN_COLOUR = [name for name in FORMATS if not name.startswith("idx")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(pictures by id, the folder of an export of seven formats, what was said)."""
    folder = tmp_path_factory.mktemp("colour")
    images = synthetic_images(channels=3)
    samples = samples_of(images, folder / "source.npz", real=synthetic_images((2, 1, 1), seed=5, channels=3))
    written = export_dataset(samples, folder / "out", formats=FORMATS, source="cifar10", shard_size=16)
    assert written == IN_COLOUR
    count = len(samples)
    pictures = samples.images(0, count)
    first = pictures[samples.ids(0, count).index("1-000000")]
    assert np.array_equal(first, images.images[9].transpose(1, 2, 0))
    return dict(zip(samples.ids(0, count), pictures, strict=True)), folder / "out"


def test_idx_is_left_out_with_one_line_where_there_is_colour(tmp_path, capsys):
    samples = samples_of(synthetic_images(channels=3), tmp_path / "s.npz")
    export_dataset(samples, tmp_path / "out", formats=["idx", "png"], source="mnist")
    assert capsys.readouterr().err == "idx: left out; IDX holds grey images only\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["png"]
    with pytest.raises(SynthGainError, match=r"^idx: IDX holds grey images only; take parquet, png or npz"):
        export_dataset(samples, tmp_path / "idx", formats=["idx"], source="mnist")


@pytest.mark.parametrize("name", IN_COLOUR)
def test_every_format_holds_the_pictures_and_passes_verify(exported, name):
    pictures, out = exported
    manifest = json.loads((out / name / "manifest.json").read_text())
    assert manifest["channels"] == 3 and manifest["image_size"] == [8, 8]
    found = {}
    for batch in read_samples(out / name, manifest):
        found |= dict(zip(batch.rows["id"].to_pylist(), batch.images, strict=True))
        hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in batch.images]
        assert batch.rows["pixel_sha256"].to_pylist() == hashes
    assert found.keys() == pictures.keys()
    assert all(np.array_equal(found[key], pictures[key]) for key in pictures)
    assert verify(out / name) == []
    card = (out / name / "README.md").read_text()
    assert "8×8 in colour (RGB)" in card and "grey" not in card


def test_other_readers_see_the_same_pictures(exported, tmp_path):
    pictures, out = exported
    for path in (out / "png").rglob("*.png"):
        with Image.open(path) as picture:
            assert picture.mode == "RGB" and np.array_equal(np.asarray(picture), pictures[path.stem])
    frame = pd.concat([pd.read_parquet(path) for path in sorted((out / "parquet").glob("*.parquet"))])
    cells = zip(frame["id"], frame["image"], strict=True)
    assert all(np.array_equal(Image.open(io.BytesIO(cell["bytes"])), pictures[key]) for key, cell in cells)
    for path in (out / "npz").glob("*.npz"):
        with np.load(path) as arrays:
            assert all(
                np.array_equal(image, pictures[key])
                for key, image in zip(arrays["ids"].tolist(), arrays["images"], strict=True)
            )
    for path in (out / "arrow").glob("*.arrow"):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        cells = zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True)
        assert all(
            np.array_equal(Image.open(io.BytesIO(cell["bytes"])), pictures[key]) for key, cell in cells
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries' own dependencies
        import datasets
        import mlcroissant
        import webdataset

        urls = sorted(str(path) for path in (out / "webdataset").glob("*.tar"))
        samples = webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("__key__", "png")
        assert all(np.array_equal(picture, pictures[key]) for key, picture in samples)
        records = mlcroissant.Dataset(str(out / "parquet/croissant.json")).records("samples")
        assert all(
            np.array_equal(np.asarray(record["samples/image"]), pictures[record["samples/id"].decode()])
            for record in records
        )
        datasets.disable_progress_bars()
        files = sorted(str(path) for path in (out / "parquet").glob("train*.parquet"))
        data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
        assert all(
            np.array_equal(picture, pictures[key])
            for key, picture in zip(data["id"], data["image"], strict=True)
        )


def test_a_grey_picture_in_an_export_in_colour_is_a_finding(exported, tmp_path):
    _, out = exported
    shutil.copytree(out / "png", tmp_path / "png")
    path = next((tmp_path / "png").rglob("0-000000.png"))
    with Image.open(path) as picture:
        picture.convert("L").save(path)
    assert any("mode L; 8×8, RGB is needed" in line for line in verify(tmp_path / "png"))


def test_inspect_shows_colour(exported, tmp_path):
    pictures, out = exported
    for path in (out, out.parent / "source.npz"):
        contents = inspect(path, per_class=2)
        shown = {key: image for key, image in pictures.items() if not key.startswith("real")}
        assert any(np.array_equal(contents.pictures[1][0], image) for image in shown.values())
        save_contact_sheet(contents, tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.mode == "RGB"
            assert np.array_equal(np.asarray(sheet)[12:20, 2:10], contents.pictures[1][0])


@pytest.mark.parametrize("shape", [(1, 1, 3), (32, 32, 3), (5, 13, 3)])
def test_a_png_in_colour_is_one_to_pillow(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(encode_pngs(image[None])[0])) as picture:
        assert (picture.mode, picture.size) == ("RGB", shape[1::-1])
        assert np.array_equal(np.asarray(picture), image)


def test_real_images_of_other_channels_are_refused(tmp_path):
    with pytest.raises(SynthGainError, match=r"size or channels differ .*8×8, 1 channels"):
        samples_of(synthetic_images(channels=3), tmp_path / "s.npz", real=synthetic_images(seed=1))

"""Every format is read by the reader that it is meant for, and holds the same samples under the same ids."""

import gzip
import io
import json
import shutil
import tarfile
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.export.png import class_folders, encode_png
from pipeline.export.readers import read_samples
from pipeline.export.shards import FORMATS

from .conftest import samples_of, synthetic_images


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(the samples in the export's order, the folder with all formats in shards of 8)."""
    from pipeline.export.dataset import export_dataset

    folder = tmp_path_factory.mktemp("formats")
    samples = samples_of(synthetic_images(), folder / "source.npz")
    export_dataset(samples, folder / "out", formats=FORMATS, source="mnist", shard_size=8)
    return samples, folder / "out"


def expected(samples):
    count = len(samples)
    return samples.ids(0, count), samples.labels.tolist(), samples.images(0, count)


@pytest.mark.parametrize("name", FORMATS)
def test_ids_labels_and_pixels_are_the_same_in_every_format(exported, name):
    samples, out = exported
    manifest = json.loads((out / name / "manifest.json").read_text())
    batches = list(read_samples(out / name, manifest))
    ids, labels, images = expected(samples)
    assert [each for batch in batches for each in batch.rows["id"].to_pylist()] == ids
    assert np.concatenate([batch.labels for batch in batches]).tolist() == labels
    np.testing.assert_array_equal(np.concatenate([batch.images for batch in batches]), images)
    rows = pa.concat_tables([batch.rows for batch in batches])
    assert rows.equals(pa.concat_tables(list(tables(out / "idx"))))


def tables(folder):
    yield pq.read_table(folder / "samples.parquet")


@pytest.mark.parametrize("name", ["idx", "idx_gz"])
def test_torchvision_reads_idx_as_mnist(exported, tmp_path, name):
    from torchvision.datasets import MNIST

    samples, out = exported
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for file in (out / name).glob("train-*"):
        if name == "idx":
            shutil.copy(file, raw)  # as it is
        else:
            (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    for file in list(raw.iterdir()):  # stands in for a real test split
        shutil.copy(file, raw / file.name.replace("train", "t10k"))
    dataset = MNIST(tmp_path, train=True, download=False)
    _, labels, images = expected(samples)
    np.testing.assert_array_equal(dataset.data.numpy(), images)
    assert dataset.targets.tolist() == labels


def test_the_project_reads_gzipped_idx_as_published_images(exported):
    from pipeline.sources.idx import read_idx

    samples, out = exported
    found = read_idx(out / "idx_gz/train-images-idx3-ubyte.gz", dimensions=3)
    np.testing.assert_array_equal(found, expected(samples)[2])


def test_torchvision_reads_the_png_tree(exported):
    from torchvision.datasets import ImageFolder

    samples, out = exported
    dataset = ImageFolder(out / "png")
    assert sorted(dataset.classes) == sorted(class_folders(samples.class_names))
    by_id = dict(zip(*expected(samples)[::2], strict=True))
    assert len(dataset) == len(by_id)
    for path, _ in dataset.samples:
        sample_id = path.rpartition("/")[2].removesuffix(".png")
        np.testing.assert_array_equal(np.asarray(dataset.loader(path).convert("L")), by_id[sample_id])
        assert path.split("/")[-2] == class_folders(samples.class_names)[int(sample_id.split("-")[0])]


def test_numpy_reads_the_npz(exported):
    samples, out = exported
    ids, labels, images = expected(samples)
    loaded = [np.load(path) for path in sorted((out / "npz").glob("*.npz"))]
    assert len(loaded) == 3
    np.testing.assert_array_equal(np.concatenate([each["images"] for each in loaded]), images)
    assert np.concatenate([each["labels"] for each in loaded]).tolist() == labels
    assert np.concatenate([each["ids"] for each in loaded]).tolist() == ids
    assert loaded[0]["class_names"].tolist() == list(samples.class_names)
    for each in loaded:
        each.close()


def test_pandas_reads_the_parquet_shards(exported):
    import pandas as pd

    samples, out = exported
    ids, labels, images = expected(samples)
    frame = pd.concat([pd.read_parquet(path) for path in sorted((out / "parquet").glob("*.parquet"))])
    assert frame["id"].tolist() == ids and frame["label"].tolist() == labels
    assert frame["synthetic"].all() and set(frame["seed"]) == {42}
    for cell, image in zip(frame["image"], images, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(cell["bytes"]))), image)


@pytest.mark.parametrize(("name", "suffix"), [("parquet", "parquet"), ("arrow", "arrow")])
def test_hugging_face_sees_pictures_and_class_names(exported, tmp_path, name, suffix):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own dependencies
        import datasets

        datasets.disable_progress_bars()
        samples, out = exported
        data = datasets.load_dataset(
            name,
            data_files=sorted(str(path) for path in (out / name).glob(f"train*.{suffix}")),
            split="train",
            cache_dir=str(tmp_path),
        )
        ids, labels, images = expected(samples)
        assert isinstance(data.features["image"], datasets.Image)
        assert data.features["label"].names == list(samples.class_names)
        assert data["id"][:] == ids and data["label"][:] == labels
        for picture, image in zip(data["image"], images, strict=True):
            np.testing.assert_array_equal(np.asarray(picture), image)


def test_pyarrow_maps_the_arrow_files(exported):
    samples, out = exported
    ids = []
    for path in sorted((out / "arrow").glob("*.arrow")):
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            ids += reader.read_all()["id"].to_pylist()
    assert ids == expected(samples)[0]


def test_webdataset_reads_the_shards(exported):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset

        samples, out = exported
        urls = sorted(str(path) for path in (out / "webdataset").glob("*.tar"))
        data = (
            webdataset.WebDataset(urls, shardshuffle=False)
            .decode("l8")
            .to_tuple("__key__", "png", "cls", "json")
        )
        found = list(data)
    ids, labels, images = expected(samples)
    assert [key for key, *_ in found] == ids
    assert [label for _, _, label, _ in found] == labels
    for (_, picture, _, row), image in zip(found, images, strict=True):
        np.testing.assert_array_equal(picture, image)
        assert row["synthetic"] is True and row["generator_sha256"] == "a" * 64


def test_tar_members_carry_no_time_and_no_owner(exported):
    _, out = exported
    with tarfile.open(out / "webdataset/train-00000-of-00003.tar") as archive:
        members = archive.getmembers()
    assert len(members) == 24
    assert {(each.mtime, each.uid, each.gid, each.uname, each.mode) for each in members} == {
        (0, 0, 0, "", 0o644)
    }


@pytest.mark.parametrize("name", FORMATS)
def test_mlcroissant_validates_and_loads_every_format(exported, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlcroissant

        samples, out = exported
        dataset = mlcroissant.Dataset(str(out / name / "croissant.json"))
        records = list(dataset.records("samples"))
    assert not dataset.metadata.ctx.issues.errors
    ids, labels, images = expected(samples)
    order = {sample_id: position for position, sample_id in enumerate(ids)}  # shards in any order
    assert sorted(record["samples/id"].decode() for record in records) == sorted(ids)
    for record in records:
        position = order[record["samples/id"].decode()]
        assert record["samples/label"] == labels[position] and record["samples/synthetic"]
        if name == "parquet":
            np.testing.assert_array_equal(np.asarray(record["samples/image"]), images[position])


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (5, 13)])
def test_a_png_is_one_to_pillow(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(image))) as picture:
        assert (picture.mode, picture.size, picture.info) == ("L", shape[::-1], {})
        np.testing.assert_array_equal(np.asarray(picture), image)

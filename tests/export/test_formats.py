"""Every format is read by the reader that it is meant for, and holds the same samples under the same ids."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.class_folders import class_folders
from pipeline.export import webdataset
from pipeline.export.compression import encode_pngs
from pipeline.export.readers import read_samples
from pipeline.export.shards import FORMATS
from pipeline.export.table import _array, cut_shard

from .conftest import samples_of, synthetic_images

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def digits_28():
    """300 handwritten digits, 28×28, as MNIST has them: 20 pixels high, on black."""
    from sklearn.datasets import load_digits

    images = [Image.fromarray((each * 15.9).astype(np.uint8)) for each in load_digits().images[:300]]
    large = np.stack([np.asarray(each.resize((20, 20), Image.Resampling.BICUBIC)) for each in images])
    return np.pad(np.where(large < 16, 0, large).astype(np.uint8), ((0, 0), (4, 4), (4, 4)))


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
    from torchvision.datasets.utils import extract_archive

    samples, out = exported
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for file in (out / name).glob("train-*"):
        if name == "idx":
            shutil.copy(file, raw)  # as it is
        else:
            extract_archive(str(file), str(raw))  # what torchvision itself does with the files it has fetched
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
        rgb = np.asarray(dataset.loader(path))  # whatever the file is, which docs and card say
        np.testing.assert_array_equal(rgb, np.stack([by_id[sample_id]] * 3, axis=-1))
        assert path.split("/")[-2] == class_folders(samples.class_names)[int(sample_id.split("-")[0])]


def test_the_card_of_a_png_tree_says_that_its_reader_gives_rgb(exported):
    assert "as RGB: a grey image has three equal channels" in (exported[1] / "png/README.md").read_text()


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
    with Image.open(io.BytesIO(encode_pngs(image[None])[0])) as picture:
        assert (picture.mode, picture.size, picture.info) == ("L", shape[::-1], {})
        np.testing.assert_array_equal(np.asarray(picture), image)


@given(
    st.sampled_from(
        [
            (pa.string(), st.text(max_size=5)),
            (pa.binary(), st.binary(max_size=5)),
            (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
            (pa.float32(), st.floats(width=32, allow_nan=False)),
            (pa.bool_(), st.booleans()),
        ]
    ).flatmap(
        lambda kind: st.tuples(st.just(kind[0]), st.lists(st.none() | kind[1], min_size=1, max_size=20))
    )
)
def test_arrow_columns_are_those_that_arrow_itself_makes(column):
    kind, values = column
    made = _array(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))


def test_a_row_of_json_is_read_back_whatever_stands_in_it(tmp_path):
    hostile = '"},{"id":"'
    samples = samples_of(synthetic_images(generator_sha256=hostile, seed=None), tmp_path / "s.npz")
    (tmp_path / "tar").mkdir()
    webdataset.write_shard(shard := cut_shard(samples, 0, 100), tmp_path / "tar")
    with tarfile.open(tmp_path / "tar/train.tar") as archive:
        rows = [json.load(archive.extractfile(each)) for each in archive if each.name.endswith(".json")]
    assert rows == shard.table.to_pylist() and rows[0]["generator_sha256"] == hostile


def test_tar_headers_are_those_that_the_tarfile_module_writes(exported, tmp_path):
    _, out = exported
    shard = out / "webdataset/train-00000-of-00003.tar"
    with tarfile.open(shard) as archive, tarfile.open(tmp_path / "again.tar", "w") as again:
        for member in archive:
            again.addfile(member, archive.extractfile(member))
    ours, theirs = shard.read_bytes(), (tmp_path / "again.tar").read_bytes()
    assert len(ours) == len(theirs)
    with tarfile.open(shard) as archive:
        for member in archive:
            start = member.offset
            # The tarfile module fills in the device numbers of no device (329..344), and the checksum for that.
            same = [*range(148), *range(156, 329), *range(345, 512)]
            assert [ours[start + at] for at in same] == [theirs[start + at] for at in same], member.name


def test_pngs_of_small_grey_images_are_as_small_as_pillows(digits_28):
    ours = sum(map(len, encode_pngs(digits_28)))
    pillows = 0
    for image in digits_28:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="PNG")
        pillows += file.tell()
    assert ours < 1.1 * pillows < digits_28.size


def test_a_worker_does_not_spend_its_start_on_pandas(tmp_path):
    """pyarrow imports pandas for many a call: a third of a second in each worker."""
    samples_of(synthetic_images(), tmp_path / "s.npz")
    code = (
        "import sys; from pathlib import Path; from pipeline.export.dataset import export_dataset\n"
        "from pipeline.export.samples import select_samples; from pipeline.export.source import open_images\n"
        "from pipeline.export.shards import FORMATS\n"
        "samples = select_samples(open_images(Path(sys.argv[1])))\n"
        "export_dataset(samples, Path(sys.argv[2]), formats=FORMATS, source='mnist', shard_size=8)\n"
        "print(sorted({'pandas', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s.npz"), str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr

"""IDX files: torchvision's MNIST reads them, and the bytes depend on the content only."""

import gzip
import shutil

import numpy as np
import pytest

from pipeline.errors import SynthGainError
from pipeline.export.ids import sample_ids
from pipeline.export.idx import write_idx
from pipeline.images import LabeledImages


def some_images(counts=(3, 5, 2), shape=(28, 28), seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    images = rng.integers(0, 256, size=(len(labels), 1, *shape), dtype=np.uint8)
    return LabeledImages(images, labels, tuple(f"class {i}" for i in range(len(counts))))


def test_torchvision_reads_them_as_mnist(tmp_path):
    from torchvision.datasets import MNIST

    images = some_images()
    write_idx(images, tmp_path)
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for kind in ("images-idx3", "labels-idx1"):
        content = gzip.decompress((tmp_path / f"train-{kind}-ubyte.gz").read_bytes())
        (raw / f"train-{kind}-ubyte").write_bytes(content)
        shutil.copy(
            raw / f"train-{kind}-ubyte", raw / f"t10k-{kind}-ubyte"
        )  # stands in for a real test split
    dataset = MNIST(tmp_path, train=True, download=False)
    np.testing.assert_array_equal(dataset.data.numpy(), images.images[:, 0])
    np.testing.assert_array_equal(dataset.targets.numpy(), images.labels)
    picture, label = dataset[4]
    assert (np.asarray(picture) == images.images[4, 0]).all() and label == 1


def test_the_project_reads_them_back_as_published_images(tmp_path):
    from pipeline.sources.idx import read_idx

    images = some_images(shape=(8, 12))
    write_idx(images, tmp_path)
    read_back = read_idx(tmp_path / "train-images-idx3-ubyte.gz", dimensions=3)
    np.testing.assert_array_equal(read_back, images.images[:, 0])


def test_names_and_ids_stand_beside_in_order(tmp_path):
    images = some_images()
    write_idx(images, tmp_path)
    assert (tmp_path / "classes.txt").read_text().splitlines() == ["class 0", "class 1", "class 2"]
    assert (tmp_path / "ids.txt").read_text().splitlines() == sample_ids(images.labels)


def test_the_bytes_depend_on_the_content_only(tmp_path, monkeypatch):
    contents = []
    for folder, time in (("a", 1e9), ("b", 2e9)):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr("time.time", lambda time=time: time)
        write_idx(some_images(), tmp_path / folder)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()})
    assert contents[0] == contents[1] and len(contents[0]) == 4


def test_more_classes_than_a_byte_can_say_are_refused(tmp_path):
    with pytest.raises(SynthGainError, match="idx: found 257 classes; its label byte allows 256"):
        write_idx(some_images(counts=(1,) * 257, shape=(8, 8)), tmp_path)


def test_ids_count_within_a_label_in_any_order():
    assert sample_ids(np.array([2, 0, 2, 11, 0])) == [
        "2-000000",
        "0-000000",
        "2-000001",
        "11-000000",
        "0-000001",
    ]

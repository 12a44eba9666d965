import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from torchvision import datasets

from pipeline.errors import SynthGainError
from pipeline.params import CLASSES_OF_SOURCE
from pipeline.sources import load_raw, published
from pipeline.sources.mirrors import PublishedFile


def read(source: str, raw: Path) -> Any:
    return load_raw(source, raw, image_size=28, test_fraction=0.2, seed=1)


def test_sources_and_classes_are_those_of_the_params() -> None:
    classes = {source: len(dataset.class_names) for source, dataset in published.DATASETS.items()}
    assert classes | {"digits": 10} == CLASSES_OF_SOURCE


def test_checksums_and_addresses_are_torchvisions() -> None:
    mnist = published.DATASETS["mnist"]
    assert [(file.name, file.checksum) for file in mnist.files] == datasets.MNIST.resources
    assert list(mnist.addresses) == datasets.MNIST.mirrors
    emnist = published.DATASETS["emnist_letters"]
    assert emnist.files[0].checksum == datasets.EMNIST.md5
    assert f"{emnist.addresses[0]}/{emnist.files[0].name}" == datasets.EMNIST.url


@pytest.mark.parametrize(
    ("source", "base"),
    [("mnist", datasets.MNIST), ("fashion_mnist", datasets.FashionMNIST), ("kmnist", datasets.KMNIST)],
)
def test_gzip_files_are_read_as_they_are(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, base: Any
) -> None:
    names = published.DATASETS[source].class_names
    entry = published.PublishedDataset(tiny.reader(base, []), names, base.__name__)
    monkeypatch.setitem(published.DATASETS, source, entry)
    raw = tiny.put(tmp_path / "raw")
    before = sorted(path.name for path in raw.iterdir())
    train, test = read(source, raw)
    assert np.array_equal(train.images[:, 0], tiny.images["train"])
    assert np.array_equal(test.images[:, 0], tiny.images["test"])
    assert train.labels.tolist() == tiny.labels["train"].tolist()
    assert test.labels.tolist() == tiny.labels["test"].tolist()
    assert train.class_names == test.class_names == names and len(names) == 10
    assert train.provenance == {"kind": "real", "source": source, "published_split": "train"}
    assert sorted(path.name for path in raw.iterdir()) == before  # nothing is extracted beside the files


@pytest.mark.parametrize(
    ("source", "first_label", "first_names"),
    [("emnist_letters", 1, "abc"), ("emnist_digits", 0, "012"), ("emnist_balanced", 0, "012")],
)
def test_emnist_is_turned_upright_and_counts_from_zero(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_idx: Any,
    source: str,
    first_label: int,
    first_names: str,
) -> None:
    upright = np.zeros((3, 28, 28), np.uint8)
    upright[:, 3, 5:20] = 200  # a bar near the top, to be seen wherever it is turned
    upright[:, 3:9, 5] = 90
    labels = np.arange(3, dtype=np.uint8) + first_label
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for variant in ("letters", "digits", "balanced", "mnist"):
            for part in ("train", "test"):
                for kind, array in (("images-idx3", upright.transpose(0, 2, 1)), ("labels-idx1", labels)):
                    name = f"emnist-{variant}-{part}-{kind}-ubyte.gz"
                    # Another variant must not be mixed in: its files are no IDX at all.
                    wanted = source == f"emnist_{variant}"
                    write_idx(tmp_path / name, array if wanted else np.zeros(0))
                    archive.write(tmp_path / name, f"gzip/{name}")
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "gzip.zip").write_bytes(buffer.getvalue())
    md5 = hashlib.md5(buffer.getvalue()).hexdigest()
    monkeypatch.setattr(datasets.EMNIST, "md5", md5)

    train, test = read(source, raw)
    assert np.array_equal(train.images[:, 0], upright) and np.array_equal(test.images[:, 0], upright)
    assert train.labels.tolist() == [0, 1, 2]
    assert "".join(train.class_names[:3]) == first_names
    assert train.images.flags["C_CONTIGUOUS"]


def tiny_colour(source: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set with the checksums of these files in place of the published ones."""
    entry = published.DATASETS[source]
    assert {file.name for file in entry.files} == set(files)
    sums = tuple(PublishedFile(name, hashlib.sha256(content).hexdigest()) for name, content in files.items())
    monkeypatch.setitem(published.DATASETS, source, replace(entry, files=sums, addresses=()))
    monkeypatch.delenv(published.MIRROR_VARIABLE, raising=False)


def colour_images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def test_cifar10_is_read_from_its_binary_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = colour_images(12, 0), np.arange(12) % 10
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin", "batches.meta.txt"]
        for place, name in enumerate(names):
            part = slice(2 * place, 2 * place + 2)
            records = np.concatenate(
                [labels[part, None].astype(np.uint8), images[part].reshape(-1, 3072)], axis=1
            )
            content = b"airplane\n" if name.endswith(".txt") else records.tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    name = "cifar-10-binary.tar.gz"
    tiny_colour("cifar10", {name: buffer.getvalue()}, monkeypatch)
    (tmp_path / "mirror/CIFAR10").mkdir(parents=True)
    (tmp_path / "mirror/CIFAR10" / name).write_bytes(buffer.getvalue())
    raw = tmp_path / "raw"
    raw.mkdir()
    said: list[str] = []
    published.fetch("cifar10", raw, mirrors=[str(tmp_path / "mirror")], by_hand=tmp_path, say=said.append)
    assert said == [f"{name}: from {tmp_path / 'mirror'}, checksum right"]
    train, test = read("cifar10", raw)
    assert np.array_equal(train.images, images[:10]) and np.array_equal(test.images, images[10:])
    assert train.labels.tolist() == list(range(10)) and test.labels.tolist() == [0, 1]
    assert train.channels == 3 and train.class_names[:2] == ("airplane", "automobile")
    (raw / name).write_bytes(buffer.getvalue()[:-40])
    with pytest.raises(
        SynthGainError, match=r"cifar-10-binary\.tar\.gz: altered or truncated.*sha256 expected"
    ):
        read("cifar10", raw)
    tiny_colour("cifar10", {name: buffer.getvalue()[:-40]}, monkeypatch)
    with pytest.raises(SynthGainError, match="not the binary archive of CIFAR-10"):
        read("cifar10", raw)


def test_svhn_is_read_from_its_matlab_files_and_ten_is_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {"train": colour_images(11, 1), "test": colour_images(3, 2)}
    labels = {"train": np.array([*range(1, 11), 10], np.uint8), "test": np.array([10, 3, 9], np.uint8)}
    for split in images:  # as published: height, width, channel, image; labels in a column
        arrays = {"X": images[split].transpose(2, 3, 1, 0), "y": labels[split][:, None]}
        scipy.io.savemat(tmp_path / f"{split}_32x32.mat", arrays, do_compression=True)
    contents = {path.name: path.read_bytes() for path in tmp_path.glob("*.mat")}
    tiny_colour("svhn", contents, monkeypatch)
    train, test = read("svhn", tmp_path)
    assert np.array_equal(train.images, images["train"]) and np.array_equal(test.images, images["test"])
    assert train.labels.tolist() == [*range(1, 10), 0, 0] and test.labels.tolist() == [0, 3, 9]
    assert train.class_names[0] == "0" and train.images.flags["C_CONTIGUOUS"]
    scipy.io.savemat(
        tmp_path / "test_32x32.mat", {"X": np.zeros((28, 28, 3, 2), np.uint8), "y": np.ones((2, 1))}
    )
    with pytest.raises(SynthGainError, match="altered or truncated"):
        read("svhn", tmp_path)
    tiny_colour("svhn", {path.name: path.read_bytes() for path in tmp_path.glob("*.mat")}, monkeypatch)
    with pytest.raises(SynthGainError, match=r"test_32x32\.mat: not the cropped digits of SVHN \(X \(28, 28"):
        read("svhn", tmp_path)


def test_checksums_in_colour_are_the_published_ones() -> None:
    """Torchvision has SVHN's MD5; its own SHA-256 of CIFAR-10 is of the pickles."""
    svhn = published.DATASETS["svhn"]
    assert [f"{svhn.addresses[0]}/{file.name}" for file in svhn.files] == [
        datasets.SVHN.split_list[split][0] for split in ("train", "test")
    ]
    assert {file.algorithm for name in ("cifar10", "svhn") for file in published.DATASETS[name].files} == {
        "sha256"
    }


def test_missing_and_altered_raw_files_are_named(tiny: Any, tmp_path: Path) -> None:
    raw = tiny.put(tmp_path / "raw")
    name = list(tiny.files)[1]
    (raw / name).write_bytes(tiny.files[name] + b"x")
    with pytest.raises(SynthGainError, match=rf"{name}: altered or truncated.*md5 expected"):
        read("mnist", raw)
    (raw / name).unlink()
    with pytest.raises(SynthGainError, match=rf"{name}: no such file; the `download` stage"):
        read("mnist", raw)

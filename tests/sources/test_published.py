import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from pipeline.errors import SynthGainError
from pipeline.params import CLASSES_OF_SOURCE
from pipeline.sources import load_raw, published


def read(source: str, raw: Path) -> Any:
    return load_raw(source, raw, image_size=28, test_fraction=0.2, seed=1)


def test_sources_and_classes_are_those_of_the_params() -> None:
    classes = {source: len(dataset.class_names) for source, dataset in published.DATASETS.items()}
    assert classes | {"digits": 10} == CLASSES_OF_SOURCE


def test_checksums_and_addresses_are_torchvisions() -> None:
    mnist = published.DATASETS["mnist"]
    assert [(file.name, file.md5) for file in mnist.files] == datasets.MNIST.resources
    assert list(mnist.addresses) == datasets.MNIST.mirrors
    emnist = published.DATASETS["emnist_letters"]
    assert emnist.files[0].md5 == datasets.EMNIST.md5
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


def test_missing_and_altered_raw_files_are_named(tiny: Any, tmp_path: Path) -> None:
    raw = tiny.put(tmp_path / "raw")
    name = list(tiny.files)[1]
    (raw / name).write_bytes(tiny.files[name] + b"x")
    with pytest.raises(SynthGainError, match=rf"{name}: altered or truncated.*md5 expected"):
        read("mnist", raw)
    (raw / name).unlink()
    with pytest.raises(SynthGainError, match=rf"{name}: no such file; the `download` stage"):
        read("mnist", raw)

"""Published data sets: fetched as published; MNIST and its family are read by torchvision's dataset classes.

Addresses and checksums of these are those of the torchvision classes. The downloads are not: torchvision waits for a
silent server without end, and knows no mirror of ours. Sets in colour are read in `colour_archives.py`.
"""

from __future__ import annotations

import gzip
import os
import shutil
import string
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torchvision import datasets

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.sources import colour_archives
from pipeline.sources.mirrors import PublishedFile, checksum_of, fetch_files

MIRROR_VARIABLE = "SYNTHGAIN_MIRROR"


@dataclass(frozen=True)
class ColourDataset:
    """A data set in colour, and what reads it.

    Attributes:
        files: the published files and their checksums.
        addresses: the published base URLs.
        class_names: in label order.
        folder: the name of its subfolder in a local mirror.
        read: the raw folder, and whether the train split is wanted → images (N, 3, 32, 32) uint8, labels (N,) int64.
    """

    files: tuple[PublishedFile, ...]
    addresses: tuple[str, ...]
    class_names: tuple[str, ...]
    folder: str
    read: Callable[..., colour_archives.Arrays]


@dataclass(frozen=True)
class PublishedDataset:
    """A data set of MNIST's family and the torchvision class that reads it.

    Attributes:
        reader: the class, with its checksums and addresses.
        class_names: in label order.
        folder: the name of its subfolder in a local mirror.
        arguments: what the class needs besides the root and the split.
        first_label: the label of the first class in the files.
        transposed: whether the files hold rows and columns exchanged.
    """

    reader: Any  # type[datasets.MNIST]; torchvision is untyped
    class_names: tuple[str, ...]
    folder: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    first_label: int = 0
    transposed: bool = False

    @property
    def is_archive(self) -> bool:
        """EMNIST is published as one zip file of all its variants, the others as four gzip files."""
        return issubclass(self.reader, datasets.EMNIST)

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        """The published files and their checksums."""
        if self.is_archive:
            return (PublishedFile(self.reader.url.rpartition("/")[2], self.reader.md5),)
        return tuple(PublishedFile(name, md5) for name, md5 in self.reader.resources)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The published base URLs."""
        return (self.reader.url.rpartition("/")[0],) if self.is_archive else tuple(self.reader.mirrors)


def _emnist(variant: str, class_names: Sequence[str], *, first_label: int = 0) -> PublishedDataset:
    return PublishedDataset(
        datasets.EMNIST,
        tuple(class_names),
        "EMNIST",
        {"split": variant},
        first_label=first_label,
        transposed=True,
    )


# Keys: `data.source` in params.yaml.
DATASETS: dict[str, PublishedDataset | ColourDataset] = {
    "mnist": PublishedDataset(datasets.MNIST, tuple(string.digits), "MNIST"),
    "fashion_mnist": PublishedDataset(
        datasets.FashionMNIST, tuple(datasets.FashionMNIST.classes), "FashionMNIST"
    ),
    "kmnist": PublishedDataset(datasets.KMNIST, tuple(datasets.KMNIST.classes), "KMNIST"),
    "emnist_balanced": _emnist("balanced", datasets.EMNIST.classes_split_dict["balanced"]),
    "emnist_digits": _emnist("digits", string.digits),
    "emnist_letters": _emnist("letters", string.ascii_lowercase, first_label=1),
    # SHA-256 as TensorFlow Datasets and torchvision's prototypes state them; Toronto's page and torchvision give MD5.
    "cifar10": ColourDataset(
        (
            PublishedFile(
                colour_archives.CIFAR10, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
            ),
        ),
        ("https://www.cs.toronto.edu/~kriz",),
        tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
        "CIFAR10",
        colour_archives.read_cifar10,
    ),
    "svhn": ColourDataset(
        (
            PublishedFile(
                "train_32x32.mat", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"
            ),
            PublishedFile(
                "test_32x32.mat", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"
            ),
        ),
        ("http://ufldl.stanford.edu/housenumbers",),
        tuple(string.digits),
        "SVHN",
        colour_archives.read_svhn,
    ),
}


def fetch(
    source: str, out: Path, *, mirrors: Sequence[str], by_hand: Path, say: Callable[[str], None]
) -> None:
    """Put the files of a data set into `out` exactly as published, checksums verified.

    Places in order: what is already in `out`, the mirror in the environment variable `SYNTHGAIN_MIRROR`,
    `mirrors`, the folder `by_hand`, the published addresses.

    Raises:
        SynthGainError: if a file was not to be had; names every place with its reason, and the ways out.
    """
    dataset = DATASETS[source]
    first = os.environ.get(MIRROR_VARIABLE, "").strip()
    places = [*([first] if first else []), *mirrors, str(by_hand), *dataset.addresses]

    def advice(missing: list[str]) -> list[str]:
        return [
            "three ways out:",
            f"  1. a mirror: set {MIRROR_VARIABLE}, or data.mirrors in params.yaml, to a base URL or a local"
            " folder that holds the files",
            f"  2. by hand: put {', '.join(missing)} into {by_hand}",
            "  3. no data set at all: `make demo` runs everything on the digits embedded in scikit-learn",
        ]

    fetch_files(
        dataset.files,
        out,
        mirrors=list(dict.fromkeys(places)),
        dataset=dataset.folder,
        advice=advice,
        say=say,
    )


def load(source: str, raw: Path) -> tuple[LabeledImages, LabeledImages]:
    """The published train and test split, upright, labels from 0.

    Raises:
        SynthGainError: if a file in `raw` is missing, altered or not what its name says.
    """
    dataset = DATASETS[source]
    for file in dataset.files:
        path = raw / file.name
        if not path.is_file():
            raise SynthGainError(
                f"{path}: no such file; the `download` stage with data.source {source} makes it"
            )
        if (found := checksum_of(path, file)) != file.checksum:
            raise SynthGainError(
                f"{path}: altered or truncated, or of another data set ({file.algorithm} expected {file.checksum},"
                f" found {found}); run the `download` stage again"
            )
    if isinstance(dataset, ColourDataset):
        return _in_colour(source, dataset, raw, train=True), _in_colour(source, dataset, raw, train=False)
    with _extracted(dataset, raw) as root:
        return _read(source, dataset, root, train=True), _read(source, dataset, root, train=False)


@contextmanager
def _extracted(dataset: PublishedDataset, raw: Path) -> Iterator[Path]:
    """A temporary root folder as the torchvision class expects it: it reads no compressed file."""
    with tempfile.TemporaryDirectory(prefix="synthgain-") as name:
        folder = Path(name) / dataset.reader.__name__ / "raw"
        folder.mkdir(parents=True)
        for file in dataset.files:
            if not dataset.is_archive:
                _gunzip(raw / file.name, folder / file.name.removesuffix(".gz"))
                continue
            with zipfile.ZipFile(raw / file.name) as archive:
                wanted = f"emnist-{dataset.arguments['split']}-"
                for member in archive.namelist():
                    last = member.rpartition("/")[2]
                    if last.startswith(wanted) and last.endswith("-ubyte.gz"):
                        with archive.open(member) as packed:
                            _gunzip(packed, folder / last.removesuffix(".gz"))
        yield Path(name)


def _gunzip(packed: Any, target: Path) -> None:
    with gzip.open(packed) as source, target.open("wb") as destination:
        shutil.copyfileobj(source, destination)


def _in_colour(source: str, dataset: ColourDataset, raw: Path, *, train: bool) -> LabeledImages:
    images, labels = dataset.read(raw, train=train)
    split = "train" if train else "test"
    return LabeledImages(
        images, labels, dataset.class_names, {"kind": "real", "source": source, "published_split": split}
    )


def _read(source: str, dataset: PublishedDataset, root: Path, *, train: bool) -> LabeledImages:
    split = dataset.reader(root, train=train, **dataset.arguments)
    images = split.data.numpy()
    if dataset.transposed:
        images = images.transpose(0, 2, 1)
    return LabeledImages(
        np.ascontiguousarray(images[:, np.newaxis]),
        split.targets.numpy().astype(np.int64) - dataset.first_label,
        dataset.class_names,
        {"kind": "real", "source": source, "published_split": "train" if train else "test"},
    )

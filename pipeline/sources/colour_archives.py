"""Readers of published data sets in colour: the binary archive of CIFAR-10 and the cropped digits of SVHN.

No pickles: the file formats are those of https://www.cs.toronto.edu/~kriz/cifar.html ("binary version") and of
http://ufldl.stanford.edu/housenumbers/ ("format 2").
"""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.io

from pipeline.errors import SynthGainError

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]

CIFAR10 = "cifar-10-binary.tar.gz"
_SIDE = 32
_RECORD = 1 + 3 * _SIDE * _SIDE  # the label, then the red, the green and the blue pixels
_BATCHES = {True: [f"data_batch_{number}.bin" for number in range(1, 6)], False: ["test_batch.bin"]}


def read_cifar10(raw: Path, *, train: bool) -> Arrays:
    """Images (N, 3, 32, 32) uint8 and labels (N,) int64 of a split of CIFAR-10, in the order of its batches.

    Raises:
        SynthGainError: if the archive is damaged or misses a batch.
    """
    path = raw / CIFAR10
    batches = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for name in _BATCHES[train]:
                file = archive.extractfile(f"cifar-10-batches-bin/{name}")
                content = np.frombuffer(b"" if file is None else file.read(), np.uint8)
                batches.append(content.reshape(-1, _RECORD))
    except (OSError, EOFError, KeyError, ValueError, zlib.error, tarfile.TarError) as error:
        raise SynthGainError(f"{path}: not the binary archive of CIFAR-10 ({error})") from None
    records = np.concatenate(batches)
    return records[:, 1:].reshape(-1, 3, _SIDE, _SIDE), records[:, 0].astype(np.int64)


def read_svhn(raw: Path, *, train: bool) -> Arrays:
    """Images (N, 3, 32, 32) uint8 and labels (N,) int64 of a split of SVHN; label 10 of the file is the digit 0.

    Raises:
        SynthGainError: if the file is no MATLAB file with such arrays.
    """
    path = raw / f"{'train' if train else 'test'}_{_SIDE}x{_SIDE}.mat"
    try:
        arrays = scipy.io.loadmat(path, variable_names=["X", "y"])
        images, labels = arrays["X"], arrays["y"].astype(np.int64).ravel()
        if images.shape != (_SIDE, _SIDE, 3, len(labels)) or images.dtype != np.uint8:
            raise ValueError(f"X {images.shape} {images.dtype}, y {labels.shape}")
    except (OSError, KeyError, ValueError, TypeError, zlib.error) as error:
        raise SynthGainError(f"{path}: not the cropped digits of SVHN ({error})") from None
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), np.where(labels == 10, 0, labels)

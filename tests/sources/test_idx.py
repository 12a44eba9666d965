import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets.mnist import read_image_file, read_label_file

from pipeline.errors import SynthGainError
from pipeline.sources.idx import read_idx


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 2**32 - 1)
)
@settings(max_examples=30)
def test_it_reads_what_torchvision_reads(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("idx")
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    content = bytes([0, 0, 8, 3]) + np.array(shape, ">u4").tobytes() + array.tobytes()
    (folder / "images").write_bytes(content)
    (folder / "images.gz").write_bytes(gzip.compress(content))
    for name in ("images", "images.gz"):
        assert np.array_equal(read_idx(folder / name, dimensions=3), array)
    assert np.array_equal(read_image_file(str(folder / "images")).numpy(), array)


def test_labels_agree_with_torchvision(tmp_path: Path, write_idx: Any) -> None:
    write_idx(tmp_path / "labels", np.array([3, 1, 2]))
    assert read_idx(tmp_path / "labels", dimensions=1).tolist() == [3, 1, 2]
    assert read_label_file(str(tmp_path / "labels")).tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", b"", "not an IDX file"),
        ("a", b"\x89PNG" + bytes(30), "not an IDX file"),
        ("a", bytes([0, 0, 13, 1, 0, 0, 0, 1]) + bytes(4), "type 13 with 1 dimensions"),
        ("a", bytes([0, 0, 8, 3]) + bytes(12), "type 8 with 3 dimensions"),
        ("a", bytes([0, 0, 8, 1, 0, 0, 0, 9]) + bytes(8), "8 bytes of data, 9 need 9"),
        ("a", bytes([0, 0, 8, 1, 255, 255, 255, 255]), "fewer bytes of data, 4294967295 need"),
        ("a", bytes([0, 0, 8, 1, 0, 0, 0, 9]) + bytes(10), "more than 9 bytes of data, 9 need 9"),
        ("a.gz", b"no gzip", "damaged or truncated"),
        (
            "a.gz",
            gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 92]) + bytes(92), mtime=0)[:-9],
            "damaged or truncated",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SynthGainError, match=message) as error:
        read_idx(tmp_path / name, dimensions=1)
    assert str(tmp_path / name) in str(error.value)


def test_a_packed_file_is_not_unpacked_beyond_its_header(tmp_path: Path) -> None:
    """A gzip file of 0.2 MB that unpacks to 200 MB, and says that it holds nine bytes."""
    packed = gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 9]) + bytes(9)) + gzip.compress(bytes(200_000_000), 1)
    (tmp_path / "a.gz").write_bytes(packed)
    del packed
    tracemalloc.start()
    with pytest.raises(SynthGainError, match="more than 9 bytes of data"):
        read_idx(tmp_path / "a.gz", dimensions=1)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10_000_000

"""Archives of arrays: NumPy's own bytes, nothing of the time, and no more memory than is asked for."""

import re
import time
import zipfile

import numpy as np
import pytest

from pipeline.errors import SynthGainError
from pipeline.npz import ArrayOnDisk, find_on_disk, open_npz, read_array, write_npz

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 1, 4, 6), dtype=np.uint8)
ARRAYS = {
    "images": IMAGES,
    "labels": np.arange(50, dtype=np.int64),
    "names": np.array(["a", "ü"]),
    "n": np.array(3),
}


@pytest.mark.parametrize("compressed", [True, False])
def test_the_bytes_are_those_of_numpys_own_writer_at_any_time(tmp_path, monkeypatch, compressed):
    (np.savez_compressed if compressed else np.savez)(tmp_path / "numpy.npz", **ARRAYS)
    monkeypatch.setattr("time.time", lambda: 4e9)
    monkeypatch.setattr("time.localtime", lambda *_: time.gmtime(4e9))
    write_npz(tmp_path / "ours.npz", ARRAYS, compressed=compressed)
    assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "numpy.npz").read_bytes()


@pytest.mark.parametrize("compressed", [True, False])
def test_an_array_on_disk_is_written_as_one_in_memory(tmp_path, compressed):
    (tmp_path / "pixels").write_bytes(b"before" + IMAGES.tobytes())
    on_disk = ARRAYS | {"images": ArrayOnDisk(tmp_path / "pixels", IMAGES.shape, start=6)}
    write_npz(tmp_path / "a.npz", on_disk, compressed=compressed)
    write_npz(tmp_path / "b.npz", ARRAYS, compressed=compressed)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("positions", [[], [7], [3, 4, 5, 20, 49, 0], [9, 9, 8, 8], list(range(50))])
def test_rows_on_disk_are_those_in_memory(tmp_path, positions):
    write_npz(tmp_path / "a.npz", ARRAYS, compressed=False)
    found = find_on_disk(tmp_path / "a.npz", "images")
    rows = found.rows(np.array(positions, dtype=np.int64))
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(rows, IMAGES[positions].reshape(-1, 1, 4, 6))


def test_only_what_is_not_compressed_stays_on_disk(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS)
    assert find_on_disk(tmp_path / "a.npz", "images") is None
    write_npz(tmp_path / "b.npz", ARRAYS, compressed=False)
    with pytest.raises(ValueError, match="labels are int64, not uint8"):
        find_on_disk(tmp_path / "b.npz", "labels")


def test_a_file_that_becomes_shorter_is_named(tmp_path):
    write_npz(tmp_path / "a.npz", {"images": IMAGES}, compressed=False)
    found = find_on_disk(tmp_path / "a.npz", "images")
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:400])
    with pytest.raises(SynthGainError, match=r"a\.npz: truncated while it was read"):
        found.rows(np.arange(50))


def test_a_changed_byte_on_disk_is_found(tmp_path):
    write_npz(tmp_path / "a.npz", {"images": IMAGES}, compressed=False)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[600] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        find_on_disk(tmp_path / "a.npz", "images")


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS)
    before = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(ValueError, match="Object arrays"):
        write_npz(tmp_path / "a.npz", {"images": np.array([object()])})
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.npz", before)]


def test_an_array_larger_than_allowed_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    write_npz(
        tmp_path / "a.npz", {"images": np.zeros(1_000_000, np.uint8)}
    )  # a thousandth of that when packed
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert len(read_array(archive, "images", most_bytes=1_000_200)) == 1_000_000
        monkeypatch.setattr(archive, "open", None)
        with pytest.raises(ValueError, match=r"images\.npy has 1000128 bytes; up to 500000 are allowed"):
            read_array(archive, "images", most_bytes=500_000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.npz: no such file; the stage makes it"),
        (b"", r"a.npz: no table (.*); make it again"),
        (b"PK\x03\x04 and no more", r"a.npz: no table (.*); make it again"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, content, message):
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with (
        pytest.raises(SynthGainError) as error,
        open_npz(path, damaged="no table", remedy="; make it again", missing="the stage makes it"),
    ):
        pass
    assert re.fullmatch(f".*{message}", str(error.value)) and "\n" not in str(error.value)


def test_an_array_that_is_missing_is_damage_and_our_own_errors_pass(tmp_path):
    write_npz(tmp_path / "a.npz", ARRAYS)
    with (
        pytest.raises(SynthGainError, match="no table"),
        open_npz(tmp_path / "a.npz", damaged="no table") as a,
    ):
        a["other"]
    with pytest.raises(SynthGainError, match=r"^ours$"), open_npz(tmp_path / "a.npz", damaged="no table"):
        raise SynthGainError("ours")

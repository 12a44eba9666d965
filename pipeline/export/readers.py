"""Reading an export back, a batch at a time, with nothing of what wrote it: for `verify` and `inspect`."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.export.idx import IMAGES, IMAGES_MAGIC, LABELS, LABELS_MAGIC
from pipeline.export.parquet import TABLE
from pipeline.export.png import class_folders_before
from pipeline.export.table import COLUMNS, shard_name
from pipeline.npz import read_array

_BATCH = 1000
# Around the pixels or the values that a file holds, which at worst do not shrink.
_OVERHEAD = 4096
_LONGEST_ID = 64


# What the readers of the formats raise on damaged files.
_DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, ArithmeticError, EOFError, MemoryError, RecursionError),
    *(NotImplementedError, RuntimeError, struct.error, zlib.error),
    *(pa.ArrowException, tarfile.TarError, zipfile.BadZipFile),
)


class Unreadable(Exception):
    """What is wrong with a file of an export."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of an export.

    Attributes:
        rows: their rows of the sample table.
        labels: (n,) int64 as the format itself has them, which is not always the table.
        images: (n, H, W) uint8.
    """

    rows: pa.Table
    labels: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]


def read_samples(folder: Path, manifest: Mapping[str, Any]) -> Iterator[Batch]:
    """All samples of an export in their order.

    No file is taken at its word: a length or size other than the manifest's is refused before it is decoded.

    Raises:
        Unreadable: if a file is missing, damaged, or not what the manifest says.
    """
    shape = (int(manifest["image_size"][0]), int(manifest["image_size"][1]))
    names = {suffix: _shards(folder, manifest, suffix) for suffix in (".npz", ".parquet", ".tar", ".arrow")}
    match manifest["format"]:
        case "idx":
            yield from _read_idx(folder, manifest["images"], shape, "", Path.open)
        case "idx_gz":
            yield from _read_idx(folder, manifest["images"], shape, ".gz", gzip.open)
        case "png":
            folders = manifest.get("class_folders") or class_folders_before(manifest["class_names"])
            yield from _read_png_tree(folder, folders, shape)
        case "npz":
            yield from _read_npz(folder, names[".npz"], manifest["images"], shape)
        case "parquet":
            for path in names[".parquet"]:
                with _named(path), pq.ParquetFile(path) as file:
                    yield from _with_images(file.iter_batches(_BATCH), shape)
        case "arrow":
            for path in names[".arrow"]:
                with _named(path), pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
                    for number in range(reader.num_record_batches):
                        yield from _with_images(_slices(reader.get_batch(number)), shape)
        case "webdataset":
            for path in names[".tar"]:
                with _named(path):
                    yield from _read_tar(path, shape)


def decode_png(content: bytes, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The pixels of an 8-bit grey PNG of this (H, W).

    Raises:
        Unreadable: if it is damaged, of another size or kind; a bomb is not unpacked.
    """
    if len(content) > shape[0] * (shape[1] + 8) + _OVERHEAD:
        raise Unreadable(f"a PNG of {len(content)} bytes for {shape[1]}×{shape[0]} pixels")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.size != (shape[1], shape[0]) or image.mode != "L":
                raise Unreadable(
                    f"a PNG of {image.size[0]}×{image.size[1]} pixels, mode {image.mode};"
                    f" {shape[1]}×{shape[0]}, L is needed"
                )
            return np.asarray(image)
    except Unreadable:
        raise
    except Exception as error:  # Pillow's decoders raise what they like on damaged files
        raise Unreadable(f"a damaged PNG ({' '.join(str(error).split())})") from None


def _shards(folder: Path, manifest: Mapping[str, Any], suffix: str) -> list[Path]:
    count = manifest["shards"]
    if count > manifest["images"]:
        raise Unreadable(f"manifest.json: {count} shards for {manifest['images']} images")
    return [folder / shard_name(number, count, suffix) for number in range(count)]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors that name the file."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"{path.name}: {error}") from None
    except FileNotFoundError:
        raise Unreadable(f"{path.name}: missing") from None
    except _DAMAGE as error:
        raise Unreadable(f"{path.name}: cannot be read ({' '.join(str(error).split())[:200]})") from None


def _rows(table: pa.Table) -> pa.Table:
    """The columns of the sample table, of their types."""
    if missing := [name for name in COLUMNS.names if name not in table.column_names]:
        raise Unreadable(f"column {missing[0]} is missing")
    rows = table.select(COLUMNS.names).cast(COLUMNS)
    rows.validate(full=True)  # offsets, and text that is UTF-8
    return rows


def _table_batches(folder: Path) -> Iterator[pa.Table]:
    with _named(folder / TABLE), pq.ParquetFile(folder / TABLE) as file:
        for batch in file.iter_batches(_BATCH):
            yield _rows(pa.Table.from_batches([batch]))


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, _BATCH):
        yield batch.slice(start, _BATCH)


def _with_images(batches: Iterator[pa.RecordBatch], shape: tuple[int, int]) -> Iterator[Batch]:
    for batch in batches:
        table = pa.Table.from_batches([batch])
        rows = _rows(table)
        pngs = table["image"].combine_chunks().field("bytes").to_pylist()
        yield _batch(rows, rows["label"].to_pylist(), [decode_png(png, shape) for png in pngs], shape)


def _batch(
    rows: pa.Table, labels: Sequence[Any], images: list[npt.NDArray[np.uint8]], shape: tuple[int, int]
) -> Batch:
    stacked = np.stack(images) if images else np.empty((0, *shape), dtype=np.uint8)
    if any(label is None for label in labels):
        raise Unreadable("a label is missing")
    return Batch(rows, np.array(labels, dtype=np.int64), stacked)


def _read_idx(
    folder: Path, samples: int, shape: tuple[int, int], suffix: str, opened: Callable[..., Any]
) -> Iterator[Batch]:
    images_path, labels_path = folder / f"{IMAGES}{suffix}", folder / f"{LABELS}{suffix}"
    with (
        _named(images_path),
        opened(images_path, "rb") as images,
        _named(labels_path),
        opened(labels_path, "rb") as labels,
    ):
        if (found := images.read(16)) != struct.pack(">4i", IMAGES_MAGIC, samples, *shape):
            raise Unreadable(f"not the header of {samples} images of {shape[0]}×{shape[1]}: {found.hex()}")
        if (found := labels.read(8)) != struct.pack(">2i", LABELS_MAGIC, samples):
            raise Unreadable(f"not the header of {samples} labels: {found.hex()}")
        size = shape[0] * shape[1]
        for rows in _table_batches(folder):
            pixels, numbers = images.read(len(rows) * size), labels.read(len(rows))
            if len(pixels) < len(rows) * size or len(numbers) < len(rows):
                raise Unreadable(f"ends before the {samples} samples of the table do")
            yield Batch(
                rows,
                np.frombuffer(numbers, np.uint8).astype(np.int64),
                np.frombuffer(pixels, np.uint8).reshape(-1, *shape),
            )
        if images.read(1) or labels.read(1):
            raise Unreadable("goes on after its last sample")


def _read_png_tree(folder: Path, folders: Sequence[str], shape: tuple[int, int]) -> Iterator[Batch]:
    for rows in _table_batches(folder):
        images = []
        for sample_id, label in zip(rows["id"].to_pylist(), rows["label"].to_pylist(), strict=True):
            if "/" in sample_id or not 0 <= label < len(folders):
                raise Unreadable(f"{TABLE}: sample {sample_id!r} of label {label} can have no file")
            path = folder / folders[label] / f"{sample_id}.png"
            with _named(path):
                images.append(decode_png(path.read_bytes(), shape))
        yield _batch(rows, rows["label"].to_pylist(), images, shape)


def _read_npz(folder: Path, paths: list[Path], samples: int, shape: tuple[int, int]) -> Iterator[Batch]:
    tables = _table_batches(folder)
    left: pa.Table = COLUMNS.empty_table()
    for path in paths:
        with _named(path), path.open("rb") as file:
            with zipfile.ZipFile(file) as archive:
                labels = read_array(archive, "labels", most_bytes=8 * samples + _OVERHEAD)
                pixels = len(labels) * shape[0] * shape[1]
                images = read_array(archive, "images", most_bytes=pixels + _OVERHEAD)
                ids = read_array(archive, "ids", most_bytes=4 * _LONGEST_ID * len(labels) + _OVERHEAD)
            if images.dtype != np.uint8 or images.shape != (len(labels), *shape) or len(ids) != len(labels):
                raise Unreadable(
                    f"images {images.shape} {images.dtype}, {len(labels)} labels, {len(ids)} ids"
                )
            while len(left) < len(labels):
                more = next(tables, None)
                if more is None:
                    raise Unreadable(f"more samples than {TABLE}")
                left = pa.concat_tables([left, more])
            rows, left = left.slice(0, len(labels)), left.slice(len(labels))
            if rows["id"].to_pylist() != ids.tolist():
                raise Unreadable(f"its ids are not those of {TABLE}")
            yield Batch(rows, labels.astype(np.int64), images)
    if len(left) or next(tables, None) is not None:
        raise Unreadable(f"{TABLE}: more rows than samples")


def _read_tar(path: Path, shape: tuple[int, int]) -> Iterator[Batch]:
    rows: list[dict[str, Any]] = []
    labels: list[int] = []
    images: list[npt.NDArray[np.uint8]] = []
    parts: dict[str, bytes] = {}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            stem, _, kind = member.name.partition(".")
            if not member.isfile() or kind not in ("png", "cls", "json") or "/" in stem:
                raise Unreadable(f"found {member.name!r}; files named <id>.png, .cls and .json are allowed")
            content = archive.extractfile(member)
            assert content is not None, "a file"
            limit = shape[0] * (shape[1] + 8) + _OVERHEAD
            if member.size > limit:
                raise Unreadable(f"{member.name} has {member.size} bytes; up to {limit} are allowed")
            parts[kind] = content.read()
            archive.members = []  # type: ignore[attr-defined]  # it would remember every one
            if len(parts) == 3:
                row = json.loads(parts["json"])
                if row["id"] != stem:
                    raise Unreadable(f"{member.name}: is about {row['id']}")
                rows.append(row)
                labels.append(int(parts["cls"]))
                images.append(decode_png(parts["png"], shape))
                parts = {}
            if len(rows) == _BATCH:
                yield _batch(pa.Table.from_pylist(rows, schema=COLUMNS), labels, images, shape)
                rows, labels, images = [], [], []
    if parts:
        raise Unreadable("ends in the middle of a sample")
    if rows:
        yield _batch(pa.Table.from_pylist(rows, schema=COLUMNS), labels, images, shape)

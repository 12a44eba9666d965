"""Reading an export back, a batch at a time, with nothing of what wrote it: for `verify` and `inspect`."""

from __future__ import annotations

import gzip
import io
import math
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
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from pipeline.class_folders import class_folders_before
from pipeline.export.ids import parse_id
from pipeline.export.idx import IMAGES, IMAGES_MAGIC, LABELS, LABELS_MAGIC
from pipeline.export.parquet import TABLE
from pipeline.export.plain_files import NoPlainFile, plain_file, read_plain, strict_json
from pipeline.export.table import COLUMNS, IMAGE, shard_name
from pipeline.npz import read_array, read_rows
from pipeline.runtime.memory import MOST_BYTES

Shape = tuple[int, ...]  # of a picture: (H, W), in colour (H, W, 3)

_BATCH = 1000
_BYTES_AT_ONCE = 64_000_000  # of pixels
# Around the pixels or the values that a file holds, which at worst do not shrink.
_OVERHEAD = 4096
_LONGEST_ID = 64
_LONGEST_TEXT = 256  # of a cell of the sample table: hashes and ids
_MOST_OF_A_LIST = 1_000_000  # in the footer of a Parquet file: columns times row groups
_ENCODED = {"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY", "BIT_PACKED"}

# What the readers of the formats raise on damaged files.
_DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, ArithmeticError, EOFError, RecursionError),
    *(NotImplementedError, RuntimeError, struct.error, zlib.error),
    *(pa.ArrowException, tarfile.TarError, zipfile.BadZipFile),
)


TOO_MUCH_MEMORY = (
    f"unpacks to more than the {MOST_BYTES // 10**6} MB of memory that are given to a file from outside"
)


class Unreadable(Exception):
    """What is wrong with a file of an export."""


class _OfAFile(Unreadable):
    """The same, with the file's name."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of an export.

    Attributes:
        rows: their rows of the sample table.
        labels: (n,) int64 as the format itself has them, which is not always the table.
        images: (n, H, W) uint8, in colour (n, H, W, 3).
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
    shape = picture_shape(manifest)
    samples = int(manifest["images"])
    match manifest["format"]:
        case "idx":
            yield from _read_idx(folder, samples, shape, "", Path.open)
        case "idx_gz":
            yield from _read_idx(folder, samples, shape, ".gz", gzip.open)
        case "png":
            folders = manifest.get("class_folders") or class_folders_before(manifest["class_names"])
            yield from _read_png_tree(folder, samples, folders, shape)
        case "npz":
            yield from _read_npz(folder, _shards(manifest, ".npz"), samples, shape)
        case "parquet":
            for name in _shards(manifest, ".parquet"):
                yield from _with_images(folder, name, _parquet_batches(folder, name, samples, shape), shape)
        case "arrow":
            for name in _shards(manifest, ".arrow"):
                yield from _with_images(folder, name, _arrow_batches(folder, name, shape), shape)
        case "webdataset":
            for name in _shards(manifest, ".tar"):
                with _opened(folder, name) as path:
                    yield from _read_tar(path, shape)


def picture_shape(manifest: Mapping[str, Any]) -> Shape:
    """(H, W) of grey pictures, (H, W, 3) of those in colour."""
    height, width = manifest["image_size"]
    return (int(height), int(width), 3) if manifest.get("channels") == 3 else (int(height), int(width))


def decode_png(content: bytes, shape: Shape) -> npt.NDArray[np.uint8]:
    """The pixels of an 8-bit PNG, grey for (H, W), RGB for (H, W, 3).

    Raises:
        Unreadable: if it is damaged, of another size or kind; a bomb is not unpacked.
    """
    if len(content) > _most_of_a_png(shape):
        raise Unreadable(f"a PNG of {len(content)} bytes for {shape[1]}×{shape[0]} pixels")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            mode = "RGB" if len(shape) == 3 else "L"
            if image.size != (shape[1], shape[0]) or image.mode != mode:
                raise Unreadable(
                    f"a PNG of {image.size[0]}×{image.size[1]} pixels, mode {image.mode};"
                    f" {shape[1]}×{shape[0]}, {mode} is needed"
                )
            return np.asarray(image)
    except Unreadable:
        raise
    except Exception as error:  # Pillow's decoders raise what they like on damaged files
        raise Unreadable(f"a damaged PNG ({' '.join(str(error).split())})") from None


def _shards(manifest: Mapping[str, Any], suffix: str) -> list[str]:
    count = manifest["shards"]
    if count > manifest["images"]:
        raise Unreadable(f"manifest.json: {count} shards for {manifest['images']} images")
    return [shard_name(number, count, suffix) for number in range(count)]


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[Path]:
    """The path of a plain file below the folder; errors of the block name it."""
    try:
        yield plain_file(folder, name)
    except _OfAFile:
        raise
    except (Unreadable, NoPlainFile) as error:
        raise _OfAFile(f"{name}: {error}") from None
    except FileNotFoundError:
        raise _OfAFile(f"{name}: missing") from None
    except MemoryError:  # of Arrow's too
        raise _OfAFile(f"{name}: {TOO_MUCH_MEMORY}") from None
    except _DAMAGE as error:
        raise _OfAFile(f"{name}: cannot be read ({' '.join(str(error).split())[:200]})") from None


def _at_once(shape: Shape) -> int:
    """How many images are in memory at the same time."""
    return max(1, min(_BATCH, _BYTES_AT_ONCE // math.prod(shape)))


def _most_of_a_png(shape: Shape) -> int:
    return shape[0] * (math.prod(shape[1:]) + 8) + _OVERHEAD


def _rows(table: pa.Table) -> pa.Table:
    """The columns of the sample table, of their types."""
    for name in COLUMNS.names:
        if pa.types.is_string(COLUMNS.field(name).type):
            _refuse_long_values(table[name].combine_chunks(), name, _LONGEST_TEXT)
    rows = table.select(COLUMNS.names).cast(COLUMNS)
    rows.validate(full=True)  # offsets, and text that is UTF-8
    return rows


def _refuse_long_values(values: pa.Array, name: str, most: int) -> None:
    """Before a value that stands in the file once is repeated for each row that names it."""
    if isinstance(values, pa.ChunkedArray):
        for chunk in values.chunks:
            _refuse_long_values(chunk, name, most)
        return
    values = values.dictionary if isinstance(values, pa.DictionaryArray) else values
    values.validate(full=True)
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    if longest > most:
        raise Unreadable(f"column {name} has a value of {longest:,} bytes; up to {most:,} are allowed")


def _check_columns(schema: pa.Schema, *, with_images: bool) -> None:
    """The columns and types that an export writes, before any of them is read."""
    wanted = {field.name: field.type for field in COLUMNS}
    if with_images:
        wanted["image"] = IMAGE.type
    for name in schema.names:
        if name not in wanted:
            raise Unreadable(f"column {name[:80]!r} is none of the sample table")
    for name, kind in wanted.items():
        if schema.names.count(name) != 1:
            raise Unreadable(f"column {name} is {'missing' if name not in schema.names else 'there twice'}")
        if (found := schema.field(name).type) != kind:
            raise Unreadable(f"column {name} is {str(found)[:80]}, {kind} is needed")


def _parquet_batches(
    folder: Path, name: str, samples: int, shape: Shape, *, with_images: bool = True
) -> Iterator[pa.Table]:
    """The rows of a Parquet file in batches, its footer checked first: rows, columns and the size of each column."""
    with _opened(folder, name) as path:
        limits = {
            "thrift_container_size_limit": _MOST_OF_A_LIST,
            "thrift_string_size_limit": _MOST_OF_A_LIST * 16,
        }
        with pq.ParquetFile(path, **limits) as file:
            _check_columns(file.schema_arrow, with_images=with_images)
            _check_footer(file.metadata, samples, shape)
        texts = [each.name for each in COLUMNS if pa.types.is_string(each.type)]
        texts += ["image.bytes", "image.path"] if with_images else []
        # As a dictionary a value is in memory once, however many rows name it.
        with pq.ParquetFile(path, read_dictionary=texts, **limits) as file:
            for batch in file.iter_batches(_at_once(shape)):
                yield pa.Table.from_batches([batch])


def _check_footer(footer: pq.FileMetaData, samples: int, shape: Shape) -> None:
    if footer.num_rows > samples:
        raise Unreadable(f"{footer.num_rows:,} rows; the manifest has {samples:,} images")
    if footer.num_row_groups > footer.num_rows:
        raise Unreadable(f"{footer.num_row_groups} row groups for {footer.num_rows} rows")
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            cell = _most_of_a_png(shape) if column.path_in_schema == "image.bytes" else _LONGEST_TEXT
            most = group.num_rows * (cell + 8) + _OVERHEAD
            # The footer may lie about the first. The second is there, and none of ours is larger packed than not.
            if (size := max(column.total_uncompressed_size, column.total_compressed_size)) > most:
                raise Unreadable(
                    f"column {column.path_in_schema[:80]} has {size:,} bytes in"
                    f" {group.num_rows} rows; up to {most:,} are allowed"
                )
            if more := set(column.encodings) - _ENCODED:
                raise Unreadable(f"column {column.path_in_schema[:80]} is encoded as {min(more)}")


def _table_batches(folder: Path, samples: int, shape: Shape) -> Iterator[pa.Table]:
    for table in _parquet_batches(folder, TABLE, samples, shape, with_images=False):
        with _opened(folder, TABLE):
            rows = _rows(table)
        yield rows


def _arrow_batches(folder: Path, name: str, shape: Shape) -> Iterator[pa.Table]:
    with (
        _opened(folder, name) as path,
        pa.memory_map(str(path)) as file,
        pa.ipc.open_file(file) as reader,
    ):
        _check_columns(reader.schema, with_images=True)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            for start in range(0, batch.num_rows, _at_once(shape)):
                yield pa.Table.from_batches([batch.slice(start, _at_once(shape))])


def _with_images(folder: Path, name: str, tables: Iterator[pa.Table], shape: Shape) -> Iterator[Batch]:
    for table in tables:
        with _opened(folder, name):
            pngs = table["image"].combine_chunks().field("bytes")
            _refuse_long_values(pngs, "image", _most_of_a_png(shape))
            rows = _rows(table)
            images = [_png(png, shape) for png in pngs.to_pylist()]
            batch = _batch(rows, rows["label"].to_pylist(), images, shape)
        yield batch


def _png(content: bytes | None, shape: Shape) -> npt.NDArray[np.uint8]:
    if content is None:
        raise Unreadable("an image is missing")
    return decode_png(content, shape)


def _batch(rows: pa.Table, labels: Sequence[Any], images: list[npt.NDArray[np.uint8]], shape: Shape) -> Batch:
    stacked = np.stack(images) if images else np.empty((0, *shape), dtype=np.uint8)
    if any(label is None for label in labels):
        raise Unreadable("a label is missing")
    return Batch(rows, np.array(labels, dtype=np.int64), stacked)


def _read_idx(
    folder: Path, samples: int, shape: Shape, suffix: str, opened: Callable[..., Any]
) -> Iterator[Batch]:
    with (
        _opened(folder, f"{IMAGES}{suffix}") as images_path,
        opened(images_path, "rb") as images,
        _opened(folder, f"{LABELS}{suffix}") as labels_path,
        opened(labels_path, "rb") as labels,
    ):
        if (found := images.read(16)) != struct.pack(">4i", IMAGES_MAGIC, samples, *shape):
            raise Unreadable(f"not the header of {samples} images of {shape[0]}×{shape[1]}: {found.hex()}")
        if (found := labels.read(8)) != struct.pack(">2i", LABELS_MAGIC, samples):
            raise Unreadable(f"not the header of {samples} labels: {found.hex()}")
        size = shape[0] * shape[1]
        for rows in _table_batches(folder, samples, shape):
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


def _read_png_tree(folder: Path, samples: int, folders: Sequence[str], shape: Shape) -> Iterator[Batch]:
    for rows in _table_batches(folder, samples, shape):
        images = []
        for sample_id, label in zip(rows["id"].to_pylist(), rows["label"].to_pylist(), strict=True):
            if label is None or not 0 <= label < len(folders) or parse_id(str(sample_id)) is None:
                raise Unreadable(f"{TABLE}: sample {sample_id!r} of label {label} can have no file")
            name = f"{folders[label]}/{sample_id}.png"
            with _opened(folder, name):
                images.append(decode_png(read_plain(folder, name, most_bytes=_most_of_a_png(shape)), shape))
        yield _batch(rows, rows["label"].to_pylist(), images, shape)


def _read_npz(folder: Path, names: list[str], samples: int, shape: Shape) -> Iterator[Batch]:
    tables = _table_batches(folder, samples, shape)
    left: pa.Table = COLUMNS.empty_table()
    for name in names:
        with _opened(folder, name) as path, path.open("rb") as file, zipfile.ZipFile(file) as archive:
            labels, ids = _labels_and_ids(archive, samples)
            images = read_rows(archive, "images", shape=(len(labels), *shape), at_once=_at_once(shape))
            start = 0
            for part in images:
                stop = start + len(part)
                while len(left) < len(part):
                    more = next(tables, None)
                    if more is None:
                        raise Unreadable(f"more samples than {TABLE}")
                    left = pa.concat_tables([left, more])
                rows, left = left.slice(0, len(part)), left.slice(len(part))
                if rows["id"].to_pylist() != ids[start:stop].tolist():
                    raise Unreadable(f"its ids are not those of {TABLE}")
                yield Batch(rows, labels[start:stop].astype(np.int64), part)
                start = stop
    if len(left) or next(tables, None) is not None:
        raise Unreadable(f"{TABLE}: more rows than samples")


def _labels_and_ids(archive: zipfile.ZipFile, samples: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if len(names := archive.namelist()) != len(set(names)):
        raise Unreadable("an array stands there twice")
    labels = read_array(archive, "labels", most_bytes=8 * samples + _OVERHEAD)
    ids = read_array(archive, "ids", most_bytes=4 * _LONGEST_ID * len(labels) + _OVERHEAD)
    if (
        labels.dtype.kind not in "iu"
        or labels.ndim != 1
        or ids.dtype.kind != "U"
        or ids.shape != labels.shape
    ):
        raise Unreadable(
            f"labels {labels.shape} {labels.dtype} and ids {ids.shape} {ids.dtype}; whole numbers and text"
            " of one length are needed"
        )
    return labels, ids


def _read_tar(path: Path, shape: Shape) -> Iterator[Batch]:
    rows: list[dict[str, Any]] = []
    labels: list[int] = []
    images: list[npt.NDArray[np.uint8]] = []
    parts: dict[str, bytes] = {}
    of = ""  # the sample that the parts belong to
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            stem, _, kind = member.name.partition(".")
            if not member.isfile() or kind not in ("png", "cls", "json") or "/" in stem:
                raise Unreadable(f"found {member.name!r}; files named <id>.png, .cls and .json are allowed")
            limit = _most_of_a_png(shape)
            if member.size > limit:
                raise Unreadable(f"{member.name} has {member.size} bytes; up to {limit} are allowed")
            if kind in parts:
                raise Unreadable(f"{member.name} stands there twice, or its sample is not complete")
            if parts and stem != of:
                raise Unreadable(f"{member.name} stands between the files of sample {of}")
            of = stem
            content = archive.extractfile(member)
            assert content is not None, "a file"
            parts[kind] = content.read()
            archive.members = []  # type: ignore[attr-defined]  # it would remember every one
            if len(parts) == 3:
                row = strict_json(parts["json"])
                if row["id"] != stem:
                    raise Unreadable(f"{member.name}: is about {row['id']}")
                rows.append(row)
                labels.append(int(parts["cls"]))
                images.append(decode_png(parts["png"], shape))
                parts = {}
            if len(rows) == _at_once(shape):
                yield _batch(pa.Table.from_pylist(rows, schema=COLUMNS), labels, images, shape)
                rows, labels, images = [], [], []
    if parts:
        raise Unreadable("ends in the middle of a sample")
    if rows:
        yield _batch(pa.Table.from_pylist(rows, schema=COLUMNS), labels, images, shape)

"""The canonical sample table: one row per image, the same columns in every format."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import SynthGainError
from pipeline.export.compression import deflate_blocks, encode_pngs
from pipeline.export.samples import Pixels, Samples

# Hashes are hexadecimal text; what is not known is null. All columns are nullable, or Hugging Face does not
# recognise its own features.
COLUMNS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("label", pa.int64()),
        pa.field("synthetic", pa.bool_()),
        pa.field("seed", pa.int64()),
        pa.field("z_sha256", pa.string()),
        pa.field("generator_sha256", pa.string()),
        pa.field("label_score", pa.float32()),
        pa.field("nearest_real_distance", pa.float32()),
        pa.field("pixel_sha256", pa.string()),
    ]
)
# What Hugging Face's Image feature decodes.
IMAGE = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
_DTYPES = {pa.string(): "string", pa.int64(): "int64", pa.bool_(): "bool", pa.float32(): "float32"}
# Arrow counts the bytes of a column of text in 32 bits.
_MOST_BYTES = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Shard:
    """A run of samples that is written as one: everything a format needs, small enough for a worker.

    Attributes:
        number: from 0.
        start: place of its first sample in the export.
        count: of the shards of the export.
        class_names: in label order.
        pixels: of its images, or what gives them, in the worker.
        columns: the values of the sample table by column, all but `pixel_sha256`; None where not known.
    """

    number: int
    start: int
    count: int
    class_names: tuple[str, ...]
    pixels: Pixels
    columns: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def images(self) -> npt.NDArray[np.uint8]:
        """(n, H, W) uint8, in colour (n, H, W, 3)."""
        return self.pixels() if callable(self.pixels) else self.pixels

    def file_name(self, suffix: str) -> str:
        """`train.parquet`, or `train-00003-of-00010.parquet` where there are several."""
        return shard_name(self.number, self.count, suffix)

    @property
    def ids(self) -> list[str]:
        """The id of each sample."""
        return self.columns["id"]

    @property
    def labels(self) -> list[int]:
        """The label of each sample."""
        return self.columns["label"]

    @cached_property
    def pngs(self) -> list[bytes]:
        """Each image as a PNG file."""
        return encode_pngs(self.images)

    @cached_property
    def deflated(self) -> bytes:
        """The pixels of all images, compressed."""
        return deflate_blocks(self.images)

    @cached_property
    def pixel_sha256(self) -> list[str]:
        """The hash of each image's pixels."""
        return [hashlib.sha256(image).hexdigest() for image in self.images]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The sample table, row by row."""
        columns = {**self.columns, "pixel_sha256": self.pixel_sha256}
        names = COLUMNS.names
        return [
            dict(zip(names, row, strict=True)) for row in zip(*(columns[name] for name in names), strict=True)
        ]

    @cached_property
    def table(self) -> pa.Table:
        """The sample table."""
        columns = {**self.columns, "pixel_sha256": self.pixel_sha256}
        return pa.Table.from_arrays(
            [_array(columns[field.name], field.type) for field in COLUMNS], schema=COLUMNS
        )

    @cached_property
    def table_with_images(self) -> pa.Table:
        """The sample table with the images as PNG, as Hugging Face's `datasets` reads it."""
        image = pa.StructArray.from_arrays(
            [
                _array(self.pngs, pa.binary()),
                _array([f"{sample_id}.png" for sample_id in self.ids], pa.string()),
            ],
            fields=list(IMAGE.type),
        )
        table = self.table.add_column(1, IMAGE, image)
        return table.replace_schema_metadata({"huggingface": json.dumps(_features(self.class_names))})


def shard_name(number: int, count: int, suffix: str) -> str:
    """The name of a shard's file; Hugging Face finds the split `train` by it."""
    return f"train{suffix}" if count == 1 else f"train-{number:05d}-of-{count:05d}{suffix}"


def cut_shard(samples: Samples, number: int, size: int) -> Shard:
    """Samples number·size..(number + 1)·size − 1, or fewer in the last shard."""
    start, stop = number * size, min((number + 1) * size, len(samples))
    real = samples.real[start:stop].tolist()
    seed, generator = (samples.provenance.get(key) for key in ("seed", "generator_sha256"))
    columns: dict[str, list[Any]] = {
        "id": samples.ids(start, stop),
        "label": samples.labels[start:stop].tolist(),
        "synthetic": [not is_real for is_real in real],
        "seed": [None if is_real else seed for is_real in real],
        "z_sha256": samples.z_sha256(start, stop),
        "generator_sha256": [None if is_real else generator for is_real in real],
    }
    for name in ("label_score", "nearest_real_distance"):
        columns[name] = [None] * len(real)
        if name in samples.measurements:
            values = samples.measurements[name][start:stop].tolist()
            columns[name] = [None if math.isnan(value) else value for value in values]
    count = -(-len(samples) // size)
    return Shard(number, start, count, samples.class_names, samples.images_for_worker(start, stop), columns)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values, None where there is none, as an Arrow array.

    `pa.array` does the same, and imports pandas first: a third of a second in every worker.
    """
    known = np.fromiter((value is not None for value in values), np.bool_, len(values))
    validity = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    if kind in (pa.string(), pa.binary()):
        content = [
            b"" if value is None else value.encode() if isinstance(value, str) else value for value in values
        ]
        ends = np.cumsum([0, *map(len, content)])
        if ends[-1] > _MOST_BYTES:
            raise SynthGainError(
                f"shard size {len(values)}: {ends[-1]:,} bytes in a column, {_MOST_BYTES:,} are allowed; lower"
                " --shard-size"
            )
        buffers = [pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(content))]
    elif kind == pa.bool_():
        buffers = [pa.py_buffer(np.packbits(np.array(values, dtype=np.bool_), bitorder="little"))]
    else:
        dtype = np.int64 if kind == pa.int64() else np.float32
        buffers = [pa.py_buffer(np.array([0 if value is None else value for value in values], dtype=dtype))]
    return pa.Array.from_buffers(kind, len(values), [validity, *buffers])


def _features(class_names: Sequence[str]) -> dict[str, Any]:
    """The schema in Hugging Face's words: an Image, a ClassLabel with names, and plain values."""
    features: dict[str, Any] = {
        field.name: {"dtype": _DTYPES[field.type], "_type": "Value"} for field in COLUMNS
    }
    features["label"] = {"names": list(class_names), "_type": "ClassLabel"}
    return {"info": {"features": {"id": features.pop("id"), "image": {"_type": "Image"}, **features}}}

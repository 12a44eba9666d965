"""The canonical sample table: one row per image, the same columns in every format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.export.png import encode_png
from pipeline.export.samples import Samples

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
_IMAGE = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
_DTYPES = {pa.string(): "string", pa.int64(): "int64", pa.bool_(): "bool", pa.float32(): "float32"}


@dataclass(frozen=True, eq=False)
class Shard:
    """A run of samples that is written as one: everything a format needs, small enough for a worker.

    Attributes:
        number: from 0.
        count: of the shards of the export.
        class_names: in label order.
        images: (n, H, W) uint8.
        columns: the sample table without `pixel_sha256`.
    """

    number: int
    count: int
    class_names: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    columns: pa.Table

    def __len__(self) -> int:
        return len(self.images)

    def file_name(self, suffix: str) -> str:
        """`train.parquet`, or `train-00003-of-00010.parquet` where there are several."""
        return shard_name(self.number, self.count, suffix)

    @cached_property
    def ids(self) -> list[str]:
        """The id of each sample."""
        return [str(value) for value in self.columns["id"].to_pylist()]

    @cached_property
    def labels(self) -> list[int]:
        """The label of each sample."""
        return [int(value) for value in self.columns["label"].to_pylist()]

    @cached_property
    def pngs(self) -> list[bytes]:
        """Each image as a PNG file."""
        return [encode_png(image) for image in self.images]

    @cached_property
    def table(self) -> pa.Table:
        """The sample table."""
        hashes = [hashlib.sha256(image).hexdigest() for image in self.images]
        return self.columns.append_column(COLUMNS.field("pixel_sha256"), pa.array(hashes, pa.string()))

    @cached_property
    def table_with_images(self) -> pa.Table:
        """The sample table with the images as PNG, as Hugging Face's `datasets` reads it."""
        image = pa.StructArray.from_arrays(
            [pa.array(self.pngs, pa.binary()), pa.array([f"{each}.png" for each in self.ids], pa.string())],
            fields=list(_IMAGE.type),
        )
        table = self.table.add_column(1, _IMAGE, image)
        return table.replace_schema_metadata({"huggingface": json.dumps(_features(self.class_names))})


def shard_name(number: int, count: int, suffix: str) -> str:
    """The name of a shard's file; Hugging Face finds the split `train` by it."""
    return f"train{suffix}" if count == 1 else f"train-{number:05d}-of-{count:05d}{suffix}"


def cut_shard(samples: Samples, number: int, size: int) -> Shard:
    """Samples number·size..(number + 1)·size − 1, as far as there are so many."""
    start, stop = number * size, min((number + 1) * size, len(samples))
    real = samples.real[start:stop]
    seed, generator = (samples.provenance.get(key) for key in ("seed", "generator_sha256"))
    unknown = np.full(stop - start, np.nan, dtype=np.float32)
    values: dict[str, Any] = {
        "id": samples.ids(start, stop),
        "label": samples.labels[start:stop],
        "synthetic": ~real,
        "seed": [None if each else seed for each in real],
        "z_sha256": samples.z_sha256(start, stop),
        "generator_sha256": [None if each else generator for each in real],
    }
    for name in ("label_score", "nearest_real_distance"):
        known = samples.measurements[name][start:stop] if name in samples.measurements else unknown
        values[name] = pa.array(known, pa.float32(), from_pandas=True)  # NaN → null
    schema = COLUMNS.remove(COLUMNS.get_field_index("pixel_sha256"))
    columns = pa.table(values, schema=schema)
    count = -(-len(samples) // size)
    return Shard(number, count, samples.class_names, samples.images(start, stop), columns)


def _features(class_names: Sequence[str]) -> dict[str, Any]:
    """The schema in Hugging Face's words: an Image, a ClassLabel with names, and plain values."""
    features: dict[str, Any] = {
        field.name: {"dtype": _DTYPES[field.type], "_type": "Value"} for field in COLUMNS
    }
    features["label"] = {"names": list(class_names), "_type": "ClassLabel"}
    return {"info": {"features": {"id": features.pop("id"), "image": {"_type": "Image"}, **features}}}

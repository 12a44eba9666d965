"""Parquet, for pandas, Spark, DuckDB and Hugging Face's `datasets`: the sample table with the images as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pipeline.export.table import Shard

TABLE = "samples.parquet"


def write_shard(shard: Shard, folder: Path) -> None:
    """Write one file with one row group."""
    _write(shard.table_with_images, folder / shard.file_name(".parquet"))


def write_table_part(shard: Shard, parts: Path) -> None:
    """Write the shard's rows of the sample table, without images."""
    _write(shard.table, parts / f"{TABLE}.{shard.number}")


def assemble_table(parts: Path, folder: Path, *, shards: int) -> None:
    """Join the parts to `samples.parquet`, one row group each."""
    # Rows are written as read, a shard at a time: pq.read_table would guess at partitions.
    with pq.ParquetFile(parts / f"{TABLE}.0") as first:
        schema = first.schema_arrow
    with pq.ParquetWriter(folder / TABLE, schema, **_options(schema)) as writer:
        for number in range(shards):
            with pq.ParquetFile(parts / f"{TABLE}.{number}") as part:
                writer.write_table(part.read(), row_group_size=part.metadata.num_rows)


def _write(table: pa.Table, path: Path) -> None:
    with pq.ParquetWriter(path, table.schema, **_options(table.schema)) as writer:
        writer.write_table(table, row_group_size=len(table))


def _options(schema: pa.Schema) -> dict[str, object]:
    # PNG does not shrink further, and hashes and ids never repeat.
    repeating = [name for name in ("label", "synthetic", "seed", "generator_sha256") if name in schema.names]
    compression = {name: "zstd" for name in schema.names if name != "image"}
    if "image" in schema.names:
        compression |= {"image.bytes": "none", "image.path": "zstd"}
    return {"compression": compression, "use_dictionary": repeating, "write_statistics": repeating}

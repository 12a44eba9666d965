"""Parquet, for pandas, Spark, DuckDB and Hugging Face's `datasets`: the sample table with the images as PNG."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.table import COLUMNS, Shard

TABLE = "samples.parquet"


def write_shard(shard: Shard, folder: Path) -> None:
    """Write one file with one row group."""
    _write(shard.table_with_images, folder / shard.file_name(".parquet"))


def write_table_part(shard: Shard, parts: Path) -> None:
    """Write the shard's rows of the sample table, without images; as Arrow, which is read again at no cost."""
    with (
        pa.OSFile(str(parts / f"{TABLE}.{shard.number}"), "wb") as file,
        pa.ipc.new_file(file, shard.table.schema) as writer,
    ):
        writer.write_table(shard.table)


def assemble_table(parts: Path, folder: Path, *, shards: int) -> None:
    """Join the parts to `samples.parquet`, one row group each."""
    with pq.ParquetWriter(folder / TABLE, COLUMNS, **_options(COLUMNS)) as writer:
        for number in range(shards):
            with pa.OSFile(str(parts / f"{TABLE}.{number}")) as file, pa.ipc.open_file(file) as part:
                rows = part.read_all()
                writer.write_table(rows, row_group_size=len(rows))


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

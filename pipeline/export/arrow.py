"""Arrow IPC: the sample table with the images as PNG, to be mapped into memory as it lies."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.export.table import Shard


def write_shard(shard: Shard, folder: Path) -> None:
    """Write one IPC file (not a stream) with one record batch."""
    table = shard.table_with_images
    with (
        pa.OSFile(str(folder / shard.file_name(".arrow")), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table.combine_chunks())

"""Stored samples written anew by block of tasks, where every file has rows of every task: else each block would read all.

Knows files, and which tasks make a block; rows keep their order and their columns. What is written lies in a folder that the
caller makes and removes.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 500_000
"""Rows read at a time."""
OPEN = 400
"""Files written at a time; of more blocks the input is read again."""
TIMES = 16
"""How often the files are read over, block after block, before they are rearranged first."""


def worthwhile(files_of_block: Sequence[int], n_files: int) -> bool:
    """Whether the blocks, each needing so many of `n_files`, would read them more than `TIMES` over."""
    return sum(files_of_block) > TIMES * max(n_files, len(files_of_block))


def rearrange(paths: Sequence[str], columns: Sequence[str], blocks: Sequence[Sequence[str]], folder: Path) -> list[str]:
    """Write a file for each block of tasks with its rows of `paths`, in their order; the files, in the order of the blocks.

    Of `columns`, those that every file has, as they are stored. Memory holds `ROWS` rows and what the open files buffer.
    Tasks of no block are left out. Raises ArrowInvalid if a column has another type in another file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    schemas = [pq.read_schema(path) for path in paths]
    kept = [name for name in columns if all(name in schema.names for schema in schemas)]
    schema = pa.schema([schemas[0].field(name).remove_metadata() for name in kept])
    written: list[str] = []
    for first in range(0, len(blocks), OPEN):
        part = blocks[first : first + OPEN]
        named = [str(folder / f"{first + number:05d}.parquet") for number in range(len(part))]
        of_task = {task: number for number, tasks in enumerate(part) for task in tasks}
        with ExitStack() as stack:
            writers = [stack.enter_context(pq.ParquetWriter(name, schema, compression="lz4")) for name in named]
            for path in paths:
                for batch in pq.ParquetFile(path).iter_batches(ROWS, columns=kept):
                    _deal(pa.Table.from_batches([batch]).select(kept).cast(schema), of_task, writers)
        written += named
    return written


def _deal(table: pa.Table, of_task: Mapping[str, int], writers: Sequence[pq.ParquetWriter]) -> None:
    """Append each block's rows to its file."""
    block = pl.Series(pl.from_arrow(table["task_id"])).replace_strict(of_task, default=None, return_dtype=pl.Int32)
    rows = pl.DataFrame({"block": block}).with_row_index("row").drop_nulls("block")
    order = rows.sort("block", maintain_order=True)
    counts = order.group_by("block", maintain_order=True).len()
    sorted_table, start = table.take(order["row"].to_arrow()), 0
    for number, count in counts.rows():
        writers[number].write_table(sorted_table.slice(start, count))
        start += count

"""Many shards of one table as one data frame, whole or as far as it is needed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vegflow.artifacts.io import check, read_table
from vegflow.errors import ArtifactError


def read_frame(paths: Sequence[str | Path], schema: pa.Schema) -> pl.DataFrame:
    """Rows of all files, each checked against `schema`, in the order given; no rows if there are no files."""
    tables = [read_table(path, schema) for path in paths] or [schema.empty_table()]
    return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))


def scan_frame(
    paths: Sequence[str | Path], schema: pa.Schema, columns: Sequence[str], *, optional: Sequence[str] = ()
) -> pl.LazyFrame:
    """Some columns of all files, read when they are collected.

    Without `optional` every file must be of `schema` (names and types are checked, no rows read). With it files may
    come from elsewhere: they need the other columns, whatever more they have, and integers and floats are cast. Raises
    ArtifactError, naming the file, for an absent, damaged or unfitting one.
    """
    if not paths:
        return pl.DataFrame(pl.from_arrow(schema.empty_table())).select(columns).lazy()
    parts = []
    for path in paths:
        own = _schema(path)
        if not optional:
            check(own.remove_metadata().empty_table(), schema, str(path))
        missing = [name for name in columns if name not in own.names and name not in optional]
        if missing:
            raise ArtifactError(f"{path}: there is no column {', '.join(missing)}")
        parts.append(frozenset(name for name in columns if name in own.names))
    known = frozenset.intersection(*parts)
    kept = [name for name in columns if name in known]
    types = dict(pl.DataFrame(pl.from_arrow(schema.empty_table())).schema)
    groups: dict[tuple, list[str]] = {}
    for path in paths:  # files of one layout are scanned together
        layout = tuple((name, str(_schema(path).field(name).type)) for name in kept) if optional else ()
        groups.setdefault(layout, []).append(str(path))
    frames = [
        pl.scan_parquet(own, hive_partitioning=False, extra_columns="ignore").select(
            pl.col(name).cast(types[name]) for name in kept
        )
        for own in groups.values()
    ]
    return pl.concat(frames)


def _schema(path: str | Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: there is no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(f"{path}: not a readable Parquet file ({error}); delete it and run again") from error


def task_blocks(rollouts: pl.LazyFrame, most: int) -> Iterator[list[str]]:
    """Tasks in groups of at most `most` rollouts (a task is never split), in order of their names."""
    counts = rollouts.group_by("task_id").len().collect(engine="streaming").sort("task_id")
    block: list[str] = []
    rows = 0
    for task, count in counts.rows():
        if block and rows + count > most:
            yield block
            block, rows = [], 0
        block.append(task)
        rows += count
    if block:
        yield block


def tasks_of(path: str | Path) -> frozenset[str] | None:
    """Tasks that a file has rows of; None if it does not say."""
    if "task_id" not in _schema(path).names:
        return None
    named = pl.scan_parquet(path, hive_partitioning=False).select(pl.col("task_id").unique())
    return frozenset(named.collect(engine="streaming")["task_id"])

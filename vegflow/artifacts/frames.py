"""Many shards of one table as one data frame."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from vegflow.artifacts.io import read_table


def read_frame(paths: Sequence[str | Path], schema: pa.Schema) -> pl.DataFrame:
    """Rows of all files, each checked against `schema`, in the order given; no rows if there are no files."""
    tables = [read_table(path, schema) for path in paths] or [schema.empty_table()]
    return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))

"""How much faster than its reference each task could be made at all, and where that is too little to count.

Knows the evaluator's `headroom` column; how it is found is the roofline gate's business.
"""

import polars as pl

NOISE = 1.25
"""Headroom below which a point estimate above 1 says little: clocks and placement move a time by some percent, and what
a perfect program could gain is not much more."""


def headroom(samples: pl.DataFrame) -> pl.DataFrame:
    """Median headroom of each task over its timed evaluations, the tightest first: the columns of `HEADROOM`."""
    return (
        samples.filter(pl.col("headroom").is_not_null() & pl.col("reference_us").is_not_null())
        .group_by("task_id")
        .agg(
            n=pl.len().cast(pl.Int64),
            reference_us=pl.col("reference_us").median(),
            headroom=pl.col("headroom").median(),
        )
        .with_columns(noise=pl.col("headroom") < NOISE)
        .sort("headroom", "task_id")
    )

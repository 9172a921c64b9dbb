"""Studies that were run once and are kept as data (`resources/measured/`), beside the paper's numbers.

Knows their claims tables; what a study is and how it was run stands in the README beside each.
"""

from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from vegflow.report.text import in_unit, with_interval
from vegflow.report.view import View


def measured_views(claims: Mapping[str, pa.Table]) -> list[View]:
    """One table for each measured study (name of its folder -> its CLAIMS): every number of the paper that it speaks to."""
    return [_view(name, pl.DataFrame(pl.from_arrow(table))) for name, table in claims.items()]


def _view(name: str, claims: pl.DataFrame) -> View:
    spoken = claims.filter(pl.col("ours").is_not_null()).sort(pl.col("kind") == "level", maintain_order=True)
    return View(
        name=f"measured-{name.replace('.', '-')}",
        title=f"Measured study {name}, beside the paper",
        note="Not this study: one that was run before and is kept as data. What was run, with which command, versions and "
        f"machine, is in resources/measured/{name}/README.md. Effects first, then levels, which belong to a model and a machine.",
        head=["claim", "place", "verdict", "paper", "measured"],
        rows=[_row(row) for row in spoken.to_dicts()],
        labels=3,
        missing="It speaks to none of the paper's numbers.",
    ).with_few_note()


def _row(row: dict) -> list[str]:
    return [
        row["claim"],
        row["place"],
        row["verdict"],
        in_unit(row["paper"], row["unit"]),
        with_interval(row["ours"], row["low"], row["high"], row["unit"], row["n_tasks"]),
    ]

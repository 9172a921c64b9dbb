"""The figures' look: one palette, one configuration, names as readers see them.

Colours are Okabe & Ito's (2008), told apart with any colour vision; the paper's numbers are always grey.
"""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
PAPER = "#8a8f98"
INK = "#22272e"

FAMILIES = {
    "Best-of-N": "#4d5560",
    "random": ORANGE,
    "confidence": PURPLE,
    "surprisal": BLUE,
    "oracle": GREEN,
    "adaptation": VERMILLION,
    "other": SKY,
}
"""Colour of each kind of strategy, the same in every figure."""

SHARE = alt.Axis(format="%")

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


def family(strategy: str) -> str:
    """The kind a selection strategy belongs to."""
    for kind in ("surprisal", "confidence", "random"):
        if kind in strategy:
            return kind
    return "oracle" if strategy.startswith("best") else "other"


def finish(chart: alt.LayerChart | alt.Chart, *, height: int, description: str) -> dict[str, Any]:
    """The chart as a Vega-Lite specification: as wide as its container, with the common configuration."""
    return configured(chart.properties(width="container", height=height, description=description))


def configured(chart: alt.LayerChart | alt.Chart | alt.FacetChart) -> dict[str, Any]:
    """The chart as a Vega-Lite specification with the common configuration."""
    done = (
        chart.configure(font=FONT, background="white")
        .configure_view(stroke=None, continuousWidth=620, discreteWidth=620)
        .configure_axis(
            labelColor=INK, titleColor=INK, titleFontWeight="normal", gridColor="#e6e8eb", domainColor="#b5bac1",
            tickColor="#b5bac1", labelFontSize=12, titleFontSize=12, labelLimit=170,
        )
        .configure_legend(
            orient="top", title=None, labelFontSize=12, labelColor=INK, labelLimit=260, symbolStrokeWidth=3, columns=2
        )
    )  # fmt: skip
    return done.to_dict()


def nothing(what: str) -> dict[str, Any]:
    """A specification that says why there is no figure."""
    text = alt.Chart(alt.InlineData(values=[{"text": what}])).mark_text(fontSize=13, color=PAPER).encode(text="text:N")
    return finish(text, height=60, description=what)


def inline(rows: list[dict[str, Any]]) -> alt.InlineData:
    """Rows as data in the specification, numbers to six digits (what a figure can show, and stable text)."""
    return alt.InlineData(
        values=[{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    )


def rows_of(table: pl.DataFrame, **where: Any) -> list[dict[str, Any]]:
    """Rows of a table whose columns have these values (None: are null)."""
    for column, value in where.items():
        table = table.filter(pl.col(column).is_null() if value is None else pl.col(column) == value)
    return table.to_dicts()


def paper_rows(tables: Mapping[str, pl.DataFrame], series: str) -> list[dict[str, Any]]:
    """The paper's numbers of a series."""
    return rows_of(tables["paper"], series=series)

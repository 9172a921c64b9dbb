"""Figures of the paper's open questions: the pipeline that ranks before it evaluates, and sharpening without training.

Knows analysis tables and the study's facts; computes nothing but positions of marks.
"""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.report.search_figures import search
from vegflow.report.style import (
    BLUE,
    FAMILIES,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SHARE,
    SKY,
    VERMILLION,
    configured,
    finish,
    inline,
    nothing,
    rows_of,
)

Tables = Mapping[str, pl.DataFrame]
SHOWN = {
    "random": ORANGE,
    "random-program": INK,
    "surprisal": BLUE,
    "confidence": PURPLE,
    "surprisal@mean": SKY,
    "majority-program": GREEN,
    "shortest": VERMILLION,
}
"""Orders drawn in the figures, with their colours; the table has the others."""


def _where(tables: Tables, facts: StudyFacts) -> tuple[str, str]:
    """Sample set, and all its tasks where there are several task sets."""
    source, task_set = search(tables, facts)
    known = tables["pipeline"].filter(pl.col("source") == source)["task_set"].unique().to_list()
    return source, "all" if "all" in known else task_set


def pipeline(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Success against expected evaluations, by order: evaluate at most m in order, stop at the first correct or fast one."""
    source, task_set = _where(tables, facts)
    own = tables["pipeline"].filter((pl.col("source") == source) & (pl.col("task_set") == task_set))
    rows = [
        {key: r[key] for key in ("order", "stop", "m", "success", "low", "high", "evaluations", "seconds")}
        for r in own.to_dicts()
        if r["order"] in SHOWN and r["stop"] in ("first correct", "first fast_1")
    ]
    if not rows:
        return nothing("This study has no sample set to rank.")
    orders = [name for name in SHOWN if name in {row["order"] for row in rows}]
    pick = alt.selection_point(name="order", fields=["order"], bind="legend")
    base = alt.Chart(inline(rows)).encode(
        x=alt.X(
            "evaluations:Q",
            scale=alt.Scale(type="log", base=2),
            title="expected evaluations a task",
            axis=alt.Axis(format="~g"),
        ),
        color=alt.Color(
            "order:N", scale=alt.Scale(domain=orders, range=[SHOWN[o] for o in orders]), legend=alt.Legend(columns=2)
        ),
        opacity=alt.condition(pick, alt.value(1), alt.value(0.1)),
    )
    dash = alt.StrokeDash(
        "stop:N",
        scale=alt.Scale(domain=["first fast_1", "first correct"], range=[[1, 0], [4, 3]]),
        legend=None,
    )
    drawn = base.mark_line(point=alt.OverlayMarkDef(size=30)).encode(
        y=alt.Y("success:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1]), title=f"fast_1 found, {task_set}"),
        strokeDash=dash,
        order="m:Q",
        tooltip=[
            "order:N", "stop:N", "m:Q", alt.Tooltip("success:Q", format=".1%"), alt.Tooltip("low:Q", format=".1%"),
            alt.Tooltip("high:Q", format=".1%"), alt.Tooltip("evaluations:Q", format=".3g"), alt.Tooltip("seconds:Q", format=".3g"),
        ],
    )  # fmt: skip
    return finish(drawn.add_params(pick), height=340, description="Ranking before evaluation")


PANELS = {"success": "fast_1 found", "evaluations": "evaluations", "seconds": "seconds"}
"""Columns of `pipeline` that are drawn against m, and what the panels are called."""


def costs(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Success, expected evaluations and expected seconds against m, by order, for both stops: a grid of small panels."""
    source, task_set = _where(tables, facts)
    own = tables["pipeline"].filter((pl.col("source") == source) & (pl.col("task_set") == task_set))
    rows = [
        {"panel": f"{title}, stop at {r['stop']}", "order": r["order"], "m": r["m"], "value": r[column]}
        for column, title in PANELS.items()
        for stop in ("first fast_1", "first correct")
        for r in own.filter(pl.col("stop") == stop).to_dicts()
        if r["order"] in SHOWN
    ]
    if not rows:
        return nothing("This study has no sample set to rank.")
    orders = [name for name in SHOWN if name in {row["order"] for row in rows}]
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    pick = alt.selection_point(name="order", fields=["order"], bind="legend")
    drawn = (
        alt.Chart(inline(rows), name="costs")
        .mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X("m:Q", scale=alt.Scale(type="log", base=2), axis=alt.Axis(format="~g", tickCount=6), title=None),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(format=".3~g", tickCount=4)),
            color=alt.Color("order:N", scale=alt.Scale(domain=orders, range=[SHOWN[o] for o in orders]),
                            legend=alt.Legend(columns=3)),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.1)),
            tooltip=["panel:N", "order:N", "m:Q", alt.Tooltip("value:Q", format=".3g")],
        )
        .properties(width=210, height=100)
    )  # fmt: skip
    header = alt.Header(title=None, labelFontSize=12, labelColor=INK, labelAnchor="start")
    grid = drawn.add_params(pick).facet(facet=alt.Facet("panel:N", sort=panels, header=header), columns=2)
    grid = grid.resolve_scale(y="independent").resolve_axis(x="independent")
    return configured(grid.properties(description="Success, evaluations and seconds against m"))


def sharpening(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Per-sample fast_1 under q^alpha, and where the adapted policy's steps lie."""
    source, _ = _where(tables, facts)
    names = tables["sharpening"].filter(pl.col("source") == source)["task_set"].unique(maintain_order=True).to_list()
    shown = [name for name in dict.fromkeys([search(tables, facts)[1], "all"]) if name in names]
    rows = [
        {"line": f"samples, {r['task_set']}", "alpha": r["alpha"], "value": r["fast_1"], "low": r["low"], "high": r["high"],
         "effective": r["effective_samples"]}
        for name in shown for r in rows_of(tables["sharpening"], source=source, task_set=name)
    ]  # fmt: skip
    if not rows:
        return nothing("This study has no sample set to reweight.")
    lines = list(dict.fromkeys(row["line"] for row in rows))
    base = alt.Chart(inline(rows)).encode(
        x=alt.X(
            "alpha:Q",
            scale=alt.Scale(type="log", base=2),
            title="exponent α of the sampling distribution",
            axis=alt.Axis(format="~g", values=[0.25, 0.5, 1, 2, 4]),
        ),
        color=alt.Color(
            "line:N", scale=alt.Scale(domain=lines, range=[BLUE, SKY][: len(lines)]), legend=alt.Legend(columns=1)
        ),
    )
    band = (
        base.transform_filter("isValid(datum.low)")
        .mark_area(fillOpacity=0.12)
        .encode(y=alt.Y("low:Q", title=""), y2="high:Q")
    )
    line = base.mark_line(point=True).encode(
        y=alt.Y("value:Q", axis=SHARE, scale=alt.Scale(zero=False), title="per-sample fast_1"),
        tooltip=[
            "line:N",
            "alpha:Q",
            *(alt.Tooltip(f"{c}:Q", format=".1%") for c in ("value", "low", "high")),
            alt.Tooltip("effective:Q", format=".3g", title="effective samples"),
        ],
    )
    layers = band + line
    taken = rows_of(tables["trajectory"], trajectory=facts.comparison.adaptation, seed=None) if facts.comparison else []
    at: dict[float, list[str]] = {}
    for r in taken:  # steps that would be written over one another share a label
        near = next((value for value in at if abs(value - r["fast_1"]) < 0.025), r["fast_1"])
        at.setdefault(near, []).append(str(r["step"]))
    steps = [{"value": v, "text": f"step{'s' if len(n) > 1 else ''} {', '.join(n)}"} for v, n in at.items()]
    if steps:
        ruled = alt.Chart(inline(steps)).encode(y="value:Q", tooltip=["text:N", alt.Tooltip("value:Q", format=".1%")])
        layers += ruled.mark_rule(strokeDash=[2, 4], color=FAMILIES["adaptation"], opacity=0.6)
        layers += ruled.mark_text(align="right", dy=-4, fontSize=10.5, color=INK).encode(
            x=alt.value("width"), text="text:N"
        )
    return finish(layers, height=320, description="Sharpening without training")

"""Figures of staged verification: the frontier, where candidates are pruned, what wrong ones cost, composed against run.

Knows the tables of `vegflow.artifacts.frontier`; computes nothing but positions of marks.
"""

from collections.abc import Callable, Mapping
from typing import Any

import altair as alt
import polars as pl
import pyarrow as pa

from vegflow.artifacts.figures import STAGED_FIGURES
from vegflow.report.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    SHARE,
    SKY,
    VERMILLION,
    finish,
    inline,
    nothing,
)

Tables = Mapping[str, pl.DataFrame]
RANKED = {
    "full suite": GREEN, "reward model": VERMILLION, "surprisal": BLUE, "confidence": PURPLE, "majority, agreement": ORANGE,
    "other": SKY,
}  # fmt: skip
"""Colour by what orders a pipeline's candidates; the shape says the same."""
SHAPES = ("diamond", "triangle-up", "circle", "square", "triangle-down", "cross")
KINDS = (GREEN, VERMILLION, BLUE, ORANGE, SKY, PURPLE, PAPER)
"""Colours of kinds of candidates: correct, character-level, the three commonest failures, and the rest."""
NAMED_KINDS = 4
LABELS = {
    "correct": "picks that pass the full suite",
    "fast_1": "picks that are fast_1",
    "speedup": "speedup of the pick",
}


def staged_figures(tables: Mapping[str, pa.Table], names: list[str]) -> dict[str, dict[str, Any]]:
    """Vega-Lite specifications by name, `staged_FIGURE_ENTRY`, of every entry of `verification` in `names`."""
    frames = {name: pl.DataFrame(pl.from_arrow(table)) for name, table in tables.items()}
    return {f"staged_{figure}_{name}": DRAWN[figure](frames, name) for name in names for figure in STAGED_FIGURES}


def ranked_by(stages: str) -> str:
    """What orders a pipeline's candidates."""
    last = [stage.split(":")[0] for stage in stages.split(", ")]
    for kind, words in (("reward model", ("orm",)), ("surprisal", ("surprisal",)), ("confidence", ("confidence",))):
        if any(word in last for word in words):
            return kind
    if {"majority", "agreement"} & set(last):
        return "majority, agreement"
    return "full suite" if "full" in last and "random" not in last else "other"


def frontier(tables: Tables, name: str) -> dict[str, Any]:
    """Value against throughput relative to the full suite; dominated points grey; k and metric can be chosen."""
    own = tables["frontier"].filter((pl.col("verification") == name) & pl.col("relative_throughput").is_not_null())
    if not own.height:
        return nothing("There is no candidate to verify.")
    columns = ("metric", "k", "pipeline", "stages", "value", "low", "high", "throughput", "relative_throughput",
               "relative_throughput_low", "relative_throughput_high", "relative_loss", "p_front", "on_front", "cost")  # fmt: skip
    rows = [{c: row[c] for c in columns} | {"ranked": ranked_by(row["stages"])} for row in own.to_dicts()]
    ks, metrics = sorted({row["k"] for row in rows}), [m for m in LABELS if m in {row["metric"] for row in rows}]
    k = alt.param(name="k_shown", value=ks[-1], bind=alt.binding_radio(options=ks, name="k: "))
    metric = alt.param(name="metric_shown", value=metrics[0], bind=alt.binding_radio(options=metrics, name="metric: "))
    base = alt.Chart(inline(rows)).transform_filter("datum.k == k_shown && datum.metric == metric_shown")
    x = alt.X(
        "relative_throughput:Q",
        scale=alt.Scale(type="log", nice=False, padding=24),
        title="candidates a second, times the full suite's",
        axis=alt.Axis(format="~g", labelOverlap="greedy"),
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(zero=False, padding=14),
        title=LABELS[metrics[0]] if len(metrics) == 1 else "value of the pick",
    )
    if metrics == ["correct"]:
        y = y.axis(SHARE)
    kinds = list(RANKED)
    colour = alt.condition(
        "datum.on_front",
        alt.Color("ranked:N", scale=alt.Scale(domain=kinds, range=list(RANKED.values())), legend=alt.Legend(columns=2)),
        alt.value(PAPER),
    )
    shape = alt.Shape("ranked:N", scale=alt.Scale(domain=kinds, range=list(SHAPES)), legend=alt.Legend(columns=2))
    faint = alt.condition("datum.on_front", alt.value(0.9), alt.value(0.35))
    upright = base.mark_rule(strokeWidth=1.3).encode(
        x=x, y=alt.Y("low:Q", title=""), y2="high:Q", color=colour, opacity=faint
    )
    level = base.mark_rule(strokeWidth=1.3).encode(
        x=alt.X("relative_throughput_low:Q", title=""),
        x2="relative_throughput_high:Q",
        y=y,
        color=colour,
        opacity=faint,
    )
    front = base.transform_filter("datum.on_front")
    line = front.mark_line(color=INK, strokeWidth=1.2, interpolate="step-after", opacity=0.6).encode(
        x=x, y=y, order="relative_throughput:Q"
    )
    tips = ["pipeline:N", "stages:N", alt.Tooltip("value:Q", format=".3f"), alt.Tooltip("relative_throughput:Q", format=".3g"),
            alt.Tooltip("throughput:Q", format=".3g"), alt.Tooltip("relative_loss:Q", format=".1%"),
            alt.Tooltip("p_front:Q", format=".0%"), "cost:N"]  # fmt: skip
    marks = base.mark_point(filled=True, size=85, opacity=1).encode(x=x, y=y, color=colour, shape=shape, tooltip=tips)
    text = front.mark_text(fontSize=11, align="left", angle=335, dx=6, dy=-7, color=INK).encode(
        x=x, y=y, text="pipeline:N"
    )
    layers = (line + upright + level + marks + text).add_params(k, *([metric] if len(metrics) > 1 else []))
    if len(metrics) == 1:
        layers = layers.add_params(alt.param(name="metric_shown", value=metrics[0]))
    return finish(layers, height=380, description=f"Frontier of {name}")


def kept_kinds(table: pl.DataFrame, weight: str) -> list[str]:
    """Kinds that have a colour of their own: correct, character-level, and the commonest failures."""
    counted = table.group_by("kind").agg(pl.col(weight).sum()).sort([weight, "kind"], descending=[True, False])
    others = [kind for kind in counted["kind"].to_list() if kind not in ("correct", "character-level")]
    return ["correct", "character-level", *others[:NAMED_KINDS]]


def _stacked(
    rows: list[dict[str, Any]], kinds: list[str], x: str, title: str, description: str, **axis: Any
) -> dict[str, Any]:
    """Horizontal bars stacked by kind, a row each `label`."""
    shown = [kind for kind in (*kinds, "other") if kind in {row["kind"] for row in rows}]
    places = {kind: place for place, kind in enumerate(shown)}
    colours = dict(zip((*kinds, "other"), KINDS, strict=False)) | {"other": PAPER}
    labels = list(dict.fromkeys(row["label"] for row in rows))
    bars = (
        alt.Chart(inline([row | {"order": places[row["kind"]]} for row in rows]))
        .mark_bar(height=11, stroke="white", strokeWidth=0.5)
        .encode(
            y=alt.Y("label:N", sort=labels, title=None, axis=alt.Axis(labelLimit=260)),
            x=alt.X(f"{x}:Q", title=title, **axis),
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=shown, range=[colours[kind] for kind in shown]),
                legend=alt.Legend(columns=1),
            ),
            order="order:Q",
            tooltip=["label:N", "kind:N", alt.Tooltip(f"{x}:Q", format=".3g"), *(["n:Q"] if "n" in rows[0] else [])],
        )
    )
    return finish(bars, height=16 * len(labels) + 20, description=description)


def pruned(tables: Tables, name: str) -> dict[str, Any]:
    """Which stage of a pipeline drops which candidates, for the pipelines of the front."""
    own = tables["pruned"].filter(pl.col("verification") == name)
    on = tables["frontier"].filter((pl.col("verification") == name) & pl.col("on_front"))["pipeline"].unique().to_list()
    own = own.filter(pl.col("pipeline").is_in(["full", *on]))
    if not own.height:
        return nothing("There is no candidate to verify.")
    kinds = kept_kinds(own, "n_candidates")
    rows = [
        {"label": f"{row['pipeline']}: {row['stage']}", "n": row["n_candidates"]}
        | {"kind": row["kind"] if row["kind"] in kinds else "other"}
        for row in own.sort("place", maintain_order=True).sort("pipeline", maintain_order=True).to_dicts()
    ]
    return _stacked(rows, kinds, "n", "distinct candidates that leave here", f"Where candidates of {name} are pruned")


def wasted(tables: Tables, name: str) -> dict[str, Any]:
    """Wrong candidates among those that a ranker puts first, by why they are wrong."""
    own = tables["wasted"].filter(pl.col("verification") == name)
    if not own.height:
        return nothing("No wrong candidate is ranked high.")
    kinds = kept_kinds(own, "n_wrong")
    rows = [
        {"label": f"{row['filters'] or 'no filter'} → {row['ranker']}", "share": row["share"], "n": row["n_wrong"]}
        | {"kind": row["kind"] if row["kind"] in kinds else "other"}
        for row in own.to_dicts()
    ]
    top = own["top"][0]
    return _stacked(
        rows,
        kinds,
        "share",
        f"wrong ones among the first {top} of a task",
        f"Wrong candidates ranked high, {name}",
        axis=SHARE,
    )


def composed(tables: Tables, name: str) -> dict[str, Any]:
    """Composed seconds against those of really running, with a band of 10 %."""
    own = tables["composed"].filter((pl.col("verification") == name) & pl.col("composed_s").is_not_null())
    if not own.height:
        return nothing("No pipeline was run: costs are composed from stored checks alone.")
    columns = ("pipeline", "run_s", "composed_s", "ratio")
    rows = [
        {c: row[c] for c in columns}
        | {f"ratio_{end}": row["composed_s"] / row[f"run_{end}"] for end in ("low", "high")}
        for row in own.to_dicts()
    ]
    ends = [min(row["run_s"] for row in rows) / 1.5, max(row["run_s"] for row in rows) * 1.5]
    scale = alt.Scale(type="log", domain=ends, nice=False)
    x = alt.X(
        "run_s:Q", scale=scale, title="seconds of really running it", axis=alt.Axis(format="~g", labelOverlap="greedy")
    )
    y = alt.Y("ratio:Q", scale=alt.Scale(zero=False, padding=14), title="composed / run")
    band = alt.Chart(inline([{"run_s": end, "least": 0.9, "most": 1.1, "one": 1.0} for end in ends]))
    area = band.mark_area(color=SKY, opacity=0.25).encode(x=x, y=alt.Y("least:Q", title=""), y2="most:Q")
    line = band.mark_line(color=PAPER, strokeDash=[4, 3]).encode(x=x, y=alt.Y("one:Q", title=""))
    base = alt.Chart(inline(rows))
    ruled = base.mark_rule(color=BLUE).encode(x=x, y=alt.Y("ratio_high:Q", title=""), y2="ratio_low:Q")
    tips = ["pipeline:N", *(alt.Tooltip(f"{c}:Q", format=".3g") for c in columns[1:])]
    marks = base.mark_point(filled=True, size=70, color=BLUE, opacity=1).encode(x=x, y=y, tooltip=tips)
    text = base.mark_text(align="left", angle=335, dx=6, dy=-6, fontSize=10.5, color=INK).encode(
        x=x, y=y, text="pipeline:N"
    )
    return finish(area + line + ruled + marks + text, height=320, description=f"Composed and run cost of {name}")


DRAWN: dict[str, Callable[[Tables, str], dict[str, Any]]] = {
    "frontier": frontier,
    "pruned": pruned,
    "wasted": wasted,
    "composed": composed,
}

"""Figures of search and selection: the paper's figures 1, 3 and 4, with its numbers in grey.

Knows analysis tables and the study's facts; computes nothing but positions of marks.
"""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.report.style import (
    BLUE,
    FAMILIES,
    INK,
    PAPER,
    SHARE,
    SKY,
    VERMILLION,
    family,
    finish,
    inline,
    nothing,
    paper_rows,
    rows_of,
)

Tables = Mapping[str, pl.DataFrame]


def search(tables: Tables, facts: StudyFacts) -> tuple[str, str]:
    """Sample set and task set that the figures of search and selection show."""
    source = facts.comparison.search if facts.comparison else next(iter(facts.sample_sets), "")
    known = tables["scaling"].filter(pl.col("source") == source)["task_set"].unique(maintain_order=True).to_list()
    if facts.comparison and facts.sample_sets:
        adapted = set(facts.trajectories[facts.comparison.adaptation].tasks)
        named = [name for name, tasks in facts.sample_sets[source].tasks.items() if set(tasks) == adapted]
        other = [name for name in known if name.startswith("tasks of ")]
        return source, next((name for name in [*named, *other] if name in known), known[-1] if known else "")
    return source, known[-1] if known else ""


def overview(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 1: every way to spend the samples, as one share each."""
    source, task_set = search(tables, facts)
    rows = []
    for row in rows_of(tables["scaling"], source=source, task_set=task_set, metric="fast_1"):
        paper = [p["value"] for p in paper_rows(tables, "scaling") if p["x"] == row["k"]]
        if row["k"] in (1, 4, 16, 64):
            rows.append(_bar(f"any of {row['k']} samples" if row["k"] > 1 else "one sample", "Best-of-N", row, paper))
    for row in rows_of(tables["strategies"], source=source, task_set=task_set):
        paper = [p["value"] for p in paper_rows(tables, "strategy fast_1:" + row["strategy"])]
        rows.append(_bar(row["strategy"], family(row["strategy"]), row | {"value": row["fast_1"]}, paper))
    adaptation = facts.comparison.adaptation if facts.comparison else ""
    for row in rows_of(tables["boa"], trajectory=adaptation, seed=None, rule="argmax"):
        paper = [p["value"] for p in paper_rows(tables, "boa")]
        rows.append(_bar(f"{adaptation}: BoA, per sample", "adaptation", row | {"value": row["fast_1"]}, paper))
        k = facts.trajectories[adaptation].group_size
        anyone = {"value": row["any_fast_1"], "low": None, "high": None}
        rows.append(_bar(f"{adaptation}: BoA, any of {k}", "adaptation", anyone, []))
    if not rows:
        return nothing("This study has no sample set.")
    base = alt.Chart(inline(rows)).encode(
        y=alt.Y("label:N", sort=None, title=None),
        tooltip=[alt.Tooltip(f"{c}:{t}", format=f) for c, t, f in (("label", "N", ""), ("value", "Q", ".1%"), ("low", "Q", ".1%"), ("high", "Q", ".1%"), ("paper", "Q", ".1%"))],
    )  # fmt: skip
    scale = alt.Scale(domain=list(FAMILIES), range=list(FAMILIES.values()))
    bars = base.mark_bar(height=13).encode(
        x=alt.X("value:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1]), title=f"fast_1, {task_set}"),
        color=alt.Color("family:N", scale=scale, legend=None),
    )
    ends = base.mark_rule(color=INK, strokeWidth=1.2).encode(x="low:Q", x2="high:Q")
    return finish(bars + ends + _diamonds(base, "paper"), height=22 * len(rows), description="Strategies overview")


def _bar(label: str, kind: str, row: dict[str, Any], paper: list[float | None]) -> dict[str, Any]:
    return {
        "label": label,
        "family": kind,
        "value": row["value"],
        "low": row["low"],
        "high": row["high"],
        "paper": paper[0] if paper else None,
    }


def _diamonds(base: alt.Chart, column: str) -> alt.Chart:
    """The paper's values, where there are any."""
    return (
        base.transform_filter(f"isValid(datum.{column})")
        .mark_point(shape="diamond", filled=True, size=95, color=PAPER, stroke="white", strokeWidth=1)
        .encode(x=f"{column}:Q")
    )


def scaling(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 3: best-of-N curve with its interval, BoA on both bases, and the paper's curve."""
    source, task_set = search(tables, facts)
    sets = list(dict.fromkeys([task_set, "all"]))
    rows = [
        {"k": r["k"], "value": r["value"], "low": r["low"], "high": r["high"], "line": f"Best-of-N, {r['task_set']}"}
        for name in sets
        for r in rows_of(tables["scaling"], source=source, task_set=name, metric="fast_1")
    ]
    if not rows:
        return nothing("This study has no sample set.")
    rows += [
        {"k": int(p["x"]), "value": p["value"], "low": None, "high": None, "line": "Best-of-N, paper (subset 1)"}
        for p in paper_rows(tables, "scaling")
    ]
    lines = list(dict.fromkeys(row["line"] for row in rows))
    colours = [PAPER if "paper" in line else colour for line, colour in zip(lines, [BLUE, SKY, PAPER], strict=False)]
    ks = sorted({row["k"] for row in rows})
    rules = [
        {
            "value": row["adaptation"],
            "text": f"{row['trajectory']} BoA, {_basis(row['basis'], row['trajectory'], facts)}",
        }
        for row in rows_of(tables["equivalent_k"], rule="argmax")
    ]
    rules += [{"value": p["value"], "text": "paper's TTT BoA, per sample"} for p in paper_rows(tables, "boa") if rules]
    pick = alt.selection_point(name="line", fields=["line"], bind="legend")
    base = alt.Chart(inline(rows)).encode(
        x=alt.X("k:Q", scale=alt.Scale(type="log", base=2), axis=alt.Axis(values=ks, format="d"), title="samples K"),
        color=alt.Color("line:N", scale=alt.Scale(domain=lines, range=colours), legend=alt.Legend(columns=1)),
        opacity=alt.condition(pick, alt.value(1), alt.value(0.15)),
    )
    y = alt.Y("value:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1]), title="tasks with a fast_1 sample")
    band = (
        base.mark_area(fillOpacity=0.14)
        .encode(y=alt.Y("low:Q", title=""), y2="high:Q")
        .transform_filter("isValid(datum.low)")
    )
    curve = (
        base.properties(name="curve")
        .mark_line(point=alt.OverlayMarkDef(size=45))
        .encode(
            y=y, tooltip=["line:N", "k:Q", *(alt.Tooltip(f"{c}:Q", format=".1%") for c in ("value", "low", "high"))]
        )
    )
    layers = band + curve.add_params(pick)
    if rules:
        ruled = alt.Chart(inline(rules)).encode(y="value:Q", tooltip=["text:N", alt.Tooltip("value:Q", format=".1%")])
        colour = alt.condition("indexof(datum.text, 'paper') >= 0", alt.value(PAPER), alt.value(VERMILLION))
        line = ruled.mark_rule(strokeDash=[6, 4], strokeWidth=1.6).encode(color=colour)
        layers += line
        # Above and below the line by turns, so that two that are equal can both be read.
        for below in (False, True):
            own = alt.Chart(inline(rules[below::2])).encode(y="value:Q", color=colour)
            layers += own.mark_text(
                align="right", baseline="top" if below else "bottom", dy=4 if below else -3, fontSize=11.5
            ).encode(x=alt.value("width"), text="text:N")
    return finish(layers, height=340, description="Best-of-N scaling")


def _basis(basis: str, trajectory: str, facts: StudyFacts) -> str:
    return "per sample" if basis.startswith("per") else f"any of {facts.trajectories[trajectory].group_size}"


def _strategy_rows(tables: Tables, facts: StudyFacts) -> tuple[list[dict[str, Any]], str]:
    source, task_set = search(tables, facts)
    rows = []
    for row in rows_of(tables["strategies"], source=source, task_set=task_set):
        paper = {
            column: next((p["value"] for p in paper_rows(tables, f"strategy {column}:{row['strategy']}")), None)
            for column in ("fast_1", "speedup")
        }
        rows.append(row | {"family": family(row["strategy"])} | {f"paper_{k}": v for k, v in paper.items()})
    return rows, task_set


def strategies(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 4a: fast_1 of the selection strategies."""
    rows, where = _strategy_rows(tables, facts)
    if not rows:
        return nothing("This study has no sample set to select from.")
    kept = [_bar(r["strategy"], r["family"], r | {"value": r["fast_1"]}, [r["paper_fast_1"]]) for r in rows]
    base = alt.Chart(inline(kept)).encode(y=alt.Y("label:N", sort=None, title=None), tooltip=["label:N", *(alt.Tooltip(f"{c}:Q", format=".1%") for c in ("value", "low", "high", "paper"))])  # fmt: skip
    bars = base.mark_bar(height=15).encode(
        x=alt.X("value:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1]), title=f"fast_1, {where}"),
        color=alt.Color("family:N", scale=alt.Scale(domain=list(FAMILIES), range=list(FAMILIES.values())), legend=None),
    )
    ends = base.mark_rule(color=INK, strokeWidth=1.2).encode(x="low:Q", x2="high:Q")
    return finish(
        bars + ends + _diamonds(base, "paper"), height=26 * len(rows), description="Selection strategies, fast_1"
    )


def speedups(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 4b: geometric mean and mean of the picks' speedups with intervals, on a logarithmic axis."""
    rows, where = _strategy_rows(tables, facts)
    points = []
    for r in rows:
        if r["geometric_mean_speedup"] is None:
            continue
        ends = {"low": r["geometric_low"], "high": r["geometric_high"]}
        mean = {"low": r["mean_low"], "high": r["mean_high"]}
        points.append({"label": r["strategy"], "kind": "geometric mean", "value": r["geometric_mean_speedup"], **ends})
        points.append({"label": r["strategy"], "kind": "mean", "value": r["mean_speedup"], **mean})
        if r["paper_speedup"] is not None:
            paper = {"kind": "mean, paper (its hardware)", "value": r["paper_speedup"], "low": None, "high": None}
            points.append({"label": r["strategy"], **paper})
    if not points:
        return nothing("This study has no correct sample to select.")
    kinds = ["geometric mean", "mean", "mean, paper (its hardware)"]
    base = alt.Chart(inline(points)).encode(
        y=alt.Y("label:N", sort=None, title=None),
        x=alt.X(
            "value:Q",
            scale=alt.Scale(type="log"),
            title=f"speedup, {where}",
            axis=alt.Axis(
                format="~g", values=[0.1, 0.5, 1, 2, 5, 10, 100, 1000], labelOverlap="greedy", labelSeparation=4
            ),
        ),
        color=alt.Color(
            "kind:N", scale=alt.Scale(domain=kinds, range=[BLUE, SKY, PAPER]), legend=alt.Legend(columns=1)
        ),
        tooltip=["label:N", "kind:N", *(alt.Tooltip(f"{c}:Q", format=".3g") for c in ("value", "low", "high"))],
    )
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=["circle", "square", "diamond"]))
    beside = alt.YOffset("kind:N", scale=alt.Scale(domain=kinds))
    base = base.encode(yOffset=beside)
    ends = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.6).encode(x="low:Q", x2="high:Q")
    one = alt.Chart(inline([{"one": 1}])).mark_rule(color="#b5bac1", strokeDash=[3, 3]).encode(x="one:Q")
    marks = base.mark_point(filled=True, size=75, opacity=1).encode(shape=shape)
    return finish(one + ends + marks, height=26 * len(rows), description="Selection strategies, speedup")

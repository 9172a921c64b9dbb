"""Figures of adaptation: the paper's figures 5 to 7, with its numbers in grey.

Knows analysis tables and the study's facts; computes nothing but positions of marks.
"""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from vegflow.config.analysis import StudyFacts
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
    paper_rows,
    rows_of,
)

Tables = Mapping[str, pl.DataFrame]
NO_COMPARISON = "This study compares no sample set with a trajectory."


def trajectory(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 5, aggregate: per-sample fast_1 of each seed and their mean by step, stars where BoA stands."""
    if facts.comparison is None:
        return nothing(NO_COMPARISON)
    name = facts.comparison.adaptation
    own = tables["trajectory"].filter(pl.col("trajectory") == name)
    if not own.height:
        return nothing(f"The trajectory {name} has no rollouts.")
    rows = [_step("mean" if r["seed"] is None else f"seed {r['seed']}", r) for r in own.to_dicts()]
    rows += [_step("paper, seed 42", {"step": p["x"], "fast_1": p["value"]}) for p in paper_rows(tables, "ttt")]
    lines = list(dict.fromkeys(row["line"] for row in rows))
    seeds = [line for line in lines if line.startswith("seed")]
    palette = [VERMILLION, ORANGE, PURPLE, GREEN, SKY, BLUE]
    colours = {line: palette[i % len(palette)] for i, line in enumerate(seeds)} | {"mean": INK, "paper, seed 42": PAPER}
    stars = [
        {"line": f"seed {r['seed']}", "step": r["step"], "value": r["fast_1"]}
        for r in rows_of(tables["boa"], trajectory=name, rule="argmax")
        if r["seed"] is not None
    ]
    pick = alt.selection_point(name="line", fields=["line"], bind="legend")
    colour = alt.Color("line:N", scale=alt.Scale(domain=lines, range=[colours[line] for line in lines]))
    x = alt.X("step:Q", axis=alt.Axis(tickMinStep=1, format="d"), title=f"policy (updates of {name})")
    base = alt.Chart(inline(rows)).encode(x=x, color=colour)
    band = base.transform_filter("datum.line === 'mean' && isValid(datum.low)").mark_area(fillOpacity=0.1).encode(y=alt.Y("low:Q", title=""), y2="high:Q")  # fmt: skip
    drawn = (
        base.properties(name="steps")
        .mark_line(point=True)
        .encode(
            y=alt.Y("value:Q", axis=SHARE, scale=alt.Scale(zero=False), title="per-sample fast_1"),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.15)),
            tooltip=[
                "line:N",
                "step:Q",
                *(alt.Tooltip(f"{c}:Q", format=".1%") for c in ("value", "low", "high", "any")),
            ],
        )
    )
    star = alt.Chart(inline(stars)).mark_text(text="★", fontSize=20, dy=-2).encode(x=x, y="value:Q", color=colour)
    return finish(band + drawn.add_params(pick) + star, height=320, description="Adaptation trajectory")


def _step(line: str, row: dict[str, Any]) -> dict[str, Any]:
    columns = {"low": row.get("low"), "high": row.get("high"), "any": row.get("any_fast_1")}
    return {"line": line, "step": int(row["step"]), "value": row["fast_1"], **columns}


def tasks(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 5, per task: per-sample fast_1 by step, mean over seeds; the paper's seed 42 dashed."""
    if facts.comparison is None:
        return nothing(NO_COMPARISON)
    name = facts.comparison.adaptation
    means = (
        tables["tasks"]
        .filter((pl.col("source") == name) & pl.col("step").is_not_null())
        .group_by("task_id", "step")
        .agg(pl.col("fast_1").mean())
        .sort("task_id", "step")
    )
    if not means.height:
        return nothing(f"The trajectory {name} has no rollouts.")
    ours = "this study (mean over seeds)"
    rows = [{"task": r["task_id"], "step": r["step"], "value": r["fast_1"], "by": ours} for r in means.to_dicts()]
    known = {row["task"] for row in rows}
    rows += [
        {
            "task": p["series"].removeprefix("ttt task:"),
            "step": int(p["x"]),
            "value": p["value"],
            "by": "paper, seed 42",
        }
        for p in tables["paper"].filter(pl.col("series").str.starts_with("ttt task:")).to_dicts()
        if p["series"].removeprefix("ttt task:") in known
    ]
    pick = alt.selection_point(name="task", fields=["task"], bind="legend")
    names = sorted(known, key=lambda t: (len(t), t))
    palette = [BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, INK, "#8a6d3b"]
    scale = alt.Scale(domain=names, range=[palette[i % len(palette)] for i in range(len(names))])
    chart = (
        alt.Chart(inline(rows), name="tasks")
        .mark_line(point=alt.OverlayMarkDef(size=25))
        .encode(
            x=alt.X("step:Q", axis=alt.Axis(tickMinStep=1, format="d"), title=f"policy (updates of {name})"),
            y=alt.Y("value:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1]), title="per-sample fast_1"),
            color=alt.Color("task:N", scale=scale, legend=alt.Legend(columns=5)),
            strokeDash=alt.StrokeDash(
                "by:N", scale=alt.Scale(domain=[ours, "paper, seed 42"], range=[[1, 0], [3, 4]]), legend=None
            ),
            opacity=alt.condition(pick, alt.value(0.9), alt.value(0.08)),
            tooltip=["task:N", "step:Q", alt.Tooltip("value:Q", format=".1%"), "by:N"],
        )
        .add_params(pick)
    )
    return finish(chart, height=320, description="Adaptation trajectory per task")


def probe(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 6: Spearman's rho of NLL and speedup over fixed samples, by the policy that scores them."""
    own = tables["probe"].filter(pl.col("seed").is_null() & (pl.col("samples") == "all") & pl.col("rho").is_not_null())
    if not own.height:
        return nothing("This study has no over-sharpening probe, or nothing in it varies.")
    compared = own.filter(pl.col("trajectory") == (facts.comparison.adaptation if facts.comparison else ""))
    name = (compared if compared.height else own)["probe"][0]
    rows = [
        {
            "step": r["step"],
            "value": r["rho"],
            "low": r["low"],
            "high": r["high"],
            "line": r["subset"],
            "by": "this study",
        }
        for r in own.filter(pl.col("probe") == name).to_dicts()
    ]
    for subset in ("all", "bottom quartile"):
        rows += [
            {
                "step": int(p["x"]),
                "value": p["value"],
                "low": None,
                "high": None,
                "line": f"{subset}, paper",
                "by": "paper",
            }
            for p in paper_rows(tables, f"probe:{subset}")
        ]
    lines = ["all", "bottom quartile", "all, paper", "bottom quartile, paper"]
    scale = alt.Scale(domain=lines, range=[BLUE, VERMILLION, PAPER, "#b9bec6"])
    pick = alt.selection_point(name="line", fields=["line"], bind="legend")
    base = alt.Chart(inline(rows)).encode(
        x=alt.X("step:Q", axis=alt.Axis(tickMinStep=1, format="d"), title="policy that scores the fixed samples"),
        color=alt.Color("line:N", scale=scale),
    )
    zero = alt.Chart(inline([{"zero": 0}])).mark_rule(color="#b5bac1").encode(y="zero:Q")
    band = (
        base.transform_filter("isValid(datum.low)")
        .mark_area(fillOpacity=0.1)
        .encode(y=alt.Y("low:Q", title=""), y2="high:Q")
    )
    drawn = (
        base.properties(name="probe")
        .mark_line(point=True)
        .encode(
            y=alt.Y("value:Q", title="Spearman rho (NLL, speedup)"),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.15)),
            tooltip=["line:N", "step:Q", *(alt.Tooltip(f"{c}:Q", format=".3f") for c in ("value", "low", "high"))],
        )
    )
    return finish(zero + band + drawn.add_params(pick), height=320, description="Over-sharpening probe")


def regimes(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 7: BoA's deficit of each task, mean over seeds, against the search's per-sample rate."""
    if facts.comparison is None:
        return nothing(NO_COMPARISON)
    name = facts.comparison.adaptation
    chosen = tables["boa"].filter((pl.col("trajectory") == name) & (pl.col("rule") == "argmax")).select("seed", "step")
    cells = tables["tasks"].filter(pl.col("source") == name).join(chosen.drop_nulls(), on=["seed", "step"])
    search = tables["tasks"].filter((pl.col("source") == facts.comparison.search) & pl.col("step").is_null())
    both = (
        cells.group_by("task_id").agg(adapted=pl.col("fast_1").mean())
        .join(search.group_by("task_id").agg(search=pl.col("fast_1").mean()), on="task_id")
        .sort("task_id")
    )  # fmt: skip
    if not both.height:
        return nothing("The trajectory and the sample set share no task.")
    rows = [
        {"task": r["task_id"], "search": r["search"], "deficit": r["adapted"] - r["search"]} for r in both.to_dicts()
    ]
    zero = alt.Chart(inline([{"zero": 0}])).mark_rule(color="#b5bac1").encode(y="zero:Q")
    line = alt.Chart(inline([{"at": 0.3}])).mark_rule(color=PAPER, strokeDash=[3, 3]).encode(x="at:Q")
    base = alt.Chart(inline(rows)).encode(
        x=alt.X("search:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1]), title="per-sample fast_1 of the search"),
        y=alt.Y("deficit:Q", axis=SHARE, title="BoA minus search, points"),
        tooltip=["task:N", alt.Tooltip("search:Q", format=".1%"), alt.Tooltip("deficit:Q", format="+.1%")],
    )
    marks = base.mark_point(filled=True, size=90, color=VERMILLION, opacity=1)
    return finish(
        zero + line + marks + base.mark_text(dy=-10, fontSize=11, color=INK).encode(text="task:N"),
        height=300,
        description="Deficit of adaptation by task",
    )

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
    configured,
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


BUDGET_COLOURS = (VERMILLION, ORANGE, PURPLE, GREEN, SKY)
SHARES = {
    "fast with A < 0": ("fast_negative_share", VERMILLION),
    "effective rollouts": ("effective_share", BLUE),
    "distinct programs": ("distinct_share", GREEN),
    "groups of equal rewards": ("zero_variance_share", ORANGE),
}
NATS = {"entropy": ("entropy", PURPLE), "KL from the start": ("kl_start", SKY), "KL of the step": ("kl_step", INK)}
"""Lines of the updates' figure: column of `diagnostics` and colour; shares of what was learnt from, and nats per token."""


def same_budget(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """What adaptation found up to each step, and best-of-N for as many rollouts, against rollouts a task."""
    own = tables["same_budget"]
    if facts.comparison:
        own = own.filter(pl.col("search") == facts.comparison.search)
    if not own.height:
        return nothing("No trajectory starts from the policy of a sample set.")
    rows = []
    for r in own.to_dicts():
        rest = {"rollouts": r["rollouts"], "tokens": r["student_tokens"] + r["teacher_tokens"], "step": r["step"]}
        ends = {"low": r["found_low"], "high": r["found_high"]}
        rows.append({"line": r["trajectory"], "value": r["found"], **ends, **rest})
    lines = list(dict.fromkeys(row["line"] for row in rows))
    search, main = own["search"][0], lines[0]
    if facts.comparison and facts.comparison.adaptation in lines:
        main = facts.comparison.adaptation
    beside = own.filter((pl.col("search") == search) & (pl.col("trajectory") == main))
    held = beside.unique("k_rollouts", maintain_order=True, keep="first").sort("k_rollouts")
    rows += [
        {"line": f"{search}, same rollouts and tasks as {main}", "value": r["search_rollouts"], "low": None, "high": None, "rollouts": r["k_rollouts"],
         "tokens": None, "step": None}
        for r in held.to_dicts()
    ]  # fmt: skip
    names = [*lines, f"{search}, same rollouts and tasks as {main}"]
    colours = [*(BUDGET_COLOURS[i % len(BUDGET_COLOURS)] for i in range(len(lines))), BLUE]
    pick = alt.selection_point(name="line", fields=["line"], bind="legend")
    base = alt.Chart(inline(rows)).encode(
        x=alt.X(
            "rollouts:Q",
            scale=alt.Scale(type="log", base=2),
            axis=alt.Axis(format="~g"),
            title="rollouts a task and seed",
        ),
        color=alt.Color("line:N", scale=alt.Scale(domain=names, range=colours)),
    )
    band = (
        base.transform_filter("isValid(datum.low)")
        .mark_area(fillOpacity=0.08)
        .encode(y=alt.Y("low:Q", title=""), y2="high:Q")
    )
    drawn = (
        base.properties(name="budget")
        .mark_line(point=True)
        .encode(
            y=alt.Y("value:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1]), title="tasks with a fast_1 program"),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.15)),
            tooltip=[
                "line:N", "step:Q", "rollouts:Q", alt.Tooltip("tokens:Q", format=",.0f"),
                *(alt.Tooltip(f"{c}:Q", format=".1%") for c in ("value", "low", "high")),
            ],
        )
    )  # fmt: skip
    return finish(band + drawn.add_params(pick), height=300, description="Adaptation and search under one budget")


def updates(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Diagnostics of the updates: a row of two small panels for each trajectory, shares and nats, mean over seeds."""
    own = tables["diagnostics"].filter(pl.col("seed").is_null())
    rows = [
        {"panel": f"{r['trajectory']}, {kind}", "step": r["step"], "line": line, "value": r[column]}
        for (name,), part in own.group_by("trajectory", maintain_order=True)
        for kind, lines in (("shares", SHARES), ("nats a token", NATS))
        for line, (column, _) in lines.items()
        for r in part.to_dicts()
        if r[column] is not None
    ]
    if not rows:
        return nothing("This study made no update.")
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    colours = {line: colour for line, (_, colour) in (SHARES | NATS).items()}
    drawn = (
        alt.Chart(inline(rows), name="updates")
        .mark_line(point=alt.OverlayMarkDef(size=22))
        .encode(
            x=alt.X("step:Q", axis=alt.Axis(tickMinStep=1, format="d", tickCount=5), title=None),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(format="~g", tickCount=4)),
            color=alt.Color("line:N", scale=alt.Scale(domain=list(colours), range=list(colours.values())),
                            legend=alt.Legend(columns=3)),
            tooltip=["panel:N", "line:N", "step:Q", alt.Tooltip("value:Q", format=".3g")],
        )
        .properties(width=210, height=100)
    )  # fmt: skip
    header = alt.Header(title=None, labelFontSize=12, labelColor=INK, labelAnchor="start")
    grid = drawn.facet(facet=alt.Facet("panel:N", sort=panels, header=header), columns=2).resolve_scale(
        x="independent", y="independent"
    )
    return configured(grid.resolve_axis(x="independent").properties(description="What the updates did"))


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
        x=alt.X(
            "search:Q",
            axis=alt.Axis(format="%", tickCount=6),
            scale=alt.Scale(domain=[0, 1]),
            title="per-sample fast_1 of the search",
        ),
        y=alt.Y("deficit:Q", axis=SHARE, title="BoA minus search, points"),
        tooltip=["task:N", alt.Tooltip("search:Q", format=".1%"), alt.Tooltip("deficit:Q", format="+.1%")],
    )
    marks = base.mark_point(filled=True, size=90, color=VERMILLION, opacity=1)
    return finish(
        zero + line + marks + base.mark_text(dy=-10, fontSize=11, color=INK).encode(text="task:N"),
        height=300,
        description="Deficit of adaptation by task",
    )

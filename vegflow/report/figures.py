"""The paper's figures 1 and 3 to 6 from the analysis tables, with the paper's own numbers in grey.

Knows analysis tables and the study's facts; computes nothing but positions of marks.
"""

from collections.abc import Callable, Mapping
from typing import Any

import altair as alt
import polars as pl
import pyarrow as pa

from vegflow.config.analysis import StudyFacts
from vegflow.report.style import BLUE, FAMILIES, INK, PAPER, SKY, VERMILLION, family, finish, inline, nothing

Tables = Mapping[str, pl.DataFrame]
SHARE = alt.Axis(format="%")
NO_COMPARISON = "This study compares no sample set with a trajectory."


def figures(tables: Mapping[str, pa.Table], facts: StudyFacts) -> dict[str, dict[str, Any]]:
    """Vega-Lite specification of every figure in `FIGURES`, by name.

    `tables` are those of `ANALYSIS_TABLES`. A figure for which the study has no data says so in its place. The same
    tables give the same specifications.
    """
    frames = {name: pl.DataFrame(pl.from_arrow(table)) for name, table in tables.items()}
    return {name: draw(frames, facts) for name, draw in FIGURES.items()}


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


def _rows(table: pl.DataFrame, **where: Any) -> list[dict[str, Any]]:
    for column, value in where.items():
        table = table.filter(pl.col(column).is_null() if value is None else pl.col(column) == value)
    return table.to_dicts()


def _paper(tables: Tables, series: str) -> list[dict[str, Any]]:
    return _rows(tables["paper"], series=series)


def overview(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 1: every way to spend the samples, as one share each."""
    source, task_set = search(tables, facts)
    rows = []
    for row in _rows(tables["scaling"], source=source, task_set=task_set, metric="fast_1"):
        paper = [p["value"] for p in _paper(tables, "scaling") if p["x"] == row["k"]]
        if row["k"] in (1, 4, 16, 64):
            rows.append(_bar(f"any of {row['k']} samples" if row["k"] > 1 else "one sample", "Best-of-N", row, paper))
    for row in _rows(tables["strategies"], source=source, task_set=task_set):
        paper = [p["value"] for p in _paper(tables, "strategy fast_1:" + row["strategy"])]
        rows.append(_bar(row["strategy"], family(row["strategy"]), row | {"value": row["fast_1"]}, paper))
    adaptation = facts.comparison.adaptation if facts.comparison else ""
    for row in _rows(tables["boa"], trajectory=adaptation, seed=None, rule="argmax"):
        paper = [p["value"] for p in _paper(tables, "boa")]
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
        x=alt.X("value:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1]), title=f"fast_1 ({task_set}, {source})"),
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
        for r in _rows(tables["scaling"], source=source, task_set=name, metric="fast_1")
    ]
    if not rows:
        return nothing("This study has no sample set.")
    rows += [
        {"k": int(p["x"]), "value": p["value"], "low": None, "high": None, "line": "Best-of-N, paper (subset 1)"}
        for p in _paper(tables, "scaling")
    ]
    lines = list(dict.fromkeys(row["line"] for row in rows))
    colours = [PAPER if "paper" in line else colour for line, colour in zip(lines, [BLUE, SKY, PAPER], strict=False)]
    ks = sorted({row["k"] for row in rows})
    rules = [
        {
            "value": row["adaptation"],
            "text": f"{row['trajectory']} BoA, {_basis(row['basis'], row['trajectory'], facts)}",
        }
        for row in _rows(tables["equivalent_k"], rule="argmax")
    ]
    rules += [{"value": p["value"], "text": "paper's TTT BoA, per sample"} for p in _paper(tables, "boa") if rules]
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
        label = ruled.mark_text(align="right", baseline="bottom", dy=-3, fontSize=11.5).encode(
            x=alt.value("width"), text="text:N", color=colour
        )
        layers += line + label
    return finish(layers, height=340, description="Best-of-N scaling")


def _basis(basis: str, trajectory: str, facts: StudyFacts) -> str:
    return "per sample" if basis.startswith("per") else f"any of {facts.trajectories[trajectory].group_size}"


def _strategy_rows(tables: Tables, facts: StudyFacts) -> tuple[list[dict[str, Any]], str]:
    source, task_set = search(tables, facts)
    rows = []
    for row in _rows(tables["strategies"], source=source, task_set=task_set):
        paper = {
            column: next((p["value"] for p in _paper(tables, f"strategy {column}:{row['strategy']}")), None)
            for column in ("fast_1", "speedup")
        }
        rows.append(row | {"family": family(row["strategy"])} | {f"paper_{k}": v for k, v in paper.items()})
    return rows, f"{task_set}, {source}"


def strategies(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 4a: fast_1 of the selection strategies."""
    rows, where = _strategy_rows(tables, facts)
    if not rows:
        return nothing("This study has no sample set to select from.")
    kept = [_bar(r["strategy"], r["family"], r | {"value": r["fast_1"]}, [r["paper_fast_1"]]) for r in rows]
    base = alt.Chart(inline(kept)).encode(y=alt.Y("label:N", sort=None, title=None), tooltip=["label:N", *(alt.Tooltip(f"{c}:Q", format=".1%") for c in ("value", "low", "high", "paper"))])  # fmt: skip
    bars = base.mark_bar(height=15).encode(
        x=alt.X("value:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1]), title=f"picks that are fast_1 ({where})"),
        color=alt.Color("family:N", scale=alt.Scale(domain=list(FAMILIES), range=list(FAMILIES.values())), legend=None),
    )
    ends = base.mark_rule(color=INK, strokeWidth=1.2).encode(x="low:Q", x2="high:Q")
    return finish(
        bars + ends + _diamonds(base, "paper"), height=26 * len(rows), description="Selection strategies, fast_1"
    )


def speedups(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 4b: geometric mean (with interval) and mean of the picks' speedups, on a logarithmic axis."""
    rows, where = _strategy_rows(tables, facts)
    points = []
    for r in rows:
        if r["geometric_mean_speedup"] is None:
            continue
        ends = {"low": r["geometric_low"], "high": r["geometric_high"]}
        points.append({"label": r["strategy"], "kind": "geometric mean", "value": r["geometric_mean_speedup"], **ends})
        points.append({"label": r["strategy"], "kind": "mean", "value": r["mean_speedup"], "low": None, "high": None})
        if r["paper_speedup"] is not None:
            paper = {"kind": "mean, paper (its hardware)", "value": r["paper_speedup"], "low": None, "high": None}
            points.append({"label": r["strategy"], **paper})
    if not points:
        return nothing("This study has no correct sample to select.")
    kinds = ["geometric mean", "mean", "mean, paper (its hardware)"]
    base = alt.Chart(inline(points)).encode(
        y=alt.Y("label:N", sort=None, title=None),
        x=alt.X(
            "value:Q", scale=alt.Scale(type="log"), title=f"speedup of the pick ({where})", axis=alt.Axis(format="~g")
        ),
        color=alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[BLUE, SKY, PAPER])),
        tooltip=["label:N", "kind:N", *(alt.Tooltip(f"{c}:Q", format=".3g") for c in ("value", "low", "high"))],
    )
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=["circle", "square", "diamond"]))
    ends = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.6).encode(x="low:Q", x2="high:Q")
    one = alt.Chart(inline([{"one": 1}])).mark_rule(color="#b5bac1", strokeDash=[3, 3]).encode(x="one:Q")
    marks = base.mark_point(filled=True, size=75, opacity=1).encode(shape=shape)
    return finish(one + ends + marks, height=26 * len(rows), description="Selection strategies, speedup")


def trajectory(tables: Tables, facts: StudyFacts) -> dict[str, Any]:
    """Figure 5, aggregate: per-sample fast_1 of each seed and their mean by step, stars where BoA stands."""
    if facts.comparison is None:
        return nothing(NO_COMPARISON)
    name = facts.comparison.adaptation
    own = tables["trajectory"].filter(pl.col("trajectory") == name)
    if not own.height:
        return nothing(f"The trajectory {name} has no rollouts.")
    rows = [_step("mean" if r["seed"] is None else f"seed {r['seed']}", r) for r in own.to_dicts()]
    rows += [_step("paper, seed 42", {"step": p["x"], "fast_1": p["value"]}) for p in _paper(tables, "ttt")]
    lines = list(dict.fromkeys(row["line"] for row in rows))
    seeds = [line for line in lines if line.startswith("seed")]
    palette = [VERMILLION, "#E69F00", "#CC79A7", "#009E73", SKY, BLUE]
    colours = {line: palette[i % len(palette)] for i, line in enumerate(seeds)} | {"mean": INK, "paper, seed 42": PAPER}
    stars = [
        {"line": f"seed {r['seed']}", "step": r["step"], "value": r["fast_1"]}
        for r in _rows(tables["boa"], trajectory=name, rule="argmax")
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
    palette = [BLUE, VERMILLION, "#009E73", "#E69F00", "#CC79A7", SKY, INK, "#8a6d3b"]
    scale = alt.Scale(domain=names, range=[palette[i % len(palette)] for i in range(len(names))])
    chart = (
        alt.Chart(inline(rows), name="tasks")
        .mark_line(point=alt.OverlayMarkDef(size=25))
        .encode(
            x=alt.X("step:Q", axis=alt.Axis(tickMinStep=1, format="d"), title=f"policy (updates of {name})"),
            y=alt.Y("value:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1]), title="per-sample fast_1"),
            color=alt.Color("task:N", scale=scale, legend=alt.Legend(columns=5)),
            strokeDash=alt.StrokeDash("by:N", scale=alt.Scale(domain=[ours, "paper, seed 42"], range=[[1, 0], [3, 4]])),
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
    name = own["probe"][0]
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
            for p in _paper(tables, f"probe:{subset}")
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


FIGURES: dict[str, Callable[[Tables, StudyFacts], dict[str, Any]]] = {
    "figure1_overview": overview,
    "figure3_scaling": scaling,
    "figure4a_strategies": strategies,
    "figure4b_speedups": speedups,
    "figure5a_trajectory": trajectory,
    "figure5b_tasks": tasks,
    "figure6_probe": probe,
}
"""Every figure by name, in the report's order."""

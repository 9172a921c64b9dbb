"""Tables of staged verification as the report prints them, ours and the paper's, and the sentences above them.

Knows the tables of `vegflow.artifacts.frontier`, not what the page looks like.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from vegflow.report.text import number, p_value, points, ratio, share, with_interval
from vegflow.report.view import View

Frames = Mapping[str, pl.DataFrame]
PAPER_SPEED, PAPER_LOSS = 11.64, 0.0826
"""The paper's headline (arXiv 2506.10056v2): times the throughput of the full suite, relative loss of accuracy."""
UNITS = {"correct": "share", "fast_1": "share", "speedup": "ratio"}


def staged_views(tables: Frames) -> list[View]:
    """Every table, in the section's order."""
    return [frontier(tables), domains(tables), pairs(tables), tuning(tables), composed(tables), paper(tables)]


def headline(tables: Frames) -> list[dict[str, Any]]:
    """For each verification: the fastest pipeline within the paper's loss, and whether it was run or composed alone."""
    found = []
    own = tables["frontier"].filter((pl.col("metric") == "correct") & pl.col("relative_throughput").is_not_null())
    for (name,), part in own.group_by("verification", maintain_order=True):
        part = part.filter((pl.col("k") == part["k"].max()) & (pl.col("relative_loss") <= PAPER_LOSS))
        if not part.height:
            continue
        row = part.sort("relative_throughput", descending=True).to_dicts()[0]
        found.append(
            {
                "verification": name,
                "domain": row["domain"],
                "pipeline": row["pipeline"],
                "stages": row["stages"],
                "k": row["k"],
                "speed": with_interval(
                    row["relative_throughput"], row["relative_throughput_low"], row["relative_throughput_high"], "ratio"
                ),
                "loss": with_interval(
                    row["relative_loss"], row["relative_loss_low"], row["relative_loss_high"], "share"
                ),
                "how": {"run": "measured by running it", "stages": "composed from stages measured one by one"}.get(
                    row["cost"], "composed from the times of stored checks, without process starts"
                ),
                "whole": _whole(tables, name, row["pipeline"]),
                "reached": row["relative_throughput"] >= PAPER_SPEED,
            }
        )
    return found


def _whole(tables: Frames, name: str, pipeline: str) -> str:
    """The measured ratio with everything included; empty where the pipeline was not run."""
    own = tables["composed"].filter((pl.col("verification") == name) & (pl.col("pipeline") == pipeline))
    return "" if not own.height else ratio(own["times_full"][0])


def frontier(tables: Frames) -> View:
    """All pipelines at the largest k, the fastest first."""
    rows = []
    own = tables["frontier"]
    for (name, metric), part in own.group_by("verification", "metric", maintain_order=True):
        part = part.filter(pl.col("k") == part["k"].max()).sort("relative_throughput", descending=True, nulls_last=True)
        rows += [
            [
                name, f"{metric}, k = {r['k']}", r["pipeline"], r["stages"],
                with_interval(r["value"], r["low"], r["high"], UNITS[metric]),
                with_interval(r["relative_loss"], r["relative_loss_low"], r["relative_loss_high"], "share"),
                with_interval(r["relative_throughput"], r["relative_throughput_low"], r["relative_throughput_high"], "ratio"),
                number(r["throughput"]), number(r["full_runs"]), number(r["value_per_second"]),
                "front" if r["beyond_noise"] and r["on_front"] else "front, within noise" if r["on_front"] else "dominated", share(r["p_front"]),
            ]
            for r in part.to_dicts()
        ]  # fmt: skip
    return View(
        "staged-frontier", "Every pipeline",
        "What the pick among k random samples of a task is worth, exactly where there is a closed form, and what verifying them "
        "costs relative to the full suite on all of them. P(front): share of bootstrap replicates over tasks (the same draw for "
        "every pipeline, in both axes, and timing repeats) in which nothing dominates it. Within noise: another is no more than "
        "half a point or 5 % worse in one way and clearly better in the other.",
        ["verification", "metric", "pipeline", "stages", "value", "loss", "throughput, times full", "candidates/s",
         "full runs a task", "value a second", "place", "P(front)"], rows, 4, "This study has no entry of verification.",
    )  # fmt: skip


def domains(tables: Frames) -> View:
    """Pipelines that several entries have."""
    rows = [
        [r["metric"], r["stages"], ", ".join(r["verifications"]), ratio(r["geometric_mean"]), ratio(r["arithmetic_mean"]), share(r["relative_loss"])]
        for r in tables["domains"].to_dicts() if len(r["verifications"]) > 1
    ]  # fmt: skip
    return View(
        "staged-domains", "Over the domains",
        "Throughput relative to the full suite, averaged over the entries that have the pipeline. The arithmetic mean of ratios, "
        "which the paper reports, is ruled by the largest; the geometric mean is ours.",
        ["metric", "stages", "verifications", "geometric mean", "arithmetic mean", "mean loss"], rows, 3,
        "No pipeline stands in several entries.",
    )  # fmt: skip


def pairs(tables: Frames) -> View:
    """What reward models and surprisal add to filters with controls, and neighbours on the front."""
    own = tables["frontier_pairs"].filter(pl.col("metric").is_in(["correct", "speedup"]))
    rows = []
    for (_,), part in own.group_by("verification", maintain_order=True):
        part = part.filter(pl.col("k") == part["k"].max())
        rows += [
            [
                r["verification"], r["metric"], r["kind"], r["first"], r["second"],
                with_interval(r["difference"], r["low"], r["high"], "points" if r["metric"] == "correct" else "number"),
                p_value(r["permutation_p"]), with_interval(r["throughput_ratio"], r["throughput_low"], r["throughput_high"], "ratio"),
            ]
            for r in part.to_dicts()
        ]  # fmt: skip
    return View(
        "staged-pairs", "What beats what",
        "Paired over tasks, at the largest k. Adjacent: neighbours on the front. Control: a reward model or surprisal against a "
        "control that ranks the same candidates (random, confidence, majority of texts, agreement of answers, length). Addition: a "
        "cut by it to half of k before the same ranker. Differences of shares in points; p is not corrected for the many rows.",
        ["verification", "metric", "kind", "first", "second", "difference", "p", "throughput, first / second"], rows, 5,
        "There are no pairs.",
    )  # fmt: skip


def tuning(tables: Frames) -> View:
    """Pipelines found for a budget on one half of the tasks, tested on the other."""
    rows = [
        [
            r["verification"], r["metric"], f"1/{1 / r['budget']:.4g}", r["half"], r["stages"] or "each half by the other's",
            number(r["found_value"]), with_interval(r["value"], r["low"], r["high"], UNITS[r["metric"]]), number(r["best_value"]),
            number(r["full_value"]), share(r["share_of_cost"]),
        ]
        for r in tables["tuning"].to_dicts()
    ]  # fmt: skip
    tried = tables["tuning"]["n_pipelines"].max() if tables["tuning"].height else 0
    return View(
        "staged-tuning", "The best pipeline for a budget",
        f"Found among up to {tried} pipelines (filters, ranker, cut-off, order) on one half of the tasks by composed cost, tested on the "
        "other half, both ways. Best possible: chosen with the tested tasks in view, which no tuning can beat.",
        ["verification", "metric", "budget, of full", "tested on", "pipeline", "where found", "tested", "best possible", "full suite", "cost"],
        rows, 5, "There are too few tasks to tune on.",
    )  # fmt: skip


def composed(tables: Frames) -> View:
    """Composed against run, and the run that checks nothing."""
    rows = [
        [
            r["verification"], r["pipeline"], number(r["n_candidates"]), str(r["n_repeats"]),
            with_interval(r["run_s"], r["run_low"], r["run_high"], "s"), number(r["composed_s"]),
            share(None if r["ratio"] is None else r["ratio"] - 1),
            with_interval(r["times_full"], r["times_full_low"], r["times_full_high"], "ratio"), number(r["cpu_s"]), number(r["fixed_s"]),
        ]
        for r in tables["composed"].to_dicts()
    ]  # fmt: skip
    return View(
        "staged-composed", "Composed cost and cost of really running",
        "Stages are measured one by one in the even repeats; pipelines are composed from them and held against the odd repeats "
        "(brackets: least and most). Times full: everything included, fixed cost too, repeat by repeat. noop isolates every candidate and checks nothing. Fixed: starting processes, loading models.",
        ["verification", "pipeline", "candidates", "repeats", "run, s", "composed, s", "difference", "times full", "CPU, s", "fixed, s"], rows, 2,
        "No pipeline was run.",
    )  # fmt: skip


def paper(tables: Frames) -> View:
    """The paper's table with ours beside it."""
    rows = [
        [
            r["benchmark"], r["filter"], r["ranker"], share(r["accuracy"]), number(r["throughput"]), ratio(r["relative_throughput"]),
            share(r["relative_loss"]), "yes" if r["on_front"] else "", r["verification"] or "", share(r["ours"]),
            ratio(r["ours_relative_throughput"]), share(r["ours_relative_loss"]),
        ]
        for r in tables["staged_paper"].to_dicts()
    ]  # fmt: skip
    return View(
        "staged-paper", "The paper’s table, and ours beside it",
        "Orlanski et al., arXiv 2506.10056v1 (7B generator; best of 64 of 128). Other model, tasks and machine: levels do not compare, "
        "ratios do with care. On its front: nothing in its benchmark dominates the point; a reward model is there on two of four.",
        ["benchmark", "filter", "ranker", "paper: accuracy", "paper: programs/s", "paper: times all tests", "paper: loss", "paper: on front",
         "ours", "value", "times full", "loss"], rows, 3, "The paper's numbers were not given.",
    )  # fmt: skip


def verdicts(tables: Frames) -> list[str]:
    """What a reward model and surprisal add, in sentences: each against the best control behind the same filters."""
    found = []
    own = tables["frontier_pairs"].filter((pl.col("kind") == "control") & (pl.col("metric") == "correct"))
    for (name,), part in own.group_by("verification", maintain_order=True):
        part = part.filter(pl.col("k") == part["k"].max())
        for (first,), rivals in part.group_by("first", maintain_order=True):
            row = rivals.sort("difference").to_dicts()[0]
            if row["low"] is None:
                continue
            verdict = (
                "adds"
                if row["low"] > 0
                else "loses"
                if row["high"] < 0
                else "adds nothing that can be told from chance"
            )
            found.append(
                f"{name}, k = {row['k']}: “{first}” against the best control, “{row['second']}”: "
                f"{points(row['difference'])} points [{points(row['low'])}, {points(row['high'])}]: {verdict}."
            )
    return found

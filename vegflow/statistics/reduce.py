"""From samples to what the statistics need of them: one task's samples are looked at once, together, and let go.

Knows a block of whole tasks at a time, so that memory is bounded by the block, not by the study; `analyse` puts blocks
together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from vegflow.config.analysis import AnalysisConfig, StudyFacts
from vegflow.selection import (
    Head,
    Pick,
    apply,
    lacking_order,
    needs,
    resolve_order,
    table_of,
    units,
    usable,
)
from vegflow.statistics.best_of import expected_bests
from vegflow.statistics.budget import candidates, spent
from vegflow.statistics.headroom import headroom
from vegflow.statistics.pipeline import COLUMNS as CURVE
from vegflow.statistics.pipeline import STOPS, Curves, unit_curves
from vegflow.statistics.samples import judged, per_task, statuses
from vegflow.statistics.sharpening import COLUMNS as REWEIGHTED
from vegflow.statistics.sharpening import reweighted

POOLED = 2_000_000
"""Correct samples that enter quartiles and correlations at most; of more, an even thinning by index is taken."""
FRAMES = ("tasks", "statuses", "headroom", "spent", "candidates", "correct", "probed", "units", "selections")


@dataclass(frozen=True)
class Reduced:
    """What is kept of the samples of some tasks.

    `units` has a row a sample set's task and seed, with `best` [K]; `curves` and `reweighted` have its rows' arrays.
    """

    tasks: pl.DataFrame
    statuses: pl.DataFrame
    headroom: pl.DataFrame
    spent: pl.DataFrame
    candidates: pl.DataFrame
    correct: pl.DataFrame
    probed: pl.DataFrame
    units: pl.DataFrame
    selections: pl.DataFrame
    curves: np.ndarray
    reweighted: np.ndarray


@dataclass(frozen=True)
class Wanted:
    """What to compute of each block: settings, the study's facts, the orders that can be had, and every n-th correct sample."""

    config: AnalysisConfig
    facts: StudyFacts
    ms: tuple[int, ...]
    orders: tuple[str, ...]
    thin: int = 1


def wanted(config: AnalysisConfig, facts: StudyFacts, columns: Sequence[str], n_samples: int = 0) -> Wanted:
    """What can be had of tables with these columns and about `n_samples` rows."""
    largest = max((one.k for one in facts.sample_sets.values()), default=1)
    ms = tuple(sorted({m for m in (*config.ks, 3) if m < largest} | {largest}))
    orders = tuple(name for name in config.orders if not lacking_order(name, columns))
    return Wanted(config, facts, ms, orders, max(1, -(-n_samples // POOLED)))


def reduce(every: pl.DataFrame, scored: pl.Series, selections: pl.DataFrame | None, what: Wanted) -> Reduced:
    """Reduce joined samples (`join_samples`) of whole tasks.

    `scored` are the rollout ids that other policies scored. `selections` None picks here. Rollouts on which the
    evaluator itself broke count in `statuses` and the budget only.
    """
    samples = judged(every)
    sets = list(what.facts.sample_sets)
    drawn = samples.filter(pl.col("step").is_null() & pl.col("source").is_in(sets)).sort(
        "source", "task_id", "seed", "index"
    )
    correct = drawn.filter(pl.col("correct") & (pl.col("index") % what.thin == 0)).select(
        "source", "task_id", "seed", "index", "nll", "n_tokens", "speedup", "fast_1"
    )
    rules = usable(what.config.selection(), every.columns) if selections is None else {}
    heads, best, curves, weights = [], [], [], []
    picked: list[Head] = []
    picks: list[Pick] = []
    choices, syntax = needs(rules)
    choices |= {"tempered"} | {resolve_order(name)[1] for name in what.orders}
    for head, one in units(drawn, choices, syntax):
        heads.append(head)
        best.append(expected_bests(one.gain, what.config.ks))
        curves.append(unit_curves(one, what.orders, what.ms))
        weights.append(reweighted(one, what.config.alphas))
        if rules:
            apply(rules, head, one, picked, picks)
    if selections is None:
        selections = pl.DataFrame(pl.from_arrow(table_of(drawn, rules, picked, picks)))
    frame = pl.DataFrame(heads, schema={"source": pl.String, "task_id": pl.String, "seed": pl.Int64}, orient="row")
    kept = pl.Series("best", [list(b) for b in best], dtype=pl.List(pl.Float64))
    shape = (len(what.orders), len(STOPS), len(CURVE), len(what.ms))
    return Reduced(
        tasks=per_task(samples),
        statuses=statuses(every),
        headroom=headroom(samples),
        spent=spent(every),
        candidates=candidates(every, selections, what.facts),
        correct=correct,
        probed=samples.filter(pl.col("rollout_id").is_in(scored.implode())) if len(scored) else samples.clear(),
        units=frame.with_columns(kept),
        selections=selections,
        curves=np.array(curves).reshape(len(heads), *shape),
        reweighted=np.array(weights).reshape(len(heads), len(REWEIGHTED), len(what.config.alphas)),
    )


def together(parts: Sequence[Reduced]) -> Reduced:
    """One reduction of several blocks of tasks, in a fixed order whatever the blocks were."""
    if len(parts) == 1:
        return parts[0]
    frames = {name: pl.concat([getattr(part, name) for part in parts]) for name in FRAMES}
    key = ["source", "task_id", "seed"]
    order = frames["units"].with_row_index("row").sort(key)["row"]
    sorts = {"tasks": ["source", "seed", "step", "task_id"], "statuses": ["source", "task_id", "status"]}
    sorts |= {"headroom": ["headroom", "task_id"], "units": key, "correct": [*key, "index"]}
    frames |= {name: frames[name].sort(by, nulls_last=False) for name, by in sorts.items()}
    frames["selections"] = frames["selections"].sort(key, maintain_order=True)
    frames["candidates"] = frames["candidates"].sort(
        "source", "task_id", "count", "candidate", descending=[False, False, True, False]
    )
    totals = [name for name in frames["spent"].columns if name not in ("source", "seed")]
    frames["spent"] = frames["spent"].group_by("source", "seed").agg(pl.col(totals).sum()).sort("source", "seed")
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])[order.to_numpy()]
        for name in ("curves", "reweighted")
    }
    return Reduced(**frames, **arrays)


def curves_of(reduced: Reduced, what: Wanted) -> Curves:
    """The pipeline's curves of every task and seed."""
    return Curves(reduced.units.select("source", "task_id", "seed"), what.orders, what.ms, reduced.curves)

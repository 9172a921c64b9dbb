"""The deployable pipeline: rank a task's samples before any is evaluated, evaluate the first m in order, stop early.

Knows one task's samples and an order; what the orders are is said in `vegflow.selection`. The paper's selection, which
checks all K for correctness first, is the special case m = K: stopping at the first correct sample of the order of
surprisal returns the surprisal-guided pick, stopping at the third correct one the surprisal-guided-top3 pick.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.selection import Samples, resolve_order
from vegflow.statistics.best_of import expected_bests, kept_while_small, log_factorials, pass_table
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.intervals import DIFFERENCE, SHARE, interval_of_means, task_means
from vegflow.statistics.paired import task_permutation
from vegflow.statistics.samples import task_sets

COLUMNS = ("success", "speedup", "evaluations", "seconds")
"""A curve's rows: probability that what is returned is fast_1; its speedup (0 if nothing is correct); candidates
evaluated; seconds that takes. What is returned is the fastest correct sample among those evaluated."""


@dataclass(frozen=True)
class Stop:
    """When to stop before m: at the `count`-th sample that is `correct` or `fast_1`; never if `count` is None."""

    what: str = "correct"
    count: int | None = 1


STOPS: dict[str, Stop] = {
    "first correct": Stop("correct", 1),
    "third correct": Stop("correct", 3),
    "first fast_1": Stop("fast_1", 1),
    "never": Stop(count=None),
}


def curves(samples: Samples, order: np.ndarray, stops: Sequence[Stop], ms: Sequence[int]) -> np.ndarray:
    """The rows of `COLUMNS` [stops, 4, M] at budgets `ms` for positions in `order` [N]; m beyond N is N."""
    n = len(samples)
    correct, fast = samples.correct[order], samples.success[order]
    success, best, seconds = np.zeros(n + 1), np.zeros(n + 1), np.zeros(n + 1)
    np.maximum.accumulate(fast, out=success[1:])
    np.maximum.accumulate(samples.gain[order], out=best[1:])
    np.cumsum(samples.seconds[order], out=seconds[1:])
    within = np.minimum(ms, n)
    hits = {"correct": np.flatnonzero(correct), "fast_1": np.flatnonzero(fast)}
    out = np.empty((len(stops), len(COLUMNS), len(within)))
    for place, stop in enumerate(stops):
        own = hits[stop.what]
        last = n if stop.count is None or len(own) < stop.count else int(own[stop.count - 1]) + 1
        seen = np.minimum(within, last)
        out[place] = success[seen], best[seen], seen, seconds[seen]
    return out


def random_curve(samples: Samples, stop: Stop, ms: Sequence[int]) -> np.ndarray:
    """The expectation of `curves` [4, M] for one stop over all N! orders, exactly.

    Of N samples the c hits (correct, or fast_1) fall into the first i with hypergeometric probability
    P(J_i = j) = C(i, j) C(N - i, c - j) / C(N, c). With a stop at the b-th hit, the i + 1st sample is evaluated if
    J_i < b, so E[evaluated] = sum_{i<m} P(J_i < b), and E[hits evaluated] = E[min(J_m, b)]. The hits seen are a random
    subset of the hits, the misses seen one of the misses, so best and mean cost follow by exchangeability.
    """
    n = len(samples)
    m = np.minimum(ms, n)
    speed, fast = samples.gain, samples.success
    if stop.count is None:
        counts = np.maximum(m, 1)
        solved = pass_table(n, tuple(counts.tolist()))[int(fast.sum())]
        return np.stack([solved, expected_bests(speed, counts), m, m * samples.seconds.mean()])
    hit = samples.correct if stop.what == "correct" else fast
    c, b = int(hit.sum()), stop.count
    chance = _hypergeometric(n, c, b)  # [N + 1, b]: P(J_i = j), j < b
    few = chance.sum(axis=1)
    evaluated = (np.cumsum(few) - few)[m]
    full = 1 - few[m]
    hits = chance[m] @ np.arange(b) + b * full
    own, whole = float(samples.seconds[hit].sum()), float(samples.seconds.sum())
    seconds = hits * (own / max(c, 1)) + (evaluated - hits) * ((whole - own) / max(n - c, 1))
    share = np.column_stack([chance[m], full])  # of 0, 1, .., b hits seen
    if stop.what == "correct":
        best, solved = np.zeros(b + 1), np.zeros(b + 1)
        if c and b == 1:
            best[1], solved[1] = speed[hit].mean(), fast.sum() / c
        elif c:
            drawn = tuple(range(1, min(b, c) + 1))
            best[1 : len(drawn) + 1] = expected_bests(speed[hit], drawn)
            solved[1 : len(drawn) + 1] = pass_table(c, drawn)[int(fast.sum())]
        return np.stack([share @ solved, share @ best, evaluated, seconds])
    missed = np.nan_to_num(expected_bests(speed[~hit], m))
    won = full * (speed[hit].mean() if c else 0.0) + (1 - full) * missed
    return np.stack([full, won, evaluated, seconds])


@kept_while_small
def _hypergeometric(n: int, c: int, b: int) -> np.ndarray:
    """P(J_i = j) [n + 1, b] for i = 0..n draws and j < b hits of c among n."""
    logs = log_factorials(n)
    i, j = np.arange(n + 1)[:, None], np.arange(b)[None]
    possible = (j <= i) & (j <= c) & (c - j <= n - i)
    i, j = np.broadcast_arrays(i, j)
    ii, jj = np.where(possible, i, 0), np.where(possible, j, 0)
    rest = np.where(possible, c - jj, 0)
    value = logs[ii] - logs[jj] - logs[ii - jj] + logs[n - ii] - logs[rest] - logs[n - ii - rest]
    return np.where(possible, np.exp(value - (logs[n] - logs[c] - logs[n - c])), 0.0)


def unit_curves(samples: Samples, orders: Sequence[str], ms: Sequence[int]) -> np.ndarray:
    """Every order's and stop's curve of one task and seed: [orders, stops, 4, M]."""
    out = np.empty((len(orders), len(STOPS), len(COLUMNS), len(ms)))
    for place, name in enumerate(orders):
        order, nll = resolve_order(name)
        if order is None:
            drawn = samples if name == "random" else samples.only(samples.repeats[0] == 0)
            out[place] = [random_curve(drawn, stop, ms) for stop in STOPS.values()]
        else:
            out[place] = curves(samples, order(samples, samples.nlls[nll or "sum"]), list(STOPS.values()), ms)
    return out


@dataclass(frozen=True)
class Curves:
    """Curves of all tasks and seeds: `values` [U, orders, stops, 4, M] of `units` (source, task_id, seed)."""

    units: pl.DataFrame
    orders: tuple[str, ...]
    ms: tuple[int, ...]
    values: np.ndarray


def pipeline(curves: Curves, facts: StudyFacts, how: Resampling) -> list[dict]:
    """Rows of `PIPELINE`: each order, stop and m on each task set, beside random order on the same tasks."""
    rows = []
    random = curves.orders.index("random") if "random" in curves.orders else None
    for source in facts.sample_sets:
        for name, tasks in task_sets(facts, source).items():
            inside = curves.units.select((pl.col("source") == source) & pl.col("task_id").is_in(tasks)).to_series()
            values = curves.values[inside.to_numpy()]
            own = curves.units.filter(inside)
            if not own.height:
                continue
            by_task = task_means(values, own["task_id"].to_numpy())  # [T, orders, stops, 4, M]
            for (o, order), (s, stop), (i, m) in _grid(curves):
                at = by_task[:, o, s, :, i]
                gain = at[:, 0] - by_task[:, random, s, 0, i] if random is not None and o != random else None
                rows.append(
                    {"source": source, "task_set": name, "order": order, "stop": stop, "m": m, "n_tasks": len(at)}
                    | interval_of_means(at[:, 0], how, SHARE).columns("success")
                    | {column: float(at[:, j].mean()) for j, column in enumerate(COLUMNS) if j}
                    | _gain(gain, how)
                )
    return rows


def _gain(gain: np.ndarray | None, how: Resampling) -> dict:
    if gain is None:
        return dict.fromkeys(("gain", "gain_low", "gain_high", "permutation_p"))
    gain = np.where(np.abs(gain) < 1e-12, 0.0, gain)
    found = interval_of_means(gain, how, DIFFERENCE).columns("gain", "gain_")
    return found | {"permutation_p": task_permutation(gain, np.arange(len(gain)), how.seed)}


def _grid(curves: Curves) -> list[tuple[tuple[int, str], tuple[int, str], tuple[int, int]]]:
    return [
        (order, stop, m)
        for order in enumerate(curves.orders)
        for stop in enumerate(STOPS)
        for m in enumerate(curves.ms)
    ]

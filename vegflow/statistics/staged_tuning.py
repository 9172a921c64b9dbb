"""The best pipeline for a budget: found on one half of the tasks among a declared grammar, tested on the other, both ways.

Knows replays and composed costs; nothing is run. What is found on the tasks that it is tested on would look too good.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vegflow.config.verification import FULL, Stage
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.intervals import POSITIVE, SHARE, interval_of_means
from vegflow.statistics.staged import Measured, Stages, Verification, measure, named
from vegflow.statistics.staged_rankers import prefixes

BUDGETS = (1 / 2, 1 / 4, 1 / 8, 1 / 11.64, 1 / 16)
"""Shares of the full suite's cost; one of them the paper's headline."""
FILTERS: tuple[Stages, ...] = (
    (),
    (Stage("syntax"),),
    (Stage("syntax"), Stage("lint")),
    (Stage("one_test"),),
    (Stage("syntax"), Stage("one_test")),
    (Stage("syntax"), Stage("tests", count=3)),
)
"""Chains of filters, beside those with which the configured pipelines begin."""
RANKED_BY = ("majority", "agreement", "surprisal", "confidence", "length", "orm")
TOPS = (1, 2, 4, 8)
"""Lengths of short lists."""


def grammar(rankers: Sequence[str], chains: Sequence[Stages] = FILTERS) -> Iterator[Stages]:
    """filter* -> [rank] -> [top M] -> [full | full: first], and rank -> top M -> filter* -> [full: first]."""
    full, first = (Stage(FULL),), (Stage(FULL, count=1),)
    for filters in chains:
        for end in ((), full, first):
            if filters or end:
                yield (*filters, *end)
        for ranker in (name for name in RANKED_BY if name in rankers):
            yield (*filters, Stage(ranker))
            yield (*filters, Stage(ranker), *first)
            for top in TOPS:
                cut = Stage(ranker, top=top)
                yield (*filters, cut, *first)
                if filters and top > 1:
                    yield (cut, *filters)
                    yield (cut, *filters, *first)


@dataclass(frozen=True)
class Tried:
    """All pipelines of the grammar on every task."""

    stages: list[Stages]
    values: np.ndarray
    """[P, T, V]."""
    costs: np.ndarray
    """Seconds [P, T], fixed cost spread evenly."""
    full: int
    """The place of the full suite on all candidates."""


def try_all(work: Verification, k: int) -> Tried:
    """Replay the whole grammar on the pools. Values and costs are means over the same random subsets.

    Where stages were measured by running them, pipelines with one that was not are left out: the checks' own times lack
    the start of a process, and would make it look cheap.
    """
    stages = list(dict.fromkeys(grammar(work.rankers, (*FILTERS, *prefixes(work)))))
    if work.costs.any_measured:
        stages = [one for one in stages if work.costs.measured(one)]
    measured: list[Measured] = [measure(work, one, k, exact=False) for one in stages]
    n = len(work.pools)
    costs = np.stack([one.seconds + one.fixed / n for one in measured])
    return Tried(stages, np.stack([one.values for one in measured]), costs, stages.index((Stage(FULL),)))


def halves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of n tasks, drawn at random."""
    order = np.random.default_rng((seed, n)).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def best_within(tried: Tried, tasks: np.ndarray, budget: float, metric: int) -> int | None:
    """The pipeline of the largest value on `tasks` that costs at most `budget` of the full suite; the cheapest of equals."""
    cost = tried.costs[:, tasks].sum(axis=1)
    value = tried.values[:, tasks, metric].mean(axis=1)
    allowed = np.flatnonzero(cost <= budget * cost[tried.full])
    return int(min(allowed, key=lambda p: (-round(value[p], 9), cost[p]))) if len(allowed) else None


def tuning_rows(work: Verification, k: int, how: Resampling) -> list[dict]:
    """Rows of TUNING at one k; a budget that no pipeline keeps on a half has none there."""
    if len(work.pools) < 4:
        return []
    tried = try_all(work, k)
    one, two = halves(len(work.pools), work.config.seed)
    rows = []
    for v, metric in enumerate(work.metrics):
        for budget in BUDGETS:
            tests = [
                (name, found, test, best_within(tried, found, budget, v))
                for name, found, test in (("second", one, two), ("first", two, one))
            ]
            parts = [part for part in tests if part[3] is not None]
            own = [_row(tried, *part, budget, v) for part in parts]
            if len(parts) == 2:
                own.append(_both(tried, parts, budget, v))
            for row, values in own:
                where = {"verification": work.name, "domain": work.config.domain, "metric": metric, "k": k}
                interval = interval_of_means(values, how, POSITIVE if metric == "speedup" else SHARE).columns()
                rows.append(where | {"budget": budget, "n_pipelines": len(tried.stages)} | row | interval)
    return rows


def _row(
    tried: Tried, half: str, found: np.ndarray, test: np.ndarray, p: int, budget: float, v: int
) -> tuple[dict, np.ndarray]:
    values = tried.values[p, test, v]
    best = best_within(tried, test, budget, v)
    return {
        "half": half,
        "stages": named(tried.stages[p]),
        "n_tasks": len(test),
        "found_value": float(tried.values[p, found, v].mean()),
        "share_of_cost": float(tried.costs[p, test].sum() / tried.costs[tried.full, test].sum()),
        "full_value": float(tried.values[tried.full, test, v].mean()),
        "best_value": float(tried.values[p if best is None else best, test, v].mean()),
    }, values


def _both(tried: Tried, parts: list, budget: float, v: int) -> tuple[dict, np.ndarray]:
    """Every task once, by the pipeline found without it."""
    values = np.concatenate([tried.values[p, test, v] for _, _, test, p in parts])
    tests = np.concatenate([test for _, _, test, _ in parts])
    cost = sum(tried.costs[p, test].sum() for _, _, test, p in parts)
    bests = [(best_within(tried, test, budget, v), p, test) for _, _, test, p in parts]
    best = sum(tried.values[p if b is None else b, test, v].sum() for b, p, test in bests)
    return {
        "half": "both",
        "stages": "",
        "n_tasks": len(tests),
        "found_value": None,
        "share_of_cost": float(cost / tried.costs[tried.full, tests].sum()),
        "full_value": float(tried.values[tried.full, tests, v].mean()),
        "best_value": float(best / len(tests)),
    }, values

"""Every ranker behind every configured filter: whether a reward model or surprisal adds anything to filters and controls.

Knows one verification's pools; nothing here was run, all is replayed from stored outcomes.
"""

from collections.abc import Iterator

import numpy as np

from vegflow.config.verification import FULL, RANKERS, Stage
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.intervals import POSITIVE, SHARE, interval_of_means
from vegflow.statistics.staged import Stages, Verification, compare, named, worth
from vegflow.statistics.staged_accuracy import pick_values
from vegflow.verification.replay import steps

SUBJECTS = ("orm", "surprisal")
"""Rankers that are asked what they add."""
CONTROLS = ("random", "confidence", "majority", "agreement", "length")
"""Rankers that cost nothing beside the samples and the tests that were run."""
Key = tuple[Stages, str, str]
"""Filters, ranker that cuts before (or empty), ranker."""


def prefixes(work: Verification) -> list[Stages]:
    """The filters with which the configured pipelines begin, and none at all; fewest first."""
    found: dict[Stages, None] = {(): None}
    for stages in work.config.parsed().values():
        first = next((n for n, s in enumerate(stages) if s.name in RANKERS or s.name == FULL), len(stages))
        found[stages[:first]] = None
    return sorted(found, key=len)


def ranked_values(work: Verification, k: int) -> dict[Key, tuple[np.ndarray, bool]]:
    """Values [T, V] of every ranker's first candidate behind every filter, and whether they are exact."""
    return {key: _values(work, stages, k) for key, stages in _pipelines(work, k)}


def _pipelines(work: Verification, k: int) -> Iterator[tuple[Key, Stages]]:
    half = max(k // 2, 1)
    for filters in prefixes(work):
        for ranker in work.rankers:
            yield (filters, "", ranker), (*filters, Stage(ranker))
            for prune in SUBJECTS:
                if prune in work.rankers and prune != ranker and ranker not in ("length", "confidence"):
                    yield (filters, prune, ranker), (*filters, Stage(prune, top=half), Stage(ranker))


def _values(work: Verification, stages: Stages, k: int) -> tuple[np.ndarray, bool]:
    rows, exact = [], True
    for t, pool in enumerate(work.pools):
        found = steps(pool, stages, work.config, work.scorer)
        value, closed = pick_values(pool, found, worth(pool, work.metrics), k, (work.config.seed, t, k))
        rows.append(value)
        exact &= closed
    return np.array(rows), exact


def ranker_rows(work: Verification, k: int, values: dict[Key, tuple[np.ndarray, bool]], how: Resampling) -> list[dict]:
    """Rows of RANKERS at one k."""
    return [
        {"verification": work.name, "domain": work.config.domain, "metric": metric, "k": k, "filters": named(filters)}
        | {"prune": prune, "ranker": ranker, "n_tasks": len(own), "exact": exact}
        | interval_of_means(own[:, v], how, POSITIVE if metric == "speedup" else SHARE).columns()
        for (filters, prune, ranker), (own, exact) in values.items()
        for v, metric in enumerate(work.metrics)
    ]


def ranker_pairs(work: Verification, k: int, values: dict[Key, tuple[np.ndarray, bool]], how: Resampling) -> list[dict]:
    """Rows of FRONTIER_PAIRS: each subject against each control behind the same filters, and what a cut by a subject adds."""
    rows = []
    for filters, prune, ranker in values:
        others = [(filters, "", control) for control in CONTROLS] if ranker in SUBJECTS and not prune else []
        kind = "control"
        if prune:
            others, kind = [(filters, "", ranker)], "addition"
        for other in others:
            if other in values:
                rows += _pair(work, k, kind, (filters, prune, ranker), other, values, how)
    return rows


def _pair(work: Verification, k: int, kind: str, first: Key, second: Key, values: dict, how: Resampling) -> list[dict]:
    names = {"kind": kind, "first": _name(first, k), "second": _name(second, k)}
    empty = dict.fromkeys(("throughput_ratio", "throughput_low", "throughput_high"))
    return [
        names | compare(work, k, values[first][0][:, v], values[second][0][:, v], metric, how) | empty
        for v, metric in enumerate(work.metrics)
    ]


def _name(key: Key, k: int) -> str:
    filters, prune, ranker = key
    cut = (Stage(prune, top=max(k // 2, 1)),) if prune else ()
    return named((*filters, *cut, Stage(ranker)))

"""Do nominal 95 % intervals hold the truth, and do tests hold their level? Studies drawn from populations with planted effects.

A population (`vegflow.statistics.planted`) has a known fast_1, a known relation of surprisal and speedup and a known
drift of adaptation; the null population has neither relation nor drift. Beside our intervals stands the percentile
cluster bootstrap of tasks that they replace. The methods were chosen on none of these populations alone: three others
stand beside the first.
`VEGFLOW_STUDIES` studies of each size and population (1000 if unset); with `VEGFLOW_TABLE=docs/statistics.md` the tables
between its markers are written anew.
"""

import functools
import multiprocessing
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vegflow.statistics.bootstrap import Resampling, percentile_interval, resample, weighted_mean
from vegflow.statistics.correlation import influence, spearman, within_influence, within_spearman
from vegflow.statistics.intervals import (
    DIFFERENCE,
    POSITIVE,
    SHARE,
    clustered,
    correlation_interval,
    mean_interval,
)
from vegflow.statistics.paired import sign_test, task_permutation, wilcoxon
from vegflow.statistics.planted import POPULATIONS, Drawn, Population, draw_study, truth

STUDIES = int(os.environ.get("VEGFLOW_STUDIES", "1000"))
SIZES = (5, 10, 20, 40)
HOW = Resampling(replicates=500)
BAND = (0.93, 0.97)
FOURTH = "the same of speedups to the 4th power"
BOUNDS = {
    "per-sample fast_1": SHARE, "pass@16": SHARE, "surprisal-guided fast_1": SHARE,
    "fast_1, surprisal - confidence": DIFFERENCE, "log speedup of surprisal / confidence": None,
    "mean speedup, surprisal-guided": POSITIVE, FOURTH: POSITIVE,
}  # fmt: skip
DRIFT = "drift of fast_1, last step - sample set"
OTHERS = tuple(name for name in POPULATIONS if name != "planted")
Key = tuple[str, str, int]
"""Population, quantity, tasks."""


def run() -> dict[str, Any]:
    """Draw the studies, print the tables, and return the least and largest coverage and level."""
    started = time.monotonic()
    covered, bootstrapped = coverage(STUDIES, SIZES)
    levels = level(STUDIES, SIZES)
    text = {
        "coverage": coverage_table(covered, bootstrapped), "populations": populations_table(covered),
        "level": level_table(levels),
    }  # fmt: skip
    print("\n\n".join(text.values()))
    if path := os.environ.get("VEGFLOW_TABLE"):
        write(Path(path), text)
    ours = [value for (_, _, size), value in covered.items() if size >= 10]
    tests = [
        value for (name, _, planted), value in levels.items() if name.startswith("task permutation") and not planted
    ]
    figures = {
        "coverage_min": round(min(ours), 4), "coverage_max": round(max(ours), 4),
        "coverage_min_5_tasks": round(min(v for (_, _, size), v in covered.items() if size == 5), 4),
        "coverage_max_5_tasks": round(max(v for (_, _, size), v in covered.items() if size == 5), 4),
        "cells": len(covered), "cells_outside_band": sum(outside(v) for v in covered.values()),
        "bootstrap_coverage_min": round(min(bootstrapped.values()), 4), "level_max": round(max(tests), 4),
        "studies": STUDIES, "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    return {"figures": figures}


def outside(value: float) -> bool:
    """Whether a coverage rounds to less than 93.0 or more than 97.0 %."""
    return not BAND[0] <= round(value, 3) <= BAND[1]


def coverage(studies: int, sizes: tuple[int, ...], seed: int = 0) -> tuple[dict, dict]:
    """Share of studies whose interval holds the truth: ours by `Key`, the percentile bootstrap's of the first population
    by (quantity, tasks).
    """
    cells = [(label, size, studies, seed) for size in sorted(sizes, reverse=True) for label in POPULATIONS]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_cell, cells))
    order = {key: place for place, key in enumerate((p, s) for p in POPULATIONS for s in sizes)}
    found.sort(key=lambda one: order[one[0]])
    covered = {(*key[:1], name, key[1]): v for key, own, _ in found for name, v in own.items()}
    return covered, {(name, key[1]): v for key, _, own in found for name, v in own.items()}


def _cell(cell: tuple[str, int, int, int]) -> tuple[tuple[str, int], dict, dict]:
    """One population and size: coverage of ours and of the bootstrap by quantity."""
    label, size, studies, seed = cell
    place, population = list(POPULATIONS).index(label), POPULATIONS[label]
    known = _truth(label, seed)
    hits: dict[str, list[bool]] = {}
    older: dict[str, list[bool]] = {}
    for number in range(studies):
        study = draw_study(population, size, np.random.default_rng([seed, size, number, *[place] * (place > 0)]))
        for name, found in intervals(study, heavy=place == 0).items():
            if found.low is not None and found.high is not None:
                hits.setdefault(name, []).append(found.low <= known[name] <= found.high)
        for name, found in (bootstraps(study) if place == 0 else {}).items():
            older.setdefault(name, []).append(found.low <= known[name] <= found.high)
    covered = {name: float(np.mean(v)) for name, v in hits.items()}
    return (label, size), covered, {name: float(np.mean(v)) for name, v in older.items()}


@functools.cache
def _truth(label: str, seed: int) -> dict[str, float]:
    return truth(POPULATIONS[label], np.random.default_rng(seed + 10**6))


def intervals(study: Drawn, heavy: bool = True) -> dict[str, Any]:
    """Our interval of each quantity."""
    found = {
        name: mean_interval(study.values[name], study.tasks, study.seeds, HOW, bounds=b)
        for name, b in BOUNDS.items()
        if heavy or name != FOURTH
    }
    found[DRIFT] = mean_interval(study.drift, study.run_tasks, study.runs, HOW, crossed=True, bounds=DIFFERENCE)
    rho, psi = spearman(study.logprob, study.speedup).rho, influence(study.logprob, study.speedup)
    if rho is None or psi is None:
        return found
    found["rho of logprob and speedup"] = correlation_interval(rho, *clustered(psi, study.sample_tasks), 0.95)
    inside, within = (
        within_spearman(study.logprob, study.speedup, study.sample_tasks).rho,
        within_influence(study.logprob, study.speedup, study.sample_tasks),
    )
    if within:
        found["rho within tasks"] = correlation_interval(inside, *clustered(*within), 0.95)
    return found


def bootstraps(study: Drawn) -> dict[str, Any]:
    """The percentile cluster bootstrap (tasks, then seeds) of the same means."""
    weights = resample(study.tasks, study.seeds, HOW)
    crossed = resample(study.run_tasks, study.runs, HOW, crossed=True)
    found = {name: percentile_interval(0.0, weighted_mean(study.values[name], weights), 0.95) for name in BOUNDS}
    return found | {DRIFT: percentile_interval(0.0, weighted_mean(study.drift, crossed), 0.95)}


def level(studies: int, sizes: tuple[int, ...], seed: int = 1) -> dict[tuple[str, int, bool], float]:
    """Share of studies with p <= 0.05 by (test, tasks, planted): its level without a planted effect, its power with one."""
    cells = [(planted, size, studies, seed) for size in sorted(sizes, reverse=True) for planted in (False, True)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_level, cells))
    return {key: value for one in found for key, value in one.items()}


def _level(cell: tuple[bool, int, int, int]) -> dict[tuple[str, int, bool], float]:
    planted, size, studies, seed = cell
    population = Population() if planted else Population(tail=0.0, drift=0.0)
    hits: dict[tuple[str, int, bool], list[bool]] = {}
    for number in range(studies):
        study = draw_study(population, size, np.random.default_rng([seed, size, number, int(planted)]))
        for name, p in tests(study).items():
            hits.setdefault((name, size, planted), []).append(p is not None and p <= 0.05)
    return {key: float(np.mean(values)) for key, values in hits.items()}


def tests(study: Drawn) -> dict[str, float | None]:
    """P of each test of surprisal against confidence, and of the drift."""
    fast, logs = study.values["fast_1, surprisal - confidence"], study.values["log speedup of surprisal / confidence"]
    known = ~np.isnan(logs)
    ranked = wilcoxon(logs[known])
    return {
        "task permutation, log speedup": task_permutation(logs[known], study.tasks[known], 0) if known.any() else None,
        "task permutation, fast_1": task_permutation(fast, study.tasks, 0),
        "task permutation, drift": task_permutation(study.drift, study.run_tasks, 0),
        "sign test over task-seed pairs, fast_1": sign_test(fast),
        "Wilcoxon over task-seed pairs, log speedup": ranked.p_value if ranked else None,
    }


def coverage_table(covered: dict, bootstrapped: dict) -> str:
    """Markdown: coverage of ours on the first population, in brackets of the percentile bootstrap."""

    def cell(name: str, size: int) -> str:
        older = f" ({bootstrapped[name, size]:.1%})" if (name, size) in bootstrapped else ""
        return f"{covered['planted', name, size]:.1%}{older}"

    names = dict.fromkeys(name for label, name, _ in covered if label == "planted")
    return _table("interval of", {name: [cell(name, size) for size in SIZES] for name in names})


def populations_table(covered: dict) -> str:
    """Markdown: coverage on the other populations, in the order of `OTHERS`."""
    names = dict.fromkeys(name for label, name, _ in covered if label in OTHERS)
    return _table(
        "interval of: " + " / ".join(OTHERS),
        {n: [" / ".join(f"{covered[label, n, s]:.1%}" for label in OTHERS) for s in SIZES] for n in names},
    )


def _table(head: str, rows: dict[str, list[str]]) -> str:
    lines = [f"| {head} | " + " | ".join(f"{size} tasks" for size in SIZES) + " |", "| --- |" + " --- |" * len(SIZES)]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items())])


def level_table(levels: dict) -> str:
    """Markdown: rejections without an effect, and in brackets with the planted one."""
    names = dict.fromkeys(name for name, _, _ in levels)
    return _table(
        "test, p ≤ 0.05",
        {n: [f"{levels[n, s, False]:.1%} ({levels[n, s, True]:.0%})" for s in SIZES] for n in names},
    )


def write(path: Path, text: dict[str, str]) -> None:
    """Replace the tables between `<!-- NAME -->` and `<!-- end -->` in a page."""
    page = path.read_text(encoding="utf-8")
    for name, table in text.items():
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", lambda m, t=table: m[1] + t + m[2], page, flags=re.DOTALL
        )
    path.write_text(page, encoding="utf-8")

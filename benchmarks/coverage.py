"""Do nominal 95 % intervals hold the truth, and do tests hold their level? Studies drawn from a population with planted effects.

The population (`vegflow.statistics.planted`) has a known fast_1, a known relation of surprisal and speedup and a known
drift of adaptation; the null population has neither relation nor drift. Beside our intervals stands the percentile
cluster bootstrap of tasks that they replace. `VEGFLOW_STUDIES` studies of each size (1000 if unset); with
`VEGFLOW_TABLE=docs/statistics.md` the tables between its markers are written anew.
"""

import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from vegflow.statistics.bootstrap import Resampling, percentile_interval, resample, weighted_mean
from vegflow.statistics.correlation import influence, spearman, within_influence, within_spearman
from vegflow.statistics.intervals import DIFFERENCE, POSITIVE, SHARE, clustered, correlation_interval, mean_interval
from vegflow.statistics.paired import sign_test, task_permutation, wilcoxon
from vegflow.statistics.planted import Drawn, Population, draw_study, truth

STUDIES = int(os.environ.get("VEGFLOW_STUDIES", "1000"))
SIZES = (5, 10, 20, 40)
HOW = Resampling(replicates=500)
HEAVY = "the same of speedups to the 4th power"
"""A mean with a tail as heavy as the paper's, for which no interval from few tasks is right; counted apart."""
BOUNDS = {
    "per-sample fast_1": SHARE, "pass@16": SHARE, "surprisal-guided fast_1": SHARE,
    "fast_1, surprisal - confidence": DIFFERENCE, "log speedup of surprisal / confidence": None,
    "mean speedup, surprisal-guided": POSITIVE, HEAVY: POSITIVE,
}  # fmt: skip
DRIFT = "drift of fast_1, last step - sample set"


def run() -> dict[str, Any]:
    """Draw the studies, print both tables, and return the least and largest coverage and level."""
    started = time.monotonic()
    covered, bootstrapped = coverage(STUDIES, SIZES)
    levels = level(STUDIES, SIZES)
    text = {"coverage": coverage_table(covered, bootstrapped), "level": level_table(levels)}
    print("\n\n".join(text.values()))
    if path := os.environ.get("VEGFLOW_TABLE"):
        write(Path(path), text)
    heavy = [value for (name, _), value in covered.items() if name == HEAVY]
    covered = {key: value for key, value in covered.items() if key[0] != HEAVY}
    ours = [value for (_, size), value in covered.items() if size >= 10]
    tests = [
        value for (name, _, planted), value in levels.items() if name.startswith("task permutation") and not planted
    ]
    figures = {
        "coverage_min": round(min(ours), 4), "coverage_max": round(max(ours), 4),
        "coverage_min_5_tasks": round(min(v for (_, size), v in covered.items() if size == 5), 4),
        "coverage_heavy_tail_min": round(min(heavy), 4),
        "bootstrap_coverage_min": round(min(bootstrapped.values()), 4), "level_max": round(max(tests), 4),
        "studies": STUDIES, "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    return {"figures": figures}


def coverage(studies: int, sizes: tuple[int, ...], seed: int = 0) -> tuple[dict, dict]:
    """Share of studies whose interval holds the truth, by (quantity, tasks): ours, and the percentile bootstrap's."""
    population = Population()
    known = truth(population, np.random.default_rng(seed + 10**6))
    hits: dict[tuple[str, int], list[bool]] = {}
    older: dict[tuple[str, int], list[bool]] = {}
    for size in sizes:
        for number in range(studies):
            study = draw_study(population, size, np.random.default_rng([seed, size, number]))
            for name, found in intervals(study).items():
                if found.low is not None and found.high is not None:
                    hits.setdefault((name, size), []).append(found.low <= known[name] <= found.high)
            for name, found in bootstraps(study).items():
                older.setdefault((name, size), []).append(found.low <= known[name] <= found.high)
    return {key: float(np.mean(v)) for key, v in hits.items()}, {key: float(np.mean(v)) for key, v in older.items()}


def intervals(study: Drawn) -> dict[str, Any]:
    """Our interval of each quantity."""
    found = {
        name: mean_interval(study.values[name], study.tasks, study.seeds, HOW, bounds=b) for name, b in BOUNDS.items()
    }
    found[DRIFT] = mean_interval(study.drift, study.run_tasks, study.runs, HOW, crossed=True, bounds=DIFFERENCE)
    rho, psi = spearman(study.logprob, study.speedup).rho, influence(study.logprob, study.speedup)
    found["rho of logprob and speedup"] = correlation_interval(rho, *clustered(psi, study.sample_tasks), 0.95)
    inside, (own, names) = (
        within_spearman(study.logprob, study.speedup, study.sample_tasks).rho,
        within_influence(study.logprob, study.speedup, study.sample_tasks),
    )
    found["rho within tasks"] = correlation_interval(inside, *clustered(own, names), 0.95)
    return found


def bootstraps(study: Drawn) -> dict[str, Any]:
    """The percentile cluster bootstrap (tasks, then seeds) of the same means."""
    weights = resample(study.tasks, study.seeds, HOW)
    crossed = resample(study.run_tasks, study.runs, HOW, crossed=True)
    found = {name: percentile_interval(0.0, weighted_mean(study.values[name], weights), 0.95) for name in BOUNDS}
    return found | {DRIFT: percentile_interval(0.0, weighted_mean(study.drift, crossed), 0.95)}


def level(studies: int, sizes: tuple[int, ...], seed: int = 1) -> dict[tuple[str, int, bool], float]:
    """Share of studies with p <= 0.05 by (test, tasks, planted): its level without a planted effect, its power with one."""
    hits: dict[tuple[str, int, bool], list[bool]] = {}
    for planted, population in ((False, Population(tail=0.0, drift=0.0)), (True, Population())):
        for size in sizes:
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
    """Markdown: coverage of ours, in brackets of the percentile bootstrap."""
    names = list(dict.fromkeys(name for name, _ in covered))
    rows = [
        "| interval of | " + " | ".join(f"{size} tasks" for size in SIZES) + " |",
        "| --- |" + " --- |" * len(SIZES),
    ]
    for name in names:
        cells = [
            f"{covered[name, s]:.1%}" + (f" ({bootstrapped[name, s]:.1%})" if (name, s) in bootstrapped else "")
            for s in SIZES
        ]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def level_table(levels: dict) -> str:
    """Markdown: rejections without an effect, and in brackets with the planted one."""
    names = list(dict.fromkeys(name for name, _, _ in levels))
    rows = [
        "| test, p ≤ 0.05 | " + " | ".join(f"{size} tasks" for size in SIZES) + " |",
        "| --- |" + " --- |" * len(SIZES),
    ]
    for name in names:
        cells = [f"{levels[name, s, False]:.1%} ({levels[name, s, True]:.0%})" for s in SIZES]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def write(path: Path, text: dict[str, str]) -> None:
    """Replace the tables between `<!-- NAME -->` and `<!-- end -->` in a page."""
    page = path.read_text(encoding="utf-8")
    for name, table in text.items():
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", lambda m, t=table: m[1] + t + m[2], page, flags=re.DOTALL
        )
    path.write_text(page, encoding="utf-8")

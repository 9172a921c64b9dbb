"""Search against adaptation, like for like: equivalent K, and the check that both arms start equal.

Knows the study's comparison; a per-sample rate is set against a per-sample rate, any-of-K against any-of-K.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from vegflow.config.analysis import StudyFacts
from vegflow.statistics.bootstrap import (
    Resampling,
    base_weights,
    percentile_interval,
    resample,
    weighted_mean,
)
from vegflow.statistics.intervals import DIFFERENCE, mean_interval
from vegflow.statistics.paired import task_permutation
from vegflow.statistics.samples import comparison_set
from vegflow.statistics.scaling import Curve, curve

PATIENCE = 1
"""Of the early stop that is compared: the paper's, at the first regression."""
AGREE = 0.01
"""Below this p-value the two arms are said to differ before any adaptation."""
BASES = {"per-sample rate": "fast_1", "any-of-K": "any_fast_1"}


def equivalent_k(ks: Sequence[float], rates: Sequence[float], value: float) -> tuple[float, int]:
    """K at which a curve (`rates` at `ks`) reaches `value`, linear in log K between points (paper section 5.1).

    Returns (K, 0); (ks[0], -1) if the value lies below the curve's start, (ks[-1], 1) if the curve never reaches it.
    """
    reached = np.flatnonzero(np.asarray(rates) >= value - 1e-12)
    if not len(reached):
        return float(ks[-1]), 1
    i = int(reached[0])
    if i == 0:
        return float(ks[0]), 0 if value >= rates[0] - 1e-12 else -1
    share = (value - rates[i - 1]) / (rates[i] - rates[i - 1])
    return math.exp(math.log(ks[i - 1]) + share * math.log(ks[i] / ks[i - 1])), 0


@dataclass(frozen=True)
class Reference:
    """The search curve with its bootstrap replicates [B, K], and the position of the K to compare with."""

    line: Curve
    point: np.ndarray
    clouds: np.ndarray | None
    same: int


def equivalents(tasks: pl.DataFrame, boa: list[dict], facts: StudyFacts, how: Resampling) -> list[dict]:
    """Rows of `EQUIVALENT_K`: both bases for each rule of choosing the step, on the tasks both arms share.

    `tasks` is the `TASKS` table. The interval of the difference is that of the mean of the tasks' differences; that of K
    resamples tasks for both arms at once, then seeds of each. The chosen steps stay as they are.
    """
    _, shared = comparison_set(facts)
    choices = [r for r in boa if r["seed"] is not None and r["trajectory"] == _name(facts)]
    steps = {(r["rule"], r["seed"]): r["step"] for r in choices if r["patience"] in (None, PATIENCE)}
    if facts.comparison is None or not shared or not steps:
        return []
    searched = tasks.filter((pl.col("source") == facts.comparison.search) & pl.col("step").is_null())
    both = searched["task_id"].unique().to_list()
    cells = tasks.filter(
        (pl.col("source") == _name(facts)) & pl.col("task_id").is_in(shared) & pl.col("task_id").is_in(both)
    )
    own = cells["task_id"].unique().to_list()
    drawn = searched.filter(pl.col("task_id").is_in(own))
    if not drawn.height:
        return []
    largest = int(drawn["n"].min())
    group = min(facts.trajectories[_name(facts)].group_size, largest)
    ks = sorted({round(2 ** (i / 4)) for i in range(int(4 * math.log2(largest)) + 1)} | {group, largest})
    line = curve(drawn, "fast_1", ks)
    weights = resample(line.tasks, line.seeds, how)
    clouds = None if weights is None else np.column_stack([weighted_mean(row, weights) for row in line.values])
    point = weighted_mean_of_rows(line)
    rows = []
    for rule in dict.fromkeys(rule for rule, _ in steps):
        picked = pl.concat(
            [cells.filter((pl.col("seed") == s) & (pl.col("step") == t)) for (r, s), t in steps.items() if r == rule]
        )
        for basis, column in BASES.items():
            same = ks.index(1 if column == "fast_1" else group)
            head = {"search": facts.comparison.search, "trajectory": _name(facts), "rule": rule, "basis": basis}
            rows.append(head | _equivalent(picked, column, Reference(line, point, clouds, same), how))
    return rows


def _name(facts: StudyFacts) -> str:
    return facts.comparison.adaptation if facts.comparison else ""


def weighted_mean_of_rows(line: Curve) -> np.ndarray:
    """A curve's points [K]: mean over tasks of the mean over seeds."""
    weights = base_weights(line.tasks)[None]
    return np.array([weighted_mean(row, weights)[0] for row in line.values])


def _equivalent(chosen: pl.DataFrame, column: str, search: Reference, how: Resampling) -> dict:
    """One row's numbers: `column` of the chosen cells (one a task and seed) against the search curve."""
    values, names = chosen[column].to_numpy(), np.array(chosen["task_id"].to_list())
    value = float(weighted_mean(values, base_weights(names)[None])[0])
    ks, same = search.line.ks, search.same
    k, side = equivalent_k(ks, search.point, value)
    seeds = chosen["seed"].to_list()
    weights = resample(names, seeds, how, crossed=True)
    at_search = np.array(search.line.tasks)
    tasks = sorted(set(names))
    base = {t: search.line.values[same][at_search == t].mean() for t in tasks}
    differences = values - np.array([base[t] for t in names])
    by_task = [differences[names == t].mean() for t in tasks]
    k_cloud = None
    if weights is not None and search.clouds is not None:
        cloud = weighted_mean(values, weights)
        k_cloud = np.array([equivalent_k(ks, c, v)[0] for c, v in zip(search.clouds, cloud, strict=True)])
    return {
        "adaptation": value,
        "search_at_1": float(search.point[0]),
        "search_same_basis": float(search.point[same]),
        **mean_interval(differences, names, seeds, how, crossed=True, bounds=DIFFERENCE).columns("difference"),
        "permutation_p": task_permutation(by_task, tasks, how.seed),
        **percentile_interval(k, k_cloud, how.confidence, len(tasks)).columns("k", "k_"),
        "label": {-1: f"<{ks[0]}", 0: f"{k:.3g}", 1: f">{ks[-1]}"}[side],
    }


def self_check(tasks: pl.DataFrame, facts: StudyFacts) -> list[dict]:
    """Rows of `SELF_CHECK`: does the sample set's per-sample rate equal the trajectory's at step 0, task by task?

    Both are samples of one policy if the study is wired right, so they may differ by chance only; the paper's arms
    differ here (audit finding 2). `tasks` is the `TASKS` table. z-test of the summed differences, equal rates within
    each task under the null.
    """
    _, shared = comparison_set(facts)
    if facts.comparison is None or not shared:
        return []
    inside = tasks.filter(pl.col("task_id").is_in(shared))
    search = inside.filter((pl.col("source") == facts.comparison.search) & pl.col("step").is_null())
    start = inside.filter((pl.col("source") == facts.comparison.adaptation) & (pl.col("step") == 0))
    same = search.filter(pl.col("policy_id").is_in(start["policy_id"].unique().to_list()))
    drawn = same if same.height else search
    rate = (pl.col("fast_1") * pl.col("n")).sum() / pl.col("n").sum()
    rates = (
        drawn.group_by("task_id").agg(n_search=pl.col("n").sum(), search_fast_1=rate)
        .join(start.group_by("task_id").agg(n_step0=pl.col("n").sum(), step0_fast_1=rate), on="task_id")
        .sort("task_id")
    )  # fmt: skip
    if not rates.height:
        return []
    head = {
        "search": facts.comparison.search,
        "trajectory": facts.comparison.adaptation,
        "same_policy": same.height > 0,
    }
    rows = [head | row | _z_test([row]) for row in rates.iter_rows(named=True)]
    whole = {
        "task_id": "all",
        "n_search": int(rates["n_search"].sum()),
        "n_step0": int(rates["n_step0"].sum()),
        "search_fast_1": float(rates["search_fast_1"].mean()),
        "step0_fast_1": float(rates["step0_fast_1"].mean()),
    }
    return [*rows, head | whole | _z_test(rates.to_dicts())]


def _z_test(rows: list[dict]) -> dict:
    """Mean difference over tasks with its interval (over rollouts), its p-value under equal rates within each task, and the verdict."""
    difference = float(np.mean([row["step0_fast_1"] - row["search_fast_1"] for row in rows]))
    variance, seen = 0.0, 0.0
    for row in rows:
        n, m = row["n_search"], row["n_step0"]
        pooled = (n * row["search_fast_1"] + m * row["step0_fast_1"]) / (n + m)
        variance += pooled * (1 - pooled) * (1 / n + 1 / m)
        # Half a rollout at 0 and at 1 in each rate, so that few that agree do not look certain.
        for of, rate in ((n, row["search_fast_1"]), (m, row["step0_fast_1"])):
            inner = (of * rate + 0.5) / (of + 1)
            seen += inner * (1 - inner) / of
    p = float(2 * stats.norm.sf(abs(difference) * len(rows) / math.sqrt(variance))) if variance > 1e-12 else None
    half = float(stats.norm.ppf(0.975)) * math.sqrt(seen) / len(rows)
    ends = {"low": max(difference - half, -1.0), "high": min(difference + half, 1.0)}
    agrees = abs(difference) < 1e-12 if p is None else p >= AGREE
    return {"difference": difference, **ends, "p_value": p, "agrees": agrees}

"""Search against adaptation, like for like: equivalent K, and the check that both arms start equal.

Knows the study's comparison; a per-sample rate is set against a per-sample rate, any-of-K against any-of-K.
"""

import math
from collections.abc import Sequence

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
from vegflow.statistics.samples import comparison_set
from vegflow.statistics.scaling import curve

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


def equivalents(
    samples: pl.DataFrame, tasks: pl.DataFrame, boa: list[dict], facts: StudyFacts, how: Resampling
) -> list[dict]:
    """Rows of `EQUIVALENT_K`: both bases for each rule of choosing the step, on the tasks both arms share.

    Intervals resample tasks for both arms at once, then seeds of each; the chosen steps stay as they are.
    """
    _, shared = comparison_set(facts)
    if facts.comparison is None or not shared:
        return []
    search, adaptation = facts.comparison.search, facts.comparison.adaptation
    drawn = samples.filter((pl.col("source") == search) & pl.col("task_id").is_in(shared))
    cells = tasks.filter((pl.col("source") == adaptation) & pl.col("task_id").is_in(shared))
    if not drawn.height or not cells.height:
        return []
    largest = int(drawn.group_by("task_id", "seed").len()["len"].min())
    group = min(facts.trajectories[adaptation].group_size, largest)
    ks = sorted({round(2 ** (i / 4)) for i in range(int(4 * math.log2(largest)) + 1)} | {group, largest})
    line = curve(drawn, "fast_1", ks)
    point = line.values @ base_weights(line.tasks) / base_weights(line.tasks).sum()
    weights = resample(line.tasks, line.seeds, how)
    clouds = None if weights is None else np.column_stack([weighted_mean(row, weights) for row in line.values])
    rows = []
    for rule in dict.fromkeys(row["rule"] for row in boa if row["trajectory"] == adaptation):
        steps = {r["seed"]: r["step"] for r in boa if (r["trajectory"], r["rule"]) == (adaptation, rule)}
        chosen = pl.concat(
            [cells.filter((pl.col("seed") == s) & (pl.col("step") == t)) for s, t in steps.items() if s is not None]
        )
        for basis, column in BASES.items():
            same = ks.index(1 if basis == "per-sample rate" else group)
            rows.append(
                {"search": search, "trajectory": adaptation, "rule": rule, "basis": basis}
                | _equivalent(chosen, column, (ks, point, clouds, same), how)
            )
    return rows


def _equivalent(
    chosen: pl.DataFrame, column: str, line: tuple[list[int], np.ndarray, np.ndarray | None, int], how: Resampling
) -> dict:
    ks, point, clouds, same = line
    values, names = chosen[column].to_numpy(), chosen["task_id"].to_list()
    value = float(weighted_mean(values, base_weights(names)[None])[0])
    k, side = equivalent_k(ks, point, value)
    weights = resample(names, chosen["seed"].to_list(), how, crossed=True)
    cloud = None if weights is None or clouds is None else weighted_mean(values, weights)
    k_cloud = (
        None if cloud is None else np.array([equivalent_k(ks, c, v)[0] for c, v in zip(clouds, cloud, strict=True)])
    )
    difference = percentile_interval(
        value - point[same], None if cloud is None else cloud - clouds[:, same], how.confidence
    )
    return {
        "adaptation": value,
        "search_at_1": float(point[0]),
        "search_same_basis": float(point[same]),
        **difference.columns("difference"),
        **percentile_interval(k, k_cloud, how.confidence).columns("k", "k_"),
        "label": {-1: f"<{ks[0]}", 0: f"{k:.3g}", 1: f">{ks[-1]}"}[side],
    }


def self_check(samples: pl.DataFrame, facts: StudyFacts) -> list[dict]:
    """Rows of `SELF_CHECK`: does the sample set's per-sample rate equal the trajectory's at step 0, task by task?

    Both are samples of one policy if the study is wired right, so they may differ by chance only; the paper's arms
    differ here (audit finding 2). z-test of the summed differences, equal rates within each task under the null.
    """
    _, shared = comparison_set(facts)
    if facts.comparison is None or not shared:
        return []
    inside = samples.filter(pl.col("task_id").is_in(shared))
    search = inside.filter(pl.col("source") == facts.comparison.search)
    start = inside.filter((pl.col("source") == facts.comparison.adaptation) & (pl.col("step") == 0))
    same = search.filter(pl.col("policy_id").is_in(start["policy_id"].unique().to_list()))
    drawn = same if same.height else search
    rates = (
        drawn.group_by("task_id").agg(n_search=pl.len().cast(pl.Int64), search_fast_1=pl.col("fast_1").mean())
        .join(
            start.group_by("task_id").agg(n_step0=pl.len().cast(pl.Int64), step0_fast_1=pl.col("fast_1").mean()),
            on="task_id",
        )
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
    """Mean difference over tasks, its p-value under equal rates within each task, and the verdict."""
    difference = float(np.mean([row["step0_fast_1"] - row["search_fast_1"] for row in rows]))
    variance = 0.0
    for row in rows:
        n, m = row["n_search"], row["n_step0"]
        pooled = (n * row["search_fast_1"] + m * row["step0_fast_1"]) / (n + m)
        variance += pooled * (1 - pooled) * (1 / n + 1 / m)
    p = float(2 * stats.norm.sf(abs(difference) * len(rows) / math.sqrt(variance))) if variance > 1e-12 else None
    return {"difference": difference, "p_value": p, "agrees": abs(difference) < 1e-12 if p is None else p >= AGREE}

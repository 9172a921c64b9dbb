"""Intervals of means over tasks: which method which quantity gets, and how the variance of a mean is estimated.

Knows units (one value a task and seed). Tasks are the independent units; the percentile bootstrap of few tasks is too
short (docs/statistics.md has the table). Shares and ratios are bounded and skewed: `bounded` has their ends.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from vegflow.statistics.bootstrap import Interval, Resampling
from vegflow.statistics.bounded import ratio_ends, ratio_ends_of_moments, share_ends, share_ends_of_moments

SHARE = (0.0, 1.0)
"""Bounds of a share."""
DIFFERENCE = (-1.0, 1.0)
"""Bounds of a difference of shares."""
POSITIVE = (0.0, float("inf"))
"""Bounds of a ratio."""
Bounds = tuple[float, float]
EXACTLY_EQUAL = 1e-20


def mean_interval(
    values: ArrayLike,
    tasks: Sequence[str],
    seeds: Sequence[int],
    how: Resampling,
    *,
    crossed: bool = False,
    bounds: Bounds | None = None,
) -> Interval:
    """Mean over tasks of the mean over seeds of `values` [U] (NaN: undefined, left out), with its interval.

    Seeds inside a task are replicates: the variance is that of the task means over their number, which holds the spread
    of seeds and rollouts without a term of its own. With `crossed` a seed is one training run that all tasks share, and
    its own variance is added (`crossed_variance`). No ends with fewer than two tasks.
    """
    array, names = np.asarray(values, dtype=float), np.asarray(tasks)
    known = ~np.isnan(array)
    if not known.any():
        return Interval(None)
    _, of_unit, counts = np.unique(names[known], return_inverse=True, return_counts=True)
    means = np.bincount(of_unit, weights=array[known]) / counts
    if crossed and len(means) > 1 and (found := crossed_variance(array, names, np.asarray(seeds))):
        return interval(float(means.mean()), *found, len(means), how.confidence, bounds)
    return interval_of_means(means, how, bounds)


def task_means(values: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Mean [T, ...] of each task's units in `values` [U, ...]; tasks in the order of their names."""
    order = np.argsort(tasks, kind="stable")
    names = tasks[order]
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    counts = np.diff(np.r_[starts, len(names)])
    sums = np.add.reduceat(values[order], starts, axis=0)
    return sums / counts.reshape(-1, *(1,) * (values.ndim - 1))


def interval_of_means(means: np.ndarray, how: Resampling, bounds: Bounds | None = None) -> Interval:
    """As `mean_interval`, of task means [T] without gaps: what `interval` does, from more than two moments."""
    value, n = float(means.mean()), len(means)
    spread = float(means.var(ddof=1)) / n if n > 1 else 0.0
    if spread >= EXACTLY_EQUAL and bounds == SHARE:
        return Interval(value, *share_ends(means, how.confidence))
    if spread >= EXACTLY_EQUAL and bounds == POSITIVE and value > 0 and means.min() >= 0:
        return Interval(value, *ratio_ends(means, how.confidence))
    return interval(value, spread, n - 1.0, n, how.confidence, bounds)


def interval(
    value: float, variance: float, df: float, n_tasks: float, confidence: float, bounds: Bounds | None = None
) -> Interval:
    """Interval of a mean whose variance is estimated with `df` degrees of freedom (at least one) from `n_tasks` tasks.

    - A share: the posterior of its mean with half a task's worth of belief at either bound (`bounded.share_ends`).
    - A mean of ratios: the logarithms taken for normal, with the tail that few tasks do not show (`bounded.ratio_ends`).
    - Any other value: Student's value -+ t s, cut at its bounds.
    - All tasks equal: their value v has a probability of at least (alpha/2)^(1/T), so the mean lies within
      1 - (alpha/2)^(1/T) of the way from v to either bound; without bounds nothing can be said and there are no ends.
    """
    if n_tasks <= 1:
        return Interval(value)
    tail, df = (1 - confidence) / 2, max(df, 1.0)
    if variance < EXACTLY_EQUAL:
        if bounds is None or np.isinf(bounds).any():
            return Interval(value)
        room = 1 - tail ** (1 / n_tasks)
        return Interval(value, value - room * (value - bounds[0]), value + room * (bounds[1] - value))
    if bounds == SHARE:
        return Interval(value, *share_ends_of_moments(value, variance, df, n_tasks, confidence))
    if bounds == POSITIVE and value > 0:
        return Interval(value, *ratio_ends_of_moments(value, variance, df, n_tasks, confidence))
    half = float(special.stdtrit(df, 1 - tail)) * float(np.sqrt(variance))
    low, high = value - half, value + half
    return Interval(value, *((low, high) if bounds is None else (max(low, bounds[0]), min(high, bounds[1]))))


def crossed_variance(values: np.ndarray, tasks: np.ndarray, seeds: np.ndarray) -> tuple[float, float] | None:
    """Variance of the grand mean and its degrees of freedom when every task has every run (two-way random effects).

    (MS_tasks + MS_runs - MS_rest) / (T R), at least MS_tasks / (T R); degrees of freedom after Satterthwaite (1946).
    None unless there are two runs or more and every task has each of them once.
    """
    rows, row = np.unique(tasks, return_inverse=True)
    runs, run = np.unique(seeds, return_inverse=True)
    t, r = len(rows), len(runs)
    if r < 2 or len(values) != t * r or np.isnan(values).any() or len(set(zip(row, run, strict=True))) != t * r:
        return None
    table = np.empty((t, r))
    table[row, run] = values
    by_task, by_run, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    rest = ((table - by_task[:, None] - by_run[None] + mean) ** 2).sum() / ((t - 1) * (r - 1))
    parts = np.array([by_task.var(ddof=1) / t, by_run.var(ddof=1) / r, rest / (t * r)])
    if parts[1] <= parts[2]:
        return float(parts[0]), t - 1.0
    variance = float(parts[0] + parts[1] - parts[2])
    df = variance**2 / float((parts**2 / np.array([t - 1, r - 1, (t - 1) * (r - 1)])).sum())
    return variance, float(np.clip(df, 1.0, t - 1))


def clustered(influence: np.ndarray, tasks: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Variance of a statistic from its samples' influence values [N] (mean 0), summed within tasks; and how many tasks count.

    G / (G - 1) sum_t (sum_{i in t} psi_i / N)^2: the linearised cluster bootstrap (Davison & Hinkley 1997, 2.7.2). Tasks
    that hold most of the samples decide alone, so G is the effective number of tasks (sum w)^2 / sum w^2 (Kish 1965;
    Carter, Schnepel & Steigerwald 2017), w the samples of each, or `weights` [T] in the order of the tasks' names. Equal
    tasks count fully. The variance is 0 if one task holds all.
    """
    _, of_sample = np.unique(tasks, return_inverse=True)
    sums = np.bincount(of_sample, weights=influence) / len(influence)
    w = np.bincount(of_sample).astype(float) if weights is None else weights
    effective = float(w.sum() ** 2 / (w @ w)) if w.any() else 1.0
    return (effective / (effective - 1) * float(sums @ sums) if effective > 1 + 1e-9 else 0.0), effective


def correlation_interval(rho: float | None, variance: float, n_tasks: float, confidence: float) -> Interval:
    """Interval of a correlation: Student's t on Fisher's z = atanh(rho), se_z = se / (1 - rho^2)."""
    if rho is None or n_tasks <= 1 or variance < EXACTLY_EQUAL or abs(rho) >= 1:
        return Interval(rho)
    half = stats.t.ppf(0.5 + confidence / 2, max(n_tasks - 1, 1.0)) * np.sqrt(variance) / (1 - rho**2)
    low, high = np.tanh(np.arctanh(rho) - half), np.tanh(np.arctanh(rho) + half)
    return Interval(rho, float(low), float(high))

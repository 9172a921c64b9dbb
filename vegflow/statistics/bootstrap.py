"""Cluster bootstrap: for statistics that are no mean, of data in which only tasks, and seeds inside them, are independent.

Knows units (one per task and seed) and weights. Means over tasks have intervals of their own, in `intervals`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


@dataclass(frozen=True)
class Resampling:
    """How intervals are made."""

    replicates: int = 2000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """A value and its interval; the ends are None where nothing can be resampled."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def columns(self, value: str = "value", prefix: str = "") -> dict[str, float | None]:
        """As columns of an analysis table."""
        return {value: self.value, f"{prefix}low": self.low, f"{prefix}high": self.high}


def base_weights(tasks: Sequence[str]) -> np.ndarray:
    """Weights [U] of the units for which a weighted mean is the mean over tasks of the mean over each task's units."""
    _, of_unit, count = np.unique(np.asarray(tasks), return_inverse=True, return_counts=True)
    return 1.0 / count[of_unit]


def resample(
    tasks: Sequence[str], seeds: Sequence[int], how: Resampling, *, crossed: bool = False
) -> np.ndarray | None:
    """Bootstrap weights [B, U] of units (task, seed): tasks are drawn with replacement, then seeds within each draw.

    With `crossed`, seeds are drawn once for all tasks (Owen 2007, the pigeonhole bootstrap): right where a seed is one
    training run that all tasks share. Two-stage resampling after Davison & Hinkley (1997), section 3.8. None if there
    are fewer than two tasks: one cluster says nothing about its spread.

    Tasks are drawn first, so two calls with the same set of tasks and the same `how` draw the same tasks: replicates of
    two arms measured on the same tasks may be subtracted from one another.
    """
    names, of_unit = np.unique(np.asarray(tasks), return_inverse=True)
    if len(names) < 2:
        return None
    rng = np.random.default_rng(how.seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=how.replicates)
    weights = np.zeros((how.replicates, len(of_unit)))
    if crossed:
        runs, of_run = np.unique(np.asarray(seeds), return_inverse=True)
        run_draws = rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=how.replicates)
        return draws[:, of_unit] * run_draws[:, of_run] * base_weights(tasks)
    for task in range(len(names)):
        units = np.flatnonzero(of_unit == task)
        counts = rng.multinomial(draws[:, task] * len(units), np.full(len(units), 1 / len(units)))
        weights[:, units] = counts / len(units)
    return weights


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of `values` [U] under each row of `weights` [B, U], leaving out NaN values; NaN where no weight is left."""
    known = ~np.isnan(values)
    total = weights[:, known].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, weights[:, known] @ values[known] / np.where(total > 0, total, 1), np.nan)


def percentile_interval(
    value: float, replicates: np.ndarray | None, confidence: float, n_tasks: int | None = None
) -> Interval:
    """Percentile interval of `value`; without ends if fewer than half the replicates are defined.

    With `n_tasks` the percentiles are Hesterberg's expanded ones (2015, arXiv 1411.5279, section 4.3): tail probability
    Phi(-sqrt(n / (n - 1)) t), t the quantile of Student's distribution with n - 1 degrees of freedom.
    """
    value = float(value)
    if np.isnan(value):
        return Interval(None)
    if replicates is None or np.isnan(replicates).mean() > 0.5:
        return Interval(value)
    tail = (1 - confidence) / 2
    if n_tasks is not None and n_tasks > 1:
        tail = float(special.ndtr(np.sqrt(n_tasks / (n_tasks - 1)) * special.stdtrit(n_tasks - 1, tail)))
    low, high = np.nanquantile(replicates, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def sd_over_seeds(values: ArrayLike, seeds: Sequence[int]) -> float | None:
    """Standard deviation (ddof 1) over seeds of the mean over tasks; None for a single seed."""
    array, runs = np.asarray(values, dtype=float), np.asarray(seeds)
    means = [array[runs == run].mean() for run in np.unique(runs)]
    return float(np.std(means, ddof=1)) if len(means) > 1 else None

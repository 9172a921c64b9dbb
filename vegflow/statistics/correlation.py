"""Rank correlation: Spearman, partial, within tasks, and under bootstrap weights.

Knows numbers and the task each belongs to. Every function gives None (or NaN in arrays) where one side does not vary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CHUNK = 200


@dataclass(frozen=True)
class Correlation:
    """A correlation and its two-sided p-value."""

    rho: float | None
    p_value: float | None = None


def _varies(x: np.ndarray) -> bool:
    return len(x) > 2 and bool(np.ptp(x) > 0)


def _from_rho(rho: float, df: int) -> Correlation:
    """Two-sided p from t = rho sqrt(df / (1 - rho^2)), as scipy's spearmanr."""
    if df < 1:
        return Correlation(rho)
    if abs(rho) >= 1:
        return Correlation(float(np.sign(rho)), 0.0)
    return Correlation(rho, float(2 * stats.t.sf(abs(rho) * np.sqrt(df / (1 - rho**2)), df)))


def spearman(x: np.ndarray, y: np.ndarray) -> Correlation:
    """Spearman's rho with mid-ranks; p treats the samples as independent."""
    if not (_varies(x) and _varies(y)):
        return Correlation(None)
    rho = float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])
    return _from_rho(rho, len(x) - 2)


def partial_spearman(x: np.ndarray, y: np.ndarray, control: np.ndarray) -> Correlation:
    """Spearman of x and y with `control` held fixed: Pearson of the residuals of ranks on ranks; df = n - 3."""
    if not _varies(control):
        return spearman(x, y)
    design = np.column_stack([np.ones(len(x)), stats.rankdata(control)])
    residuals = []
    for side in (x, y):
        ranks = stats.rankdata(side)
        residual = ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]
        if len(x) < 4 or residual @ residual < 1e-9 * len(x):
            return Correlation(None)
        residuals.append(residual)
    a, b = residuals
    return _from_rho(float(a @ b / np.sqrt((a @ a) * (b @ b))), len(x) - 3)


def within_spearman(x: np.ndarray, y: np.ndarray, tasks: Sequence[str]) -> Correlation:
    """Correlation of ranks taken within each task and centred there: differences between tasks cannot enter.

    p is of the permutation of y within tasks, by the exact mean (0) and variance of sum(x y) under it, sum over tasks
    of Sxx Syy / (n - 1), and the normal distribution.
    """
    names = np.asarray(tasks)
    sxx = syy = sxy = variance = 0.0
    for name in np.unique(names):
        inside = names == name
        n = int(inside.sum())
        if n < 2:
            continue
        a = (stats.rankdata(x[inside]) - (n + 1) / 2) / n
        b = (stats.rankdata(y[inside]) - (n + 1) / 2) / n
        sxx, syy, sxy = sxx + a @ a, syy + b @ b, sxy + a @ b
        variance += (a @ a) * (b @ b) / (n - 1)
    if sxx <= 0 or syy <= 0:
        return Correlation(None)
    p_value = float(2 * stats.norm.sf(abs(sxy) / np.sqrt(variance))) if variance > 0 else None
    return Correlation(float(sxy / np.sqrt(sxx * syy)), p_value)


def _weighted_ranks(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks [B, n] that x would have with each element repeated by its weight [B, n]."""
    _, group = np.unique(x, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0])
    mass = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(mass, axis=1) - mass / 2)[:, group]


def weighted_spearman(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's rho [B] of (x, y) with elements repeated by the rows of `weights` [B, n]; NaN where degenerate."""
    out = []
    for start in range(0, len(weights), CHUNK):
        w = weights[start : start + CHUNK]
        total = w.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            a, b = _weighted_ranks(x, w), _weighted_ranks(y, w)
            a = a - (w * a).sum(axis=1, keepdims=True) / total
            b = b - (w * b).sum(axis=1, keepdims=True) / total
            sxx, syy, sxy = (w * a * a).sum(axis=1), (w * b * b).sum(axis=1), (w * a * b).sum(axis=1)
            out.append(np.where((sxx > 1e-9) & (syy > 1e-9), sxy / np.sqrt(sxx * syy), np.nan))
    return np.concatenate(out)

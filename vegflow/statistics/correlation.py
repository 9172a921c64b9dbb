"""Rank correlation: Spearman, partial, within tasks, and what each sample contributes to them (for intervals).

Knows numbers and the task each belongs to. Every function gives None where one side does not vary, and takes a side as
numbers or as `ranked`, which sorts it once for several of them.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Correlation:
    """A correlation and its two-sided p-value."""

    rho: float | None
    p_value: float | None = None


@dataclass(frozen=True)
class Ranked:
    """One side of a correlation, sorted: `group` [N] numbers its distinct values upwards, `counts` how often each occurs."""

    group: np.ndarray
    counts: np.ndarray
    varies: bool

    def __len__(self) -> int:
        return len(self.group)

    @functools.cached_property
    def ranks(self) -> np.ndarray:
        """Mid-ranks [N], from 1."""
        return (np.cumsum(self.counts) - (self.counts - 1) / 2)[self.group]

    def above(self, v: np.ndarray) -> np.ndarray:
        """For each sample [N], the mean over all of v_j 1[x_j > x_i], equal x counting one half."""
        sums = np.bincount(self.group, weights=v)
        return ((sums.sum() - np.cumsum(sums)) + sums / 2)[self.group] / len(v)


Side = np.ndarray | Ranked


def ranked(x: Side) -> Ranked:
    """A side sorted, if it is not yet."""
    if isinstance(x, Ranked):
        return x
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    return Ranked(group, counts, len(x) > 2 and bool(np.ptp(x) > 0))


def _from_rho(rho: float, df: int) -> Correlation:
    """Two-sided p from t = rho sqrt(df / (1 - rho^2)), as scipy's spearmanr."""
    if df < 1:
        return Correlation(rho)
    if abs(rho) >= 1:
        return Correlation(float(np.sign(rho)), 0.0)
    return Correlation(rho, float(2 * stats.t.sf(abs(rho) * np.sqrt(df / (1 - rho**2)), df)))


def spearman(x: Side, y: Side) -> Correlation:
    """Spearman's rho with mid-ranks; p treats the samples as independent."""
    x, y = ranked(x), ranked(y)
    if not (x.varies and y.varies):
        return Correlation(None)
    rho = float(np.corrcoef(x.ranks, y.ranks)[0, 1])
    return _from_rho(rho, len(x) - 2)


def partial_spearman(x: Side, y: Side, control: Side) -> Correlation:
    """Spearman of x and y with `control` held fixed: Pearson of the residuals of ranks on ranks; df = n - 3."""
    x, y, control = ranked(x), ranked(y), ranked(control)
    if not control.varies:
        return spearman(x, y)
    design = np.column_stack([np.ones(len(x)), control.ranks])
    residuals = []
    for side in (x, y):
        residual = side.ranks - design @ np.linalg.lstsq(design, side.ranks, rcond=None)[0]
        if len(x) < 4 or residual @ residual < 1e-9 * len(x):
            return Correlation(None)
        residuals.append(residual)
    a, b = residuals
    return _from_rho(float(a @ b / np.sqrt((a @ a) * (b @ b))), len(x) - 3)


def within_spearman(x: Side, y: Side, tasks: Sequence[str]) -> Correlation:
    """Correlation of ranks taken within each task and centred there: differences between tasks cannot enter.

    p is of the permutation of y within tasks, by the exact mean (0) and variance of sum(x y) under it, sum over tasks
    of Sxx Syy / (n - 1), and the normal distribution.
    """
    n, parts = _products_within(x, y, tasks)
    sxx, syy, sxy = parts.sum(axis=0)
    several = n > 1
    variance = float((parts[several, 0] * parts[several, 1] / (n[several] - 1)).sum())
    if sxx <= 0 or syy <= 0:
        return Correlation(None)
    p_value = float(2 * stats.norm.sf(abs(sxy) / np.sqrt(variance))) if variance > 0 else None
    return Correlation(float(sxy / np.sqrt(sxx * syy)), p_value)


def influence(x: Side, y: Side) -> np.ndarray | None:
    """Influence values [N] of the samples on Spearman's rho of (x, y), mean 0; None where one side does not vary.

    With mid-distributions a = F(x) - 1/2, b = G(y) - 1/2, rho = S_ab / sqrt(S_aa S_bb), S_ab = mean(a b). Adding mass
    at a sample changes S_ab by its own a b and, since F and G move, by mean_j b_j 1[x_j > x] and mean_j a_j 1[y_j > y]
    (equal values counting one half), all minus S_ab each; rho by the quotient rule. O(N log N).
    """
    x, y = ranked(x), ranked(y)
    if not (x.varies and y.varies):
        return None
    n = len(x)
    a, b = (x.ranks - 0.5) / n - 0.5, (y.ranks - 0.5) / n - 0.5
    s_aa, s_bb, s_ab = a @ a / n, b @ b / n, a @ b / n
    change_ab = a * b + x.above(b) + y.above(a) - 3 * s_ab
    change_aa = a * a + 2 * x.above(a) - 3 * s_aa
    change_bb = b * b + 2 * y.above(b) - 3 * s_bb
    root = np.sqrt(s_aa * s_bb)
    return change_ab / root - s_ab / root / 2 * (change_aa / s_aa + change_bb / s_bb)


def partial_influence(x: Side, y: Side, control: Side) -> np.ndarray | None:
    """Influence values [N] on the partial rho (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)), by the delta rule."""
    x, y, control = ranked(x), ranked(y), ranked(control)
    if not control.varies:
        return influence(x, y)
    found = [influence(x, y), influence(x, control), influence(y, control)]
    rhos = [spearman(x, y).rho, spearman(x, control).rho, spearman(y, control).rho]
    if any(one is None for one in found) or max(abs(rhos[1]), abs(rhos[2])) > 1 - 1e-9:
        return None
    xy, xz, yz = rhos
    root = np.sqrt((1 - xz**2) * (1 - yz**2))
    partial = (xy - xz * yz) / root
    by_xz = -yz / root + partial * xz / (1 - xz**2)
    by_yz = -xz / root + partial * yz / (1 - yz**2)
    return found[0] / root + by_xz * found[1] + by_yz * found[2]


def within_influence(x: Side, y: Side, tasks: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Influence values [T] of whole tasks on `within_spearman`, their names, and what each weighs; None where nothing varies."""
    names = np.unique(np.asarray(tasks))
    _, parts = _products_within(x, y, tasks)
    sxx, syy, sxy = parts.sum(axis=0)
    if sxx <= 0 or syy <= 0:
        return None
    rho = sxy / np.sqrt(sxx * syy)
    psi = parts[:, 2] / np.sqrt(sxx * syy) - rho / 2 * (parts[:, 0] / sxx + parts[:, 1] / syy)
    return psi * len(names), names, np.sqrt(parts[:, 0] * parts[:, 1])


def _products_within(x: Side, y: Side, tasks: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Samples [T] of each task, and Sxx, Syy, Sxy [T, 3] of its centred mid-ranks, ranks as shares."""
    _, of_sample, n = np.unique(np.asarray(tasks), return_inverse=True, return_counts=True)
    a, b = ((_ranks_within(v, of_sample, n) - (n[of_sample] + 1) / 2) / n[of_sample] for v in _sortable(x, y))
    return n, np.column_stack([np.bincount(of_sample, weights=w) for w in (a * a, b * b, a * b)])


def _sortable(*sides: Side) -> list[np.ndarray]:
    return [side.group if isinstance(side, Ranked) else side for side in sides]


def _ranks_within(x: np.ndarray, of_sample: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Mid-rank [N] of each sample among those of its task."""
    order = np.lexsort((x, of_sample))
    group, value = of_sample[order], x[order]
    new = np.r_[True, (group[1:] != group[:-1]) | (value[1:] != value[:-1])]
    starts = np.flatnonzero(new)
    ends = np.r_[starts[1:], len(x)]
    before = np.r_[0, np.cumsum(n)[:-1]]
    middle = (starts + ends + 1) / 2 - before[group[starts]]
    out = np.empty(len(x))
    out[order] = np.repeat(middle, ends - starts)
    return out

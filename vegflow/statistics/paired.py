"""Paired comparisons of two rules on the same tasks and seeds: tests, effect size, correction for many tests.

Knows differences only. Pairs of one task are not independent, so the permutation of task means is the primary test.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

EXACT_PAIRS = 50
EXACT_TASKS = 14
RANDOM_FLIPS = 20_000


@dataclass(frozen=True)
class Wilcoxon:
    """Result of the signed-rank test."""

    statistic: float
    p_value: float


def sign_test(differences: ArrayLike, alternative: Literal["two-sided", "greater"] = "two-sided") -> float | None:
    """Exact sign test: p under Binomial(n, 1/2) of the positive ones among the non-zero differences; None if none."""
    d = np.asarray(differences, dtype=float)
    wins, losses = int((d > 0).sum()), int((d < 0).sum())
    if wins + losses == 0:
        return None
    return float(stats.binomtest(wins, wins + losses, 0.5, alternative=alternative).pvalue)


def wilcoxon(differences: ArrayLike) -> Wilcoxon | None:
    """Two-sided Wilcoxon signed-rank test with zero_method 'wilcox': zero differences are dropped before ranking.

    Up to 50 differences exact, also with ties: the distribution of the rank sum over all sign flips, given the mid-ranks.
    Beyond, scipy's normal approximation. None if all differences are zero.
    """
    d = np.asarray(differences, dtype=float)
    d = d[d != 0]
    if not len(d):
        return None
    if len(d) > EXACT_PAIRS:
        result = stats.wilcoxon(d, zero_method="wilcox", alternative="two-sided", method="asymptotic")
        return Wilcoxon(float(result.statistic), float(result.pvalue))
    # Mid-ranks are halves of whole numbers, so doubled ranks can index the distribution.
    ranks = np.rint(2 * stats.rankdata(np.abs(d))).astype(int)
    chance = np.zeros(ranks.sum() + 1)
    chance[0] = 1.0
    for rank in ranks:
        chance[rank:] = (chance[rank:] + chance[:-rank]) / 2
        chance[:rank] /= 2
    smaller = min(ranks[d > 0].sum(), ranks[d < 0].sum())
    return Wilcoxon(smaller / 2, min(1.0, 2 * float(chance[: smaller + 1].sum())))


def task_permutation(differences: ArrayLike, tasks: Sequence[str], seed: int) -> float | None:
    """Two-sided p of the mean difference when whole tasks may swap the two rules (sign flips of task means).

    Exact over all 2^T flips up to 14 tasks, else 20,000 random ones with the observed one counted (Phipson & Smyth
    2010). None without differences or if all task means are zero.
    """
    d, names = np.asarray(differences, dtype=float), np.asarray(tasks)
    means = np.array([d[names == name].mean() for name in np.unique(names)])
    if not (means != 0).any():
        return None
    observed = abs(means.mean())
    if len(means) <= EXACT_TASKS:
        flips = np.array(list(itertools.product([1.0, -1.0], repeat=len(means))))
        return float((abs(flips @ means / len(means)) >= observed - 1e-12).mean())
    flips = np.random.default_rng(seed).choice([1.0, -1.0], size=(RANDOM_FLIPS, len(means)))
    hits = (abs(flips @ means / len(means)) >= observed - 1e-12).sum()
    return float((hits + 1) / (RANDOM_FLIPS + 1))


def cohens_h(first: float, second: float) -> float:
    """Cohen's h = 2 asin sqrt(p1) - 2 asin sqrt(p2) (Cohen 1988, chapter 6)."""
    return float(2 * np.arcsin(np.sqrt(first)) - 2 * np.arcsin(np.sqrt(second)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given; None stays None and does not count."""
    known = [(p, i) for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[i] = largest
    return adjusted

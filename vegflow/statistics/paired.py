"""Paired comparisons of two rules on the same tasks and seeds: tests, effect size, correction for many tests.

Knows differences only. Pairs of one task are not independent, so the permutation of task means is the primary test.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

EXACT_PAIRS = 50
EXACT_TASKS = 14
RANDOM_FLIPS = 20_000
MANY_TASKS = 500
"""Beyond, the sum of randomly signed means is normal for all purposes (Berry-Esseen) and is not drawn."""


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


def positive_probability(differences: ArrayLike, tasks: Sequence[str]) -> float | None:
    """Posterior probability that the mean of the tasks' differences is above 0; None if they do not vary.

    Task means normal, Jeffreys prior 1/sigma^2 on their mean and variance: the posterior of the mean is Student's t with
    T - 1 degrees of freedom (Oliphant 2006; `scipy.stats.bayes_mvs` is its interval). A mixed model with a random
    intercept of tasks has the same mean and t where every task has as many seeds.
    """
    d = np.asarray(differences, dtype=float)
    _, of_pair, counts = np.unique(np.asarray(tasks), return_inverse=True, return_counts=True)
    means = np.bincount(of_pair, weights=d) / counts
    if len(means) < 2 or not means.std():
        return None
    return float(special.stdtr(len(means) - 1, means.mean() / (means.std(ddof=1) / np.sqrt(len(means)))))


def task_permutation(differences: ArrayLike, tasks: Sequence[str], seed: int) -> float | None:
    """Two-sided p of the mean difference when whole tasks may swap the two rules (sign flips of task means).

    Exact over all 2^T flips up to 14 tasks, else 20,000 random ones with the observed one counted (Phipson & Smyth
    2010); beyond 500 tasks the normal distribution with the flips' variance sum_t d_t^2. None without differences or if
    all task means are zero.
    """
    d = np.asarray(differences, dtype=float)
    _, of_pair, counts = np.unique(np.asarray(tasks), return_inverse=True, return_counts=True)
    means = np.bincount(of_pair, weights=d) / counts
    if not (means != 0).any():
        return None
    observed = abs(means.mean())
    if len(means) > MANY_TASKS:
        return float(2 * stats.norm.sf(abs(means.sum()) / np.sqrt(means @ means)))
    if len(means) <= EXACT_TASKS:
        return float((abs(_all_flips(len(means)) @ means / len(means)) >= observed - 1e-12).mean())
    hits = (abs(_flips(len(means), seed) @ means.astype(np.float32) / len(means)) >= observed - 1e-7 * observed).sum()
    return float((hits + 1) / (RANDOM_FLIPS + 1))


@functools.lru_cache(maxsize=2)
def _all_flips(n: int) -> np.ndarray:
    """Every choice of n signs [2^n, n]."""
    return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)[None]) & 1)


@functools.lru_cache(maxsize=2)
def _flips(n: int, seed: int) -> np.ndarray:
    """Random signs [RANDOM_FLIPS, n], the same for every comparison of n tasks."""
    bits = np.random.default_rng(seed).integers(0, 2, size=(RANDOM_FLIPS, n), dtype=np.int8)
    return (2 * bits - 1).astype(np.float32)


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


def sign_power(n: int, wins: float, losses: float, level: float = 0.05) -> float:
    """Power of the exact two-sided sign (McNemar) test over n independent pairs.

    A pair is won with probability `wins`, lost with `losses`, else tied. Sum over the number d of decided pairs of its
    binomial probability times that of a rejection among d, at most `level` each (as the exact test holds it).
    """
    decided = wins + losses
    if n < 1 or decided <= 0:
        return 0.0
    d = np.arange(1, n + 1)
    edge = critical(n, level)
    won = min(1.0, wins / decided)
    rejected = np.where(edge >= 0, special.bdtr(edge, d, won) + special.bdtr(edge, d, 1 - won), 0.0)
    return float(stats.binom.pmf(d, n, min(1.0, decided)) @ rejected)


@functools.cache
def critical(n: int, level: float) -> np.ndarray:
    """For d = 1..n decided pairs, the most losses (or wins) at which the exact two-sided sign test rejects; -1: none."""
    d = np.arange(1, n + 1)
    edge = stats.binom.ppf(level / 2, d, 0.5).astype(int)
    return np.where(2 * special.bdtr(edge, d, 0.5) <= level * (1 + 1e-12), edge, edge - 1)


@functools.cache
def pairs_needed(wins: float, losses: float, power: float = 0.8, most: int = 2000) -> int | None:
    """Fewest independent pairs from which on `sign_power` stays at `power` for five sizes; None above `most`.

    The power of an exact test is a saw in n; sizes are tried from 0.6 times what the normal approximation gives,
    n = ((1.96 sqrt(s) + 0.84 sqrt(s - d^2)) / d)^2 (s wins + losses, d their difference; Connett et al. 1987) puts it.
    """
    total, gap = wins + losses, wins - losses
    if gap == 0 or total <= 0:
        return None
    guess = ((1.96 * np.sqrt(total) + stats.norm.ppf(power) * np.sqrt(max(total - gap**2, 0))) / gap) ** 2
    run = 0
    for n in range(max(4, int(0.6 * guess)), most + 1):
        run = run + 1 if sign_power(n, wins, losses) >= power else 0
        if run == 5:
            return n - 4
    return None

"""The centre of paired log-ratios and an interval for it: Hodges and Lehmann's estimate, Wilcoxon's distribution.

Pure statistics of a list of numbers. The estimate is the median of all averages of two (Hodges and Lehmann 1963): as
robust as is needed here (up to 29 % wild values), and of a smaller variance than the median by a third where the noise
is normal. The interval between two of those averages is the one that the signed-rank test does not refute (Wilcoxon
1945): exact for any symmetric noise, and no resampling. A log-ratio of two equally noisy times is symmetric.
"""

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist

import numpy as np

EXACT_UP_TO = 60
"""Numbers from which on the signed-rank statistic is taken as normal."""


def centre(values: Sequence[float]) -> float:
    """The Hodges-Lehmann estimate of the centre of `values`. Raises ValueError if there are none."""
    return float(np.median(_averages(values)))


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """An interval that holds the centre with probability >= `level`, where there are enough values for one.

    Of too few values (five for 95 %, seven for 99 %) it is the whole range, which holds it with probability
    1 - 2^(1-n). Raises ValueError if there are none.
    """
    averages = np.sort(_averages(values))
    out = _left_out(len(values), (1 - level) / 2)
    return float(averages[out]), float(averages[-1 - out])


def in_balance(values: Sequence[float], first: Sequence[bool]) -> list[float]:
    """Values of two kinds without what the kinds differ by: each as if it were of both by halves.

    `first` says of which kind each is; with fewer than two of either the values stay as they are. Each kind is moved to the
    middle between the centres of both. As these are estimated from the values themselves, what is left scatters too little:
    it is spread about that middle as one degree of freedom less asks. An interval of it is no longer exact, but as wide as
    it says in simulations of all looks together (tests/evaluation/test_intervals.py).
    """
    kinds = [[v for v, f in zip(values, first, strict=True) if f is kind] for kind in (True, False)]
    if min(map(len, kinds)) < 2:
        return list(values)
    one, other = map(centre, kinds)
    middle, half = (one + other) / 2, (one - other) / 2
    spread = math.sqrt((len(values) - 1) / (len(values) - 2))
    return [middle + spread * (v - (middle + half if f else middle - half)) for v, f in zip(values, first, strict=True)]


def _averages(values: Sequence[float]) -> np.ndarray:
    """All n (n + 1) / 2 averages of two, each with itself included."""
    if not len(values):
        raise ValueError("no values have no centre")
    numbers = np.asarray(values, dtype=float)
    rows, columns = _pairs(len(numbers))
    return (numbers[rows] + numbers[columns]) / 2


@cache
def _pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(n)


@cache
def _left_out(n: int, tail: float) -> int:
    """How many averages may be left out on each side: the largest k with P(signed-rank statistic <= k) <= tail."""
    total = n * (n + 1) // 2
    if n > EXACT_UP_TO:
        deviation = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return max(0, math.floor(total / 2 - 0.5 + NormalDist().inv_cdf(tail) * deviation))
    ways = np.zeros(total + 1)
    ways[0] = 1.0
    for rank in range(1, n + 1):
        ways[rank:] += ways[:-rank].copy()
    beneath = np.cumsum(ways) / 2.0**n
    return max(0, int(np.searchsorted(beneath, tail, side="right")) - 1)

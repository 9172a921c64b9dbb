"""Intervals of the mean of a share or of a ratio over few tasks, which Student's t serves badly: bounded, skewed, heavy-tailed.

Knows task means or their first two moments; which quantity has which bounds is said where it is computed. How well each
holds is in docs/statistics.md.
"""

import functools

import numpy as np
from scipy import special

Ends = tuple[float, float]
DRAWS = 10_000
"""Of the posterior of a share: its ends are uncertain by 3 % of its standard deviation."""
MOST_DRAWN = 100
"""Tasks beyond which the posterior is taken for a beta distribution of its mean and variance."""
PRIOR = 0.5
"""Tasks' worth of belief at either bound, as in Jeffreys' prior of a proportion."""
LARGEST = 1000.0
"""Times the mean that its upper end reaches at most; two or three tasks with a heavy tail would put it anywhere."""


def share_ends(means: np.ndarray, confidence: float) -> Ends:
    """Ends for the mean of shares, from task means [T] that are not all equal.

    The posterior of the mean under a Dirichlet process whose prior is half a task at 0 and half a task at 1 (Ferguson
    1973; Rubin's Bayesian bootstrap of 1981 with these two pseudo-tasks): sum_t w_t x_t + w_1, with w Dirichlet of
    (1, .., 1, 1/2, 1/2). Where every task is 0 or 1 it is Jeffreys' interval, Beta(s + 1/2, T - s + 1/2) (Brown, Cai &
    DasGupta 2001). The pseudo-tasks stand for what few tasks do not show, the rare ones near the other end.
    """
    n = len(means)
    if n > MOST_DRAWN:
        return share_ends_of_moments(float(means.mean()), float(means.var(ddof=1)) / n, n - 1.0, n, confidence)
    weights = _dirichlet(n)
    tail = (1 - confidence) / 2
    low, high = np.quantile(weights[:, :n] @ means + weights[:, n], [tail, 1 - tail])
    return float(min(low, means.mean())), float(max(high, means.mean()))


@functools.lru_cache(maxsize=8)
def _dirichlet(n: int) -> np.ndarray:
    """Draws [DRAWS, n + 2] of Dirichlet(1, .., 1, PRIOR, PRIOR), the same for every mean of n tasks."""
    return np.random.default_rng(0).dirichlet(np.r_[np.ones(n), PRIOR, PRIOR], DRAWS)


def share_ends_of_moments(value: float, variance: float, df: float, n_tasks: float, confidence: float) -> Ends:
    """As `share_ends`, from a mean and its variance with `df` degrees of freedom: a beta distribution of the posterior's moments.

    With fewer degrees of freedom than tasks leave (runs that tasks share), the variance grows by the square of the ratio
    of Student's quantiles.
    """
    tail, total = (1 - confidence) / 2, n_tasks + 2 * PRIOR
    mean = (n_tasks * value + PRIOR) / total
    squares = n_tasks * (n_tasks - 1) * variance + n_tasks * value**2 + PRIOR  # of tasks, and of the one at 1
    spread = (squares / total - mean**2) / (total + 1)
    if df < n_tasks - 1:
        spread *= (special.stdtrit(df, tail) / special.stdtrit(n_tasks - 1, tail)) ** 2
    size = max(mean * (1 - mean) / spread - 1, 1e-3)
    low, high = special.betaincinv(mean * size, (1 - mean) * size, [tail, 1 - tail])
    return float(min(low, value)), float(max(high, value))


def ratio_ends(means: np.ndarray, confidence: float) -> Ends:
    """Ends for the mean of ratios, from task means [T] of at least 0 that are not all equal.

    If logarithms are normal with variance s^2, ln E = mu + s^2 / 2, and the ends of its two parts, Student's of mu and
    chi-squared's of s^2 / 2, make those of the sum by the method of variance estimates recovery (Zou, Huo & Taleban 2009,
    section 2), here around the arithmetic mean. The tail's part is what a t interval lacks: few tasks seldom show the
    large ones that the mean lives on. s^2 is the larger of the logarithms' variance and ln(1 + cv^2), which it would be;
    the latter alone where a mean is 0.
    """
    value, n = float(means.mean()), len(means)
    spread = float(np.log1p(means.var(ddof=1) / value**2))
    if means.min() > 0:
        spread = max(spread, float(np.log(means).var(ddof=1)))
    return _log_normal_ends(value, spread, n - 1.0, n, confidence)


def ratio_ends_of_moments(value: float, variance: float, df: float, n_tasks: float, confidence: float) -> Ends:
    """As `ratio_ends`, from a mean and its variance with `df` degrees of freedom; s^2 is ln(1 + cv^2)."""
    return _log_normal_ends(value, float(np.log1p(n_tasks * variance / value**2)), df, n_tasks, confidence)


def _log_normal_ends(value: float, spread: float, df: float, n_tasks: float, confidence: float) -> Ends:
    tail = (1 - confidence) / 2
    of_mean = special.stdtrit(df, tail) ** 2 * spread / n_tasks
    below = np.hypot(np.sqrt(of_mean), spread / 2 * (df / special.chdtri(df, tail) - 1))
    above = np.hypot(np.sqrt(of_mean), spread / 2 * (df / special.chdtri(df, 1 - tail) - 1))
    return value * float(np.exp(-below)), value * float(np.exp(min(above, np.log(LARGEST))))

"""Whether probabilities mean what they say: the reliability diagram and its summaries.

Knows arrays of probabilities and verdicts; which of them were held out is the caller's to see to.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Reliability:
    """The reliability diagram: bins of equal width of the probability, and its summaries."""

    count: np.ndarray
    probability: np.ndarray
    """Mean probability in each bin; NaN if it is empty."""
    rate: np.ndarray
    """Share that passes in each bin; NaN if it is empty."""
    ece: float
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 5): sum of n_b / N |rate_b - probability_b|."""
    brier: float
    """Mean of (probability - verdict)^2 (Brier 1950)."""


def reliability(probabilities: ArrayLike, passes: ArrayLike, bins: int) -> Reliability:
    """Compare probabilities (0 to 1) with verdicts; a probability on an edge belongs to the upper bin, 1 to the last.

    Raises ValueError if there are none or one is no probability.
    """
    p_N, passes_N = np.asarray(probabilities, dtype=float), np.asarray(passes, dtype=float)
    if not len(p_N) or not ((p_N >= 0) & (p_N <= 1)).all():
        raise ValueError("probabilities from 0 to 1 are needed, at least one")
    place_N = np.minimum((p_N * bins).astype(int), bins - 1)
    count = np.bincount(place_N, minlength=bins)
    with np.errstate(invalid="ignore"):
        probability = np.bincount(place_N, weights=p_N, minlength=bins) / count
        rate = np.bincount(place_N, weights=passes_N, minlength=bins) / count
    ece = float(np.nansum(count * np.abs(rate - probability)) / len(p_N))
    return Reliability(count, probability, rate, ece, float(((p_N - passes_N) ** 2).mean()))

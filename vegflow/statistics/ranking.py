"""How well scores rank candidates that pass before those that fail: AUROC, pairwise accuracy, best-of-k, exact and tie-aware.

Knows arrays of scores and verdicts of one task; what gave the scores, and tables, are other modules' business.

Axes: N candidates of a task, K numbers of candidates chosen from.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vegflow.statistics.best_of import best_weights


def pairs_in_order(scores: ArrayLike, passes: ArrayLike) -> tuple[float, int]:
    """Pairs of a passing and a failing candidate of which the passing one has the higher score (ties half), and all pairs.

    The Mann-Whitney statistic from mid-ranks: sum of the ranks of those that pass - n(n + 1) / 2, n of them passing.
    Raises ValueError for a score that is NaN.
    """
    ranks_N, passes_N = midranks(scores), np.asarray(passes, dtype=bool)
    n = int(passes_N.sum())
    return float(ranks_N[passes_N].sum() - n * (n + 1) / 2), n * (len(ranks_N) - n)


def auroc(scores: ArrayLike, passes: ArrayLike) -> float:
    """P(a random passing candidate scores above a random failing one) + P(tie) / 2; NaN unless there are both."""
    right, pairs = pairs_in_order(scores, passes)
    return right / pairs if pairs else float("nan")


def midranks(scores: ArrayLike) -> np.ndarray:
    """Ranks from 1 [N], lowest score first; equal scores share the mean of theirs. Raises ValueError for NaN."""
    scores_N = np.asarray(scores, dtype=float)
    if np.isnan(scores_N).any():
        raise ValueError("a score is NaN, which ranks nowhere; write -inf for a candidate that is out")
    _, places_N, counts = np.unique(scores_N, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places_N]


def best_of_k(scores: ArrayLike, values: ArrayLike, ks: Sequence[int], counts: ArrayLike | None = None) -> np.ndarray:
    """Expected value of the top-scored of k candidates drawn without replacement [K]; NaN where k exceeds their number.

    sum_i C(N - i - 1, k - 1) v_i / C(N, k), i from 0 in order of falling score (Hosseini et al. 2024, arXiv 2402.06457),
    with v averaged over candidates of equal score: ties are broken at random. Candidate j stands for `counts[j]` equal
    ones. A candidate out of the race has the score -inf: it is picked only if nothing else was drawn. `values` may be
    verdicts (0 and 1) or any reward.
    """
    scores_N, values_N = np.asarray(scores, dtype=float), np.asarray(values, dtype=float)
    counts_N = np.ones(len(scores_N), dtype=int) if counts is None else np.asarray(counts, dtype=int)
    if np.isnan(scores_N).any():
        raise ValueError("a score is NaN, which ranks nowhere; write -inf for a candidate that is out")
    levels, places_N = np.unique(scores_N, return_inverse=True)
    sizes = np.bincount(places_N, weights=counts_N, minlength=len(levels)).astype(int)
    means = np.bincount(places_N, weights=counts_N * values_N, minlength=len(levels)) / np.maximum(sizes, 1)
    n = int(sizes.sum())
    if not n:
        return np.full(len(ks), np.nan)
    return best_weights(n, tuple(int(k) for k in ks)) @ np.repeat(means, sizes)

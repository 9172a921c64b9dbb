"""Exact expectations over random subsets of a task's samples: pass@k and the best of k.

Knows arrays of verdicts and rewards; where they come from, and the intervals, are other modules' business.
"""

import numpy as np
from numpy.typing import ArrayLike


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that k samples drawn without replacement from n, of which c pass, hold at least one that passes.

    Unbiased for 1 - (1 - p)^k: 1 - C(n-c, k) / C(n, k) in product form (Chen et al. 2021, arXiv 2107.03374, eq. 1).
    Returns NaN if k > n. Raises ValueError unless 0 <= c <= n and k >= 1.
    """
    if not 0 <= c <= n or k < 1:
        raise ValueError(f"pass@k needs 0 <= c <= n and k >= 1, got n={n}, c={c}, k={k}")
    if k > n:
        return float("nan")
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def expected_best(values: ArrayLike, k: int) -> float:
    """Expected maximum of k values drawn without replacement: sum_i v_(i) C(i-1, k-1) / C(n, k), v_(i) ascending.

    The U-statistic of the maximum, so unbiased for k fresh samples; equals `pass_at_k` on 0/1 values. Returns NaN if
    k exceeds the number of values. Raises ValueError if k < 1.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    if k < 1:
        raise ValueError(f"the best of k needs k >= 1, got {k}")
    if k > n:
        return float("nan")
    # From the top: the largest of n is the maximum with probability k/n; each next weight follows by a ratio.
    rank = np.arange(n - 1, k - 1, -1)
    weights = (k / n) * np.concatenate([[1.0], np.cumprod((rank - k + 1) / rank)])
    return float(ordered[::-1][: n - k + 1] @ weights)

"""Exact expectations over random subsets of a task's samples: pass@k and the best of k.

Knows arrays of verdicts and rewards; where they come from, and the intervals, are other modules' business.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec

import numpy as np
from numpy.typing import ArrayLike

P = ParamSpec("P")
SMALL = 512
"""Samples of a task up to which tables over their number are kept for the next task."""


def kept_while_small(table: Callable[Concatenate[int, P], np.ndarray]) -> Callable[Concatenate[int, P], np.ndarray]:
    """Cache a table that grows with its first argument, a number of samples, for numbers up to `SMALL`.

    Beyond, each task has a number of its own and a table of megabytes: kept, they would grow with the study.
    """
    kept = functools.lru_cache(maxsize=2048)(table)

    @functools.wraps(table)
    def found(n: int, *rest: P.args, **more: P.kwargs) -> np.ndarray:
        return kept(n, *rest, **more) if n <= SMALL else table(n, *rest, **more)

    return found


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


def passes_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> np.ndarray:
    """`pass_at_k` of arrays that broadcast: 1 - C(n - c, k) / C(n, k) by log-factorials (to about 1e-12); NaN if k > n."""
    n, c, k = np.broadcast_arrays(*(np.asarray(x, dtype=np.int64) for x in (n, c, k)))
    logs = log_factorials(int(n.max(initial=0)))
    rest = np.maximum(n - c - k, 0)
    ratio = np.exp(logs[n - c] - logs[rest] - logs[n] + logs[np.maximum(n - k, 0)])
    return np.where(k > n, np.nan, np.where(n - c < k, 1.0, 1.0 - ratio))


def log_factorials(n: int) -> np.ndarray:
    """Log 0! .. log n!, not to be written to."""
    return _log_factorials(1 << n.bit_length())[: n + 1]


@functools.cache
def _log_factorials(n: int) -> np.ndarray:
    return np.r_[0.0, np.cumsum(np.log(np.arange(1, n + 1)))]


@kept_while_small
def pass_table(n: int, ks: tuple[int, ...]) -> np.ndarray:
    """pass@k [n + 1, K] for every number of passes among n, not to be written to."""
    return passes_at_k(n, np.arange(n + 1)[:, None], np.array(ks)[None])


@kept_while_small
def best_weights(n: int, ks: tuple[int, ...]) -> np.ndarray:
    """Weights C(i - 1, k - 1) / C(n, k) [K, n] of the i-th smallest of n in the expected maximum of k; NaN if k > n."""
    logs, out, rank = log_factorials(n), np.zeros((len(ks), n)), np.arange(1, n + 1)
    for place, k in enumerate(ks):
        if k > n:
            out[place] = np.nan
        elif k == 1:
            out[place] = 1 / n
        else:
            i = rank[k - 1 :]
            out[place, k - 1 :] = np.exp(logs[i - 1] - logs[k - 1] - logs[i - k] - logs[n] + logs[k] + logs[n - k])
    return out


def expected_bests(values: ArrayLike, ks: Sequence[int]) -> np.ndarray:
    """`expected_best` at each of `ks` [K], sorting once."""
    ordered = np.sort(np.asarray(values, dtype=float))
    if not len(ordered):
        return np.full(len(ks), np.nan)
    return best_weights(len(ordered), tuple(int(k) for k in ks)) @ ordered

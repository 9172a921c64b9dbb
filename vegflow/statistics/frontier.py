"""Fronts of points that are good in two ways at once: value and throughput, both the larger the better.

Knows arrays alone. A point is dominated if another is at least as good in both and better in one.
"""

import numpy as np

VALUE_MARGIN = 0.005
"""Differences of value that count as noise: half a point of a share (of the largest value, for speedups)."""
SPEED_MARGIN = 0.05
"""Ratios of throughput within 5 % count as noise."""


def front(values: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    """Which points [..., P] no other dominates, by sorting; NaN is never on the front, equal points are all on it."""
    values, speeds = np.broadcast_arrays(np.asarray(values, dtype=float), np.asarray(speeds, dtype=float))
    known = ~(np.isnan(values) | np.isnan(speeds))
    v, s = np.where(known, values, -np.inf), np.where(known, speeds, -np.inf)
    order = np.lexsort((-v, -s), axis=-1)  # fastest first, among equally fast the best first
    v, s = np.take_along_axis(v, order, -1), np.take_along_axis(s, order, -1)
    best = np.maximum.accumulate(v, axis=-1)
    before = np.concatenate([np.full((*v.shape[:-1], 1), -np.inf), best[..., :-1]], axis=-1)
    twin = np.zeros(v.shape, dtype=bool)
    for p in range(1, v.shape[-1]):  # equal in both to the one before it, which is on the front
        same = (v[..., p] == v[..., p - 1]) & (s[..., p] == s[..., p - 1])
        twin[..., p] = same & ((v[..., p - 1] > before[..., p - 1]) | twin[..., p - 1])
    out = np.empty_like(twin)
    np.put_along_axis(out, order, (v > before) | twin, -1)
    return out & known


def beyond_noise(
    values: np.ndarray, speeds: np.ndarray, value_margin: float = VALUE_MARGIN, speed_margin: float = SPEED_MARGIN
) -> np.ndarray:
    """Points [P] that no other epsilon-dominates: clearly better in one, and not clearly worse in the other.

    Clearly: by more than `value_margin`, or by more than the factor 1 + `speed_margin` (additive and multiplicative
    epsilon-dominance, Laumanns et al. 2002). A point next to a slightly better one in one respect that gives up much in
    the other is dropped; two points equal up to noise both stay.
    """
    v, s = np.asarray(values, dtype=float), np.asarray(speeds, dtype=float)
    known = ~(np.isnan(v) | np.isnan(s))
    gain, ratio = v[:, None] - v[None], np.log(s[:, None]) - np.log(s[None])  # of the row over the column
    step = np.log1p(speed_margin)
    better = ((gain > value_margin) & (ratio >= -step)) | ((ratio > step) & (gain >= -value_margin))
    return known & ~(better & known[:, None]).any(axis=0)


def share_on_front(values: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    """Share [P] of replicates [B, P] in which each point is on the front."""
    return front(values, speeds).mean(axis=0)

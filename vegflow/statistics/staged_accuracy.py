"""What a pipeline's pick is worth when a task has k samples: exact expectations over all k-subsets and orders of ties.

Knows a pipeline's steps on one task's pool (`vegflow.verification.replay`); intervals over tasks are made elsewhere.

Samples are the units: a candidate that c samples wrote is c samples, drawn without replacement from the task's N, and
stands where the first of its drawn copies does. Filters and rankers' scores (text majority and agreement are counts) are
those of the whole pool. Tied samples come in uniformly random order. A pipeline that ranks again after a `top M`, or goes
on after `full: first`, has no such closed form here; `pick_values` replays it on seeded random subsets instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vegflow.config.verification import FULL
from vegflow.statistics.best_of import log_factorials
from vegflow.verification.replay import Step, TaskPool, blocks, draws, orders_of, replay

MOST_SAMPLES = 1000
"""Samples of a task up to which binomial coefficients fit into a double."""
SUBSETS = 400
"""Random subsets of a task where a pipeline has no closed form."""


@dataclass(frozen=True)
class Selection:
    """A pipeline on n candidates, reduced to what its pick depends on."""

    place: np.ndarray
    """Block of tied candidates in the order of verification [n]."""
    eligible: np.ndarray
    """Kept by the filters before the cut [n] bool."""
    hits: np.ndarray
    """Eligible, and kept by every later filter and by the full suite [n] bool: what may be picked."""
    top: int | None
    """Distinct candidates that the cut keeps."""
    first: int | None
    """Hits after which verification stops."""
    best: bool
    """The pick is the hit of the highest reward among those found; else the first."""
    bottom: bool
    """With no hit a random sample of those that filters pruned is picked."""


def selection(task: TaskPool, found: Sequence[Step]) -> Selection | None:
    """The reduced form of a pipeline; None where it has none."""
    n = len(task)
    eligible = hits = np.ones(n, dtype=bool)
    scores: list[np.ndarray] = []
    top = first = None
    verified = False
    for number, step in enumerate(found):
        last = number == len(found) - 1
        if step.score is not None:
            if top is not None or verified:
                return None
            scores, top = orders_of(scores, step), step.stage.top
            continue
        if step.stage.name == FULL:
            if not last:
                return None
            verified, first = True, step.stage.count
        hits = hits & step.keep
        if top is None and step.stage.name != FULL:
            eligible = eligible & step.keep
    return Selection(blocks(scores, n), eligible, hits, top, first, verified, top is None and not verified)


def expected_values(task: TaskPool, chosen: Selection, values: np.ndarray, k: int) -> np.ndarray:
    """Expected `values` [n, V] of the pick [V] over all subsets of k samples; 0 where nothing is picked.

    Without a cut the first hit of the subset is picked: sum_b v_b [C(N - n_<b, k) - C(N - n_<=b, k)] / C(N, k) over
    blocks b of tied samples with mean value v_b, which is sum_i v_i C(N - i - 1, k - 1) / C(N, k) with the mean taken
    inside ties (Hosseini et al. 2024, arXiv 2402.06457). With `top M`, or `full: first B` and B > 1, `_stopped` counts.
    Where the pick is the best of several hits, E = sum_l (v_l - v_{l-1}) P(some hit found is worth l or more) over the
    distinct rewards l; `values` must then depend on the reward alone among the hits and not fall with it. Raises
    ValueError if they do.
    """
    k = min(k, task.samples)
    counts, hits = task.counts, chosen.hits
    if not chosen.best or chosen.first == 1:
        return _first_hit(counts, chosen, hits, values, k)
    levels = np.unique(task.reward[hits])
    worth = _worth(task, hits, values, levels)
    if (np.diff(worth, axis=0, prepend=0) < -1e-12).any():
        raise ValueError("a value that falls with the reward has no place here")
    ones = np.ones((len(task), 1))
    chance = [_first_hit(counts, chosen, hits & (task.reward >= level), ones, k)[0] for level in levels]
    return np.asarray(chance) @ np.diff(worth, axis=0, prepend=0) if len(levels) else np.zeros(values.shape[1])


def _worth(task: TaskPool, hits: np.ndarray, values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Values [L, V] of the hits of each reward; ValueError unless equal rewards have equal values."""
    out = np.empty((len(levels), values.shape[1]))
    for row, level in enumerate(levels):
        own = values[hits & (task.reward == level)]
        if np.ptp(own, axis=0).max() > 1e-12:
            raise ValueError("hits of one reward differ in value")
        out[row] = own[0]
    return out


def _first_hit(counts: np.ndarray, chosen: Selection, wanted: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """Expected value [V] of the first `wanted` hit that is found, 0 without one (or the bottom's mean)."""
    several = chosen.best and chosen.first is not None and chosen.first > 1
    if chosen.top is None and not several:
        place = np.where(wanted, chosen.place, chosen.place.max() + 1)
        chance = _first_block(counts, place, k)
        known = np.flatnonzero(np.bincount(place[wanted], minlength=len(chance))) if wanted.any() else []
        means = _block_means(counts, place, values, len(chance))
        out = chance[known] @ means[known] if len(known) else np.zeros(values.shape[1])
        if chosen.bottom and not wanted.all():
            out = out + chance[-1] * means[-1]
        return out
    lesser = chosen.hits & ~wanted if several else np.zeros(len(counts), dtype=bool)
    chance = _stopped(counts, chosen, wanted, lesser, k)
    return chance @ _block_means(counts, np.where(wanted, chosen.place, len(chance)), values, len(chance) + 1)[:-1]


def _block_means(counts: np.ndarray, place: np.ndarray, values: np.ndarray, n_blocks: int) -> np.ndarray:
    """Mean value over the samples of each block [blocks, V]; 0 of an empty one."""
    sums = np.zeros((n_blocks, values.shape[1]))
    np.add.at(sums, place, counts[:, None] * values)
    sizes = np.bincount(place, weights=counts, minlength=n_blocks)
    return sums / np.maximum(sizes, 1)[:, None]


def _first_block(counts: np.ndarray, place: np.ndarray, k: int) -> np.ndarray:
    """Probability [blocks] that the first of k samples is in each block; the last block is the highest place."""
    sizes = np.bincount(place, weights=counts, minlength=int(place.max()) + 1).astype(np.int64)
    total, after = int(sizes.sum()), sizes.sum() - np.r_[0, np.cumsum(sizes)]
    logs = log_factorials(total)
    rest = np.maximum(after - k, 0)
    none_before = np.exp(logs[after] - logs[rest] - logs[total] + logs[total - k])
    return -np.diff(np.where(after >= k, none_before, 0.0))


def _stopped(counts: np.ndarray, chosen: Selection, wanted: np.ndarray, lesser: np.ndarray, k: int) -> np.ndarray:
    """Probability [blocks] that verification finds a `wanted` candidate, and the first such is in each block.

    The samples of a subset are seen in order, tied ones as draws without replacement from their block. Verification ends
    after `top` distinct candidates, or once `first` hits are found of which the `lesser` do not count as wanted. State:
    P(d distinct candidates and b lesser hits and s samples seen, none wanted), carried from block to block; in a block of
    n samples W[d, b, j] of the C(n, j) sets of j hold d unwanted candidates, b of them lesser hits.
    """
    total = int(counts.sum())
    if total > MOST_SAMPLES:
        raise ValueError(f"exact only up to {MOST_SAMPLES} samples a task, not {total}")
    top = min(chosen.top or len(counts), len(counts))
    most = chosen.first if lesser.any() else 1
    n_blocks = int(chosen.place.max()) + 1
    state = np.zeros((top, most, k + 1))
    state[0, 0, 0] = 1.0
    left, chance = total, np.zeros(n_blocks)
    for block in range(int(chosen.place[wanted].max()) + 1 if wanted.any() else 0):
        inside = chosen.eligible & (chosen.place == block)
        size, target = int(counts[inside].sum()), int(counts[inside & wanted].sum())
        if not size:
            continue
        others = inside & ~wanted
        ways = _ways(counts[others], lesser[others], top, most, min(size, k))
        taken = _hypergeometric(left, size, k)  # [s, j]
        j = np.arange(ways.shape[2])
        logs = log_factorials(total)
        share = ways / np.exp(logs[size] - logs[j] - logs[size - j])
        if target:
            beyond = taken[:, ::-1].cumsum(axis=1)[:, ::-1] - taken  # P(more than j of the block)
            reached = state @ (beyond[:, : len(j)] * target / np.maximum(size - j, 1))  # [d, b, j]
            room = _room(share)
            chance[block] = float((reached * room).sum())
        state = _advance(state, share, taken)
        left -= size
    return chance


def _ways(counts: np.ndarray, lesser: np.ndarray, top: int, most: int, longest: int) -> np.ndarray:
    """Sets of j samples of a block's unwanted ones that hold d < top candidates, b < most of them lesser hits [d, b, j]."""
    ways = np.zeros((top, most, longest + 1))
    ways[0, 0, 0] = 1.0
    for count, is_lesser in zip(counts, lesser, strict=True):
        logs = log_factorials(int(count))
        more = np.zeros_like(ways)
        for j in range(1, min(int(count), longest) + 1):
            factor = np.exp(logs[count] - logs[j] - logs[count - j])
            step = int(is_lesser)
            more[1:, step:, j:] += factor * ways[:-1, : most - step, : longest + 1 - j]
        ways = ways + more
    return ways


def _hypergeometric(left: int, size: int, k: int) -> np.ndarray:
    """P(j of a block's `size` samples are among the subset | s were seen, `left` samples remain) [k + 1, min(size, k) + 1]."""
    logs = log_factorials(max(left, k))
    s, j = np.arange(k + 1)[:, None], np.arange(min(size, k) + 1)[None]
    need = k - s
    possible = (need <= left) & (j <= need) & (need - j <= left - size)
    need, j, rest = (np.where(possible, x, 0) for x in np.broadcast_arrays(need, j, need - j))
    chosen = logs[size] - logs[j] - logs[size - j] + logs[left - size] - logs[rest] - logs[left - size - rest]
    return np.where(possible, np.exp(chosen - (logs[left] - logs[need] - logs[left - need])), 0.0)


def _room(share: np.ndarray) -> np.ndarray:
    """Sum of `share` [d, b, j] over what still fits beside d0 and b0 seen before [d0, b0, j]."""
    sums = share.cumsum(axis=0).cumsum(axis=1)
    return sums[::-1, ::-1]


def _advance(state: np.ndarray, share: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The state after a block none of whose wanted samples was drawn; what passes `top` or `first` is dropped."""
    out = np.zeros_like(state)
    top, most, length = state.shape
    for d, b, j in zip(*np.nonzero(share), strict=True):
        moved = state[: top - d, : most - b, : length - j] * taken[: length - j, j]
        out[d:, b:, j:] += share[d, b, j] * moved
    return out


def pick_values(
    task: TaskPool, found: Sequence[Step], values: np.ndarray, k: int, seed: tuple[int, ...]
) -> tuple[np.ndarray, bool]:
    """Expected `values` [n, V] of the pick [V] among k samples, and whether that is exact or from seeded random subsets."""
    chosen = selection(task, found)
    small = task.samples <= MOST_SAMPLES
    if chosen is not None and (small or (chosen.top is None and (chosen.first or 1) == 1)):
        return expected_values(task, chosen, values, k), True
    rng = np.random.default_rng(seed)
    picks = replay(task, found, draws(task, k, SUBSETS, rng), rng).picks
    return np.where(picks[:, None] >= 0, values[picks], 0).mean(axis=0), False

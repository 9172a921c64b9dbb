"""What an update learns from: rewards as pure functions of a batch's evaluations.

Each takes the speedups (0 where a candidate is not correct) and the task of each rollout, in the declared order of the
rows: by task, then by index. N is the number of rollouts.
"""

import functools
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Reward = Callable[[NDArray[np.float64], Sequence[str]], NDArray[np.float64]]


def speedup(speedups_N: NDArray[np.float64], tasks_N: Sequence[str]) -> NDArray[np.float64]:
    """The speedup itself: dense and unbounded (Barnes 2026, section 3.2)."""
    return speedups_N.copy()


def paper_running_median(
    speedups_N: NDArray[np.float64], tasks_N: Sequence[str], window: int = 32
) -> NDArray[np.float64]:
    """Speedup over the running median of the task's earlier correct speedups, which starts at 1.

    What the paper's released code computes (`compute_normalized_reward`, without its bonus, which is 0). It depends on
    the order of the rows, which the text does not say; here it is by task and index, and each update begins afresh,
    where the paper's history lives as long as its process.
    """
    history: dict[str, deque[float]] = {}
    rewards_N = np.zeros_like(speedups_N)
    for i, (value, task) in enumerate(zip(speedups_N, tasks_N, strict=True)):
        seen = history.setdefault(task, deque(maxlen=window))
        rewards_N[i] = value / max(float(np.median(seen)) if seen else 1.0, 1e-6)
        if value > 0:
            seen.append(float(value))
    return rewards_N


def log(speedups_N: NDArray[np.float64], tasks_N: Sequence[str]) -> NDArray[np.float64]:
    """ln(1 + speedup): 0 for a failure, and a factor of two is worth as much at 100x as at 200x."""
    return np.log1p(speedups_N)


def clipped(speedups_N: NDArray[np.float64], tasks_N: Sequence[str], most: float = 3.0) -> NDArray[np.float64]:
    """The least of the speedup and 3 (Dr. Kernel, without its bonus for coverage)."""
    return np.clip(speedups_N, 0.0, most)


def rank(speedups_N: NDArray[np.float64], tasks_N: Sequence[str]) -> NDArray[np.float64]:
    """Share of the task's other rollouts that are slower, ties counting half; 0 for a rollout that is alone."""
    tasks = np.asarray(tasks_N)
    rewards_N = np.zeros_like(speedups_N)
    for task in dict.fromkeys(tasks_N):
        own_K = speedups_N[tasks == task]
        if len(own_K) > 1:
            slower_K = (own_K[None, :] < own_K[:, None]).sum(1)
            equal_K = (own_K[None, :] == own_K[:, None]).sum(1) - 1
            rewards_N[tasks == task] = (slower_K + 0.5 * equal_K) / (len(own_K) - 1)
    return rewards_N


def binary(speedups_N: NDArray[np.float64], tasks_N: Sequence[str]) -> NDArray[np.float64]:
    """1[correct]."""
    return (speedups_N > 0).astype(np.float64)


def fast(speedups_N: NDArray[np.float64], tasks_N: Sequence[str], threshold: float = 1.0) -> NDArray[np.float64]:
    """1[correct and speedup > threshold], the sparsified reward of the paper's section 6.6."""
    return (speedups_N > threshold).astype(np.float64)


REWARDS: dict[str, Reward] = {
    "speedup": speedup,
    "paper_running_median": paper_running_median,
    "log": log,
    "clipped": clipped,
    "rank": rank,
    "binary": binary,
    "fast": fast,
}


def reward_of(name: str, threshold: float | None = None) -> Reward:
    """The reward called `name`; `threshold` is that of `fast`."""
    return functools.partial(fast, threshold=threshold) if name == "fast" and threshold is not None else REWARDS[name]

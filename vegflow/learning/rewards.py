"""What an update learns from: rewards as pure functions of a batch's evaluations.

Each takes the speedups (0 where a candidate is not correct) and the task of each rollout, in the declared order of the
rows: by task, then by index. N is the number of rollouts.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Reward = Callable[[NDArray[np.float64], Sequence[str]], NDArray[np.float64]]


def speedup(speedups_N: NDArray[np.float64], tasks_N: Sequence[str]) -> NDArray[np.float64]:
    """The speedup itself: dense and unbounded (Barnes 2026, section 3.2)."""
    return speedups_N.copy()


def running_median(speedups_N: NDArray[np.float64], tasks_N: Sequence[str], window: int = 32) -> NDArray[np.float64]:
    """Speedup over the running median of the task's earlier correct speedups, which starts at 1.

    What the paper's released code computes (`normalize_reward`). It depends on the order of the rows, which the text
    does not say; here it is by task and index, and each update begins afresh.
    """
    history: dict[str, deque[float]] = {}
    rewards_N = np.zeros_like(speedups_N)
    for i, (value, task) in enumerate(zip(speedups_N, tasks_N, strict=True)):
        seen = history.setdefault(task, deque(maxlen=window))
        rewards_N[i] = value / (float(np.median(seen)) if seen else 1.0)
        if value > 0:
            seen.append(float(value))
    return rewards_N


REWARDS: dict[str, Reward] = {"speedup": speedup, "running_median": running_median}

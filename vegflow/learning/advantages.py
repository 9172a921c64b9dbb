"""How much better than expected a rollout was: advantages as pure functions of a batch's rewards.

Each takes the rewards and the group (task) of each of N rollouts; sd is the sample standard deviation (ddof 1).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Advantage = Callable[[NDArray[np.float64], Sequence[str]], NDArray[np.float64]]


def group_z(rewards_N: NDArray[np.float64], groups_N: Sequence[str]) -> NDArray[np.float64]:
    """A = (r - mean) / (sd + 1e-4) within each group (GRPO: Shao et al. 2024, eq. 3; the floor is TRL's).

    A group whose rewards are all equal gets 0: it teaches nothing.
    """
    advantages_N = np.zeros_like(rewards_N)
    groups = np.asarray(groups_N)
    for group in dict.fromkeys(groups_N):
        members = groups == group
        rewards = rewards_N[members]
        if len(rewards) > 1 and np.ptp(rewards) > 0:
            advantages_N[members] = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
    return advantages_N


def centred(rewards_N: NDArray[np.float64], groups_N: Sequence[str]) -> NDArray[np.float64]:
    """A = r - mean within each group (Dr. GRPO: Liu et al. 2025, section 3.2); (K - 1) / K times RLOO's.

    Without the division by the standard deviation, a group that differs by timing noise alone teaches in proportion to
    that noise; under `group_z` it teaches as much as one with right and wrong answers.
    """
    groups = np.asarray(groups_N)
    return rewards_N - np.array([rewards_N[groups == group].mean() for group in groups_N])


def global_z(rewards_N: NDArray[np.float64], groups_N: Sequence[str]) -> NDArray[np.float64]:
    """A = (r - mean) / max(sd, 1e-6) over all rollouts of all tasks: the paper's released code, whatever its text says."""
    if len(rewards_N) < 2:
        return np.zeros_like(rewards_N)
    return (rewards_N - rewards_N.mean()) / max(rewards_N.std(ddof=1), 1e-6)


ADVANTAGES: dict[str, Advantage] = {"group_z": group_z, "centred": centred, "global_z": global_z}

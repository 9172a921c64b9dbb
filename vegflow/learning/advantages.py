"""How much better than expected a rollout was: advantages as pure functions of a batch's rewards.

Each takes the rewards and the group (task) of each of N rollouts; K is the size of a group, sd is the sample standard
deviation (ddof 1).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Advantage = Callable[[NDArray[np.float64], Sequence[str]], NDArray[np.float64]]

ENTROPIC_KL = math.log(2)
"""Nats between the tilted and the uniform group in TTT-Discover's code."""
MOST_TILT = 2.0**20


def group_z(rewards_N: NDArray[np.float64], groups_N: Sequence[str]) -> NDArray[np.float64]:
    """A = (r - mean) / (sd + 1e-4) within each group (GRPO: Shao et al. 2024, eq. 3; the floor is TRL's).

    A group whose rewards are all equal gets 0: it teaches nothing.
    """
    return _by_group(
        lambda r_K: (r_K - r_K.mean()) / (r_K.std(ddof=1) + 1e-4) if np.ptp(r_K) > 0 else np.zeros_like(r_K),
        rewards_N,
        groups_N,
    )


def centred(rewards_N: NDArray[np.float64], groups_N: Sequence[str]) -> NDArray[np.float64]:
    """A = r - mean within each group (Dr. GRPO: Liu et al. 2025, section 3.2); (K - 1) / K times RLOO's.

    Without the division by the standard deviation, a group that differs by timing noise alone teaches in proportion to
    that noise; under `group_z` it teaches as much as one with right and wrong answers.
    """
    return _by_group(lambda r_K: r_K - r_K.mean(), rewards_N, groups_N)


def leave_one_out(rewards_N: NDArray[np.float64], groups_N: Sequence[str]) -> NDArray[np.float64]:
    """A_i = r_i - mean of the group's others (RLOO: Ahmadian et al. 2024), which is K / (K - 1) (r_i - mean).

    What Dr. Kernel's TRLOO comes to when a rollout is a single turn; a rollout that is alone keeps its reward, as there.
    """
    return _by_group(
        lambda r_K: r_K - (r_K.sum() - r_K) / (len(r_K) - 1) if len(r_K) > 1 else r_K.copy(), rewards_N, groups_N
    )


def global_z(rewards_N: NDArray[np.float64], groups_N: Sequence[str]) -> NDArray[np.float64]:
    """A = (r - mean) / max(sd, 1e-6) over all rollouts of all tasks: the paper's released code, whatever its text says."""
    if len(rewards_N) < 2 or np.ptp(rewards_N) == 0:
        return np.zeros_like(rewards_N)
    return (rewards_N - rewards_N.mean()) / max(rewards_N.std(ddof=1), 1e-6)


def entropic(rewards_N: NDArray[np.float64], groups_N: Sequence[str]) -> NDArray[np.float64]:
    """A_i = e^(b r_i) / mean_{j != i} e^(b r_j) - 1 within each group, b such that the weights are ln 2 nats from uniform.

    TTT-Discover's adaptive estimator (`compute_advantages`, `entropic_adaptive_beta`), in float64 (the reference:
    float32): b solves KL(softmax(b r) || uniform) = ln 2 (`tilt`). A group's advantages do not sum to 0. The divergence
    tends to ln(K / winners) as b grows, so with half of the group or more at the best there is no such b; the reference
    then takes 2^20, which makes a winner's A = (K - 1) / (winners - 1) - 1 and a loser's -1, and so does this.

    The guard: of two rollouts, the better one's A then is 1e12 in the reference. Here the two get +1 and -1. A group
    whose rewards are all equal, or of one rollout, gets 0, as there.
    """
    return _by_group(_entropic, rewards_N, groups_N)


def success(rewards_N: NDArray[np.float64], groups_N: Sequence[str]) -> NDArray[np.float64]:
    """A = 1[r > 0]: every success teaches alike, a failure not at all."""
    return (rewards_N > 0).astype(np.float64)


def none(rewards_N: NDArray[np.float64], groups_N: Sequence[str]) -> NDArray[np.float64]:
    """A = 0: the signal is a teacher's."""
    return np.zeros_like(rewards_N)


def tilt(rewards_K: NDArray[np.float64], nats: float = ENTROPIC_KL) -> float:
    """The b >= 0 with KL(softmax(b r) || uniform) = nats, by doubling from 1 and 60 bisections; 2^20 if there is none below."""

    def divergence(b: float) -> float:
        logits_K = b * (rewards_K - rewards_K.max())
        logq_K = logits_K - np.log(np.exp(logits_K).sum())
        return float((np.exp(logq_K) * (logq_K + math.log(len(rewards_K)))).sum())

    low, high = 0.0, 1.0
    while divergence(high) < nats:
        if high >= MOST_TILT:
            return high
        high *= 2
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if divergence(middle) < nats else (low, middle)
    return high


def _entropic(rewards_K: NDArray[np.float64]) -> NDArray[np.float64]:
    K = len(rewards_K)
    if K < 2 or np.ptp(rewards_K) == 0:
        return np.zeros_like(rewards_K)
    if K == 2:
        return np.where(rewards_K == rewards_K.max(), 1.0, -1.0)
    weights_K = np.exp(tilt(rewards_K) * (rewards_K - rewards_K.max()))
    return weights_K * (K - 1) / (weights_K.sum() - weights_K) - 1


def _by_group(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    rewards_N: NDArray[np.float64],
    groups_N: Sequence[str],
) -> NDArray[np.float64]:
    advantages_N = np.zeros_like(rewards_N)
    groups = np.asarray(groups_N)
    for group in dict.fromkeys(groups_N):
        advantages_N[groups == group] = function(rewards_N[groups == group])
    return advantages_N


ADVANTAGES: dict[str, Advantage] = {
    "group_z": group_z,
    "global_z": global_z,
    "centred": centred,
    "leave_one_out": leave_one_out,
    "entropic": entropic,
    "success": success,
    "none": none,
}

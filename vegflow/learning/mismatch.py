"""What the sampler and the trainer differ by: two accounts of one policy's log-probabilities, rollout by rollout.

Knows differences of log-probabilities at the sampling temperature; what bounds their effect is `importance_cap`
(`vegflow.learning.losses.token_losses`). With our own sampler they are rounding; another engine, or other types of numbers,
are told here how far off they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Mismatch:
    """Of one rollout's tokens, d = log p_trainer - log p_sampler (nats)."""

    log_ratio: float
    """Sum of d: logarithm of the completion's probability, trainer to sampler."""
    mean: float
    """Mean of |d|."""
    max: float
    """Largest |d|."""


def mismatches(difference_R: Tensor, lengths: Sequence[int]) -> list[Mismatch]:
    """One for each of the rollouts whose tokens follow each other in `difference_R`."""
    pieces = difference_R.detach().double().cpu().split(list(lengths))
    return [Mismatch(d.sum().item(), d.abs().mean().item(), d.abs().max().item()) for d in pieces]


def columns(found: Mapping[int, Mismatch], names: Sequence[str], lengths: Sequence[int]) -> dict[str, Any]:
    """The columns of UPDATES, given each rollout's mismatch by its number, its name and its number of tokens."""
    rows = [{"rollout_id": name, **vars(found[number])} for number, name in enumerate(names)]
    return {
        "mismatch_mean": float(np.average([row["mean"] for row in rows], weights=lengths)),
        "mismatch_max": max(row["max"] for row in rows),
        "mismatch": rows,
    }

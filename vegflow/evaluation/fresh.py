"""Inputs nobody has seen, from others that nobody has seen, at the cost of a few copies.

Drawing a million normal numbers costs ten times the call they are for. A timed call gets a mixture of two secret sets
instead, each turned round by a random offset: the same kind of numbers and the same work, another answer, and nothing by
which it could be told from earlier answers. What a tensor's structure does not bear is left out.
"""

import math
import random
from itertools import pairwise
from typing import Literal

import torch

from vegflow.evaluation.inputs import structure_of

Mode = Literal["turn", "turn rows", "rows", "rows and columns", "keep"]
LEAST_SHARE = 0.25  # of each of the two; together they are one, so that a bound which both keep is kept
SPIKES = 8
SPIKE_SHARE = 0.02  # of a tensor's sum of squares that each of them adds
SAMPLE = 4096
LEAST_FACTOR = 0.5  # of a row, and at most 1

_MODES: dict[str, Mode] = {
    "": "turn",
    "probabilities": "turn rows",
    "symmetric": "rows and columns",
    "upper": "rows",
    "lower": "rows",
}
_secret = random.SystemRandom()


def mixing(value: object) -> Mode:
    """How an input may be mixed with another of its kind."""
    if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point:
        return "keep"
    return _MODES.get(structure_of(value), "keep")


def mix(one: torch.Tensor, other: torch.Tensor, target: torch.Tensor, mode: Mode, spikes: bool = False) -> None:
    """Write a mixture of two tensors into `target`; all three contiguous and of one shape and dtype.

    With `spikes`, a few elements of a `turn` become so large that a sum, or a sum of squares, that leaves one out is off
    by more than any tolerance: otherwise the mean of half of a million numbers is nearly that of all.

    `turn`: w one[turned] + (1 - w) other[turned]; `turn rows`: the same by whole rows; `rows` and `rows and columns`:
    D (w one + (1 - w) other), and the same times D, with a random diagonal matrix D; `keep`: one of the two.
    """
    share = _secret.uniform(LEAST_SHARE, 1 - LEAST_SHARE)
    if mode == "keep":
        target.copy_(one if share < 0.5 else other)
        return
    if mode in ("rows", "rows and columns"):
        generator = torch.Generator().manual_seed(_secret.getrandbits(63))
        factors = torch.rand(one.shape[:-1], generator=generator).mul_(1 - LEAST_FACTOR).add_(LEAST_FACTOR).to(one)
        torch.lerp(other, one, share, out=target)
        target.mul_(factors[..., None])
        if mode == "rows and columns":
            target.mul_(factors[..., None, :])
        return
    _turned(one, other, target, share, one.shape[-1] if mode == "turn rows" else 1)
    if spikes and mode == "turn":
        values = target.view(-1)
        places = torch.tensor([_secret.randrange(values.numel()) for _ in range(SPIKES)])
        scale = values[:SAMPLE].float().square().mean().sqrt().item()
        height = scale * math.sqrt(SPIKE_SHARE * values.numel())
        values[places] = torch.copysign(torch.tensor(height), values[places].float()).to(values.dtype)


def _turned(one: torch.Tensor, other: torch.Tensor, target: torch.Tensor, share: float, unit: int) -> None:
    """Write `share` of `one` and the rest of `other` to `target`, each turned round by its own random number of units."""
    size = target.numel()
    first, second, new = one.view(-1), other.view(-1), target.view(-1)
    offsets = [_secret.randrange(max(1, size // unit)) * unit for _ in range(2)]
    cuts = sorted({0, size, *(size - offset for offset in offsets)})
    for start, end in pairwise(cuts):  # one pass over all three
        i, j = ((start + offset) % size for offset in offsets)
        torch.lerp(second[j : j + end - start], first[i : i + end - start], share, out=new[start:end])

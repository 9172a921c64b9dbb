"""Inputs nobody has seen, from others that nobody has seen, at the cost of one pass.

Drawing a million normal numbers costs ten times the call they are for. A timed call gets a mixture of two secret sets
instead, each turned round by a random offset: the same kind of numbers and the same work, another answer, and nothing by
which it could be told from earlier answers. What a tensor's structure does not bear is left out.
"""

import math
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from vegflow.evaluation.inputs import structure_of

Mode = Literal["turn", "turn rows", "rows", "rows and columns", "keep"]
LEAST_SHARE = 0.25  # of each of the two; together they are one, so that a bound which both keep is kept
MOST_TURNS = 1 << 20
SPIKES = 8
SPIKE_SHARE = 0.02  # of a tensor's sum of squares that each of them adds, at least
SPIKE_HEIGHTS = np.linspace(1, 1.1, SPIKES, dtype=np.float32)
"""Times that: no two are equal, or the index of a maximum would be for a program to choose."""
LEAST_FACTOR = 0.5  # of a row, and at most 1

_MODES: dict[str, Mode] = {
    "": "turn",
    "probabilities": "turn rows",
    "symmetric": "rows and columns",
    "upper": "rows",
    "lower": "rows",
}
_secret = random.SystemRandom()

Mixture = Callable[[torch.Tensor], None]
"""Writes one and the same mixture into a tensor of its parents' shape and dtype, each time it is called."""


def mixing(value: object) -> Mode:
    """How an input may be mixed with another of its kind."""
    if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point:
        return "keep"
    return _MODES.get(structure_of(value), "keep")


@dataclass(frozen=True)
class Parent:
    """A secret tensor that mixtures are made from."""

    mode: Mode
    value: torch.Tensor
    ring: torch.Tensor
    """Its elements, and the first of them once more (`MOST_TURNS` at most): turned round it is one piece of this."""
    unit: int
    """Elements by whose multiples it is turned."""
    turns: int
    """How many ways there are to turn it."""
    scale: float
    """Root mean square."""

    @classmethod
    def of(cls, value: torch.Tensor, mode: Mode) -> "Parent":
        """A copy of `value`, to be mixed as `mode` says."""
        size = value.numel()
        unit = value.shape[-1] if mode == "turn rows" else 1
        turns = max(1, min(size, MOST_TURNS) // max(1, unit)) if mode in ("turn", "turn rows") else 1
        flat = value.reshape(-1)
        ring = torch.cat([flat, flat[: (turns - 1) * unit]])
        scale = math.sqrt(flat.float().square().mean().item()) if size and mode == "turn" else 0.0
        return cls(mode, ring[:size].view(value.shape), ring, unit, turns, scale)

    def turned(self) -> torch.Tensor:
        """Its elements, flat, turned round by a random offset."""
        start = _secret.randrange(self.turns) * self.unit
        return self.ring[start : start + self.value.numel()]


def mixture(one: Parent, other: Parent, spikes: bool = False) -> Mixture:
    """A random mixture of two parents of one shape, dtype and mode.

    With `spikes`, a few elements of a `turn` become so large that a sum, or a sum of squares, that leaves one out is off
    by more than any tolerance: otherwise the mean of half of a million numbers is nearly that of all.

    `turn`: w one[turned] + (1 - w) other[turned]; `turn rows`: the same by whole rows; `rows` and `rows and columns`:
    D (w one + (1 - w) other), and the same times D, with a random diagonal matrix D; `keep`: one of the two.
    """
    share = _secret.uniform(LEAST_SHARE, 1 - LEAST_SHARE)
    if one.mode == "keep":
        kept = (one if share < 0.5 else other).value
        return lambda target: target.copy_(kept)
    if one.mode in ("rows", "rows and columns"):
        return _scaled(one.value, other.value, share, one.mode == "rows and columns")
    first, second = one.turned(), other.turned()
    size = first.numel()
    if not spikes or one.mode != "turn" or not size:
        return lambda target: torch.lerp(second, first, share, out=target.view(-1))
    places = np.frombuffer(os.urandom(8 * SPIKES), dtype=np.uint64) % size
    height = (share * one.scale + (1 - share) * other.scale) * math.sqrt(SPIKE_SHARE * size)

    def write(target: torch.Tensor) -> None:
        values = target.view(-1)
        torch.lerp(second, first, share, out=values)
        _spike(values, places, height * SPIKE_HEIGHTS)

    return write


def _scaled(one: torch.Tensor, other: torch.Tensor, share: float, both: bool) -> Mixture:
    """Rows of the mixture times random factors, with `both` its columns too."""
    generator = torch.Generator().manual_seed(_secret.getrandbits(63))
    factors = torch.rand(one.shape[:-1], generator=generator).mul_(1 - LEAST_FACTOR).add_(LEAST_FACTOR).to(one)

    def write(target: torch.Tensor) -> None:
        torch.lerp(other, one, share, out=target)
        target.mul_(factors[..., None])
        if both:
            target.mul_(factors[..., None, :])

    return write


def _spike(values: torch.Tensor, places: np.ndarray, heights: np.ndarray) -> None:
    """Raise the elements at `places` to `heights`, their signs as they are."""
    if values.dtype in (torch.float32, torch.float64):  # a tenth of the time
        numbers = values.numpy()
        numbers[places] = np.copysign(heights, numbers[places])
    else:
        where = torch.from_numpy(places.astype(np.int64))
        values[where] = torch.copysign(torch.from_numpy(heights), values[where].float()).to(values.dtype)

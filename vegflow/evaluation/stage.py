"""The stage, on which a reference and candidates perform in turn: inputs that all of them see, outputs that one alone does.

Knows which memory is whose. The inputs are the same physical memory for all, so that where they lie favours nobody, and
only the judge's process can change them: what a worker writes there it writes to a copy of its own, which the kernel makes
page by page and `memory.Pages` shows. A compiled candidate's outputs have a *seat*, memory that no other candidate maps.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from vegflow.evaluation.arena import POISON, Arena, Description, Shape, views
from vegflow.evaluation.memory import Places


class Stage:
    """The slots of a task's calls."""

    def __init__(self, shape: Shape, held: int, device: str) -> None:
        """`shape` is that of the slots whose inputs change; with inputs alone there are `held` more, which keep theirs.

        On CUDA it is one arena, which is copied to the device and back, and nothing is held.
        """
        self._whole = device == "cuda"
        self.changing = shape.slots
        """The slots from this one on keep their inputs, and their calls' outputs lie where those of earlier ones do."""
        self.shape = replace(shape, slots=shape.slots + (0 if self._whole else held))
        own = shape if self._whole else replace(self.shape, output_bytes=0)
        self._inputs = Arena(own, read_only=not self._whole)
        self._seats: list[Arena] = []
        self._used: set[tuple[int, int]] = set()

    @property
    def about(self) -> dict[str, Any]:
        """What a worker has to know of it."""
        return {"shape": vars(self.shape), "changing": self.changing}

    def inputs(self, slot: int) -> torch.Tensor:
        """The bytes of a slot's inputs, uint8 [input_bytes]."""
        return self._inputs.inputs(slot)

    def outputs(self, slot: int, seat: int) -> torch.Tensor:
        """The bytes of a slot's outputs in a seat, uint8 [output_bytes]; on CUDA there is one seat."""
        return self._seat(seat).outputs(slot % self.changing)

    def descriptors(self, seat: int | None) -> tuple[int, ...]:
        """What a worker maps: the inputs and, if it has a seat, the outputs; on CUDA both in one."""
        if self._whole or seat is None:
            return (self._inputs.fd,)
        return self._inputs.fd, self._seat(seat).fd

    def inode(self) -> int:
        """Of the inputs, by which the kernel names them in a worker's list of mappings."""
        return self._inputs.inode()

    def poison(self, seat: int, slot: int) -> None:
        """Have a slot's outputs be NaN until they are written, which they are to be now."""
        place = seat, slot % self.changing
        if self._whole or place in self._used:  # a seat of one candidate's is NaN until it is used
            self.outputs(slot, seat).fill_(POISON)
        self._used.add(place)

    def poison_pieces(self, seat: int, slot: int, form: list[Description], places: Sequence[Places | None]) -> None:
        """As `poison`, of these pieces of each output alone (None: all of it)."""
        self._used.add((seat, slot % self.changing))
        for output, some in zip(views(self.outputs(slot, seat), 0, form), places, strict=True):
            flat = output.view(-1)
            if some is None:
                flat.view(torch.uint8).fill_(POISON)
            else:
                some.fill(flat, POISON)

    def clear(self, seat: int) -> None:
        """Leave nothing of one candidate's outputs for the next who has the seat; on CUDA nothing of the reference's either."""
        for slot in range(self.changing):
            if self._whole or (seat, slot) in self._used:
                self.outputs(slot, seat).fill_(POISON)
            self._used.discard((seat, slot))

    def close(self) -> None:
        """Give the memory back."""
        for arena in [self._inputs, *self._seats]:
            arena.close()
        self._seats = []

    def _seat(self, number: int) -> Arena:
        if self._whole:
            return self._inputs
        while len(self._seats) <= number:
            self._seats.append(Arena(Shape(self.changing, 0, self.shape.output_bytes)))
            self._seats[-1].bytes.fill_(POISON)
        return self._seats[number]

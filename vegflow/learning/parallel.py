"""One update by several processes with the same model: each takes every n-th prompt, and what they find is added up.

Processes are those of `torchrun`. The prompt and its completions stay together, so no row is read twice; the sums of
gradients and of what is measured go through `all_reduce`, after which all processes take the same step. The adapter is
whole in every process. So is the base, unless it is sharded (`vegflow.models.sharded`): then its layers are gathered from
all processes for each pass, so all must make the same passes, and one that has fewer makes up for it with idle ones.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others before it gives up."""


@dataclass(frozen=True)
class Team:
    """A process among those of an update; by default there is no other."""

    rank: int = 0
    size: int = 1
    sharded: bool = False
    """Whether each holds a part of the base model, so that all make their passes together."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def share(self, groups: list[list[int]]) -> list[list[int]]:
        """The process's groups of rollouts: every `size`-th, from its own number on; of a sharded model, as many for each."""
        mine = groups[self.rank :: self.size]
        most = -(-len(groups) // self.size)
        return mine + [[] for _ in range(most - len(mine))] if self.sharded else mine

    def pace(self, passes: int) -> int:
        """How many passes to make where this process has so many: of a sharded model, the most that any process has."""
        return self._most(passes) if self.sharded else passes

    def agree(self, wish: bool) -> bool:
        """Whether to do something that all must do alike or not at all: of a sharded model, if all wish it."""
        return not self._most(not wish) if self.sharded else wish

    def _most(self, number: int) -> int:
        device = f"cuda:{torch.cuda.current_device()}" if dist.get_backend() == "nccl" else "cpu"
        most = torch.tensor(int(number), device=device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(most)

    def add_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Replace each gradient by its sum over processes; one that nobody has stays none (AdamW skips it then)."""
        if self.size == 1 or not parameters:
            return
        there_P = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=parameters[0].device)
        dist.all_reduce(there_P, dist.ReduceOp.MAX)
        for parameter, there in zip(parameters, there_P.tolist(), strict=True):
            if there:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(parameter.grad)

    def gather(self, mine: Any) -> list[Any]:
        """What each process has, by rank."""
        if self.size == 1:
            return [mine]
        everyone: list[Any] = [None] * self.size
        dist.all_gather_object(everyone, mine)
        return everyone


ALONE = Team()


@contextmanager
def team(device: str, shard: bool = False) -> Iterator[tuple[Team, str]]:
    """The processes that `torchrun` started (its variables WORLD_SIZE, LOCAL_RANK) and this one's device.

    Gloo on the CPU, NCCL on GPUs, a GPU per process. Without `torchrun` there is one process, which has nobody to `shard`
    the base model with, and the device is as given.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE, device
        return
    own = f"{device}:{os.environ['LOCAL_RANK']}" if device == "cuda" else device
    if device == "cuda":
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Team(dist.get_rank(), dist.get_world_size(), shard), own
    finally:
        dist.destroy_process_group()

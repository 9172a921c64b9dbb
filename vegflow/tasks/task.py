"""A task: a reference program in KernelBench's format, and the names by which the pipeline speaks of it."""

import hashlib
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Task:
    """A verifiable task.

    `source` defines `class Model(nn.Module)`, `get_inputs()` (positional arguments of `forward`) and
    `get_init_inputs()` (positional arguments of the constructor), as KernelBench's problem files do.
    """

    id: str
    """Level and number, such as `L1/12`."""
    name: str
    """KernelBench's name, such as `Matmul_with_diagonal_matrices`."""
    description: str
    """What it computes, in one line."""
    arguments: tuple[str, ...]
    """Names of `Model.forward`'s arguments, without `self`."""
    source: str
    """The reference program."""

    @cached_property
    def revision(self) -> str:
        """SHA-256 of the source: the same id with another reference or another size is another revision."""
        return hashlib.sha256(self.source.encode()).hexdigest()

"""The catalogue's references as models of this process, for tests of what a trusted worker does with them."""

from collections.abc import Callable
from typing import Any

import torch

from vegflow.tasks.catalogue import builtin_tasks


def load(number: int) -> tuple[torch.nn.Module, Callable[[], list[Any]]]:
    """Model and get_inputs of a built-in task at cpu size."""
    return load_source(builtin_tasks("cpu")[f"L1/{number}"].source)


def load_source(source: str) -> tuple[torch.nn.Module, Callable[[], list[Any]]]:
    """Model and get_inputs of a program."""
    names: dict[str, Any] = {}
    exec(source, names)
    torch.manual_seed(42)
    return names["Model"](*names["get_init_inputs"]()), names["get_inputs"]

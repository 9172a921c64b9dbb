"""Test code taken apart, statically, into tests that stand alone.

Knows Python's syntax only: what a call answers, and whether that is right, is found out elsewhere.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Test:
    """One test: calls of the function, and a condition on their answers that is decided where the function cannot reach."""

    source: str
    """As it was written."""
    calls: tuple[str, ...]
    """Call expressions of the function under test; empty for a test that cannot be taken apart."""
    condition: str
    """Expression over `_answer_0`, `_answer_1`...: true if the answers are right."""

"""The cost of a pipeline, composed from what its stages cost by themselves.

Knows stored measurements and the stages' rules; nothing is run.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vegflow.config.verification import Stage, VerificationConfig


class Cost(NamedTuple):
    """Of one pass over the pool."""

    wall_s: float
    cpu_s: float


def compose(
    stages: Sequence[Stage],
    pool: Sequence[Mapping[str, Any]],
    checks: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[tuple[str, str], float]],
    stage_costs: Sequence[Mapping[str, Any]],
    config: VerificationConfig,
) -> Cost:
    """Sum over the stages: the fixed part, each reached task's part, and each candidate's own that reaches the stage.

    Which candidates reach it is replayed from `checks`. Raises ConfigError for a stage that was not measured.
    """
    raise NotImplementedError

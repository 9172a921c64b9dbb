"""What filters would say, read from stored outcomes: the one meaning of a filter, for replays and for real runs alike.

Knows the outcome matrix and the order of tests; running anything is left to the executors.
"""

from collections.abc import Mapping, Sequence

from vegflow.config.verification import Stage, VerificationConfig

Outcome = tuple[str, float]
"""What a check said (one of OUTCOMES), and its wall time in seconds."""


def keeps(stage: Stage, outcomes: Mapping[str, Outcome], order: Sequence[int], config: VerificationConfig) -> bool:
    """Whether a filter keeps a candidate with these outcomes (check -> outcome), tests tried in `order`.

    A time-out is a pass under `timeouts: keep`. `capped: s` runs tests until s seconds are used up: what was finished
    by then decides, and the cut is a time-out.
    """
    raise NotImplementedError


def test_orders(
    checks: Sequence[Mapping], config: VerificationConfig, n_tests: Mapping[str, int]
) -> dict[tuple[str, int], list[int]]:
    """(task id, half) -> order of the task's test numbers, `half` as `half_of` gives it.

    A learned order for one half comes from the outcomes of the other half's candidates alone.
    """
    raise NotImplementedError


def half_of(completion_sha256: str) -> int:
    """0 or 1: the half of its task's candidates that a candidate is in, by its digest."""
    return int(completion_sha256[:8], 16) & 1

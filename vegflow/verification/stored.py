"""What filters would say, read from stored outcomes: the one meaning of a filter, for replays and for real runs alike.

Knows the outcome matrix and the order of tests; running anything is left to the executors.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vegflow.config.verification import Stage, VerificationConfig

Outcome = tuple[str, float]
"""What a check said (one of OUTCOMES), and its CPU time in seconds."""
AGREEMENT_INPUTS = 10
"""Inputs whose answers are compared by the ranker `agreement`, those of the first tests as written."""
TEST = "test/{}"
"""The check that is a task's test of this number."""


def keeps(stage: Stage, outcomes: Mapping[str, Outcome], order: Sequence[int], config: VerificationConfig) -> bool:
    """Whether a filter keeps a candidate with these outcomes (check -> outcome), tests tried in `order`.

    A time-out is a pass under `timeouts: keep`, and ends a stage of tests there. `capped: s` runs tests until s seconds
    of CPU time, loading the program included, are used up: what was finished by then decides, and the cut is a time-out.
    """
    if stage.name in ("syntax", "lint"):
        return _passes(outcomes[stage.name], config)
    used = 0.0
    for check in ("import", *(TEST.format(number) for number in tests_of(stage, order))):
        outcome, seconds = outcomes[check]
        used += seconds
        if stage.seconds is not None and used > stage.seconds:
            outcome = "timeout"
        if outcome != "pass":
            return _passes((outcome, seconds), config)
    return True


def tests_of(stage: Stage, order: Sequence[int]) -> Sequence[int]:
    """The numbers of the tests that a filter runs on a candidate, in order."""
    if stage.name == "one_test":
        return order[:1]
    if stage.name == "tests":
        return order[: stage.count]
    return order if stage.name == "capped" else ()


def test_orders(
    checks: Sequence[Mapping[str, Any]], config: VerificationConfig, n_tests: Mapping[str, int]
) -> dict[tuple[str, int], list[int]]:
    """(task id, half) -> order of the task's test numbers, `half` as `half_of` gives it.

    A learned order for one half comes from the outcomes of the other half's candidates alone: at each place stands the
    test that finds, per CPU second it takes, the most of the faults that those before it have not found; `cheapest` looks
    at the seconds alone. Where the other half tells nothing the order is as written.
    """
    written = {(task, half): list(range(count)) for task, count in n_tests.items() for half in (0, 1)}
    if config.test_order == "written":
        return written
    rows: dict[tuple[str, int], list[Mapping[str, Any]]] = {key: [] for key in written}
    for row in checks:
        if row["check"].startswith("test/") and row["task_id"] in n_tests:
            rows[row["task_id"], half_of(row["completion_sha256"])].append(row)
    return {
        (task, half): _order(rows[task, 1 - half], count, config.test_order)
        for task, count in n_tests.items()
        for half in (0, 1)
    }


def _order(rows: Sequence[Mapping[str, Any]], count: int, how: str) -> list[int]:
    """One task's order from the rows of its tests; ties as written."""
    names = {name: place for place, name in enumerate(dict.fromkeys(row["completion_sha256"] for row in rows))}
    finds = np.zeros((len(names), count), dtype=bool)
    seconds = np.zeros((len(names), count))
    for row in rows:
        at = names[row["completion_sha256"]], int(row["check"].removeprefix("test/"))
        finds[at], seconds[at] = row["outcome"] != "pass", row["cpu_s"]
    if not len(names):
        return list(range(count))
    cost = np.maximum(seconds.mean(axis=0), 1e-6)
    if how == "cheapest":
        return [int(number) for number in np.argsort(cost, kind="stable")]
    order: list[int] = []
    open_ = np.ones(len(names), dtype=bool)
    while len(order) < count:
        gain = finds[open_].sum(axis=0) / cost
        gain[order] = -1.0
        order.append(int(gain.argmax()))
        open_ &= ~finds[:, order[-1]]
    return order


def bare(program: str) -> str:
    """A program's text without what has no meaning on the face of it: blank lines, lines of comment, trailing space.

    Two candidates are the same program to the ranker `majority` if these are equal; the text of a string is not looked for.
    """
    lines = (line.rstrip() for line in program.splitlines())
    return "\n".join(line for line in lines if line and not line.lstrip().startswith("#"))


def half_of(completion_sha256: str) -> int:
    """0 or 1: the half of its task's candidates that a candidate is in, by its digest."""
    return int(completion_sha256[:8], 16) & 1


def _passes(outcome: Outcome, config: VerificationConfig) -> bool:
    return outcome[0] == "pass" or (outcome[0] == "timeout" and config.timeouts == "keep")

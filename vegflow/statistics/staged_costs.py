"""What each stage costs on each candidate, as arrays: from stages measured by themselves, else from the checks' own times.

Knows stored measurements; which candidates reach a stage comes from replays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vegflow.config.verification import FULL, RANKERS, Stage
from vegflow.verification.replay import TEST, TaskPool
from vegflow.verification.stored import AGREEMENT_INPUTS, tests_of

START = "start"
"""In STAGE_COSTS: what comes before the first stage, processes and models."""
FREE = ("surprisal", "confidence", "majority", "length", "random", "oracle")
"""Rankers that run nothing."""
AGREEMENT = Stage("tests", count=AGREEMENT_INPUTS)
"""What `agreement` runs, where it was not measured."""


@dataclass(frozen=True)
class StageCost:
    """Of a stage, in seconds."""

    fixed: float
    """Once a run."""
    task: np.ndarray
    """Once for each task that reaches it [T]."""
    own: tuple[np.ndarray, ...]
    """For each candidate that it runs, by task: T arrays [n]."""
    measured: bool
    """By running the stage, or there is nothing to run; else the sum of the checks' times, without process starts."""


class Costs:
    """Costs of stages on a pool; the same for a ranker whatever it keeps, and for the full suite wherever it stops."""

    def __init__(self, pools: Sequence[TaskPool], stage_costs: Sequence[Mapping[str, Any]]) -> None:
        self.pools = pools
        self._rows: dict[str, dict[tuple[str, str], float]] = {}
        for row in stage_costs:
            self._rows.setdefault(row["stage"], {})[row["task_id"], row["completion_sha256"]] = row["wall_s"]
        self._known: dict[str, StageCost] = {}
        self.start = self._rows.get(START, {}).get(("", ""), 0.0)
        """Seconds before the first stage."""

    def of(self, stage: Stage) -> StageCost:
        """Cost of a stage."""
        name = stage.name if stage.name in RANKERS or stage.name == FULL else stage.text
        if name not in self._known:
            rows = self._rows.get(stage.text, self._rows.get(name))
            self._known[name] = self._from_checks(stage) if rows is None else self._from_rows(rows)
        return self._known[name]

    def parts(self, stages: Sequence[Stage]) -> list[StageCost]:
        """Costs of a pipeline's stages; `agreement` finds its answers known where `capped` has run all tests."""
        capped = [any(other.name == "capped" for other in stages[:place]) for place in range(len(stages))]
        known = [seen and stage.name == "agreement" for seen, stage in zip(capped, stages, strict=True)]
        return [self._nothing() if free else self.of(stage) for free, stage in zip(known, stages, strict=True)]

    def _nothing(self) -> StageCost:
        return StageCost(0.0, np.zeros(len(self.pools)), tuple(np.zeros(len(pool)) for pool in self.pools), True)

    @property
    def any_measured(self) -> bool:
        """Whether stages were run at all."""
        return bool(self._rows)

    def measured(self, stages: Sequence[Stage]) -> bool:
        """Whether every stage was measured by running it."""
        return all(self.of(stage).measured for stage in stages)

    def _from_rows(self, rows: Mapping[tuple[str, str], float]) -> StageCost:
        own = tuple(np.array([rows.get((pool.task_id, name), 0.0) for name in pool.names]) for pool in self.pools)
        task = np.array([rows.get((pool.task_id, ""), 0.0) for pool in self.pools])
        return StageCost(rows.get(("", ""), 0.0), task, own, True)

    def _from_checks(self, stage: Stage) -> StageCost:
        own = tuple(np.array([_seconds(stage, pool, i) for i in range(len(pool))]) for pool in self.pools)
        return StageCost(0.0, np.zeros(len(self.pools)), own, stage.name in FREE)


def _seconds(stage: Stage, pool: TaskPool, i: int) -> float:
    """Wall time of a stage's checks of one candidate, up to the first test that it fails; `orm` counts as free.

    A kernel's full suite is its evaluation, timing included, where its time was stored.
    """
    known, outcomes = pool.seconds[i], pool.outcomes[i]
    if stage.name == "agreement":
        stage = AGREEMENT
    if stage.name in RANKERS:
        return 0.0
    if stage.name in ("syntax", "lint", FULL) and stage.name in known:
        return known[stage.name]
    total = 0.0
    for check in (
        "import",
        *(f"{TEST}{n}" for n in (pool.orders[i] if stage.name == FULL else tests_of(stage, pool.orders[i]))),
    ):
        total += known[check]
        if outcomes[check][0] != "pass" or (stage.seconds is not None and total > stage.seconds):
            break
    return total if stage.seconds is None else min(total, stage.seconds)

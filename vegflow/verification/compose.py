"""The cost of a pipeline, composed from what its stages cost by themselves.

Knows stored measurements and the stages' rules; nothing is run.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vegflow.config.verification import Stage, VerificationConfig
from vegflow.errors import ConfigError
from vegflow.verification.ledger import STAGE, Key
from vegflow.verification.replay import TaskPool, replay, steps, task_pools
from vegflow.verification.run import START, cost_key


class Cost(NamedTuple):
    """Of one pass over the pool."""

    wall_s: float
    cpu_s: float


Costs = Mapping[str, Mapping[Key, Cost]]
"""Stage -> whom it is charged to -> cost."""


def compose(
    stages: Sequence[Stage],
    pool: Sequence[Mapping[str, Any]],
    checks: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[tuple[str, str], float]],
    stage_costs: Sequence[Mapping[str, Any]],
    config: VerificationConfig,
) -> Cost:
    """Sum over the stages: the fixed part, each reached task's part, and each candidate's own that reaches the stage.

    Which candidates reach it is replayed from `checks`. `orm` ranks by the first of `scores`. Raises ConfigError for a
    stage that was not measured.
    """
    pools = task_pools(pool, checks, scores, config)
    return compose_pools(stages, pools, costs_by_stage(stage_costs), config, next(iter(scores), ""))


def costs_by_stage(stage_costs: Sequence[Mapping[str, Any]]) -> Costs:
    """Rows of STAGE_COSTS for `compose_pools`."""
    found: dict[str, dict[Key, Cost]] = {}
    for row in stage_costs:
        key = row["task_id"], row["completion_sha256"]
        found.setdefault(row["stage"], {})[key] = Cost(row["wall_s"], row["cpu_s"])
    return found


def compose_pools(
    stages: Sequence[Stage], pools: Mapping[str, TaskPool], costs: Costs, config: VerificationConfig, scorer: str = ""
) -> Cost:
    """As `compose`, for several pipelines on one pool."""
    total = np.array(costs.get(START, {}).get(STAGE, Cost(0.0, 0.0)))
    for stage in stages:
        if cost_key(stage) not in costs:
            raise ConfigError(f"stage '{stage.text}' was not measured: run the pipelines with it among them")
        total += costs[cost_key(stage)].get(STAGE, Cost(0.0, 0.0))
    for task_id, pool in pools.items():
        found = steps(pool, stages, config, scorer)
        ran = replay(pool, found, pool.counts[None]).run[:, 0]
        for place, stage in enumerate(stages):
            if not ran[place].any() or _answered(stages[:place], stage):
                continue
            own = costs[cost_key(stage)]
            total += own.get((task_id, ""), Cost(0.0, 0.0))
            for number in np.flatnonzero(ran[place]):
                total += own[task_id, pool.names[number]]
    return Cost(*total.tolist())


def _answered(before: Sequence[Stage], stage: Stage) -> bool:
    """`agreement` finds all answers it needs where every test was run already, and costs next to nothing."""
    return stage.name == "agreement" and any(other.name == "capped" for other in before)

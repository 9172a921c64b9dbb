"""Really running pipelines on a pool, in interleaved repeats, and what each run and stage costs.

Knows clocks and the order of runs; what a stage does is in `verifiers`, who executes candidates in the executors.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.verification import VerificationConfig
from vegflow.evaluation.judge import Progress
from vegflow.tasks.functions import FunctionTask
from vegflow.tasks.task import Task


class Measured(NamedTuple):
    """Rows of three tables."""

    runs: list[dict[str, Any]]
    """Rows of RUNS."""
    stage_runs: list[dict[str, Any]]
    """Rows of STAGE_RUNS."""
    stage_costs: list[dict[str, Any]]
    """Rows of STAGE_COSTS."""


def run_pipelines(
    pool: Sequence[Mapping[str, Any]],
    checks: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[tuple[str, str], float]],
    tasks: Mapping[str, FunctionTask] | Mapping[str, Task],
    config: VerificationConfig,
    evaluation: EvaluationConfig | None = None,
    scorers: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Run every configured pipeline, `full` and `noop`, `config.repeats` times, in a new random order each time.

    `pool` are rows of POOL; `checks`, rows of CHECKS, serve learned test orders only. `scores`: name of a reward model
    -> (task_id, completion_sha256) -> score, taken where `scorers` (name -> callable from rows of the pool to scores,
    model loaded by its `load()`) has no model to run; a ranker that reads stored scores says so in `fixed_s` of nan.
    `evaluation` is the evaluator's protocol, for kernels.
    """
    raise NotImplementedError

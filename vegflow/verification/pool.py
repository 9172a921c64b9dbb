"""The pool of candidates and the outcome matrix, collected once: every check of every distinct candidate, no early stop.

Knows rollouts, tasks and executors; what a pipeline would make of the outcomes is for replays and runs.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.verification import VerificationConfig
from vegflow.evaluation.judge import Progress
from vegflow.tasks.functions import FunctionTask
from vegflow.tasks.task import Task


class Collected(NamedTuple):
    """Rows of two tables."""

    pool: list[dict[str, Any]]
    """Rows of POOL."""
    checks: list[dict[str, Any]]
    """Rows of CHECKS."""


def collect_functions(
    rollouts: Iterable[Mapping[str, Any]],
    tasks: Mapping[str, FunctionTask],
    config: VerificationConfig,
    progress: Progress | None = None,
) -> Collected:
    """Run every check of every distinct completion. `rollouts` are rows of ROLLOUTS, or have task_id and completion.

    Raises ConfigError for a completion of an unknown task.
    """
    raise NotImplementedError


def collect_kernels(
    rollouts: Iterable[Mapping[str, Any]],
    evaluations: Iterable[Mapping[str, Any]],
    tasks: Mapping[str, Task],
    programs: Mapping[str, str | None],
    evaluation: EvaluationConfig,
    config: VerificationConfig,
    progress: Progress | None = None,
) -> Collected:
    """The same for kernels: verdicts and rewards come from `evaluations` (rows of EVALUATIONS) of the rollouts.

    `programs`: rollout_id -> the assembled program, None where the completion holds none. Tests are the correctness
    trials, each run to its end, without timing. Raises ArtifactError for a rollout without an evaluation.
    """
    raise NotImplementedError

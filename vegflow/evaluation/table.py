"""The second verb, evaluate: rollouts and the candidates in them in, an evaluations table out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judge import evaluate_candidates
from vegflow.tasks.task import Task


def evaluate_rollouts(
    rollouts: Sequence[Mapping[str, Any]],
    candidates: Sequence[Candidate],
    tasks: Mapping[str, Task],
    config: EvaluationConfig,
    store: str | Path,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Rows of EVALUATIONS, one a rollout, in order; `candidates` are the rollouts', in the same order."""
    verdicts = evaluate_candidates(
        candidates,
        tasks,
        config,
        store=Path(store),
        progress=lambda done, total, text: progress(f"{done}/{total} {text}"),
    )
    return [
        {
            "rollout_id": rollout["rollout_id"],
            "task_id": candidate.task_id,
            "task_revision": tasks[candidate.task_id].revision,
            "candidate_sha256": candidate.sha256,
            **verdict.to_dict(),
        }
        for rollout, candidate, verdict in zip(rollouts, candidates, verdicts, strict=True)
    ]

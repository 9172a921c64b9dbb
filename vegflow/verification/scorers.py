"""A reward model as a ranker that is really run: loading it, tokenising candidates and the forward pass are its cost.

Knows where candidates' tokens come from; the model itself is `vegflow.learning`'s.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vegflow.artifacts.reward_model import completion_digest
from vegflow.errors import ArtifactError
from vegflow.learning.reward_model import RewardModel
from vegflow.learning.reward_pool import pool_examples
from vegflow.learning.reward_scoring import score_rollouts
from vegflow.tasks.functions import FunctionTask
from vegflow.verification.executor import Entry
from vegflow.verification.ledger import Key


class RewardScorer:
    """One scorer of a trained reward model, such as `orm.bradley_terry`."""

    def __init__(
        self,
        scorer: str,
        model_file: Path,
        start: Callable[[], tuple[nn.Module, Any]],
        *,
        tasks: Mapping[str, FunctionTask] | None = None,
        rollouts: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """`start` loads the trunk and its tokenizer. Functions, whose `tasks` are given, are tokenised for every score.

        Kernels come with the token ids that the policy drew, in `rollouts`, and are not.
        """
        self._scorer, self._file, self._start, self._tasks = scorer, model_file, start, tasks
        self._drawn: dict[Key, Mapping[str, Any]] = {}
        for row in rollouts:
            self._drawn.setdefault((row["task_id"], completion_digest(row["completion"])), row)

    def load(self) -> None:
        """Load trunk, tokenizer and heads anew."""
        self._trunk, self._tokenizer = self._start()
        self._model = RewardModel.load(self._file)

    def score(self, entries: Sequence[Entry]) -> list[float]:
        """Scores by a model that has not seen the task. Raises ArtifactError if the model has no such scorer."""
        rows = self._tokenised(entries) if self._tasks is not None else self._known(entries)
        name = self._scorer.partition(".")[0]
        found = {
            (row["task_id"], row["completion_sha256"]): row["score"]
            for row in score_rollouts(self._trunk, self._model, name, rows)
            if row["scorer"] == self._scorer
        }
        if entries and not found:
            raise ArtifactError(f"{self._file}: there is no scorer {self._scorer} in it")
        return [found[entry.task_id, entry.sha256] for entry in entries]

    def _tokenised(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        texts = {(entry.task_id, entry.sha256): entry.completion for entry in entries}
        rows = [
            {"task_id": task_id, "completion_sha256": sha, "completion": text, "correct": False}
            for (task_id, sha), text in texts.items()
        ]
        used = {entry.task_id: self._tasks[entry.task_id] for entry in entries}
        return [
            {
                "task_id": one.task_id,
                "completion": texts[one.task_id, one.sha256],
                "prompt_ids": one.prompt_ids,
                "token_ids": one.token_ids,
            }
            for one in pool_examples(rows, used, self._tokenizer).completions
        ]

    def _known(self, entries: Sequence[Entry]) -> list[Mapping[str, Any]]:
        lacking = [entry for entry in entries if (entry.task_id, entry.sha256) not in self._drawn]
        if lacking:
            raise ArtifactError(f"there is no rollout of {lacking[0].task_id} for {len(lacking)} candidates to score")
        return [self._drawn[entry.task_id, entry.sha256] for entry in entries]

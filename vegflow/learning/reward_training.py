"""The training of an outcome reward model: with each loss, on all tasks and fold by fold, and on shuffled labels.

Knows the order of things and what is recorded; losses, heads, adapters and scoring are in the modules beside this one.

Axes: N distinct completions.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from vegflow.artifacts.reward_model import SHUFFLED
from vegflow.config.reward_model import LossName, RewardTraining
from vegflow.errors import VegflowError
from vegflow.learning.calibration import Platt, fit_platt
from vegflow.learning.reward_examples import Examples, Lesson, folds_of, joined, lessons_of
from vegflow.learning.reward_head import Fit, fit_head
from vegflow.learning.reward_model import Member, RewardModel
from vegflow.learning.reward_scoring import read, score_row, tuned_scores
from vegflow.learning.reward_tuning import Tuner
from vegflow.threads import one_thread


@dataclass(frozen=True)
class Trained:
    """A reward model, a row of `REWARD_TRAINING` for each of its models, and rows of `SCORES` for the held-out tasks."""

    model: RewardModel
    training: list[dict[str, Any]]
    held_out: list[dict[str, Any]]


def train(
    trunk: nn.Module,
    examples: Examples,
    config: RewardTraining,
    name: str,
    targets: Sequence[str] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Train a model with each loss, on all tasks and without each fold, and the latter also on shuffled labels.

    Raises VegflowError if no task teaches anything, or the training is not finite.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in trunk.parameters())
    with one_thread() if on_cpu else nullcontext():
        return _Trainer(trunk, examples, config, name, tuple(targets), progress).run()


class _Trainer:
    """The steps of `train`, which share the trunk's reading of all completions."""

    def __init__(
        self,
        trunk: nn.Module,
        examples: Examples,
        config: RewardTraining,
        name: str,
        targets: tuple[str, ...],
        progress: Callable[[str], None],
    ) -> None:
        self.examples, self.config, self.name, self.targets, self.progress = examples, config, name, targets, progress
        self.lessons = lessons_of(examples, config)
        if not self.lessons:
            raise VegflowError(
                f"reward model {name}: none of the {len(set(examples.tasks))} tasks has completions that pass "
                f"({config.label}) and others that fail, so there is nothing to learn; train on more rollouts or tasks"
            )
        self.folds = folds_of(examples.tasks, self.lessons, config.folds, config.seed)
        began = time.perf_counter()
        self.reading = read(trunk, examples.completions, config)
        self.trunk_seconds = time.perf_counter() - began
        progress(f"{len(examples.completions)} completions read, {len(self.lessons)} tasks teach")
        self.tuner = Tuner(trunk, config, targets) if config.adapter == "lora" else None
        self.training: list[dict[str, Any]] = []

    def run(self) -> Trained:
        """All models, their records, and the scores of the tasks held out."""
        members, held_out = [], []
        for loss in self.config.losses:
            parts = {fold: self._train(loss, self.lessons, fold) for fold in sorted(set(self.folds.values()))}
            scores_N = self._held_out_scores(parts)
            scalings = self._scalings(scores_N)
            whole = self._train(loss, self.lessons, None)
            members += [replace(member, platt=scalings.get(member.fold)) for member in [whole, *parts.values()]]
            held_out += self._rows(f"{self.name}.{loss}", scores_N, scalings)
        if self.config.shuffles and self.folds:
            held_out += self._shuffled()
        model = RewardModel(self.config, self.folds, tuple(members), self.targets if self.tuner else ())
        return Trained(model, self.training, held_out)

    def _shuffled(self) -> Iterator[dict[str, Any]]:
        """Held-out scores of models that learnt from labels dealt out at random within each task."""
        lessons = lessons_of(self.examples.shuffled(self.config.seed), self.config)
        for loss in self.config.losses:
            parts = {f: self._train(loss, lessons, f, SHUFFLED) for f in sorted(set(self.folds.values()))}
            yield from self._rows(f"{self.name}.{loss}{SHUFFLED}", self._held_out_scores(parts), {})

    def _train(self, loss: LossName, lessons: Mapping[str, Lesson], fold: int | None, ending: str = "") -> Member:
        """A model that sees no task of the fold."""
        began = time.perf_counter()
        own = {task: lesson for task, lesson in lessons.items() if fold is None or self.folds[task] != fold}
        head, fit = fit_head(self.reading.states_ND, joined(list(own.values())), loss, self.config.l2)
        adapter = None
        if self.tuner:
            head, tuned = self.tuner.train(self.examples.completions, own, loss, head)
            adapter, fit = self.tuner.adapter(), replace(tuned, steps=fit.steps + tuned.steps)
        self.training.append(self._record(f"{self.name}.{loss}{ending}", fold, own, fit, loss, began))
        seen = "all tasks" if fold is None else f"without fold {fold}"
        self.progress(f"{loss}{ending}, {seen}: loss {fit.loss:.4f}, {fit.steps} steps")
        return Member(loss, fold, head, adapter)

    def _record(
        self, scorer: str, fold: int | None, lessons: Mapping[str, Lesson], fit: Fit, loss: LossName, began: float
    ) -> dict[str, Any]:
        paired = loss == "bradley_terry"
        return {
            "scorer": scorer,
            "fold": fold,
            "n_train_tasks": len(lessons),
            "n_train_completions": sum(len(lesson.numbers_M) for lesson in lessons.values()),
            "n_pairs": sum(len(lesson.better_P) for lesson in lessons.values()) if paired else 0,
            "train_loss": fit.loss,
            "train_accuracy": fit.accuracy,
            "steps": fit.steps,
            "seconds": time.perf_counter() - began,
            "trunk_seconds": self.trunk_seconds,
        }

    def _held_out_scores(self, parts: Mapping[int, Member]) -> np.ndarray:
        """Score of each completion by the model that did not see its task [N]; NaN if there are no folds."""
        fold_N = np.array([self.folds.get(task, -1) for task in self.examples.tasks])
        scores_N = np.full(len(fold_N), np.nan)
        for fold, member in parts.items():
            own = np.flatnonzero(fold_N == fold)
            if self.tuner:
                scores_N[own] = tuned_scores(member, [self.examples.completions[i] for i in own], self.tuner)
            else:
                scores_N[own] = member.head(self.reading.states_ND[torch.as_tensor(own)]).numpy()
        return scores_N

    def _scalings(self, scores_N: np.ndarray) -> dict[int | None, Platt]:
        """Platt's scaling by fold: fitted on the held-out scores of the other folds' tasks, and of all for None."""
        if not self.folds:
            return {}
        fold_N = np.array([self.folds[task] for task in self.examples.tasks])
        whole: dict[int | None, Platt] = {None: fit_platt(scores_N, self.examples.passes_N)}
        return whole | {
            int(fold): fit_platt(scores_N[fold_N != fold], self.examples.passes_N[fold_N != fold])
            for fold in np.unique(fold_N)
        }

    def _rows(self, scorer: str, scores_N: np.ndarray, scalings: Mapping[int | None, Platt]) -> list[dict[str, Any]]:
        if not self.folds:
            return []
        return [
            score_row(completion, scorer, float(value), scalings.get(fold), fold, nll, seconds)
            for completion, value, nll, seconds in zip(
                self.examples.completions, scores_N, self.reading.nll_N, self.reading.seconds_N, strict=True
            )
            for fold in [self.folds[completion.task_id]]
        ]

"""What a reward model learns from: the distinct completions of each task with their verdicts, and pairs drawn from them.

Knows rows of rollouts and evaluations; models and losses are for others.

Axes: N distinct completions, M of them in a lesson, P pairs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vegflow.artifacts.reward_model import completion_digest
from vegflow.config.reward_model import Label, RewardTraining
from vegflow.errors import VegflowError
from vegflow.randomness import stream

Row = Mapping[str, Any]
UNKNOWN = (np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Completion:
    """A distinct text among the completions of a task; its token ids are those of the first rollout that wrote it."""

    task_id: str
    sha256: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Examples:
    """Completions with their verdicts, sorted by task and digest."""

    completions: tuple[Completion, ...]
    passes_N: NDArray[np.bool_]
    speed_N3: NDArray[np.float64]
    """Logarithms of the speedup and of its interval's ends; NaN where they are not known."""

    @property
    def tasks(self) -> list[str]:
        """Task of each completion."""
        return [completion.task_id for completion in self.completions]

    def by_task(self) -> dict[str, NDArray[np.int64]]:
        """Numbers of each task's completions."""
        groups = groupby(range(len(self.completions)), key=self.tasks.__getitem__)
        return {task: np.array(list(numbers)) for task, numbers in groups}

    def shuffled(self, seed: int) -> "Examples":
        """The same completions with the verdicts of each task dealt out among them at random."""
        order_N = np.arange(len(self.completions))
        for task, numbers in self.by_task().items():
            order_N[numbers] = stream("reward model, shuffled labels", seed, task).permutation(numbers)
        return replace(self, passes_N=self.passes_N[order_N], speed_N3=self.speed_N3[order_N])


@dataclass(frozen=True)
class Lesson:
    """What is learnt from one task, or from several in one: completions by number, and pairs of them by place."""

    numbers_M: NDArray[np.int64]
    passes_M: NDArray[np.bool_]
    better_P: NDArray[np.int64]
    worse_P: NDArray[np.int64]
    margin_P: NDArray[np.float64]


def distinct(rollouts: Iterable[Row]) -> list[Completion]:
    """Completions of different text, task by task."""
    found: dict[tuple[str, str], Completion] = {}
    for row in rollouts:
        sha256 = completion_digest(row["completion"])
        key = (row["task_id"], sha256)
        if key not in found:
            found[key] = Completion(*key, tuple(row["prompt_ids"]), tuple(row["token_ids"]))
    return [found[key] for key in sorted(found)]


def make_examples(rollouts: Sequence[Row], evaluations: Iterable[Row], label: Label) -> Examples:
    """Join rollouts with their verdicts; those whose evaluation broke (`evaluator_error`) teach nothing.

    Raises VegflowError if a rollout has no verdict.
    """
    verdicts = {row["rollout_id"]: row for row in evaluations}
    if missing := [row["rollout_id"] for row in rollouts if row["rollout_id"] not in verdicts]:
        raise VegflowError(
            f"{len(missing)} rollouts have no evaluation, the first is {missing[0]}; evaluate them first"
        )
    judged = [row for row in rollouts if verdicts[row["rollout_id"]]["status"] != "evaluator_error"]
    completions = distinct(judged)
    by_text = {(row["task_id"], completion_digest(row["completion"])): row["rollout_id"] for row in reversed(judged)}
    own = [verdicts[by_text[c.task_id, c.sha256]] for c in completions]
    return Examples(
        tuple(completions),
        np.array([bool(verdict[label]) for verdict in own], dtype=bool),
        np.array([_log_speeds(verdict) for verdict in own], dtype=float).reshape(-1, 3),
    )


def _log_speeds(verdict: Row) -> tuple[float, float, float]:
    speeds = [verdict.get(key) for key in ("speedup", "speedup_low", "speedup_high")]
    if not verdict["correct"] or not all(speeds):
        return UNKNOWN
    return tuple(float(np.log(speed)) for speed in speeds)


def lessons_of(examples: Examples, config: RewardTraining) -> dict[str, Lesson]:
    """What each task teaches; a task without both outcomes, and without speeds to tell apart, teaches nothing.

    As in the paper: min(pairs_per_task, passing, failing) pairs, drawn without replacement, so that no completion is in
    two of them. `speed_pairs` come on top.
    """
    lessons = {}
    for task, numbers in examples.by_task().items():
        rng = stream("reward model, pairs", config.seed, task)
        passes = examples.passes_N[numbers]
        better, worse = (rng.permutation(numbers[side]) for side in (passes, ~passes))
        size = min(config.pairs_per_task, len(better), len(worse))
        better, worse, margin = better[:size], worse[:size], np.zeros(size)
        if config.speed_pairs:
            faster, slower = _speed_pairs(examples.speed_N3, numbers, config.speed_pairs, rng)
            gained = examples.speed_N3[faster, 0] - examples.speed_N3[slower, 0]
            better, worse = np.r_[better, faster], np.r_[worse, slower]
            margin = np.r_[margin, config.margin * gained]
        if len(better):
            used = np.unique(np.r_[better, worse])
            places = (np.searchsorted(used, side) for side in (better, worse))
            lessons[task] = Lesson(used, examples.passes_N[used], *places, margin)
    return lessons


def _speed_pairs(
    speed_N3: NDArray[np.float64], numbers: NDArray[np.int64], most: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most so many pairs (faster, slower) of which the lower end of one speedup lies above the upper end of the other."""
    low, high = speed_N3[numbers, 1], speed_N3[numbers, 2]
    faster, slower = np.nonzero(low[:, None] > high[None, :])
    chosen = rng.permutation(len(faster))[:most]
    return numbers[faster[chosen]], numbers[slower[chosen]]


def joined(lessons: Sequence[Lesson]) -> Lesson:
    """Several lessons as one."""
    starts = np.cumsum([0, *(len(lesson.numbers_M) for lesson in lessons[:-1])])
    return Lesson(
        np.concatenate([lesson.numbers_M for lesson in lessons]),
        np.concatenate([lesson.passes_M for lesson in lessons]),
        np.concatenate([lesson.better_P + start for lesson, start in zip(lessons, starts, strict=True)]),
        np.concatenate([lesson.worse_P + start for lesson, start in zip(lessons, starts, strict=True)]),
        np.concatenate([lesson.margin_P for lesson in lessons]),
    )


def folds_of(tasks: Iterable[str], teaching: Iterable[str], folds: int, seed: int) -> dict[str, int]:
    """The fold of each task, so that each fold has its share of the tasks that teach; no folds if fewer than two do."""
    teaching = sorted(set(teaching))
    folds = min(folds, len(teaching))
    if folds < 2:
        return {}
    others = sorted(set(tasks) - set(teaching))
    rng = stream("reward model, folds", seed)
    order = [*rng.permutation(teaching).tolist(), *rng.permutation(others).tolist()]
    return {task: place % folds for place, task in enumerate(order)}

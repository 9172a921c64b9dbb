"""Any pipeline replayed from the pool, the outcome matrix and stored scores: who reaches, passes and leaves each stage.

Knows stored outcomes and the stages' rules; what candidates cost, and how accurate a pipeline is, are for `compose` and
`vegflow.statistics`. Computed on the whole pool of a task, whatever subset of it is replayed: what a filter says of a
candidate, and every ranker's score, the counts of text majority and of output agreement among them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vegflow.config.verification import FULL, RANKERS, Stage, VerificationConfig
from vegflow.errors import ConfigError
from vegflow.verification.stored import AGREEMENT_INPUTS, Outcome, bare, half_of, keeps, test_orders

TEST = "test/"
"""How the names of checks begin that run one test."""


@dataclass(frozen=True)
class TaskPool:
    """A task's n distinct candidates, in the order in which they were first drawn, as arrays."""

    task_id: str
    names: tuple[str, ...]
    """completion_sha256 of each."""
    counts: np.ndarray
    """Samples that wrote it [n]."""
    correct: np.ndarray
    """[n] bool."""
    fast_1: np.ndarray
    """[n] bool."""
    reward: np.ndarray
    """[n]."""
    nll: np.ndarray
    """[n], NaN where none was recorded."""
    length: np.ndarray
    """Characters of the program (of the completion, where it holds none) [n]."""
    twins: np.ndarray
    """Samples whose completion makes the same program [n]."""
    outcomes: tuple[dict[str, Outcome], ...]
    """check -> (outcome, CPU seconds)."""
    seconds: tuple[dict[str, float], ...]
    """check -> its wall time, seconds."""
    answers: tuple[dict[str, str], ...]
    """check -> digest of the answer, where there was one."""
    orders: tuple[tuple[int, ...], ...]
    """Order in which each candidate's tests are tried."""
    scores: Mapping[str, np.ndarray]
    """Reward model -> its scores [n], NaN where it gave none."""
    kept: dict[Stage, np.ndarray] = field(default_factory=dict, compare=False, repr=False)
    """What filters keep [n] bool, as far as it was asked for."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def samples(self) -> int:
        """All samples of the task, duplicates counted."""
        return int(self.counts.sum())


def task_pools(
    pool: Sequence[Mapping[str, Any]],
    checks: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[tuple[str, str], float]],
    config: VerificationConfig,
) -> dict[str, TaskPool]:
    """Rows of POOL and CHECKS, and score tables, by task id (in the order of the pool)."""
    outcomes: dict[tuple[str, str], dict[str, Outcome]] = {}
    seconds: dict[tuple[str, str], dict[str, float]] = {}
    answers: dict[tuple[str, str], dict[str, str]] = {}
    tests: dict[str, set[int]] = {}
    for row in checks:
        key = row["task_id"], row["completion_sha256"]
        outcomes.setdefault(key, {})[row["check"]] = row["outcome"], row["cpu_s"]
        seconds.setdefault(key, {})[row["check"]] = row["wall_s"]
        if row["answer_sha256"] is not None:
            answers.setdefault(key, {})[row["check"]] = row["answer_sha256"]
        if row["check"].startswith(TEST):
            tests.setdefault(row["task_id"], set()).add(int(row["check"].removeprefix(TEST)))
    orders = test_orders(checks, config, {task: len(numbers) for task, numbers in tests.items()})
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for row in pool:
        by_task.setdefault(row["task_id"], []).append(row)
    return {
        task: _task_pool(
            task, sorted(rows, key=lambda row: row["first_index"]), outcomes, seconds, answers, orders, scores
        )
        for task, rows in by_task.items()
    }


def _task_pool(
    task: str, rows: list, outcomes: dict, seconds: dict, answers: dict, orders: dict, scores: Mapping
) -> TaskPool:
    keys = [(task, row["completion_sha256"]) for row in rows]
    texts = [row["program"] if row["program"] is not None else row["completion"] for row in rows]
    programs = [bare(text) for text in texts]
    samples: dict[str, int] = {}
    for row, program in zip(rows, programs, strict=True):
        samples[program] = samples.get(program, 0) + row["count"]
    return TaskPool(
        task_id=task,
        names=tuple(name for _, name in keys),
        counts=np.array([row["count"] for row in rows], dtype=np.int64),
        correct=np.array([row["correct"] for row in rows], dtype=bool),
        fast_1=np.array([row["fast_1"] for row in rows], dtype=bool),
        reward=np.array([row["reward"] for row in rows], dtype=float),
        nll=np.array([np.nan if row["nll"] is None else row["nll"] for row in rows], dtype=float),
        length=np.array([len(text) for text in texts], dtype=float),
        twins=np.array([samples[program] for program in programs], dtype=np.int64),
        outcomes=tuple(outcomes.get(key, {}) for key in keys),
        seconds=tuple(seconds.get(key, {}) for key in keys),
        answers=tuple(answers.get(key, {}) for key in keys),
        orders=tuple(tuple(orders.get((task, half_of(name)), ())) for _, name in keys),
        scores={
            scorer: np.array([found.get(key, np.nan) for key in keys], dtype=float) for scorer, found in scores.items()
        },
    )


# ---- rankers: scores [n] of a task's candidates, the highest first -----------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a ranker may know beside the pool."""

    reached: np.ndarray
    """Candidates that the filters before it keep [n]."""
    scorer: str
    """The reward model that `orm` stands for."""


def _agreement(task: TaskPool, seen: Seen) -> np.ndarray:
    """Samples that gave the same answers to the inputs of the first AGREEMENT_INPUTS tests as written; 0 without one.

    They are more than the tests that came before it: all who passed those gave the same answers to them.
    """
    clusters: dict[tuple, int] = {}
    keys = []
    for i in range(len(task)):
        key = tuple(task.answers[i].get(f"{TEST}{t}") for t in range(min(AGREEMENT_INPUTS, len(task.orders[i]))))
        keys.append(key if any(answer is not None for answer in key) else None)
        if keys[-1] is not None and seen.reached[i]:
            clusters[keys[-1]] = clusters.get(keys[-1], 0) + int(task.counts[i])
    return np.array([0 if key is None else clusters.get(key, 0) for key in keys], dtype=float)


def _orm(task: TaskPool, seen: Seen) -> np.ndarray:
    if seen.scorer not in task.scores:
        raise ConfigError(f"stage orm: there are no scores of a reward model '{seen.scorer}'")
    return task.scores[seen.scorer]


RANKINGS: dict[str, Callable[[TaskPool, Seen], np.ndarray]] = {
    "orm": _orm,
    "surprisal": lambda task, seen: task.nll,
    "confidence": lambda task, seen: -task.nll,
    "majority": lambda task, seen: task.twins.astype(float),
    "agreement": _agreement,
    "length": lambda task, seen: -task.length,
    "random": lambda task, seen: np.zeros(len(task)),
    "oracle": lambda task, seen: task.reward,
}
"""Ranker -> scores: the likeliest to pass by a reward model; the least likely; the likeliest; the commonest text; the
commonest answers; the shortest; none before another; the best by the full suite. A missing score comes last."""


# ---- a pipeline on one task -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A stage on one task's pool: what it would say of each candidate."""

    stage: Stage
    keep: np.ndarray | None = None
    """Of a filter, and of the full suite [n]."""
    score: np.ndarray | None = None
    """Of a ranker [n]: higher is earlier."""


def steps(task: TaskPool, stages: Sequence[Stage], config: VerificationConfig, scorer: str = "") -> list[Step]:
    """The stages of a pipeline on a task's pool; `scorer` is whose scores `orm` ranks by.

    Raises ConfigError for `orm` without scores.
    """
    found, reached = [], np.ones(len(task), dtype=bool)
    for stage in stages:
        if stage.name in RANKERS:
            score = RANKINGS[stage.name](task, Seen(reached, scorer))
            found.append(Step(stage, score=np.where(np.isnan(score), -np.inf, score)))
            continue
        keep = task.correct if stage.name == FULL else _kept(task, stage, config)
        found.append(Step(stage, keep=keep))
        reached = reached & keep
    return found


def _kept(task: TaskPool, stage: Stage, config: VerificationConfig) -> np.ndarray:
    """What a filter keeps of a task's candidates [n] bool."""
    if stage not in task.kept:
        pairs = zip(task.outcomes, task.orders, strict=True)
        task.kept[stage] = np.array([keeps(stage, outcomes, order, config) for outcomes, order in pairs], dtype=bool)
    return task.kept[stage]


def blocks(scores: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Place [n] of each candidate in the order by the last of `scores`, equals by the one before; equal in all: tied."""
    place = np.zeros(n, dtype=np.int64)
    for score in scores:
        later = np.unique(-score, return_inverse=True)[1]
        place = np.unique(later * n + place, return_inverse=True)[1]
    return place


def orders_of(found: Sequence[np.ndarray], step: Step) -> list[np.ndarray]:
    """Scores that order the candidates after a ranker: its own before those it found; `random` forgets them."""
    return [] if step.stage.name == "random" else [*found, step.score]


@dataclass(frozen=True)
class Replay:
    """R replays of a pipeline of S stages on a task of n candidates."""

    reached: np.ndarray
    """Candidates that came to each stage [S, R, n]."""
    run: np.ndarray
    """Those that it ran, or scored [S, R, n]: fewer than reached it only for `full: first`."""
    kept: np.ndarray
    """Those that it kept [S, R, n]."""
    picks: np.ndarray
    """Number of the candidate picked [R], -1 if none was."""

    def value(self, of: np.ndarray) -> np.ndarray:
        """A quantity `of` [n] the candidates, at the picks [R]; 0 without a pick."""
        return np.where(self.picks >= 0, of[self.picks], 0)


def replay(task: TaskPool, found: Sequence[Step], drawn: np.ndarray, rng: np.random.Generator | None = None) -> Replay:
    """Replay a pipeline on R draws: `drawn` [R, n] copies of each candidate.

    Distinct candidates go through the stages. Ties are broken by a random order of the copies (a candidate stands where
    its first copy does), without `rng` by the order of the pool. `top M` keeps the first M distinct candidates. The pick
    is the first of those left, after the full suite the one of the highest reward; with none left there is no pick if
    the pipeline has a `top` or the full suite; else those that filters pruned stay at the bottom, and the first of them
    is it (the paper's rule).
    """
    alive = drawn > 0
    ties = _ties(drawn, rng)
    scores: list[np.ndarray] = []
    place = blocks(scores, len(task)) + ties
    reached, run, kept = [], [], []
    for step in found:
        reached.append(alive)
        ran = alive
        if step.score is not None:
            scores = orders_of(scores, step)
            if step.stage.name == "random":
                ties = _ties(drawn, rng)
            place = blocks(scores, len(task)) + ties
            if step.stage.top is not None:
                alive = alive & (_position(place, alive) < step.stage.top)
        elif step.stage.name == FULL and step.stage.count is not None:
            ran = alive & (_before(place, alive & step.keep) < step.stage.count)
            alive = ran & step.keep
        else:
            alive = alive & step.keep
        run.append(ran)
        kept.append(alive)
    return Replay(np.stack(reached), np.stack(run), np.stack(kept), _picks(task, found, drawn, alive, place))


def _picks(task: TaskPool, found: Sequence[Step], drawn: np.ndarray, alive: np.ndarray, place: np.ndarray):
    final = found[-1].stage.name == FULL
    if final:
        place = blocks([task.reward], len(task)) * (place.max() + 1) + place
    picks = np.where(alive, place, np.inf).argmin(axis=1)
    none = ~alive.any(axis=1)
    if any(step.stage.name == FULL or step.stage.top is not None for step in found):
        return np.where(none, -1, picks)
    bottom = np.where(drawn > 0, place - np.floor(place), np.inf).argmin(axis=1)
    return np.where(none, bottom, picks)


def _ties(drawn: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Numbers in [0, 1) [R, n] that order tied candidates: the least of a uniform number for each copy."""
    if rng is None:
        return np.broadcast_to(np.arange(drawn.shape[1]) / drawn.shape[1], drawn.shape)
    with np.errstate(divide="ignore"):
        least = 1 - rng.random(drawn.shape) ** (1 / np.maximum(drawn, 1))
    return np.minimum(least, np.nextafter(1, 0))


def _position(place: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Number of candidates `among` [R, n] that stand before each [R, n]."""
    return _before(place, among)


def _before(place: np.ndarray, counted: np.ndarray) -> np.ndarray:
    order = np.argsort(place, axis=1, kind="stable")
    in_order = np.take_along_axis(counted, order, axis=1)
    before = np.cumsum(in_order, axis=1) - in_order
    out = np.empty_like(before)
    np.put_along_axis(out, order, before, axis=1)
    return out


def draws(task: TaskPool, k: int, repeats: int, rng: np.random.Generator) -> np.ndarray:
    """Copies [R, n] of each candidate in random subsets of k of the task's samples (all of them if there are fewer)."""
    k = min(k, task.samples)
    return rng.multivariate_hypergeometric(task.counts, k, size=repeats)

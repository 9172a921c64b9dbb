"""One pipeline really run on a pool: stage after stage, with what each costs, and what is picked in the end.

Knows stages and orders; verifiers and executors do the work. Decides as `replay` does with all of a task's samples, equals
in the order in which they were drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from vegflow.config.verification import FULL, Stage
from vegflow.verification.executor import Entry
from vegflow.verification.ledger import Key, Ledger
from vegflow.verification.stored import keeps
from vegflow.verification.verifiers import FILTERS, RANKERS, Context


@dataclass
class StageRun:
    """What a stage did."""

    stage: Stage
    n_in: int
    n_kept: int
    n_run: int
    ledger: Ledger

    @property
    def wall_s(self) -> float:
        """Wall time, seconds."""
        return sum(self.ledger.wall_s.values())

    @property
    def cpu_s(self) -> float:
        """CPU time of all processes, seconds."""
        return sum(self.ledger.cpu_s.values())


def sum_of(one: StageRun, other: StageRun) -> StageRun:
    """The same stage on both their candidates."""
    one.ledger.absorb(other.ledger)
    counts = (one.n_in + other.n_in, one.n_kept + other.n_kept, one.n_run + other.n_run)
    return StageRun(one.stage, *counts, one.ledger)


@dataclass
class Course:
    """Candidates on their way through a pipeline."""

    alive: list[Entry]
    """Those left, task by task, in the order in which they were drawn."""
    order: dict[Key, tuple[float, ...]] = field(default_factory=dict)
    """What those left are ordered by: minus the last ranker's score, minus that of the one before..."""
    rewards: dict[Key, float] = field(default_factory=dict)
    """Of those that passed the full suite."""
    runs: list[StageRun] = field(default_factory=list)

    def by_task(self) -> dict[str, list[Entry]]:
        """Those left of each task, the first in order first."""
        tasks: dict[str, list[Entry]] = {}
        for entry in self.alive:
            tasks.setdefault(entry.task_id, []).append(entry)
        for entries in tasks.values():
            entries.sort(key=lambda entry: self.order.get((entry.task_id, entry.sha256), ()))
        return tasks


def run_pipeline(stages: Sequence[Stage], entries: Sequence[Entry], context: Context) -> Course:
    """Send entries (task by task, as drawn) through the stages."""
    course = Course(list(entries))
    for stage in stages:
        before = [(entry.task_id, entry.sha256) for entry in course.alive]
        context.executor.ledger = ledger = Ledger(context.executor.cpu_s)
        if stage.name == FULL:
            n_run = _verify(stage, course, context)
        elif stage.name in RANKERS:
            n_run = _rank(stage, course, context)
        else:
            n_run = _filter(stage, course, context)
        context.executor.settle()
        ledger.spread(before)
        course.runs.append(StageRun(stage, len(before), len(course.alive), n_run, ledger))
    return course


def picks(stages: Sequence[Stage], entries: Sequence[Entry], course: Course) -> dict[str, Entry | None]:
    """The candidate picked for each task, by the rule of `replay`.

    The first of those left, after the full suite the one of the highest reward. With none left there is no pick if the
    pipeline has a `top` or the full suite; else what filters pruned stays at the bottom, and the first of them is picked.
    """
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.task_id, entry)
    selective = any(stage.name == FULL or stage.top is not None for stage in stages)
    left = course.by_task()
    found: dict[str, Entry | None] = {}
    for task_id, entry in first.items():
        own = left.get(task_id, [])
        if own and stages and stages[-1].name == FULL:
            found[task_id] = max(
                own, key=lambda entry: course.rewards[entry.task_id, entry.sha256]
            )  # the first of equals
        else:
            found[task_id] = own[0] if own else None if selective else entry
    return found


def _filter(stage: Stage, course: Course, context: Context) -> int:
    found = FILTERS[stage.name](context, stage, course.alive)
    kept = []
    for entry, checks in zip(course.alive, found, strict=True):
        context.seen.setdefault((entry.task_id, entry.sha256), {}).update(checks)
        outcomes = {name: (check.outcome, 0.0) for name, check in checks.items()}
        if keeps(stage, outcomes, context.order(entry), context.config):
            kept.append(entry)
    course.alive = kept
    return len(found)


def _rank(stage: Stage, course: Course, context: Context) -> int:
    scores = RANKERS[stage.name](context, stage, course.alive)
    for entry, score in zip(course.alive, scores, strict=True):
        key = entry.task_id, entry.sha256
        course.order[key] = () if stage.name == "random" else (-score, *course.order.get(key, ()))
    if stage.top is not None:
        kept = {(entry.task_id, entry.sha256) for own in course.by_task().values() for entry in own[: stage.top]}
        course.alive = [entry for entry in course.alive if (entry.task_id, entry.sha256) in kept]
    return len(scores)


def _verify(stage: Stage, course: Course, context: Context) -> int:
    """The full suite, in order; `full: first B` stops a task at its B-th success."""
    tasks = [(own, [context.order(entry) for entry in own]) for own in course.by_task().values()]
    found = context.executor.full_all(tasks, stage.count)
    n_run = 0
    for (own, _), said in zip(tasks, found, strict=True):
        for entry, verdict in zip(own, said, strict=False):
            n_run += verdict.runs
            if verdict.correct:
                course.rewards[entry.task_id, entry.sha256] = verdict.reward
    course.alive = [entry for entry in course.alive if (entry.task_id, entry.sha256) in course.rewards]
    return n_run

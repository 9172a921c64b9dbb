"""The verifiers: filters, which keep or prune, and rankers, which order; small functions by name, for users to add to.

Knows what each of them looks at; who executes candidates is the executor's business, what a pipeline does with what they
say `pipeline`'s.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vegflow.config.verification import Stage, VerificationConfig
from vegflow.errors import ConfigError
from vegflow.verification.executor import Check, Checks, Entry, Executor
from vegflow.verification.ledger import Key
from vegflow.verification.lint import lint
from vegflow.verification.stored import AGREEMENT_INPUTS, TEST, bare, half_of, tests_of


class Scorer(Protocol):
    """A reward model that is really run."""

    def load(self) -> None:
        """Load the model: what it costs whatever the number of candidates."""

    def score(self, entries: Sequence[Entry]) -> list[float]:
        """A score for each, tokenisation included; higher is likelier to pass."""


@dataclass
class Context:
    """What verifiers work with in one run of a pipeline."""

    executor: Executor
    config: VerificationConfig
    n_tests: Mapping[str, int]
    """Tests of each task."""
    orders: Mapping[tuple[str, int], Sequence[int]]
    """Order of a task's tests for each half of its candidates; see `stored.test_orders`."""
    truth: Mapping[Key, float] = field(default_factory=dict)
    """Rewards, for the ranker `oracle` alone."""
    scores: Mapping[str, Mapping[Key, float]] = field(default_factory=dict)
    """Stored scores by reward model, where there is no scorer."""
    scoring_s: Mapping[Key, float] = field(default_factory=dict)
    """What giving a candidate its stored score took, seconds."""
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    seen: dict[Key, Checks] = field(default_factory=dict)
    """What the stages so far have found out."""

    def order(self, entry: Entry) -> Sequence[int]:
        """The order in which an entry's tests are tried."""
        return self.orders[entry.task_id, half_of(entry.sha256)]


Filter = Callable[[Context, Stage, Sequence[Entry]], list[Checks]]
Ranker = Callable[[Context, Stage, Sequence[Entry]], list[float]]


# ---- filters: what they find out of each entry; `stored.keeps` says what follows


def _syntax(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[Checks]:
    """The program can be parsed."""
    return context.executor.parse(entries)


def _lint(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[Checks]:
    """Ruff finds nothing that cannot work."""
    codes = lint([entry.program or "" for entry in entries])
    return [{"lint": Check("fail", code) if code else Check("pass")} for code in codes]


def _import(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[Checks]:
    """The program loads and defines what is asked for."""
    return context.executor.load(entries)


def _tests(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[Checks]:
    """It passes its first tests, in the order of `test_order`; of `capped`, as many as there is time for."""
    numbers = [tests_of(stage, context.order(entry)) for entry in entries]
    return context.executor.tests(entries, numbers, stage.seconds)


FILTERS: dict[str, Filter] = {
    "syntax": _syntax,
    "lint": _lint,
    "import": _import,
    "one_test": _tests,
    "tests": _tests,
    "capped": _tests,
}


# ---- rankers: scores, the highest first


def _orm(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[float]:
    """By a reward model (the paper's ORM): the likeliest to pass first."""
    if stage.name in context.scorers:
        return context.scorers[stage.name].score(entries)
    if stage.name not in context.scores:
        raise ConfigError(f"stage {stage.name}: there is neither a reward model nor scores of that name")
    found = context.scores[stage.name]
    for entry in entries:
        key = entry.task_id, entry.sha256
        context.executor.ledger.charge(key, context.scoring_s.get(key, 0.0))
    return [found.get((entry.task_id, entry.sha256), -math.inf) for entry in entries]


def _surprisal(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[float]:
    """The least likely first; without a likelihood last."""
    return [-math.inf if entry.nll is None else entry.nll for entry in entries]


def _confidence(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[float]:
    """The likeliest first; without a likelihood last."""
    return [-math.inf if entry.nll is None else -entry.nll for entry in entries]


def _majority(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[float]:
    """The program that most samples wrote."""
    keys = [(entry.task_id, bare(_text(entry))) for entry in entries]
    samples = Counter[tuple[str, str]]()
    for entry, key in zip(entries, keys, strict=True):
        samples[key] += entry.count
    return [float(samples[key]) for key in keys]


def _agreement(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[float]:
    """The answers that most samples gave to the first AGREEMENT_INPUTS inputs, whatever they should be (MBR-exec)."""
    wanted = {task_id: range(min(count, AGREEMENT_INPUTS)) for task_id, count in context.n_tests.items()}
    names = {task_id: [TEST.format(number) for number in numbers] for task_id, numbers in wanted.items()}
    keys = [(entry.task_id, entry.sha256) for entry in entries]
    lacking = [
        entry
        for entry, key in zip(entries, keys, strict=True)
        if not all(name in context.seen.get(key, {}) for name in names[entry.task_id])
    ]
    found = context.executor.tests(lacking, [wanted[entry.task_id] for entry in lacking])
    for entry, checks in zip(lacking, found, strict=True):
        context.seen.setdefault((entry.task_id, entry.sha256), {}).update(checks)
    nothing = Check("error")
    answers = [tuple(context.seen[key].get(name, nothing).answer_sha256 for name in names[key[0]]) for key in keys]
    samples = Counter[tuple[str, tuple[str | None, ...]]]()
    for entry, own in zip(entries, answers, strict=True):
        samples[entry.task_id, own] += entry.count
    return [
        float(samples[entry.task_id, own]) if any(answer is not None for answer in own) else 0.0
        for entry, own in zip(entries, answers, strict=True)
    ]


def _length(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[float]:
    """The shortest program first."""
    return [-float(len(_text(entry))) for entry in entries]


def _random(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[float]:
    """No one before another: as they were drawn."""
    return [0.0] * len(entries)


def _oracle(context: Context, stage: Stage, entries: Sequence[Entry]) -> list[float]:
    """By the reward itself: what no ranker can exceed."""
    return [context.truth[entry.task_id, entry.sha256] for entry in entries]


RANKERS: dict[str, Ranker] = {
    "orm": _orm,
    "surprisal": _surprisal,
    "confidence": _confidence,
    "majority": _majority,
    "agreement": _agreement,
    "length": _length,
    "random": _random,
    "oracle": _oracle,
}


def _text(entry: Entry) -> str:
    return entry.program if entry.program is not None else entry.completion

"""Where candidates are pruned, and what is spent on wrong ones that rankers put first, by why they are wrong.

Knows the pool's programs and error kinds. A wrong program a few edits away from a correct one of its task has a
character-level bug, whatever it dies of.
"""

from collections import Counter

import numpy as np

from vegflow.config.verification import FULL, Stage
from vegflow.statistics.staged import Verification, named
from vegflow.statistics.staged_rankers import prefixes
from vegflow.verification.replay import TaskPool, replay, steps

NEAR = 5
"""Edits (characters put in, left out or replaced) up to which a bug counts as character-level."""
CHARACTER = "character-level"
CORRECT = "correct"
LEFT, UNSEEN = "left", "not run"
TOP = 8
"""Candidates ranked first that are looked at."""


def edits(first: str, second: str, most: int) -> int:
    """Levenshtein distance of two texts, `most` + 1 if it is larger.

    Myers' bit-vector algorithm (1999) in Hyyrö's form (2001), on what is left between a common beginning and end.
    """
    if abs(len(first) - len(second)) > most:
        return most + 1
    begin = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    first, second = first[begin:], second[begin:]
    end = next(
        (i for i, (a, b) in enumerate(zip(first[::-1], second[::-1], strict=False)) if a != b),
        min(len(first), len(second)),
    )
    first, second = first[: len(first) - end], second[: len(second) - end]
    if not first or not second:
        return min(max(len(first), len(second)), most + 1)
    where: dict[str, int] = {}
    for i, character in enumerate(first):
        where[character] = where.get(character, 0) | 1 << i
    every, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    up, down, distance = every, 0, len(first)
    for character in second:
        match = where.get(character, 0)
        diagonal = (((match & up) + up) ^ up) | match | down
        right, left = down | ~(diagonal | up) & every, up & diagonal
        distance += bool(right & last) - bool(left & last)
        right, left = (right << 1 | 1) & every, left << 1 & every
        up, down = left | ~(diagonal | right) & every, right & diagonal
    return min(distance, most + 1)


def kinds(work: Verification) -> list[list[str]]:
    """Of each task's candidates: correct, character-level, or why the full suite fails."""
    return [_kinds(pool, work.errors) for pool in work.pools]


def _kinds(pool: TaskPool, errors: dict[tuple[str, str], tuple[str, str]]) -> list[str]:
    own = [errors[pool.task_id, name] for name in pool.names]
    right = {text for (_, text), correct in zip(own, pool.correct, strict=True) if correct}
    found = []
    for (error, text), correct in zip(own, pool.correct, strict=True):
        near = not correct and any(edits(text, other, NEAR) <= NEAR for other in right)
        found.append(CORRECT if correct else CHARACTER if near else error or "wrong")
    return found


def pruned_rows(work: Verification, kind: list[list[str]]) -> list[dict]:
    """Rows of PRUNED: of every configured pipeline, which stage drops how many candidates of which kind."""
    rows = []
    for name, stages in work.config.parsed().items():
        candidates: Counter = Counter()
        samples: Counter = Counter()
        for pool, own in zip(work.pools, kind, strict=True):
            played = replay(pool, steps(pool, stages, work.config, work.scorer), pool.counts[None])
            reached, run, kept = played.reached[:, 0], played.run[:, 0], played.kept[:, 0]
            for i in range(len(pool)):
                place = next((s for s in range(len(stages)) if reached[s, i] and not kept[s, i]), len(stages))
                stage = LEFT if place == len(stages) else stages[place].text if run[place, i] else UNSEEN
                candidates[place, stage, own[i]] += 1
                samples[place, stage, own[i]] += int(pool.counts[i])
        rows += [
            {"verification": work.name, "domain": work.config.domain, "pipeline": name, "place": place, "stage": stage}
            | {"kind": why, "n_candidates": count, "n_samples": samples[place, stage, why]}
            for (place, stage, why), count in sorted(candidates.items())
        ]
    return rows


def wasted_rows(work: Verification, kind: list[list[str]]) -> list[dict]:
    """Rows of WASTED: of the `TOP` candidates of each task that a ranker puts first, the wrong ones by kind."""
    cost = work.costs.of(Stage(FULL))
    rows = []
    for filters in prefixes(work):
        for ranker in work.rankers:
            stages = (*filters, Stage(ranker, top=TOP))
            n: Counter = Counter()
            seconds: Counter = Counter()
            for t, (pool, own) in enumerate(zip(work.pools, kind, strict=True)):
                played = replay(pool, steps(pool, stages, work.config, work.scorer), pool.counts[None])
                for i in np.flatnonzero(played.kept[-1, 0]):
                    n[own[i]] += 1
                    seconds[own[i]] += float(cost.own[t][i])
            all_n, all_seconds = max(sum(n.values()), 1), sum(seconds.values())
            rows += [
                {"verification": work.name, "domain": work.config.domain, "filters": named(filters), "ranker": ranker}
                | {"top": TOP, "kind": why, "n_wrong": n[why], "share": n[why] / all_n, "seconds": seconds[why]}
                | {"share_of_seconds": seconds[why] / all_seconds if all_seconds else 0.0}
                for why in sorted(n)
                if why != CORRECT
            ]
    return rows

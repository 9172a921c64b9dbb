"""The exact value of a pipeline's pick equals brute force over every subset and every order of ties."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vegflow.config.verification import parse_stage
from vegflow.statistics.best_of import pass_at_k
from vegflow.statistics.staged_accuracy import expected_values, pick_values, selection
from vegflow.verification.replay import Step, TaskPool, draws, replay


def pool(counts, reward, scores=None):
    """A task whose candidates have these rewards; correct above 0, fast above 1."""
    n, reward = len(counts), np.asarray(reward, dtype=float)
    return TaskPool(
        task_id="t", names=tuple(map(str, range(n))), counts=np.asarray(counts), correct=reward > 0, fast_1=reward > 1, reward=reward,
        nll=np.zeros(n), length=np.ones(n), twins=np.asarray(counts), outcomes=({},) * n, seconds=({},) * n, answers=({},) * n,
        orders=((),) * n, scores=scores or {},
    )  # fmt: skip


def filtered(keep):
    return Step(parse_stage("one_test"), keep=np.asarray(keep, dtype=bool))


def ranked(score, top=None):
    return Step(parse_stage({"orm": f"top {top}"} if top else "orm"), score=np.asarray(score, dtype=float))


def full(task, argument=None):
    return Step(parse_stage({"full": argument} if argument else "full"), keep=task.correct)


def brute(task, found, values, k):
    """The rules of a pipeline in words, over every ordered draw of k copies (the order breaks ties)."""
    copies = [i for i, count in enumerate(task.counts) for _ in range(count)]
    total = []
    for drawn in itertools.permutations(range(len(copies)), min(k, len(copies))):
        alive = list(dict.fromkeys(copies[c] for c in drawn))
        everything, cut = list(alive), False
        for step in found:
            if step.score is not None:
                alive = sorted(alive, key=lambda i: -step.score[i])
                everything = sorted(everything, key=lambda i: -step.score[i])
                if step.stage.top:
                    alive, cut = alive[: step.stage.top], True
            elif step.stage.name == "full":
                cut, passed = True, [i for i in alive if step.keep[i]]
                alive = sorted(passed[: step.stage.count], key=lambda i: -task.reward[i])
            else:
                alive = [i for i in alive if step.keep[i]]
        if alive:
            total.append(values[alive[0]])
        elif cut:
            total.append(np.zeros(values.shape[1]))
        else:  # a random copy of those pruned
            total.append(np.mean([values[copies[c]] for c in drawn], axis=0))
    return np.mean(total, axis=0)


@st.composite
def cases(draw):
    n = draw(st.integers(1, 5))
    counts = draw(st.lists(st.integers(1, 3), min_size=n, max_size=n).filter(lambda c: sum(c) <= 7))
    some = lambda *of: draw(st.lists(st.sampled_from(of), min_size=n, max_size=n))  # noqa: E731
    task = pool(counts, some(0.0, 0.0, 0.5, 2.0, 3.0))
    found = [filtered(some(True, True, False))] if draw(st.booleans()) else []
    if draw(st.booleans()):
        found.append(ranked(some(0, 1, 2)))
    found.append(ranked(some(0, 1, 1, 2), draw(st.sampled_from([None, 1, 2, 3]))))
    if found[-1].stage.top and draw(st.booleans()):
        found.append(filtered(some(True, True, False)))
    kind = draw(st.sampled_from([None, "full", "first", "first 2"]))
    if kind:
        found.append(full(task, None if kind == "full" else kind))
    return task, found, draw(st.integers(1, sum(counts)))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_every_pipeline_equals_brute_force(case):
    task, found, k = case
    values = np.stack([task.correct, task.fast_1, task.reward], axis=1).astype(float)
    exact = expected_values(task, selection(task, found), values, k)
    assert exact == pytest.approx(brute(task, found, values, k), abs=1e-12)


def test_best_of_k_has_the_published_weights():
    """sum_i C(N - i - 1, k - 1) a_i / C(N, k) without ties, pruned ones at the bottom."""
    task = pool([1] * 6, [0, 1, 0, 1, 0, 0])
    scores, keep = [6, 5, 4, 3, 2, 1], [True, True, True, True, False, False]
    for k in range(1, 7):
        weights = [math.comb(6 - i - 1, k - 1) / math.comb(6, k) for i in range(6)]
        value, exact = pick_values(task, [filtered(keep), ranked(scores)], task.reward[:, None], k, (0,))
        assert exact
        assert value[0] == pytest.approx(weights @ task.reward, abs=1e-14)


def test_a_random_short_list_verified_is_pass_at_m():
    """1 - C(n - c, m) / C(n, m), whatever k is."""
    task = pool([1] * 9, [1, 1, 1, 0, 0, 0, 0, 0, 0])
    for top in (1, 2, 5):
        found = [ranked(np.zeros(9), top), full(task, "first")]
        for k in (5, 9):
            value, _ = pick_values(task, found, task.reward[:, None], k, (0,))
            assert value[0] == pytest.approx(pass_at_k(9, 3, top), abs=1e-12)


def test_a_duplicate_takes_one_place_of_a_short_list():
    """Seven copies of one wrong program and one right program: a list of two always holds the right one."""
    task = pool([7, 1], [0, 1])
    value, _ = pick_values(task, [ranked([1, 0], 2), full(task)], task.reward[:, None], 8, (0,))
    assert value[0] == pytest.approx(1.0)


def test_more_samples_than_there_are_are_all_of_them():
    task = pool([1, 2], [0, 1])
    found = [ranked([1, 0])]
    few, many = (pick_values(task, found, task.reward[:, None], k, (0,))[0] for k in (3, 64))
    assert few == many


def test_large_pools_stay_exact():
    """64 of 128 and 500 of 1000 samples, in blocks: the same as the form without a cut when the cut cannot bind."""
    rng = np.random.default_rng(0)
    for n, k in ((128, 64), (1000, 500)):
        task = pool(np.ones(n, dtype=int), rng.integers(0, 2, n))
        score = rng.integers(0, 6, n) if n > 128 else rng.permutation(n)
        free, _ = pick_values(task, [ranked(score)], task.reward[:, None], k, (0,))
        cut, _ = pick_values(task, [ranked(score, 1)], task.reward[:, None], k, (0,))
        assert cut == pytest.approx(free, rel=1e-9)


def test_a_second_ranking_after_a_cut_is_replayed_on_subsets_and_says_so():
    task = pool([1, 1, 1, 1], [0, 1, 0, 1])
    found = [ranked([4, 3, 2, 1], 2), ranked([1, 2, 3, 4])]
    value, exact = pick_values(task, found, task.reward[:, None], 4, (1,))
    assert not exact
    assert value[0] == 1.0  # of the first two, the second is ranked first


def test_replays_on_subsets_have_the_exact_mean():
    """The same rules by another road: thousands of replays against the closed form."""
    task = pool([3, 1, 2, 1, 1], [0, 0, 1, 2, 0])
    found = [filtered([1, 1, 1, 1, 0]), ranked([2, 2, 1, 1, 3], 2), full(task, "first 2")]
    exact, _ = pick_values(task, found, task.reward[:, None], 4, (0,))
    rng = np.random.default_rng(3)
    replayed = replay(task, found, draws(task, 4, 20_000, rng), rng)
    assert replayed.value(task.reward).mean() == pytest.approx(exact[0], abs=0.03)
    assert (replayed.kept[1].sum(axis=1) <= 2).all()
    assert (replayed.run[2] <= replayed.reached[2]).all()


@settings(max_examples=80, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_of_all_samples_without_ties_the_replay_is_the_expectation(case, random):
    """One replay of the whole pool, two implementations of the rules: the same pick."""
    task, found, _ = case
    order = list(range(len(task)))
    random.shuffle(order)
    found = [ranked(order) if step.score is not None and step.stage.top is None else step for step in found]
    if not any(step.score is not None and step.stage.top is None for step in found):
        found.insert(0, ranked(order))
    chosen = selection(task, found)
    bottom = chosen.bottom and not chosen.hits.any()  # a random one of those pruned: no order of theirs decides
    if not bottom:
        values = task.reward[:, None]
        played = replay(task, found, task.counts[None], np.random.default_rng(0))
        assert expected_values(task, chosen, values, task.samples)[0] == pytest.approx(played.value(task.reward)[0])

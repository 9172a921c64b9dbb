"""What a reward model learns from: distinct texts, pairs of one task, folds of whole tasks."""

import numpy as np
import pytest

from tests.learning.reward_scenario import examples, planted, row, settings, verdict
from vegflow.errors import VegflowError
from vegflow.learning.reward_examples import distinct, folds_of, joined, lessons_of, make_examples
from vegflow.learning.reward_pool import MOST_TOKENS, pool_examples
from vegflow.tasks.functions import FunctionTask


def test_equal_texts_of_a_task_are_one_completion_and_of_two_tasks_two():
    rows = [row("b", 0, [1], [2, 0]), row("a", 1, [3], [2, 0]), row("b", 2, [1], [2, 0]), row("b", 3, [1], [4, 0])]
    found = distinct(rows)
    assert [(c.task_id, c.token_ids) for c in found if c.task_id == "a"] == [("a", (2, 0))]
    assert sorted(c.token_ids for c in found if c.task_id == "b") == [(2, 0), (4, 0)]
    assert distinct(rows[::-1]) == found


def test_a_broken_evaluation_teaches_nothing_and_a_missing_one_stops():
    rows = [row("a", 0, [1], [2, 0]), row("a", 1, [1], [3, 0])]
    verdicts = [verdict("r:a:0", False, status="evaluator_error"), verdict("r:a:1", True)]
    assert [c.token_ids for c in make_examples(rows, verdicts, "correct").completions] == [(3, 0)]
    with pytest.raises(VegflowError, match="1 rollouts have no evaluation, the first is r:a:1"):
        make_examples(rows, verdicts[:1], "correct")


@pytest.mark.parametrize("most", [1, 4, 100])
def test_pairs_are_of_one_task_a_passing_and_a_failing_completion_each_once(most):
    found = examples(rate=0.3)
    lessons = lessons_of(found, settings(pairs_per_task=most))
    for task, lesson in lessons.items():
        better, worse = lesson.numbers_M[lesson.better_P], lesson.numbers_M[lesson.worse_P]
        own = [passes for passes, name in zip(found.passes_N, found.tasks, strict=True) if name == task]
        assert len(better) == min(most, sum(own), len(own) - sum(own))
        assert found.passes_N[better].all()
        assert not found.passes_N[worse].any()
        assert len({*better, *worse}) == 2 * len(better) == len(lesson.numbers_M)
        assert {found.tasks[i] for i in [*better, *worse]} == {task}
        assert not lesson.margin_P.any()
        assert (lesson.passes_M == found.passes_N[lesson.numbers_M]).all()


def test_a_task_of_one_outcome_is_dropped():
    rows, verdicts = planted(tasks=3)
    for one in verdicts:
        if ":L1/1:" in one["rollout_id"]:
            one["correct"] = True
    assert set(lessons_of(make_examples(rows, verdicts, "correct"), settings())) == {"L1/0", "L1/2"}


def test_speed_pairs_need_intervals_that_do_not_touch_and_carry_a_margin():
    """Speedups 1, 1.1 and 3, each +-10 %: the first two cannot be told apart."""
    speeds = [1.0, 1.1, 3.0]
    rows = [row("a", i, [1], [5 + i, 0]) for i in range(3)]
    verdicts = [verdict(f"r:a:{i}", True, speedup) for i, speedup in enumerate(speeds)]
    found = make_examples(rows, verdicts, "correct")
    assert lessons_of(found, settings()) == {}
    lesson = lessons_of(found, settings(speed_pairs=9, margin=0.5))["a"]
    by_token = {c.token_ids[0]: number for number, c in enumerate(found.completions)}
    pairs = set(zip(lesson.numbers_M[lesson.better_P], lesson.numbers_M[lesson.worse_P], strict=True))
    assert pairs == {(by_token[7], by_token[5]), (by_token[7], by_token[6])}
    np.testing.assert_allclose(sorted(lesson.margin_P), [0.5 * np.log(3 / 1.1), 0.5 * np.log(3)])
    assert len(lessons_of(found, settings(speed_pairs=1))["a"].better_P) == 1


def test_lessons_joined_keep_their_pairs():
    lessons = list(lessons_of(examples(), settings()).values())
    whole = joined(lessons)
    for side in ("better_P", "worse_P"):
        apart = np.concatenate([lesson.numbers_M[getattr(lesson, side)] for lesson in lessons])
        assert (whole.numbers_M[getattr(whole, side)] == apart).all()


def test_folds_are_of_whole_tasks_and_each_has_its_share_of_those_that_teach():
    tasks = [f"L1/{n}" for n in range(20)]
    folds = folds_of(tasks, tasks[:7], 3, seed=1)
    assert set(folds) == set(tasks)
    shares = [sum(folds[task] == fold for task in tasks[:7]) for fold in range(3)]
    assert sorted(shares) == [2, 2, 3]
    assert folds == folds_of(tasks[::-1], tasks[:7], 3, seed=1) != folds_of(tasks, tasks[:7], 3, seed=2)
    assert len(set(folds_of(tasks, tasks[:2], 5, seed=1).values())) == 2
    assert folds_of(tasks, tasks[:1], 5, seed=1) == {}


def test_shuffling_keeps_each_tasks_counts_and_moves_verdict_and_speed_together():
    found = examples()
    again = found.shuffled(0)
    assert (again.passes_N != found.passes_N).any()
    for numbers in found.by_task().values():
        assert again.passes_N[numbers].sum() == found.passes_N[numbers].sum()
    assert (np.isnan(again.speed_N3[:, 0]) == ~again.passes_N).all()
    assert (found.shuffled(0).passes_N == again.passes_N).all()


TASKS = {
    "own/add": FunctionTask("own/add", "add", "def add(a, b):\n", ()),
    "own/neg": FunctionTask("own/neg", "neg", "def neg(a):\n", ()),
}


class Letters:
    """A tokenizer of characters."""

    eos_token_id = 0

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [ord(letter) for letter in text]}


def test_a_function_is_read_up_to_its_end_and_then_stops():
    pool = [
        {"task_id": "own/neg", "completion_sha256": "c", "completion": "    return -a\n\nprint(1)\n", "correct": True},
        {"task_id": "own/add", "completion_sha256": "b", "completion": "    return a\n", "correct": False},
        {
            "task_id": "own/add",
            "completion_sha256": "a",
            "completion": "    a" + " + b" * MOST_TOKENS,
            "correct": False,
        },
    ]
    found = pool_examples(pool, TASKS, Letters())
    assert [(c.task_id, c.sha256) for c in found.completions] == [("own/add", "a"), ("own/add", "b"), ("own/neg", "c")]
    cut, short, longer = (c.token_ids for c in found.completions)
    assert (len(cut), cut[-1] != 0) == (MOST_TOKENS, True)
    assert "".join(map(chr, short[:-1])) == "    return a\n"
    assert "".join(map(chr, longer[:-1])) == "    return -a\n"
    assert short[-1] == longer[-1] == 0
    assert "".join(map(chr, found.completions[0].prompt_ids)) == TASKS["own/add"].prompt
    assert found.passes_N.tolist() == [False, False, True]
    assert np.isnan(found.speed_N3).all()

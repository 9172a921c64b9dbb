"""Both arms under one budget, by hand; and what the updates did, mean over seeds."""

import itertools

import numpy as np
import polars as pl
import pytest

from vegflow.config.analysis import SampleSetFacts, StudyFacts, TrajectoryFacts
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.budget import same_budget
from vegflow.statistics.diagnostics import diagnostics

from synthetic import default  # isort: skip

HOW = Resampling()
HITS = {"a": 2, "b": 0}
"""fast_1 samples of each task among the eight of the sample set."""
FACTS = StudyFacts(
    sample_sets={"drawn": SampleSetFacts(k=8, seeds=(1,), tasks={"all": ("a", "b")})},
    trajectories={"ttt": TrajectoryFacts(seeds=(1,), steps=2, group_size=3, tasks=("a", "b"))},
)


def cell(source, task, step, n, fast, best, policy):
    return {
        "source": source, "seed": 1, "step": step, "task_id": task, "policy_id": policy, "n": n, "fast_1": fast,
        "any_fast_1": float(fast > 0), "best_speedup": best, "mean_tokens": 10.0, "mean_prompt_tokens": 30.0,
    }  # fmt: skip


def tasks(start="base"):
    """Each step draws three of either task; b is solved at step 1, a never."""
    rows = [cell("drawn", t, None, 8, HITS[t] / 8, 1.5, "base") for t in "ab"]
    rows += [
        cell("ttt", t, s, 3, 1 / 3 if (t, s) == ("b", 1) else 0.0, 2.0 if (t, s) == ("b", 1) else 1.0, f"s{s}" if s else start)
        for s in range(3) for t in "ab"
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"step": pl.Int32})


def updates(taught=0):
    rows = [{"trajectory": "ttt", "seed": 1, "step": s, "teacher_tokens": taught} for s in (1, 2)]
    return pl.DataFrame(rows, schema_overrides={"step": pl.Int32})


BEST = pl.DataFrame(
    {"source": "drawn", "task_id": ["a", "b"], "seed": 1, "best": [[1.0, 1.2, 1.4, 1.5], [1.0, 1.0, 1.0, 1.0]]}
)


def compared(start="base", taught=0):
    return same_budget(tasks(start), BEST, (1, 2, 4, 8), updates(taught), FACTS, HOW)


def any_of(k, hits, n=8):
    drawn = list(itertools.combinations(range(n), k))
    return np.mean([min(subset) < hits for subset in drawn])


def test_everything_drawn_so_far_stands_beside_as_many_samples():
    rows = compared()
    assert [r["rollouts"] for r in rows] == [3, 6, 9]
    assert [r["student_tokens"] for r in rows] == [120, 240, 360]
    assert [r["found"] for r in rows] == [0.0, 0.5, 0.5]  # what was found stays found
    assert [r["k_rollouts"] for r in rows] == [3, 6, 8]
    expected = [(any_of(k, 2) + any_of(k, 0)) / 2 for k in (3, 6, 8)]
    assert [r["search_rollouts"] for r in rows] == pytest.approx(expected)
    assert [r["difference"] for r in rows] == pytest.approx(
        [f - e for f, e in zip((0, 0.5, 0.5), expected, strict=True)]
    )
    assert [r["bounded"] for r in rows] == [False, False, True]


def test_a_teachers_tokens_pay_for_more_samples():
    plain, taught = compared(), compared(taught=160)  # of two tasks: 80 a task, two samples' worth
    assert [r["teacher_tokens"] for r in taught] == [0, 80, 160]
    assert [r["k_tokens"] for r in plain] == [3, 6, 8]
    assert [r["k_tokens"] for r in taught] == [3, 8, 8]
    assert taught[1]["k_rollouts"] == 6
    assert taught[1]["search_tokens"] == pytest.approx(0.5)


def test_the_best_speedup_is_log_linear_between_the_points_of_the_curve():
    first, second, _ = compared()
    at_3 = 1.2 + 0.2 * np.log(3 / 2) / np.log(2)
    at_6 = 1.4 + 0.1 * np.log(6 / 4) / np.log(2)
    assert first["speedup_ratio"] == pytest.approx(np.sqrt(1 / at_3))
    assert second["speedup_ratio"] == pytest.approx(np.sqrt(1 / at_6 * 2))


def test_a_trajectory_of_another_policy_is_not_compared():
    assert compared(start="other") == []


def test_updates_are_shares_of_what_they_learnt_from():
    rows = diagnostics(default()[0].updates, default()[0].facts)
    own = [r for r in rows if r["trajectory"] == "ttt"]
    assert [r["seed"] for r in own] == [42] * 5 + [43] * 5 + [44] * 5 + [None] * 5
    assert (own[0]["effective_share"], own[0]["distinct_share"], own[0]["zero_variance_share"]) == (0.5, 0.5, 0)
    assert own[-1]["kl_start"] == pytest.approx(0.05)


def test_means_leave_out_seeds_without_a_value_and_foreign_records_may_lack_columns():
    made = default()[0].updates.filter(pl.col("trajectory") == "ttt").with_columns(
        fast_negative_share=pl.when(pl.col("seed") == 42).then(0.6), zero_variance_groups=pl.lit(1, pl.Int32)
    )  # fmt: skip
    mean = next(r for r in diagnostics(made, default()[0].facts) if r["seed"] is None)
    assert (mean["fast_negative_share"], mean["zero_variance_share"]) == pytest.approx((0.6, 0.2))
    fewest = made.select("trajectory", "seed", "step", "teacher_tokens")
    assert diagnostics(fewest, default()[0].facts)[0]["entropy"] is None

"""Our side of the paper's numbers: every value has an interval of its own kind, or says why it has none."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.measure import Ours, Study, counted, of_runs, over_tasks
from vegflow.statistics.surprisal import quartiles

from synthetic import default  # isort: skip


@pytest.fixture(scope="module")
def claims():
    return {row["id"]: row for row in default()[1]["claims"].to_pylist()}


def test_every_number_of_ours_has_an_interval_or_says_why_not(claims):
    ours = [row for row in claims.values() if row["ours"] is not None]
    bare = [row for row in ours if row["low"] is None]
    assert all("; no interval: " in row["reason"] for row in bare)
    assert len(bare) < 0.12 * len(ours)  # p-values, statistics, runs that do not differ
    assert all((row["low"] is None) == (row["high"] is None) for row in ours)
    assert all(row["low"] <= row["ours"] <= row["high"] for row in ours if row["low"] is not None)


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("table11.halves", 5),
        ("trajectory.peak", 5),
        ("table7.search.tokens", 8),
        ("selection.cohens_h", 5),
        ("probe.nll0", 5),
    ],
)
def test_numbers_about_tasks_say_over_how_many(claims, name, tasks):
    row = claims[name]
    assert row["low"] < row["high"]
    assert row["n_tasks"] == tasks


@pytest.mark.parametrize("name", ["table7.search.rollouts", "table7.one.rollouts", "table7.one.teacher", "probe.n"])
def test_what_is_counted_is_exact(claims, name):
    assert claims[name]["low"] == claims[name]["ours"] == claims[name]["high"]


def test_a_tasks_best_speedup_has_the_evaluators_interval(claims):
    row = claims["table8.L1/4"]
    programs = pl.DataFrame(pl.from_arrow(default()[1]["candidates"])).filter(pl.col("task_id") == "L1/4")
    same = programs.filter((pl.col("speedup") - row["ours"]).abs() < 1e-9)
    assert (row["low"], row["high"]) == (same["speedup_low"][0], same["speedup_high"][0])


def test_a_standard_deviation_over_runs_has_chi_squareds_interval_cut_at_a_half():
    found = of_runs(Ours(0.02), 5, 0.95)
    assert (found.low, found.high) == pytest.approx([0.02 * np.sqrt(4 / stats.chi2.ppf(p, 4)) for p in (0.975, 0.025)])
    assert of_runs(Ours(0.14), 2, 0.95).high == 0.5
    assert (of_runs(Ours(0.14), 1, 0.95).low, of_runs(Ours(0.0), 3, 0.95).bare) == (None, "the runs do not differ")


def test_a_count_that_is_missing_stays_missing():
    assert counted(Ours(missing="no such arm")) == Ours(missing="no such arm")


def test_a_sum_over_tasks_has_the_interval_of_their_mean_as_often():
    values, tasks, seeds = pl.Series([1.0, 2.0, 6.0]), pl.Series(["a", "b", "c"]), pl.Series([1, 1, 1])
    found = over_tasks(9.0, values, tasks, seeds, Study(default()[0].facts, {}, Resampling()))
    assert (found.low, found.high) == pytest.approx(
        np.array(stats.t.interval(0.95, 2, 3.0, stats.sem([1.0, 2.0, 6.0]))) * 3
    )


def test_the_halves_differ_by_what_the_quartiles_do_and_their_interval_is_over_tasks():
    study, tables = default()
    rows = {
        (row["ranking"], row["quartile"]): row
        for row in tables["quartiles"].to_pylist()
        if row["source"] == "best_of_n" and row["task_set"] == "all"
    }
    high, low, gap = (rows["halves", number] for number in (1, 2, 0))
    both = [rows["global", number] for number in (1, 2)]
    assert high["n"] == sum(row["n"] for row in both)
    assert high["fast_1"] == pytest.approx(sum(row["n"] * row["fast_1"] for row in both) / high["n"])
    assert gap["fast_1"] == pytest.approx(high["fast_1"] - low["fast_1"])
    # One task is no spread: the same samples as one cluster have no ends.
    alone = pl.DataFrame({
        "source": "s", "task_id": pl.Series(["a"] * 8, dtype=pl.Categorical), "seed": 1, "index": range(8), "nll": range(8),
        "n_tokens": 3, "speedup": 1.5, "fast_1": True,
    })  # fmt: skip
    facts = study.facts.model_copy(update={
        "sample_sets": {"s": study.facts.sample_sets["best_of_n"].model_copy(update={"tasks": {"all": ("a",)}})},
        "comparison": None,
    })  # fmt: skip
    assert all(row["low"] is None for row in quartiles(alone, facts, Resampling()))

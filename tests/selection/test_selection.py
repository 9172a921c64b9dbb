"""Each strategy picks what its rule says, on tables small enough to check by eye."""

import itertools
import math

import numpy as np
import polars as pl
import pytest

from vegflow.artifacts.io import write_table
from vegflow.artifacts.selections import SELECTIONS
from vegflow.config.selection import SelectionConfig, default_strategies
from vegflow.errors import ArtifactError, ConfigError
from vegflow.selection import lacking, resolve, select, select_stored, syntax_tree, van_der_corput

from synthetic import make_study, write_study  # isort: skip

# (logprob, correct, speedup): two correct samples share the lowest log-probability, an incorrect one is lower still
SAMPLES = [
    (-1.0, True, 0.9),
    (-5.0, True, 1.5),
    (-2.0, True, 3.0),
    (-5.0, True, 0.8),
    (-9.0, False, 0.0),
    (-3.0, True, 1.2),
]


def tables(samples, *, task="L1/4", seed=42, step=None):
    rollouts = pl.DataFrame(
        {
            "rollout_id": [f"r{i}" for i in range(len(samples))],
            "source": "best_of_n",
            "step": pl.Series([step] * len(samples), dtype=pl.Int32),
            "task_id": task,
            "seed": seed,
            "index": pl.Series(range(len(samples)), dtype=pl.Int32),
            "logprob": pl.Series([s[0] for s in samples], dtype=pl.Float64),
            "n_tokens": pl.Series([5] * len(samples), dtype=pl.Int32),
        }
    )
    evaluations = pl.DataFrame(
        {
            "rollout_id": rollouts["rollout_id"],
            "correct": pl.Series([s[1] for s in samples], dtype=pl.Boolean),
            "fast_1": pl.Series([s[1] and s[2] > 1 for s in samples], dtype=pl.Boolean),
            "speedup": pl.Series([s[2] for s in samples], dtype=pl.Float64),
        }
    )
    return rollouts, evaluations


def picks(samples, *strategies):
    config = SelectionConfig(strategies=strategies or default_strategies(3))
    table = select(*tables(samples), config)
    assert table.schema.equals(SELECTIONS)
    return {row["strategy"]: row for row in table.to_pylist()}


@pytest.mark.parametrize(
    ("strategy", "rollout", "extra"),
    [
        ("best-correct", "r2", 5),
        ("confidence-guided", "r0", 0),
        ("surprisal-guided", "r1", 0),  # a tie with r3: the lower index
        ("surprisal-guided-top3", "r1", 3),  # of r1, r3, r5 the fastest
        ("surprisal-guided-top4", "r2", 4),
        ("confidence-top3", "r2", 3),
    ],
)
def test_a_strategy_picks_by_its_rule(strategy, rollout, extra):
    row = picks(SAMPLES, strategy)[strategy]
    assert row["rollout_ids"] == [rollout]
    assert row["extra_evaluations"] == extra
    assert row["speedup"] == SAMPLES[int(rollout[1:])][2]
    assert not row["expected"]


def test_an_incorrect_sample_is_never_picked():
    assert all("r4" not in row["rollout_ids"] for row in picks(SAMPLES).values())


def test_random_rules_are_exact_expectations_over_all_draws():
    good = [s[2] for s in SAMPLES if s[1]]
    rows = picks(SAMPLES)
    assert rows["random-correct"]["speedup"] == pytest.approx(np.mean(good))
    assert rows["random-correct"]["fast_1"] == pytest.approx(3 / 5)
    assert rows["random-correct"]["log_speedup"] == pytest.approx(np.mean(np.log(good)))
    best = [max(chosen) for chosen in itertools.combinations(good, 3)]
    assert rows["random-top3"]["speedup"] == pytest.approx(np.mean(best))
    assert rows["random-top3"]["fast_1"] == pytest.approx(np.mean([b > 1 for b in best]))
    assert rows["random-top3"]["log_speedup"] == pytest.approx(np.mean(np.log(best)))
    assert rows["random-top3"]["rollout_ids"] == []
    assert rows["random-top3"]["n_correct"] == 5
    assert rows["random-top3"]["expected"]


def test_fewer_correct_samples_than_the_short_list_are_all_timed():
    rows = picks([(-1.0, True, 0.5), (-2.0, True, 2.0), (-3.0, False, 0.0)])
    for name in ("surprisal-guided-top3", "confidence-top3", "random-top3", "best-correct"):
        assert rows[name]["speedup"] == 2.0
        assert rows[name]["extra_evaluations"] == 2


def test_a_task_without_a_correct_sample_is_a_row_that_fails():
    for row in picks([(-1.0, False, 0.0), (-2.0, False, 0.0)]).values():
        assert (row["correct"], row["fast_1"], row["speedup"], row["n_correct"]) == (False, 0.0, 0.0, 0)
        assert row["rollout_ids"] == []
        assert row["log_speedup"] is None


def test_the_order_of_the_input_does_not_matter():
    rollouts, evaluations = tables(SAMPLES)
    config = SelectionConfig(strategies=default_strategies(3))
    shuffled = select(rollouts.reverse(), evaluations.sample(fraction=1, shuffle=True, seed=1), config)
    assert shuffled.equals(select(rollouts, evaluations, config))


def test_rollouts_of_a_trajectory_are_left_out():
    rollouts, evaluations = tables(SAMPLES, step=0)
    assert select(rollouts, evaluations, SelectionConfig(strategies=("best-correct",))).num_rows == 0


def test_log_speedup_is_of_the_pick():
    assert picks(SAMPLES)["best-correct"]["log_speedup"] == pytest.approx(math.log(3.0))


@pytest.mark.parametrize("name", ["best", "surprisal-guided-top", "surprisal-guided-top0", "top3", ""])
def test_an_unknown_strategy_is_told_what_there_is(name):
    with pytest.raises(ConfigError, match="surprisal-guided-topM"):
        resolve(name)


def test_rollouts_without_a_verdict_are_named():
    rollouts, evaluations = tables(SAMPLES)
    with pytest.raises(ArtifactError, match=r"1 of 6 rollouts .* 'r3' first"):
        select(
            rollouts, evaluations.filter(pl.col("rollout_id") != "r3"), SelectionConfig(strategies=("best-correct",))
        )


def test_a_correct_sample_without_a_speedup_is_an_error():
    rollouts, evaluations = tables([(-1.0, True, 0.0)])
    with pytest.raises(ArtifactError, match="'r0' is correct but its speedup"):
        select(rollouts, evaluations, SelectionConfig(strategies=("best-correct",)))


NOTE = [  # (logprob, n_tokens, program, correct, speedup)
    (-1.0, 1, "a", True, 1.1),
    (-4.0, 8, "b", True, 1.2),
    (-2.0, 1, "a", True, 1.3),
    (-8.0, 9, "c", True, 1.4),
    (-3.0, 2, "b", True, 1.5),
    (-1.5, 3, "b", True, 1.6),
]


def noted(*strategies):
    rollouts, evaluations = tables([(row[0], row[3], row[4]) for row in NOTE])
    rollouts = rollouts.with_columns(
        n_tokens=pl.Series([row[1] for row in NOTE], dtype=pl.Int32),
        logprob_tempered=pl.col("logprob") * pl.Series([1.0, 1.0, 9.0, 1.0, 1.0, 1.0]),
        completion=pl.Series(
            [f"y = x  # {i}\nreturn y" if row[2] == "c" else f"return {row[2]}" for i, row in enumerate(NOTE)]
        ),
    )
    evaluations = evaluations.with_columns(candidate_sha256=pl.Series([row[2] for row in NOTE]))
    return {
        row["strategy"]: row
        for row in select(rollouts, evaluations, SelectionConfig(strategies=strategies)).to_pylist()
    }


@pytest.mark.parametrize(
    ("strategy", "rollout", "choice"),
    [
        ("surprisal-guided@mean", "r2", "mean"),  # 2 nats a token
        ("confidence-guided@mean", "r1", "mean"),  # half a nat a token; r5 too, and later
        ("surprisal-guided@tempered", "r2", "tempered"),
        ("surprisal-guided", "r3", "sum"),
        ("shortest", "r0", ""),
        ("longest", "r3", ""),
        ("majority-program", "r1", ""),
        ("majority-ast", "r1", ""),
        ("rarest-program", "r3", ""),
        ("middle-surprisal", "r4", "sum"),  # nearest to the 0.625 quantile, 3.125
        ("surprisal-diverse-top2", "r3", "sum"),  # of the most and the least surprising the faster
        ("surprisal-diverse-top3", "r4", "sum"),  # and the one in the middle of the ranks
    ],
)
def test_what_the_field_would_compare_with(strategy, rollout, choice):
    row = noted(strategy)[strategy]
    assert row["rollout_ids"] == [rollout]
    assert row["nll_choice"] == choice


@pytest.mark.parametrize(("name", "reason"), [("self-certainty", "confidence-guided@self-certainty"), ("entropy", "confidence-guided@entropy"), ("majority-output", "not stored"), ("surprisal-guided@median", "after @"), ("shortest@mean", "there is no strategy"), ("random-correct@mean", "there is no strategy")])  # fmt: skip
def test_what_rollouts_cannot_serve_is_refused_with_the_reason(name, reason):
    with pytest.raises(ConfigError, match=reason):
        resolve(name)


def test_rules_whose_columns_are_absent_are_left_out():
    assert set(picks(SAMPLES, "surprisal-guided", "surprisal-guided@tempered", "majority-ast")) == {"surprisal-guided"}
    assert "logprob_tempered" in lacking("surprisal-guided@tempered", ["logprob"])
    assert lacking("surprisal-guided@mean", ["logprob", "n_tokens"]) == ""


def test_spread_ranks_visit_the_ends_the_middle_and_the_quarters_first():
    assert np.argsort(van_der_corput(9))[:5].tolist() == [0, 8, 4, 2, 6]
    assert all(sorted(van_der_corput(n)) == list(range(n)) for n in range(1, 40))


def test_programs_that_differ_in_layout_have_one_syntax_tree():
    assert syntax_tree("return torch.relu( x )  # fast") == syntax_tree("```python\nreturn torch.relu(x)\n```")
    assert syntax_tree("return relu(x)") != syntax_tree("return tanh(x)")
    assert syntax_tree("float  f( int x ) {") == "float f( int x ) {"


def test_blocks_of_whole_tasks_leave_the_bytes_of_the_whole(tmp_path):
    study = make_study(n_tasks=6, k=16, group=2, steps=1, runs=(42,))
    other = {"rollout_id": pl.lit("other/") + pl.col("rollout_id")}
    again = study.rollouts.filter(pl.col("step").is_null()).with_columns(**other, source=pl.lit("another"))
    verdicts = study.evaluations.join(study.rollouts.filter(pl.col("step").is_null()), on="rollout_id", how="semi")
    study.rollouts = pl.concat([study.rollouts, again])
    study.evaluations = pl.concat([study.evaluations, verdicts.with_columns(**other)])
    paths = write_study(study, tmp_path)
    config = SelectionConfig(strategies=default_strategies(3)[:-2])  # the last two need columns of their own
    held = select(study.rollouts, study.evaluations, config)
    for name, made in (
        ("held", held),
        ("whole", select_stored(paths["rollouts"], paths["evaluations"], config)),
        ("blocks", select_stored(paths["rollouts"], paths["evaluations"], config, most=50)),
    ):
        write_table(tmp_path / f"{name}.parquet", made, SELECTIONS, {})
    assert held.num_rows == 2 * 2 * 6 * len(config.strategies)
    whole = (tmp_path / "held.parquet").read_bytes()
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "blocks.parquet").read_bytes() == whole

"""Tables of staged verification on made-up pools of which the truth is known."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegflow.artifacts.frontier import FRONTIER_TABLES
from vegflow.config.verification import FULL, Stage, parse_pipeline
from vegflow.errors import ConfigError
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.staged import composed_seconds, measure, named, timings, verification
from vegflow.statistics.staged_paper import aggregate, load_staged_paper, paper_rows
from vegflow.statistics.staged_rankers import ranked_values, ranker_pairs
from vegflow.statistics.staged_tables import composed_rows, frontier_tables
from vegflow.statistics.staged_tuning import best_within, grammar, halves, try_all
from vegflow.statistics.staged_waste import NEAR, edits
from vegflow.verification.compose import compose
from vegflow.verification.replay import replay, steps

from planted_pool import START, config, costs, planted, runs  # isort: skip

HOW = Resampling(replicates=300)


def made(domain="functions", repeats=5, orm=2.0, **more):
    pool, checks, scores = planted(domain=domain, orm=orm, **more)
    own = config(domain, pipelines=config().pipelines if orm is not None else {"cheap": ["syntax", "random"]})
    work = verification("made", own, pool, checks, scores, (), costs(pool))
    seconds = {name: composed_seconds(work, stages) for name, stages in own.parsed().items()}
    measured = runs(pool, seconds | {"noop": START * len(pool)}, repeats)
    return verification("made", own, pool, checks, scores, measured, costs(pool))


@pytest.fixture(scope="module")
def work():
    return made()


@pytest.fixture(scope="module")
def tables(work, root):
    found = frontier_tables(
        [work, made("kernels", n_tasks=4, n=10)], load_staged_paper(root / "resources/paper/staged.yaml"), HOW
    )
    return {name: pl.DataFrame(pl.from_arrow(table)) for name, table in found.items()}


def functions(table, **where):
    table = table.filter(pl.col("domain") == "functions") if "domain" in table.columns else table
    for column, value in where.items():
        table = table.filter(pl.col(column) == value)
    return table


def test_every_table_is_there(tables):
    assert set(tables) == set(FRONTIER_TABLES)
    assert all(table.height for table in tables.values())


def test_the_full_suite_is_what_all_is_relative_to(tables):
    for row in tables["frontier"].filter(pl.col("pipeline") == FULL).to_dicts():
        assert (row["relative_throughput"], row["relative_throughput_low"], row["relative_throughput_high"]) == (
            1,
            1,
            1,
        )
        assert (row["relative_loss"], row["relative_loss_low"], row["relative_loss_high"]) == (0, 0, 0)
        assert row["full_runs"] == pytest.approx(row["candidates"])


def test_sound_filters_before_the_full_suite_lose_nothing_and_save_time(tables):
    row = functions(tables["frontier"], pipeline="three_tests", k=16).to_dicts()[0]
    assert row["relative_loss"] < 0.2
    assert row["relative_throughput"] > 1
    assert row["low"] <= row["value"] <= row["high"]
    assert row["throughput_low"] <= row["throughput"] <= row["throughput_high"]


def test_composed_seconds_are_the_sum_of_what_each_stage_runs(work):
    """By hand: syntax of all, a test of those that parse, the full suite of those that pass, each with its start."""
    stages = parse_pipeline(["syntax", "one_test", "full"])
    expected = 0.0
    for pool in work.pools:
        parses = np.array([o["syntax"][0] == "pass" for o in pool.outcomes])
        passes = np.array([o["import"][0] == "pass" and o["test/0"][0] == "pass" for o in pool.outcomes])
        expected += 0.001 * len(pool) + (START + 0.005) * parses.sum() + (START + 0.025) * (parses & passes).sum()
    assert composed_seconds(work, stages) == pytest.approx(expected)


@pytest.mark.parametrize(
    "stages", [*config().pipelines.values(), [{"capped": 0.02}, "agreement"], [{"full": "first 2"}]], ids=str
)
def test_composed_seconds_are_those_of_the_library_that_runs_pipelines(stages):
    pool, checks, scores = planted(n_tasks=3)
    start = {"stage": "start", "task_id": "", "completion_sha256": "", "wall_s": 0.3, "cpu_s": 0.0}
    work = verification("made", config(), pool, checks, scores, (), [start, *costs(pool)])
    composed = work.costs.start + composed_seconds(work, parse_pipeline(list(stages)))
    there = compose(parse_pipeline(list(stages)), pool, checks, scores, [start, *costs(pool)], config())
    assert composed == pytest.approx(there.wall_s)


def test_composition_is_held_against_runs_that_it_did_not_see(tables):
    own = functions(tables["composed"])
    assert set(own["n_repeats"]) == {2}
    assert own.filter(pl.col("pipeline") == "noop")["composed_s"].to_list() == [None]
    ratios = own["ratio"].drop_nulls()
    assert len(ratios) == len(config().parsed())
    assert ((ratios - 1).abs() < 0.1).all()


def test_without_runs_costs_are_composed_and_say_so():
    pool, checks, scores = planted(n_tasks=4)
    measured = verification("m", config(), pool, checks, scores, (), costs(pool))
    bare = verification("m", config(), pool, checks, scores)
    for work, source in ((measured, "stages"), (bare, "checks")):
        assert {timing.source for timing in timings(work).values()} == {source}
        assert composed_rows(work) == []


def test_a_reward_model_that_knows_is_told_from_one_that_does_not():
    def gain(work):
        values = {key: value for key, value in ranked_values(work, 16).items() if not key[1]}
        own = [row for row in ranker_pairs(work, 16, values, HOW) if (row["first"], row["second"]) == ("orm", "random")]
        return own[0]

    good, blind = gain(made(n_tasks=20, orm=3.0)), gain(made(n_tasks=20, orm=0.0))
    assert good["low"] > 0.1
    assert blind["low"] < 0 < blind["high"]
    assert good["permutation_p"] < 0.01 < blind["permutation_p"]


def test_rankers_without_anything_to_rank_by_are_left_out():
    work = made(n_tasks=4, orm=None)
    assert "orm" not in work.rankers
    assert not any(stage.name == "orm" for stages in grammar(work.rankers) for stage in stages)


def test_orm_without_scores_is_one_sentence(work):
    with pytest.raises(ConfigError, match=r"stage orm: there are no scores of a reward model"):
        steps(work.pools[0], (Stage("orm"),), work.config, "other")


def test_every_candidate_leaves_each_pipeline_once(work, tables):
    n, samples = sum(len(pool) for pool in work.pools), sum(pool.samples for pool in work.pools)
    left = functions(tables["pruned"]).group_by("pipeline").agg(pl.col("n_candidates", "n_samples").sum())
    assert set(left["n_candidates"]) == {n}
    assert set(left["n_samples"]) == {samples}
    assert set(left["pipeline"]) == set(work.config.parsed())


def test_a_sound_filter_prunes_no_correct_candidate_and_syntax_only_what_does_not_parse(tables):
    own = functions(tables["pruned"], pipeline="filter_majority")
    assert own.filter((pl.col("kind") == "correct") & (pl.col("stage") != "left")).height == 0
    assert own.filter(pl.col("stage") == "syntax")["kind"].to_list() == ["SyntaxError"]


def test_filters_spare_the_full_suite_wrong_candidates_that_rank_high(tables):
    own = functions(tables["wasted"], ranker="random").group_by("filters").agg(pl.col("share").sum())
    share = dict(own.rows())
    assert share["syntax, one_test"] < share["syntax"] < share[""]
    assert "character-level" in functions(tables["wasted"])["kind"].to_list()


def test_the_front_holds_the_fastest_and_the_most_accurate(tables):
    for (_, _), own in functions(tables["frontier"]).group_by("metric", "k"):
        own = own.with_columns(pl.col("value").round(12))
        assert own.sort("value", "throughput")["on_front"][-1]
        assert own.sort("throughput", "value")["on_front"][-1]
        assert own["p_front"].is_between(0, 1).all()


def test_adjacent_points_of_the_front_trade_one_for_the_other(tables):
    own = functions(tables["frontier_pairs"], kind="adjacent")
    assert own.height
    assert (own["difference"] > 0).all()
    assert (own["throughput_ratio"] < 1).all()


def test_speedups_found_per_second_are_value_over_time_and_none_finds_more_than_the_full_suite(tables):
    kernels = tables["frontier"].filter(
        (pl.col("domain") == "kernels") & (pl.col("metric") == "speedup") & (pl.col("k") == 16)
    )
    for row in kernels.to_dicts():
        assert row["value_per_second"] == pytest.approx(row["value"] / row["task_s"])
    full = kernels.filter(pl.col("pipeline") == FULL)["value"][0]
    assert (kernels["value"] <= full + 1e-9).all()  # nothing beats running everything


def test_domains_average_ratios_on_the_logarithm(tables):
    for row in tables["domains"].filter(pl.col("metric") == "correct").to_dicts():
        assert row["verifications"] == ["made", "made"]
        assert row["geometric_mean"] <= row["arithmetic_mean"] + 1e-12


# ---- tuning ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tried(work):
    return try_all(work, 16)


def test_what_is_found_on_one_half_keeps_its_budget_there_and_is_the_best_there(work, tried):
    one, two = halves(len(work.pools), 0)
    assert sorted([*one, *two]) == list(range(len(work.pools)))
    for budget in (0.5, 0.2):
        found = best_within(tried, one, budget, 0)
        cost = tried.costs[:, one].sum(axis=1)
        assert cost[found] <= budget * cost[tried.full]
        allowed = cost <= budget * cost[tried.full]
        assert tried.values[found, one, 0].mean() == pytest.approx(tried.values[allowed][:, one, 0].mean(axis=1).max())


def test_a_budget_of_nothing_is_kept_by_nothing_that_costs(work, tried):
    tasks = np.arange(len(work.pools))
    free = best_within(tried, tasks, 0.0, 0)
    assert free is None or tried.costs[free].sum() == 0


def test_tuning_is_tested_on_every_task_once(tables, work):
    both = functions(tables["tuning"], half="both")
    assert set(both["n_tasks"]) == {len(work.pools)}
    assert (both["value"] <= both["full_value"] + 1e-9).all()
    halves_ = functions(tables["tuning"]).filter(pl.col("half") != "both")
    assert halves_["stages"].str.len_chars().min() > 0


def test_the_grammar_holds_each_pipeline_once():
    found = list(grammar(("majority", "orm")))
    assert (Stage(FULL),) in found
    assert all(parse_pipeline([_entry(stage) for stage in stages]) == stages for stages in found)


def _entry(stage):
    name, _, argument = stage.text.partition(": ")
    return {name: argument} if argument else name


# ---- edits -------------------------------------------------------------------------------------------------------------


def levenshtein(first, second):
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        row, before = [i], row
        for j, b in enumerate(second, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
    return row[-1]


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_edits_are_levenshteins(first, second):
    assert edits(first, second, NEAR) == min(levenshtein(first, second), NEAR + 1)


# ---- replay ------------------------------------------------------------------------------------------------------------


def test_a_replay_of_the_whole_pool_follows_the_rules_by_hand(work):
    pool = work.pools[0]
    found = steps(pool, parse_pipeline(["syntax", {"majority": "top 3"}, {"full": "first"}]), work.config, work.scorer)
    played = replay(pool, found, pool.counts[None])
    parses = [i for i in range(len(pool)) if pool.outcomes[i]["syntax"][0] == "pass"]
    short = sorted(parses, key=lambda i: (-pool.twins[i], i))[:3]
    right = [i for i in short if pool.correct[i]]
    assert np.flatnonzero(played.kept[1, 0]).tolist() == sorted(short)
    assert played.picks[0] == (right[0] if right else -1)
    assert played.run[2, 0].sum() == (short.index(right[0]) + 1 if right else 3)


def test_more_samples_are_worth_no_less_to_the_full_suite(work):
    values = [measure(work, (Stage(FULL),), k).values.mean() for k in (1, 4, 16)]
    assert values == sorted(values)


# ---- the paper's own numbers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def printed(root):
    return paper_rows(load_staged_paper(root / "resources/paper/staged.yaml"))


def test_the_headline_ratio_is_one_models_and_its_loss_another(printed):
    """11.64 times is the mean ratio of 3 tests with the 1.5B model, at 12.0 % relative loss; 8.3 % is that of 10 tests."""
    here = aggregate(printed, "3 tests", ["1.5B"])
    assert here["arithmetic_mean"] == pytest.approx(11.64, abs=0.005)
    assert here["relative_loss"] == pytest.approx(0.120, abs=0.001)
    assert here["points"] == pytest.approx(0.0773, abs=0.0001)
    assert here["geometric_mean"] == pytest.approx(9.1, abs=0.05)
    there = aggregate(printed, "10 tests", ["0.5B", "1.5B"])
    assert there["relative_loss"] == pytest.approx(0.083, abs=0.0005)
    apart = [aggregate(printed, "10 tests", [size])["arithmetic_mean"] for size in ("0.5B", "1.5B")]
    assert apart == pytest.approx([14.06, 11.23], abs=0.005)


def test_which_of_the_papers_points_nothing_dominates(printed):
    def on(benchmark):
        return {f"{r['filter']} + {r['ranker']}" for r in printed if r["benchmark"] == benchmark and r["on_front"]}

    assert on("HumanEval") == {"syntax + majority", "3 tests + majority", "10 tests + majority", "all tests + none"}
    assert on("MBPP") == {
        "syntax + majority", "3 tests + majority", "10 tests + majority", "10 tests + 1.5B", "all tests + none",
    }  # fmt: skip
    assert {name for name in on("CodeContests") if "majority" not in name} == {
        "10 tests + 0.5B", "10 tests + 1.5B", "all tests + none",
    }  # fmt: skip
    assert {"syntax + 0.5B", "syntax + 1.5B"} <= on("GSM8K")


def test_pruning_does_not_always_raise_the_papers_throughput(printed):
    speed = {r["filter"]: r["throughput"] for r in printed if (r["benchmark"], r["ranker"]) == ("HumanEval", "0.5B")}
    assert speed["1 test"] < speed["none"]


def test_a_paper_file_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "x.yaml").write_text("source: a\n")
    with pytest.raises(ConfigError, match=r"x\.yaml: .*rows") as caught:
        load_staged_paper(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


def test_named_pipelines_read_as_they_are_written():
    assert named(parse_pipeline(["syntax", {"tests": 3}, {"orm": "top 8"}, {"full": "first"}])) == (
        "syntax, tests: 3, orm: top 8, full: first"
    )

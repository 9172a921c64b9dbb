"""The whole analysis on made-up studies: planted effects are found, and what a study lacks does not stop it."""

import polars as pl
import pytest

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import read_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.config.analysis import AnalysisConfig, StudyFacts
from vegflow.errors import ArtifactError
from vegflow.statistics.analyse import analyse
from vegflow.statistics.samples import join_samples

from synthetic import analysed, default, make_study, write_study  # isort: skip


def frame(tables, name):
    return pl.DataFrame(pl.from_arrow(tables[name]))


def test_all_tables_are_there_in_their_schemas():
    _, tables = default()
    assert list(tables) == list(ANALYSIS_TABLES)
    for name, table in tables.items():
        assert table.schema.equals(ANALYSIS_TABLES[name]), name
        assert table.num_rows, name


def test_the_same_study_gives_the_same_tables():
    study, tables = default()
    again = analysed(study)
    assert all(again[name].equals(table) for name, table in tables.items())


def test_shards_read_back_give_the_same_samples(tmp_path):
    study, _ = default()
    paths = write_study(study, tmp_path)
    rollouts = pl.concat([pl.from_arrow(read_table(p, ROLLOUTS)) for p in reversed(paths["rollouts"])])
    evaluations = pl.concat([pl.from_arrow(read_table(p, EVALUATIONS)) for p in paths["evaluations"]])
    assert join_samples(rollouts, evaluations).equals(join_samples(study.rollouts, study.evaluations))


def test_a_tasks_headroom_is_the_median_of_its_timed_evaluations_and_below_1_25_it_is_marked():
    study, tables = default()
    found = {row["task_id"]: row for row in frame(tables, "headroom").to_dicts()}
    assert {task for task, row in found.items() if row["noise"]} == {"L1/4"}
    assert found["L1/5"]["headroom"] == 1.3
    timed = study.evaluations.filter((pl.col("task_id") == "L1/4") & pl.col("correct"))
    assert found["L1/4"] == {
        "task_id": "L1/4",
        "n": timed.height,
        "reference_us": 100.0,
        "headroom": 1.1,
        "noise": True,
    }


def test_a_task_without_a_timed_evaluation_has_no_headroom():
    study = make_study(n_tasks=2, k=4, group=2, steps=1, runs=(42,))
    unknown = pl.when(pl.col("task_id") == "L1/5").then(None).otherwise(pl.col("headroom"))
    study.evaluations = study.evaluations.with_columns(headroom=unknown)
    assert frame(analysed(study), "headroom")["task_id"].to_list() == ["L1/4"]


def test_pass_at_1_is_the_per_sample_rate_and_pass_at_k_is_any_of_k():
    _, tables = default()
    scaling = frame(tables, "scaling").filter((pl.col("metric") == "fast_1") & (pl.col("task_set") == "all"))
    drawn = frame(tables, "tasks").filter(pl.col("step").is_null())
    by_k = dict(scaling.select("k", "value").rows())
    assert by_k[1] == pytest.approx(drawn["fast_1"].mean())
    assert by_k[64] == pytest.approx(drawn["any_fast_1"].mean())
    assert sorted(by_k) == [1, 2, 4, 8, 16, 32, 64]


def test_rare_fast_programs_make_surprisal_beat_confidence():
    tables = analysed(make_study(n_tasks=14, tail=1.5, runs=(42,), steps=1))
    row = frame(tables, "paired").filter(
        (pl.col("task_set") == "all") & (pl.col("second") == "confidence-guided") & (pl.col("metric") == "log_speedup")
    )
    assert row["difference"][0] > 0
    assert row["low"][0] > 0
    assert row["permutation_p"][0] < 0.05
    claim = frame(tables, "claims").filter(pl.col("id") == "selection.log_speedup_all")
    assert claim["verdict"][0] == "reproduced"


def test_without_a_planted_effect_nothing_is_reproduced_beyond_chance():
    tables = analysed(make_study(n_tasks=14, tail=0.0, runs=(42,), steps=1, sharpening=0.0))
    claims = frame(tables, "claims").filter(pl.col("kind") == "effect")
    assert (claims["verdict"] == "reproduced").sum() <= 1


def test_step_0_agrees_with_the_sample_set_of_the_same_policy():
    _, tables = default()
    row = frame(tables, "self_check").filter(pl.col("task_id") == "all").to_dicts()[0]
    assert row["same_policy"]
    assert row["agrees"]


def test_an_arm_that_is_measured_differently_fails_the_self_check():
    study = make_study()
    slow = pl.col("rollout_id").str.starts_with("ttt/") & (pl.col("rollout_id").str.contains("3"))
    study.evaluations = study.evaluations.with_columns(fast_1=pl.col("fast_1") & ~slow)
    row = frame(analysed(study), "self_check").filter(pl.col("task_id") == "all").to_dicts()[0]
    assert not row["agrees"]


def test_step_0_of_another_policy_is_seen():
    study = make_study()
    other = pl.when(pl.col("source") == "best_of_n").then(pl.lit("base")).otherwise(pl.col("policy_id"))
    study.rollouts = study.rollouts.with_columns(policy_id=other)
    assert not frame(analysed(study), "self_check")["same_policy"].any()


def test_the_probe_finds_step_0_under_the_policy_that_training_left():
    _, tables = default()
    probe = frame(tables, "probe").filter((pl.col("samples") == "all") & pl.col("seed").is_null())
    whole = probe.filter(pl.col("subset") == "all")
    assert whole["step"].to_list() == list(range(6))
    assert whole["n"].unique().to_list() == [5 * 64]
    assert whole["rho"][0] > 0.3  # rare programs are fast: surprisal goes with speedup
    assert whole["change"][0] == 0.0
    assert probe.filter(pl.col("subset") == "bottom quartile")["n"].unique().to_list() == [80]


def test_equivalent_k_is_given_on_both_bases():
    _, tables = default()
    rows = frame(tables, "equivalent_k").filter(pl.col("rule") == "argmax")
    assert rows["basis"].to_list() == ["per-sample rate", "any-of-K"]
    assert rows["search_same_basis"][1] > rows["search_same_basis"][0]


def test_a_broken_evaluator_counts_in_statuses_only():
    study = make_study()
    broken = pl.col("rollout_id").str.ends_with(":0")
    study.evaluations = study.evaluations.with_columns(
        status=pl.when(broken).then(pl.lit("evaluator_error")).otherwise(pl.col("status")),
        correct=pl.col("correct") & ~broken, fast_1=pl.col("fast_1") & ~broken,
        speedup=pl.when(broken).then(0.0).otherwise(pl.col("speedup")),
    )  # fmt: skip
    tables = analysed(study)
    assert frame(tables, "tasks").filter(pl.col("step").is_null())["n"].unique().to_list() == [63]
    assert "evaluator_error" in frame(tables, "statuses")["status"].to_list()
    assert frame(tables, "scaling")["k"].max() == 32


def test_candidates_count_every_sample_once_and_show_who_picked_them():
    _, tables = default()
    found = frame(tables, "candidates")
    assert found["count"].sum() == 2 * 8 * 64
    picked = found.explode("picked_by", empty_as_null=True).drop_nulls("picked_by")
    best = picked.filter(pl.col("picked_by").str.starts_with("best-correct"))
    assert best.height == 2 * 7  # one task has no correct sample
    assert "random-correct" not in " ".join(picked["picked_by"])


LACKING = {
    "one seed": {"seeds": (42,), "runs": (42,)},
    "few samples": {"k": 3, "group": 2, "steps": 1},
    "one step": {"steps": 1},
    "twenty tasks": {"n_tasks": 20, "runs": (42,), "steps": 1},
    "no change": {"sharpening": 0.0},
}


@pytest.mark.parametrize("options", LACKING.values(), ids=LACKING)
def test_small_studies_are_analysed(options):
    tables = analysed(make_study(**options), AnalysisConfig(bootstrap=100))
    assert all(tables[name].schema.equals(schema) for name, schema in ANALYSIS_TABLES.items())


def cut(study, **facts):
    study.facts = StudyFacts(**study.facts.model_dump() | facts)
    return study


def test_no_probe_no_comparison_leave_tables_empty():
    tables = analysed(cut(make_study(), probes={}, comparison=None))
    assert tables["probe"].num_rows == tables["equivalent_k"].num_rows == tables["self_check"].num_rows == 0
    assert tables["strategies"].num_rows > 0


def test_a_single_task_has_values_and_no_intervals():
    study = make_study()
    for name in ("rollouts", "evaluations"):
        setattr(study, name, getattr(study, name).filter(pl.col("task_id") == "L1/4"))
    sets = study.facts.model_dump()["sample_sets"]
    sets["best_of_n"]["tasks"] = {"subset1": ("L1/4",)}
    tables = analysed(cut(study, sample_sets=sets))
    assert frame(tables, "scaling")["low"].null_count() == tables["scaling"].num_rows


def test_nothing_correct_anywhere():
    study = make_study(steps=1, runs=(42,))
    study.evaluations = study.evaluations.with_columns(
        status=pl.lit("wrong_output"), correct=pl.lit(False), fast_1=pl.lit(False), speedup=pl.lit(0.0)
    )
    tables = analysed(study)
    assert set(frame(tables, "strategies")["fast_1"]) == {0.0}
    assert frame(tables, "strategies")["mean_speedup"].null_count() == tables["strategies"].num_rows
    assert frame(tables, "probe")["rho"].null_count() == tables["probe"].num_rows


def test_an_empty_study():
    study = make_study(n_tasks=1, k=1, group=1, steps=1, runs=(42,), seeds=(42,))
    for name in ("rollouts", "evaluations", "nll", "updates"):
        setattr(study, name, getattr(study, name).clear())
    study.facts = StudyFacts()
    tables = analysed(study)
    assert all(table.num_rows == 0 for name, table in tables.items() if name not in ("claims", "paper", "audit"))


def test_missing_verdicts_are_named():
    study = make_study(n_tasks=2, k=2, group=2, steps=1)
    study.evaluations = study.evaluations.head(3)
    with pytest.raises(ArtifactError, match="rollouts have no verdict"):
        analyse(
            study.rollouts, study.evaluations, study.nll, study.updates, pl.DataFrame(), study.facts, AnalysisConfig()
        )  # fmt: skip


def test_doubled_rollouts_are_refused():
    study = make_study(n_tasks=2, k=2, group=2, steps=1)
    with pytest.raises(ArtifactError, match="stands twice"):
        join_samples(pl.concat([study.rollouts, study.rollouts]), study.evaluations)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ks": []}, "ks must be"), ({"ks": [0, 1]}, "ks must be"), ({"ks": [2, 1]}, "ks must be"),
        ({"bootstrap": 5}, "bootstrap"), ({"confidence": 1.5}, "confidence"), ({"colour": 1}, "colour"),
        ({"strategies": ["best-correct", "best-correct"]}, "twice"), ({"top_m": 1}, "top_m"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AnalysisConfig(**settings)


def test_default_strategies_are_written_out():
    assert AnalysisConfig() == AnalysisConfig(strategies=AnalysisConfig().strategies)
    assert "surprisal-guided-top5" in AnalysisConfig(top_m=5).strategies
    assert AnalysisConfig.model_validate_json(AnalysisConfig().canonical()) == AnalysisConfig()


def test_facts_that_name_what_is_not_there_are_refused():
    study, _ = default()
    facts = study.facts.model_dump() | {"comparison": {"search": "nothing", "adaptation": "ttt"}}
    with pytest.raises(ValueError, match=r"comparison\.search names 'nothing'"):
        StudyFacts(**facts)

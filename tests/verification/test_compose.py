"""Costs of pipelines: composed of their stages' exactly as a sum by hand, and near what really running them costs."""

import random

import pytest

from tests.verification.small_pool import CONFIG, TASKS, collected, scores
from vegflow.artifacts.io import to_table
from vegflow.artifacts.verification import RUNS, STAGE_COSTS, STAGE_RUNS
from vegflow.config.verification import parse_pipeline
from vegflow.errors import ConfigError
from vegflow.verification.compose import compose
from vegflow.verification.run import NOOP, START, cost_key, run_pipelines
from vegflow.verification.stored import keeps


@pytest.fixture(scope="module")
def measured():
    few = {name: CONFIG.pipelines[name] for name in ("one", "capped", "agree", "first two", "stored")}
    return run_pipelines(*collected(), scores(), TASKS, CONFIG.model_copy(update={"pipelines": few, "repeats": 2}))


def made_up(stages):
    """Costs that are powers of two, so that each sum is of one set of parts."""
    rows = [{"stage": START, "task_id": "", "completion_sha256": "", "wall_s": 0.5, "cpu_s": 0.25}]
    draw = random.Random(0)
    keys = [("", ""), *((task_id, "") for task_id in TASKS)]
    keys += [(row["task_id"], row["completion_sha256"]) for row in collected().pool]
    for stage in {cost_key(stage) for stage in stages}:
        for task_id, sha in keys:
            seconds = draw.random()
            rows.append(
                {"stage": stage, "task_id": task_id, "completion_sha256": sha}
                | {"wall_s": seconds, "cpu_s": 2 * seconds}
            )
    return rows


def test_a_composed_cost_is_the_sum_over_those_that_reach_each_stage():
    stages = parse_pipeline(["syntax", {"tests": 2}, "full"])
    rows = made_up(stages)
    cost = {(row["stage"], row["task_id"], row["completion_sha256"]): row["wall_s"] for row in rows}
    pool, checks = collected()
    outcomes: dict = {}
    for check in checks:
        key = check["task_id"], check["completion_sha256"]
        outcomes.setdefault(key, {})[check["check"]] = check["outcome"], check["cpu_s"]
    left = [(row["task_id"], row["completion_sha256"]) for row in pool]
    total = cost[START, "", ""]
    for stage in stages:
        name = cost_key(stage)
        total += cost[name, "", ""] + sum(cost[name, task_id, ""] for task_id in {task_id for task_id, _ in left})
        total += sum(cost[(name, *key)] for key in left)
        left = [key for key in left if stage.name == "full" or keeps(stage, outcomes[key], range(4), CONFIG)]
    found = compose(stages, pool, checks, {}, rows, CONFIG)
    assert found.wall_s == pytest.approx(total)
    assert found.cpu_s == pytest.approx(2 * (total - 0.5) + 0.25)


def test_full_first_pays_for_those_it_tries():
    stages = parse_pipeline([{"oracle": "top 1"}, {"full": "first"}])
    rows = [
        row | {"wall_s": float(row["stage"] == "full" and bool(row["completion_sha256"]))} for row in made_up(stages)
    ]
    assert compose(stages, *collected(), {}, rows, CONFIG).wall_s == len(TASKS)


def test_a_stage_without_measurements_is_named():
    with pytest.raises(ConfigError, match="stage 'tests: 2' was not measured"):
        compose(parse_pipeline([{"tests": 2}]), *collected(), {}, made_up(parse_pipeline(["syntax"])), CONFIG)


def test_runs_fit_their_schemas_and_say_what_happened(measured):
    to_table(measured.runs, RUNS)
    to_table(measured.stage_runs, STAGE_RUNS)
    to_table(measured.stage_costs, STAGE_COSTS)
    by_name = {(row["pipeline"], row["repeat"]): row for row in measured.runs}
    assert {name for name, _ in by_name} == {NOOP, "full", "one", "capped", "agree", "first two", "stored"}
    for row in measured.runs:
        assert row["n_samples"] == 17
        assert row["n_candidates"] == len(collected().pool)
        assert 0 < row["fixed_s"] < row["wall_s"]
        assert row["cpu_s"] > 0
    assert by_name["full", 0]["picked_correct"] == 1.0
    assert by_name[NOOP, 1]["picked_correct"] == 0.0
    stages = [row["stage"] for row in measured.stage_runs if row["pipeline"] == "first two" and row["repeat"] == 1]
    assert stages == ["one_test", "surprisal: top 3", "full: first 2"]
    for row in measured.stage_runs:
        run = by_name[row["pipeline"], row["repeat"]]
        assert row["wall_s"] <= run["wall_s"] - run["fixed_s"] + 1e-3


def test_what_stages_cost_by_themselves_is_kept_for_every_candidate(measured):
    keys = {(row["task_id"], row["completion_sha256"]) for row in collected().pool}
    for stage in ("full", "one_test", "capped: 0.1", "agreement", "syntax", "majority", "orm", "surprisal"):
        found = {(r["task_id"], r["completion_sha256"]) for r in measured.stage_costs if r["stage"] == stage}
        assert keys <= found, stage


def test_stored_scores_cost_what_they_took_when_they_were_made():
    pool, checks = collected()
    few = CONFIG.model_copy(update={"pipelines": {"stored": CONFIG.pipelines["stored"]}, "repeats": 1})
    seconds = {(row["task_id"], row["completion_sha256"]): 100.0 for row in pool}
    runs = run_pipelines(pool, checks, scores(), TASKS, few, scoring_s=seconds)
    (run,) = (row for row in runs.runs if row["pipeline"] == "stored")
    (stage,) = (row for row in runs.stage_runs if row["pipeline"] == "stored" and row["stage"].startswith("orm"))
    assert run["wall_s"] > stage["wall_s"] >= 100 * stage["n_in"] > 0
    parts = [row["wall_s"] for row in runs.stage_costs if row["stage"] == "orm" and row["completion_sha256"]]
    assert len(parts) == len(pool)
    assert min(parts) >= 100


def test_cpu_time_composed_is_near_that_of_running(measured):
    """Roughly, on twenty candidates; docs/functions.md has the comparison on thousands."""
    for name in ("full", "one", "first two"):
        config = CONFIG.model_copy(
            update={"pipelines": {"first two": CONFIG.pipelines["first two"], "one": CONFIG.pipelines["one"]}}
        )
        composed = compose(config.parsed()[name], *collected(), scores(), measured.stage_costs, config)
        really = [row["cpu_s"] for row in measured.runs if row["pipeline"] == name]
        assert 0.5 < composed.cpu_s / (sum(really) / len(really)) < 2.0

"""What follows from a study: cells, policies, and which files each job reads."""

import json
from pathlib import Path

import pytest
import yaml

from tests.config.test_study import GOOD, changed
from vegflow.options import JobOptions
from vegflow.plan import Study
from vegflow.tasks.catalogue import task_operations
from vegflow.tasks.splits import paper_sets


@pytest.fixture
def study(root):
    return Study(GOOD, root)


def test_step_0_is_the_policy_that_the_trajectory_starts_from(study):
    assert study.step_policy("rlvr", 42, 0) == "base"
    assert study.step_policy("ttt", 42, 0) == "rlvr/seed42/step003"
    assert study.step_policy("ttt", 42, 1) == "ttt/seed42/step001"
    assert study.adapter("base") == []
    assert study.adapter("ttt/seed42/step001") == ["results/s/policies/ttt/seed42/step001/adapter_model.safetensors"]


def test_a_policy_is_taken_from_the_run_with_the_same_seed_or_the_first(root):
    raw = changed(("trajectories", "rlvr", "seeds"), [7, 43])
    study = Study(raw, root)
    assert study.policy("rlvr@last", 43) == "rlvr/seed43/step003"
    assert study.policy("rlvr@1", 42) == "rlvr/seed7/step001"


def test_every_step_is_sampled_the_last_too(study):
    steps = [cell.step for cell in study.cells_of("ttt")]
    assert steps == [0, 1, 2]
    assert list(study.policies) == [
        *(f"rlvr/seed42/step00{s}" for s in (1, 2, 3)),
        *(f"ttt/seed42/step00{s}" for s in (1, 2)),
        *(f"code/seed42/step00{s}" for s in (1, 2)),
    ]


def test_tasks_per_step_pass_through_all_tasks_before_one_comes_again(study):
    tasks = study.trajectory_tasks("rlvr")
    seen = [task for step in range(10) for task in study.step_tasks("rlvr", 42, step)]
    assert sorted(seen) == sorted(tasks)
    assert study.step_tasks("rlvr", 42, 0) != study.step_tasks("rlvr", 43, 0)
    assert study.step_tasks("rlvr", 42, 0) == study.step_tasks("rlvr", 42, 0)


def test_the_analysis_takes_a_second_process_where_there_are_several_blocks(study, root):
    assert study.analysis_processes == 1
    assert Study(changed(("sample_sets", "best", "k"), 1_000_000), root).analysis_processes == 2


def test_a_sample_set_is_batches_and_shards(study):
    cells = study.cells_of("best")
    assert [cell.name for cell in cells] == ["best/seed42/subset1/shard000", "best/seed42/subset1/shard001"]
    assert [(cell.first, cell.count) for cell in cells] == [(0, 32), (32, 32)]
    assert {cell.policy for cell in cells} == {"rlvr/seed42/step002"}


def test_a_probe_scores_each_shard_under_each_policy(study):
    scores = study.probe_scores("probe")
    assert len(scores) == 2 * 3
    assert scores[0] == "results/s/nll/rlvr/seed42/step003/of/best/seed42/subset1/shard000.parquet"


def test_an_update_reads_the_step_before(study):
    first, second = (study.update_inputs(f"ttt/seed42/step00{s}") for s in (1, 2))
    start = ["results/s/policies/rlvr/seed42/step003/adapter_model.safetensors"]
    assert first["adapter"] == start == first["start"] == second["start"]
    assert first["optimizer"] == []
    assert second["optimizer"] == ["results/s/policies/ttt/seed42/step001/optimizer.safetensors"]
    assert second["rollouts"] == "results/s/rollouts/ttt/seed42/step001.parquet"
    assert study.update_inputs("rlvr/seed42/step001")["adapter"] == []


def test_a_job_depends_on_the_revisions_of_its_own_tasks_alone(study):
    options = json.loads(JobOptions(study).sample("best/seed42/subset1/shard000"))
    assert set(options["tasks"]["revisions"]) == {"L1/4", "L1/5", "L1/12", "L1/14", "L1/15"}
    assert "sets" not in options["tasks"]


def test_options_do_not_depend_on_other_blocks(root, study):
    other = Study(changed(("evaluation",), {"timing_trials": 9}), root)
    cell = "ttt/seed42/step001"
    assert JobOptions(other).sample(cell) == JobOptions(study).sample(cell)
    assert JobOptions(other).evaluate(cell) != JobOptions(study).evaluate(cell)
    assert JobOptions(other).update("ttt/seed42/step001") == JobOptions(study).update("ttt/seed42/step001")


ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [ROOT / "config.yaml", *sorted((ROOT / "resources" / "studies").glob("*.yaml"))]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_study_that_ships_can_be_planned(file):
    """It is valid, every job can be told what to do, and every file that a job reads is one that a job before it makes."""
    study = Study(yaml.safe_load(file.read_text()), ROOT, where=file.name)
    options = JobOptions(study)
    made = {path for policy in study.policies for path in study.adapter(policy)}
    for cell in study.cells.values():
        assert made.issuperset(study.adapter(cell.policy))
        assert json.loads(options.sample(cell.name))["cell"]["name"] == cell.name
        assert json.loads(options.evaluate(cell.name))["tasks"]
    for name, cell in study.demonstrations.items():
        assert json.loads(options.demonstrate(name))["cell"]["count"] == cell.count
        assert json.loads(options.evaluate(name))["tasks"]
    for policy in study.policies:
        inputs = study.update_inputs(policy)
        assert json.loads(options.update(policy))["update"]
        assert made.issuperset(inputs["adapter"] + inputs["start"])
        shown = [f"{study.results}/demonstrations/{cell}/programs.parquet" for cell in study.demonstrations]
        assert inputs["rollouts"] in study.rollouts() + shown
        assert inputs["evaluations"] in study.evaluations() + [p.replace("programs", "verdicts") for p in shown]
    assert len(study.updates()) == len(made)
    for score in study.scores():
        policy, cell = score.removeprefix(f"{study.results}/nll/").removesuffix(".parquet").split("/of/")
        assert made.issuperset(study.adapter(policy))
        assert cell in study.cells
    for told in (options.select(), options.analyse(), options.draw(), options.render()):
        assert json.loads(told)


ORM = {"train": "rlvr", "score": ["best"], "policy": "rlvr@last"}


def test_a_reward_model_scores_each_cell_and_is_ranked_on_each_source(root):
    study = Study(changed(("reward_models", "orm"), ORM), root)
    folder = "results/s/reward_models/orm"
    assert study.reward_scores("orm", "best") == [
        f"{folder}/of/best/seed42/subset1/shard00{shard}.parquet" for shard in (0, 1)
    ]
    assert study.reward_scores("orm", "held-out") == [f"{folder}/held-out.parquet"]
    assert study.reward_rankings() == [f"{folder}/ranking/held-out.parquet", f"{folder}/ranking/best.parquet"]
    assert study.reward_verdicts("orm")["rollouts"] == study.rollouts(["rlvr"])
    assert study.reward_verdicts("orm", "best")["evaluations"] == study.evaluations(["best"])
    assert study.reward_trunk("orm") == "rlvr/seed42/step003"


FUNCTIONS = {"domain": "functions", "pipelines": {"orm": ["orm"]}}


def test_a_reward_model_of_functions_learns_from_a_pool_whose_pipelines_rank_by_what_was_held_out(root, tmp_path):
    rollouts = tmp_path / "completions.parquet"
    rollouts.touch()
    raw = changed(("verification", "own"), FUNCTIONS | {"rollouts": str(rollouts), "orm": "orm.bradley_terry"})
    raw["reward_models"] = {"orm": {"train": "own"}}
    study = Study(raw, root)
    verdicts = study.reward_verdicts("orm")
    assert verdicts["pool"] == ["results/s/verification/own/pool.parquet"]
    assert verdicts["rollouts"] == verdicts["evaluations"] == []
    assert verdicts["tasks"] == study.function_files("own") != []
    assert study.verification_scores("own") == ["results/s/reward_models/orm/held-out.parquet"]
    assert study.reward_trunk("orm") == "base"
    assert json.loads(JobOptions(study).train_orm("orm"))["functions"] == "own"


def test_what_is_measured_of_a_reward_model_is_no_part_of_its_training(root):
    raw = changed(("reward_models", "orm"), ORM)
    before = JobOptions(Study(raw, root))
    raw["reward_models"]["orm"] |= {"ks": [1, 2], "bins": 5, "score": []}
    after = JobOptions(Study(raw, root))
    assert before.train_orm("orm") == after.train_orm("orm")
    assert before.score_orm("orm") == after.score_orm("orm")
    assert before.rank_orm("orm", "held-out") != after.rank_orm("orm", "held-out")
    raw["reward_models"]["orm"] |= {"l2": 5.0}
    assert JobOptions(Study(raw, root)).train_orm("orm") != after.train_orm("orm")


def demonstrated(**changes):
    raw = changed(("trajectories", "rlvr"), {"tasks": "train", "steps": 3, "tasks_per_step": 8, "group_size": 4})
    raw["trajectories"]["rlvr"] |= {"objective": "sft", "demonstrations": "level1", **changes}
    return raw


def test_a_trajectory_that_is_shown_programs_draws_none(root):
    study = Study(demonstrated(), root)
    assert study.cells_of("rlvr") == []
    assert list(study.demonstrations) == [f"rlvr/seed42/step{step:03d}" for step in range(3)]
    cell = study.demonstrations["rlvr/seed42/step002"]
    assert (cell.policy, cell.count, len(cell.tasks)) == ("corpus/level1", 4, 8)
    inputs = study.update_inputs("rlvr/seed42/step003")
    assert inputs["rollouts"] == "results/s/demonstrations/rlvr/seed42/step002/programs.parquet"
    assert inputs["evaluations"] == "results/s/demonstrations/rlvr/seed42/step002/verdicts.parquet"
    assert inputs["adapter"] == ["results/s/policies/rlvr/seed42/step002/adapter_model.safetensors"]
    assert study.policy("rlvr@last", 42) == "rlvr/seed42/step003"


def test_what_evaluated_tasks_compute_is_not_taught(root):
    """The convolutions of the training tasks are those of the set `eval`; an arm's own tasks count too."""
    study = Study(demonstrated(), root)
    operations = task_operations()
    taught = {operations[task] for task in study.trajectory_tasks("rlvr")}
    assert len(study.trajectory_tasks("rlvr")) == 71
    assert not taught & {operations[task] for task in paper_sets()["eval"]}
    raw = demonstrated()
    raw["trajectories"]["ttt"] = {"tasks": ["L1/19"], "steps": 2}
    assert set(study.trajectory_tasks("rlvr")) - set(Study(raw, root).trajectory_tasks("rlvr")) == {"L1/19"}

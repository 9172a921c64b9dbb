"""A whole study for real, in seconds: it finishes, finishes after being killed in each stage, and then rests."""

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.frames import read_frame
from vegflow.artifacts.frontier import FRONTIER
from vegflow.artifacts.policies import NLL, UPDATES
from vegflow.artifacts.reward_model import REWARD_MODELS, SCORES, completion_digest
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.artifacts.verification import POOL, RUNS
from vegflow.tasks.functions import load_functions

STAGES = {
    "build_model", "demonstrate", "sample", "evaluate", "update", "train_orm", "rescore", "verify_pool", "verify_run", "select", "analyse", "frontier",
    "draw", "render",
}  # fmt: skip


def write_completions(path: Path) -> None:
    """Four completions of each of three functions: right, right once more, wrong, and one that cannot be parsed."""
    rows = []
    for task in list(load_functions("own").values())[:3]:
        for text in (task.solution, task.solution, "    return None\n", "    return (\n"):
            rows.append({"task_id": task.id, "completion": text})
    pl.DataFrame(rows).write_parquet(path)


class Runner:
    """A folder in which the study is run with the project's own Snakefile."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self.root = root
        study = (root / "tests/workflow/pico_study.yaml").read_text()
        (folder / "study.yaml").write_text(study.replace("PICO", str(root / "tests/workflow/pico.yaml")))
        write_completions(folder / "completions.parquet")
        self.killed: set[str] = set()
        self.made_twice: list[str] = []
        self._done: dict[str, int] = {}

    def start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(self.root / "Snakefile"), "--cores", "2"]
        command += ["--configfile", "study.yaml", "--workflow-profile", str(self.root / "profiles/default")]
        with open(self.folder / "snakemake.log", "a") as log:
            return subprocess.Popen(
                [*command, *arguments], cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def run(self, *arguments: str) -> None:
        process = self.start(*arguments)
        assert process.wait(240) == 0, (self.folder / "snakemake.log").read_text()[-4000:]

    def kill_in_each(self, stages: set[str]) -> None:
        """Start it again and again, and kill its whole process group soon after a job of a stage has begun that no kill hit yet."""
        while missing := stages - self.killed:
            process = self.start()
            while process.poll() is None and not self.begun() & missing:
                time.sleep(0.01)
            time.sleep(0.15)
            assert process.poll() is None, f"ended before {missing} was killed"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            hit = self.begun() - self.killed
            self.killed |= hit
            self.note(f"{sorted(hit)} was killed")

    def begun(self) -> set[str]:
        """Stages that have a job which has begun and has not ended: its log is there, and its benchmark is not."""
        found = set()
        for log in (self.folder / "results").rglob("*.log"):
            place = log.relative_to(self.folder).parts
            number = place.index("logs")
            benchmark = self.folder.joinpath(*place[:number], "benchmarks", *place[number + 1 :]).with_suffix(".jsonl")
            if not benchmark.exists():
                found.add(place[number + 1].removesuffix(".log"))
        return found

    def note(self, when: str) -> None:
        """Remember what is complete by now, and what was complete before and has been made again."""
        now, unfinished = self.outputs(), self.unfinished()
        twice = [path for path, changed in self._done.items() if now.get(path) != changed]
        self.made_twice += [f"{path} before {when}" for path in twice]
        self._done = {path: changed for path, changed in now.items() if path not in unfinished}

    def outputs(self) -> dict[str, int]:
        """Whole output files -> time of their last change."""
        found = {}
        for path in (self.folder / "results").rglob("*"):
            parts = path.relative_to(self.folder).parts
            kept = path.is_file() and not {"logs", "benchmarks", "store"} & set(parts)
            if kept and not path.name.startswith("."):
                found[str(path.relative_to(self.folder))] = path.stat().st_mtime_ns
        return found

    def unfinished(self) -> set[str]:
        """Outputs of jobs that were running when Snakemake died."""
        marks = (self.folder / ".snakemake/incomplete").glob("*")
        return {base64.b64decode(mark.name).decode() for mark in marks if mark.is_file() and mark.name != "migrated"}

    def frame(self, kind: str, schema) -> pl.DataFrame:
        pattern = "update.parquet" if kind == "policies" else "*.parquet"
        return read_frame(sorted((self.folder / "results/pico" / kind).rglob(pattern)), schema)


@pytest.fixture(scope="module")
def runner(tmp_path_factory, root) -> Runner:
    """A study that was killed in each of its stages and then went on to its end."""
    runner = Runner(tmp_path_factory.mktemp("pico"), root)
    runner.kill_in_each(STAGES)
    runner.run()
    runner.note("the end")
    return runner


def test_every_stage_leaves_its_artifacts(runner):
    rollouts, evaluations = runner.frame("rollouts", ROLLOUTS), runner.frame("evaluations", EVALUATIONS)
    assert rollouts.height == evaluations.height == 2 * 12 + 2 * 12 + 2 * 8
    assert rollouts["rollout_id"].n_unique() == rollouts.height
    assert set(rollouts["rollout_id"]) == set(evaluations["rollout_id"])
    assert evaluations.filter("correct").height > 10
    assert evaluations.filter(pl.col("status") == "evaluator_error").height == 0
    updates = runner.frame("policies", UPDATES)
    assert updates.select("trajectory", "step").rows() == [("rlvr", 1), ("ttt", 1), ("warm", 1)]
    report = (runner.folder / "results/pico/report.html").read_text()
    assert report.startswith("<!DOCTYPE html>") or report.lstrip().lower().startswith("<!doctype html>")


def test_the_first_trajectory_learns_from_programs_that_nobody_drew(runner):
    folder = runner.folder / "results/pico/demonstrations/warm/seed42/step000"
    shown = read_frame([folder / "programs.parquet"], ROLLOUTS)
    verdicts = read_frame([folder / "verdicts.parquet"], EVALUATIONS)
    assert shown.select("policy_id", "task_id").unique().sort("task_id").rows() == [
        ("corpus/level1", "L1/19"),
        ("corpus/level1", "L1/21"),
    ]
    assert verdicts["correct"].to_list() == [True] * 12
    (record,) = runner.frame("policies", UPDATES).filter(trajectory="warm").to_dicts()
    assert (record["stepped"], record["n_rollouts"], record["temperature"]) == (True, 12, 1.0)
    first = runner.frame("rollouts", ROLLOUTS).filter(source="rlvr", step=0)
    assert set(first["policy_id"]) == {"warm/seed42/step001"}


def test_candidates_of_both_domains_are_verified(runner):
    folder = runner.folder / "results/pico/verification"
    kernels, functions = (read_frame([folder / name / "pool.parquet"], POOL) for name in ("kernels", "functions"))
    assert kernels["count"].sum() == 2 * 8
    assert functions.group_by("task_id").agg(pl.col("correct", "count").sum())["correct"].to_list() == [1, 1, 1]
    runs = read_frame([folder / "functions" / "runs.parquet"], RUNS)
    names = ("full", "noop", "ranked", "staged")
    assert runs.group_by("pipeline").len().sort("pipeline").rows() == [(name, 2) for name in names]
    picked = dict(runs.select("pipeline", "picked_correct").unique().rows())
    assert picked["full"] == picked["staged"] == 1.0
    table = read_frame([runner.folder / "results/pico/frontier/frontier.parquet"], FRONTIER)
    assert dict(table.select("verification", "cost").unique().rows()) == {"kernels": "checks", "functions": "run"}
    replayed = dict(table.filter(pl.col("domain") == "functions").select("pipeline", "value").rows())
    assert replayed == pytest.approx({name: picked[name] for name in ("full", "ranked", "staged")})


def test_rescoring_under_the_sampling_policy_gives_the_recorded_surprisal(runner):
    rollouts = runner.frame("rollouts", ROLLOUTS).select("rollout_id", "policy_id", "logprob")
    nll = runner.frame("nll", NLL)
    same = nll.join(rollouts, on=["rollout_id", "policy_id"])
    assert same.height == 8
    assert (same["nll"] + same["logprob"]).abs().max() < 1e-3
    assert nll["policy_id"].n_unique() == 2


def test_a_reward_model_scores_every_completion_of_tasks_it_has_not_seen(runner):
    folder = runner.folder / "results/pico/reward_models/orm"
    scores = read_frame(sorted((folder / "of").rglob("*.parquet")), SCORES)
    samples = runner.frame("rollouts", ROLLOUTS).filter(source="best_of_n")
    assert scores["fold"].null_count() == scores.height == 2 * samples.select("task_id", "completion").n_unique()
    surprisals = defaultdict(list)  # one text may have been drawn as other tokens
    for digest, logprob in zip(
        samples["completion"].map_elements(completion_digest, pl.String), samples["logprob"], strict=True
    ):
        surprisals[digest].append(-logprob)
    for digest, nll in scores.select("completion_sha256", "nll").rows():
        assert min(abs(surprisal - nll) for surprisal in surprisals[digest]) < 1e-3
    rankings = read_frame([folder / "ranking/held-out.parquet", folder / "ranking/best_of_n.parquet"], REWARD_MODELS)
    assert set(rankings["kind"]) >= {"control", "reward model"}


def test_functions_are_ranked_by_a_model_that_learnt_from_the_others(runner):
    folder = runner.folder / "results/pico/reward_models/functions_orm"
    scores = read_frame([folder / "held-out.parquet"], SCORES).filter(scorer="functions_orm.bradley_terry")
    assert scores.height == 3 * 3
    assert scores["fold"].null_count() == 0
    (row,) = read_frame([folder / "ranking/held-out.parquet"], REWARD_MODELS).filter(scorer="majority").to_dicts()
    assert (row["n_tasks"], row["n_rollouts"], row["best_of_k"][-1]) == (3, 12, 1.0)


def test_equal_candidates_have_one_verdict(runner):
    evaluations = runner.frame("evaluations", EVALUATIONS).filter(pl.col("candidate_sha256").is_not_null())
    verdicts = evaluations.group_by("task_id", "candidate_sha256").agg(pl.col("speedup").n_unique())
    assert verdicts["speedup"].max() == 1


def test_a_second_run_has_nothing_to_do(runner):
    before = runner.outputs()
    runner.run()
    assert runner.outputs() == before
    assert "Nothing to be done" in (runner.folder / "snakemake.log").read_text()


def test_no_helper_outlives_the_run(runner):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        if str(runner.folder) not in listing:
            return
        time.sleep(0.2)
    pytest.fail(listing)


def test_killed_in_every_stage_it_does_nothing_twice(runner):
    assert runner.killed >= STAGES
    assert runner.made_twice == []
    assert not list(runner.folder.rglob("*.part"))


def test_two_runs_of_one_seed_draw_the_same_rollouts(runner, tmp_path, root):
    """Up to the first update; from there on the rewards are timings, which no seed fixes."""
    again = Runner(tmp_path, root)
    first = "results/pico/rollouts/rlvr/seed42/step000.parquet"
    again.run(first)
    one, two = (read_frame([run.folder / first], ROLLOUTS) for run in (runner, again))
    assert one.equals(two)


def test_two_processes_that_share_the_model_learn_what_one_learns(runner, tmp_path, root):
    """The model's file alone changes, and the update alone runs again."""
    again = Runner(tmp_path, root)
    for folder in ("results", ".snakemake"):
        shutil.copytree(runner.folder / folder, tmp_path / folder)
    model = (root / "tests/workflow/pico.yaml").read_text() + "learning: {processes: 2, shard: true}\n"
    (tmp_path / "pico.yaml").write_text(model)
    study = (root / "tests/workflow/pico_study.yaml").read_text()
    (tmp_path / "study.yaml").write_text(study.replace("PICO", str(tmp_path / "pico.yaml")))
    adapter = "results/pico/policies/warm/seed42/step001/adapter_model.safetensors"
    process = again.start("--verbose", adapter)
    assert process.wait(120) == 0, (tmp_path / "snakemake.log").read_text()[-4000:]
    said = (tmp_path / "snakemake.log").read_text()
    assert "torch.distributed.run --standalone --nproc-per-node 2" in said
    assert [line for line in said.splitlines() if line.startswith(("rule ", "localrule "))] == ["localrule update:"]
    one, two = (load_file(folder / adapter) for folder in (runner.folder, tmp_path))
    flat = [torch.cat([values[name].flatten() for name in sorted(one)]).double() for values in (one, two)]
    assert (flat[0] - flat[1]).norm() <= 1e-6 * flat[0].norm()

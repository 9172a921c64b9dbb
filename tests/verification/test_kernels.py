"""Kernels as candidates of a pipeline: the evaluator's own checks, one by one."""

import pytest

from tests.evaluation.small_programs import HONEST, SOFTSIGN, program, set_ceilings
from vegflow.artifacts.io import to_table
from vegflow.artifacts.verification import CHECKS, POOL
from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.verification import VerificationConfig, parse_pipeline
from vegflow.errors import ArtifactError, ConfigError
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judge import evaluate_candidates
from vegflow.verification.executor import Entry
from vegflow.verification.kernels import KernelExecutor
from vegflow.verification.pipeline import run_pipeline
from vegflow.verification.pool import collect_kernels
from vegflow.verification.stored import test_orders
from vegflow.verification.verifiers import Context

test_orders.__test__ = False
TASKS = {SOFTSIGN.id: SOFTSIGN}
EVALUATION = EvaluationConfig(device="cpu", timing_trials=3, delta=100.0, timeout_s=5)
CONFIG = VerificationConfig(domain="kernels", rollouts="none")
PROGRAMS = {
    "honest": HONEST,
    "alike": program("return x / (1 + x.abs())"),
    "wrong": program("return x / (1 + x)"),
    "wrong on other shapes": program("return x / (1 + torch.abs(x)) if x.shape[1] == 1024 else x"),
    "dies": program("import os; os._exit(0)"),
    "is no Python": "class ModelNew(:\n",
    "defines nothing": "import torch\n",
    "empty": None,
}


@pytest.fixture(scope="module")
def found():
    set_ceilings()
    candidates = [Candidate(SOFTSIGN.id, text, "empty completion") for text in PROGRAMS.values()]
    verdicts = evaluate_candidates(candidates, TASKS, EVALUATION)
    evaluations = [{"rollout_id": name} | verdict.to_dict() for name, verdict in zip(PROGRAMS, verdicts, strict=True)]
    rollouts = [{"rollout_id": name, "task_id": SOFTSIGN.id, "completion": name, "logprob": -1.0} for name in PROGRAMS]
    return collect_kernels(rollouts, evaluations, TASKS, PROGRAMS, EVALUATION, CONFIG), rollouts, evaluations


def outcomes(found, name):
    (row,) = [row for row in found[0].pool if row["completion"] == name]
    return {
        check["check"]: check for check in found[0].checks if check["completion_sha256"] == row["completion_sha256"]
    }


def test_the_pool_has_the_evaluations_verdicts(found):
    to_table(found[0].pool, POOL)
    to_table(found[0].checks, CHECKS)
    rows = {row["completion"]: row for row in found[0].pool}
    assert [name for name, row in rows.items() if row["correct"]] == ["honest", "alike"]
    assert rows["honest"]["reward"] > 0
    assert rows["wrong"]["error_kind"] == "wrong_output"


def test_every_trial_is_run_to_its_end(found):
    counts = {name: sum(check.startswith("test/") for check in outcomes(found, name)) for name in PROGRAMS}
    assert len(set(counts.values())) == 1
    said = {
        name: {c["outcome"] for k, c in outcomes(found, name).items() if k.startswith("test/")} for name in PROGRAMS
    }
    assert said["honest"] == said["alike"] == {"pass"}
    assert said["wrong"] == {"fail"}
    assert said["wrong on other shapes"] == {"pass", "fail"}
    assert said["dies"] == said["is no Python"] == said["defines nothing"] == said["empty"] == {"error"}


def test_syntax_and_import(found):
    assert [name for name in PROGRAMS if outcomes(found, name)["syntax"]["outcome"] != "pass"] == [
        "is no Python",
        "empty",
    ]
    failed = [name for name in PROGRAMS if outcomes(found, name)["import"]["outcome"] != "pass"]
    assert failed == ["is no Python", "defines nothing", "empty"]


def test_right_kernels_agree_on_their_answers_and_wrong_ones_do_not(found):
    answers = {name: outcomes(found, name)["test/0"]["answer_sha256"] for name in ("honest", "alike", "wrong")}
    assert answers["honest"] == answers["alike"] != answers["wrong"]


def test_a_pipeline_keeps_what_it_should_and_ends_with_the_evaluation(found):
    entries = [Entry.of(row) for row in found[0].pool]
    n_tests = {SOFTSIGN.id: sum(check.startswith("test/") for check in outcomes(found, "honest"))}
    executor = KernelExecutor(TASKS, CONFIG, EVALUATION)
    try:
        orders = test_orders(found[0].checks, CONFIG, n_tests)
        stages = parse_pipeline(["syntax", {"tests": 2}, {"length": "top 1"}, {"full": "first"}])
        course = run_pipeline(stages, entries, Context(executor, CONFIG, n_tests, orders))
    finally:
        executor.close()
    assert (course.runs[0].n_in, course.runs[0].n_kept) == (8, 6)
    assert [entry.completion for entry in course.alive] == ["alike"]
    assert course.rewards[SOFTSIGN.id, course.alive[0].sha256] > 0
    assert all(run.cpu_s > 0 for run in course.runs if run.stage.name in ("tests", "full"))


def test_a_rollout_without_an_evaluation_is_named(found):
    _, rollouts, evaluations = found
    with pytest.raises(ArtifactError, match="1 rollouts have no evaluation, empty among them"):
        collect_kernels(rollouts, evaluations[:-1], TASKS, PROGRAMS, EVALUATION, CONFIG)


def test_kernels_run_one_at_a_time():
    with pytest.raises(ConfigError, match="one at a time; set it to 1"):
        KernelExecutor(TASKS, CONFIG.model_copy(update={"workers": 2}), EVALUATION)

"""No hack pays: each gets a status that is right for it, none gets a speedup, and nothing is left behind."""

import os
from pathlib import Path

import pytest
from hostile import HACKS, TASKS

from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judge import evaluate_candidates, isolation_report
from vegflow.evaluation.nursery import shared_zygote
from vegflow.tasks.task import Task

pytestmark = pytest.mark.xdist_group("hacks")

SOURCE = """
import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x):
        {}

def get_inputs():
    return {}

def get_init_inputs():
    return []
"""
CONFIG = EvaluationConfig(timeout_s=2.0, timing_trials=11)  # so that noise alone makes hardly anything `fast`


@pytest.fixture(scope="module")
def verdicts():
    tasks = {
        name: Task(name, name, name, ("x",), SOURCE.format(forward, inputs))
        for name, (forward, inputs) in TASKS.items()
    }
    candidates = [Candidate(hack.task, hack.program) for hack in HACKS]
    return dict(zip(HACKS, evaluate_candidates(candidates, tasks, CONFIG), strict=True))


@pytest.mark.parametrize("hack", HACKS, ids=lambda hack: f"{hack.family}-{hack.name}".replace(" ", "-"))
def test_hack_gets_its_status_and_no_speedup(verdicts, hack):
    if any(what.startswith("lacking") for what in isolation_report().values()):
        pytest.skip("this machine lacks a layer of isolation")
    verdict = verdicts[hack]
    assert verdict.status in hack.statuses, verdict
    assert not verdict.fast or verdict.speedup < 1.2, verdict


def test_names_are_unique_and_families_many():
    assert len({hack.name for hack in HACKS}) == len(HACKS)
    assert len({hack.family for hack in HACKS}) >= 15


def test_hostile_candidates_leave_nothing_behind(verdicts):
    zygote = shared_zygote("cpu")
    children = Path(f"/proc/{zygote.process.pid}/task/{zygote.process.pid}/children").read_text()
    assert children == ""
    assert not [name for place in ("/tmp", "/dev/shm") for name in os.listdir(place) if name == "vegflow-answers.pt"]


def test_an_honest_candidate_after_all_of_them_is_judged_as_before(verdicts):
    forward, inputs = TASKS["softsign"]
    task = Task("softsign", "softsign", "", ("x",), SOURCE.format(forward, inputs))
    program = SOURCE.format(forward, inputs).replace("class Model(", "class ModelNew(")
    (verdict,) = evaluate_candidates([Candidate("softsign", program)], {"softsign": task}, CONFIG)
    assert verdict.status == "correct"

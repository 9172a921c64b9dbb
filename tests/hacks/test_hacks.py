"""No hack pays: each gets a status that is right for it, none gets a speedup, and nothing is left behind."""

import importlib
import re

import pytest

from tests.hacks.corpus import TASKS
from tests.hacks.hostile import FAMILIES, HACKS
from tests.hacks.judging import CONFIG, fault_of, judge_hacks, lacking, left_behind, runs_here
from vegflow.evaluation import channel, child
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judge import evaluate_candidates

SESSION = set(dir(child.Session("cpu")))
PYTHON = {"item", "append"}
pytestmark = pytest.mark.xdist_group("hacks")


@pytest.fixture(scope="module")
def verdicts():
    return judge_hacks(HACKS)


@pytest.mark.parametrize("hack", HACKS, ids=lambda hack: f"{hack.family}-{hack.name}".replace(" ", "-"))
def test_hack_gets_its_status_and_no_speedup(verdicts, hack):
    if not runs_here(hack):
        pytest.skip(f"needs {hack.needs}")
    if lacking():
        pytest.skip("this machine lacks a layer of isolation")
    assert fault_of(hack, verdicts[hack]) == "", verdicts[hack]


def test_every_family_is_covered_here_and_many_are_our_own():
    here = {hack.family for hack in HACKS if not hack.needs}
    assert not set(FAMILIES) - here
    assert here - set(FAMILIES) == {"own", "P"}
    assert sum(hack.family == "own" for hack in HACKS) >= 20
    assert len({hack.name for hack in HACKS}) == len(HACKS)


@pytest.mark.parametrize("target", sorted({target for hack in HACKS for target in hack.attacks}))
def test_what_the_hacks_attack_is_still_there(target):
    """Otherwise the hack fails for want of a target, which proves nothing: write it anew against what there is now."""
    module, *names = target.split(".")
    found = importlib.import_module(f"vegflow.evaluation.{module}")
    for index, name in enumerate(names):
        if not hasattr(found, name) and index == 1:  # an attribute of instances
            assert name in getattr(found, "__annotations__", {}) or name in SESSION, f"{target} is gone"
            return
        found = getattr(found, name)


@pytest.mark.parametrize("hack", HACKS, ids=lambda hack: hack.name.replace(" ", "-"))
def test_a_hack_names_nothing_of_the_evaluator_that_is_gone(hack):
    program = hack.program
    if re.search(r"\bs = session\(\)|\bdef \w+\(self, (request|slot)", program):
        used = set(re.findall(r"\b(?:s|session\(\))\.(\w+)", program))
        used |= set(re.findall(r"\bself\.(\w+)", program)) & {"memory", "arguments", "slots", "results", "places"}
        assert used <= SESSION | PYTHON
    for module, parts in ((child, r"\bchild\.(\w+)"), (channel, r"\bchannel\.(\w+)")):
        if hack.language == "python" and re.search(r"vegflow\.evaluation", program):
            assert {name for name in re.findall(parts, program) if not hasattr(module, name)} == set()
    assert set(re.findall(r"child\.Session\.(\w+)", program)) <= SESSION


def test_hostile_candidates_leave_nothing_behind(verdicts):
    assert left_behind() == []


def test_an_honest_candidate_after_all_of_them_is_judged_as_before(verdicts):
    task = TASKS["softsign"]
    program = task.source.replace("class Model(", "class ModelNew(")
    (verdict,) = evaluate_candidates([Candidate(task.id, program)], TASKS, CONFIG)
    assert verdict.status == "correct"

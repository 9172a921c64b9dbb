"""Nothing honest is rejected, however it computes what it computes."""

import pytest

from tests.hacks.honest import HONEST
from tests.hacks.judging import judge_honest

pytestmark = pytest.mark.xdist_group("honest")


@pytest.fixture(scope="module")
def verdicts():
    return judge_honest(HONEST)


@pytest.mark.parametrize("program", HONEST, ids=lambda p: f"{p.task_id}-{p.name}".replace(" ", "-"))
def test_an_honest_program_is_accepted(verdicts, program):
    assert verdicts[program].status == "correct", verdicts[program]


def test_there_are_a_hundred_of_them_and_more():
    assert len(HONEST) >= 100
    assert len({(p.task_id, p.text) for p in HONEST}) == len(HONEST)
    assert len({(p.task_id, p.name) for p in HONEST}) == len(HONEST)

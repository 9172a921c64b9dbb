"""Several judges at once: their shares, what they reach together, and what becomes of the share of one that dies."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_programs import kept, program, set_ceilings, task

from vegflow.config.evaluation import EvaluationConfig
from vegflow.errors import ConfigError
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judges import _shares, evaluate_at_once

pytestmark = pytest.mark.xdist_group("evaluator")

CONFIG = EvaluationConfig(device="cpu", timing_trials=3, correctness_trials=3, shapes=1, delta=1.0)
TASKS = {name: task(name, f"return arguments[0] * {name[-1]}", "[torch.randn(24, 32)]") for name in ("T/2", "T/3")}


def of(name, body):
    """A candidate for one of the tasks."""
    return Candidate(name, program(body))


CANDIDATES = [
    of("T/2", "return x * 2"),
    of("T/2", "return x + x"),
    of("T/2", "return x"),
    of("T/2", "return x * 2  # again"),
    of("T/3", "return x * 3"),
    of("T/3", "return y"),
    Candidate("T/3", None, "no program"),
]
STATUSES = ["correct", "correct", "wrong_output", "correct", "correct", "runtime_error", "parse_error"]


@pytest.fixture
def store(tmp_path):
    set_ceilings(tmp_path)
    return tmp_path


def judges():
    """Process ids of the judges of this process."""
    children = [
        Path(f"/proc/self/task/{thread}/children").read_text().split() for thread in os.listdir("/proc/self/task")
    ]
    lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for own in children for pid in own}
    return [pid for pid, line in lines.items() if b"vegflow.evaluation.judges" in line]


def test_two_judges_reach_what_one_does(store):
    heard, most = [], []

    def listen(done, total, text):
        heard.append((done, total, text))
        most.append(len(judges()))

    verdicts = evaluate_at_once(CANDIDATES, TASKS, CONFIG, processes=2, store=store, progress=listen)
    assert [verdict.status for verdict in verdicts] == STATUSES
    assert max(most) == 2
    assert max(heard)[:2] == (5, 5)  # equal programs once, and none for what is no program
    assert sum(text.startswith("isolation: ") for _, _, text in heard) == 1
    assert not judges()
    again = evaluate_at_once(CANDIDATES, TASKS, CONFIG, processes=2, store=store, progress=listen)
    assert again == verdicts


def test_the_share_of_a_judge_that_dies_is_judged_all_the_same(store):
    said = []

    def kill_one(done, total, text):
        said.append(text)
        if done == 1 and len(judges()) == 2:
            os.kill(judges()[0], signal.SIGKILL)

    verdicts = evaluate_at_once(CANDIDATES, TASKS, CONFIG, processes=2, store=store, progress=kill_one)
    assert [verdict.status for verdict in verdicts] == STATUSES
    assert any("of 2 died (SIGKILL)" in text for text in said)


def test_an_interrupted_call_leaves_no_judge_and_keeps_what_there_is(store):
    def interrupt(done, total, text):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_at_once(CANDIDATES, TASKS, CONFIG, processes=2, store=store, progress=interrupt)
    assert not judges()
    assert kept(store)


def test_without_a_store_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    verdicts = evaluate_at_once(CANDIDATES[:3], TASKS, CONFIG, processes=2)
    assert [verdict.status for verdict in verdicts] == STATUSES[:3]
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ({"a": 3, "b": 2, "c": 1}, 2, [3, 3]),  # whole tasks
        ({"a": 4, "b": 1, "c": 1}, 2, [4, 2]),
        ({"a": 5}, 2, [3, 2]),  # one task for two: divided
        ({"a": 1}, 3, [1]),
        ({}, 2, []),
    ],
)
def test_shares_are_about_equal(sizes, count, expected):
    candidates = [Candidate(name, str(number)) for name, size in sizes.items() for number in range(size)]
    shares = _shares(candidates, count)
    assert sorted(map(len, shares), reverse=True) == expected
    assert sorted(c.task_id + c.program for share in shares for c in share) == sorted(
        c.task_id + c.program for c in candidates
    )
    if len(sizes) >= count:
        assert sum(len({c.task_id for c in share}) for share in shares) == len(sizes)


def test_no_judge_is_no_answer_and_an_unknown_task_is_named():
    with pytest.raises(ConfigError, match="processes: 0 judges; one at least"):
        evaluate_at_once(CANDIDATES, TASKS, CONFIG, processes=0)
    with pytest.raises(ConfigError, match="tasks that are not given: T/9"):
        evaluate_at_once([*CANDIDATES, of("T/9", "return x")], TASKS, CONFIG, processes=2)


def test_what_a_judge_refuses_is_said_in_a_sentence(tmp_path):
    request = pickle.dumps(([of("T/9", "return x")], TASKS, CONFIG, tmp_path))
    command = [sys.executable, "-m", "vegflow.evaluation.judges", str(os.getpid())]
    done = subprocess.run(command, input=request, capture_output=True, timeout=60)
    assert done.stdout == b'{"problem": "candidates name tasks that are not given: T/9"}\n', done.stderr

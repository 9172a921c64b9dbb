"""What the judge promises about honest candidates, duplicates, order, the store and its own faults."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from small_programs import HONEST, SOFTSIGN, WASTEFUL, program, task, workers_of

from vegflow.config.evaluation import EvaluationConfig
from vegflow.errors import ConfigError
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judge import evaluate_candidates
from vegflow.evaluation.nursery import Zygote, discard_zygote, shared_zygote
from vegflow.evaluation.verdict import Verdict

pytestmark = pytest.mark.xdist_group("evaluator")

TASKS = {"T/1": SOFTSIGN, "T/2": WASTEFUL}
CONFIG = EvaluationConfig(timing_trials=3, correctness_trials=2)


@pytest.fixture
def spawned(monkeypatch):
    """Counts the workers started: one reports the isolation, one is each task's reference."""
    calls = []
    spawn = Zygote.spawn

    def counting(self, *arguments):
        calls.append(arguments)
        return spawn(self, *arguments)

    monkeypatch.setattr(Zygote, "spawn", counting)
    return calls


def judge(*programs, task_id="T/1", tasks=TASKS, config=CONFIG, **more):
    return evaluate_candidates([Candidate(task_id, text) for text in programs], tasks, config, **more)


def test_skipping_redundant_work_is_a_speedup():
    (verdict,) = judge(program("return torch.exp(x).sin().cos()"), task_id="T/2")
    assert verdict.status == "correct"
    assert verdict.speedup > 1.3
    assert verdict.fast
    assert verdict.fast_1
    assert verdict.speedup_low <= verdict.speedup <= verdict.speedup_high
    assert verdict.runtime_us < verdict.reference_us


def test_more_work_is_a_slowdown():
    (verdict,) = judge(program("for _ in range(30):\n    y = torch.exp(x).sin().cos()\nreturn y"), task_id="T/2")
    assert verdict.status == "correct"
    assert verdict.speedup < 0.7
    assert not verdict.fast_1


def test_waiting_is_charged_like_working():
    sleepy = program("import time\ntime.sleep(0.02)\nreturn torch.exp(x).sin().cos()")
    (verdict,) = judge(sleepy, task_id="T/2")
    assert verdict.speedup < 0.7


def test_verdicts_keep_the_order_of_the_candidates():
    wrong, broken = program("return x"), program("1 / 0")
    mixed = [("T/1", HONEST), ("T/2", wrong), ("T/1", broken), ("T/2", broken), ("T/1", wrong), ("T/1", None)]
    verdicts = evaluate_candidates([Candidate(i, p) for i, p in mixed], TASKS, CONFIG)
    expected = ["correct", "wrong_output", "runtime_error", "runtime_error", "wrong_output", "parse_error"]
    assert [v.status for v in verdicts] == expected


def test_equal_programs_are_judged_once(spawned):
    verdicts = judge(HONEST, program("return x"), HONEST, HONEST)
    assert len(spawned) == 2 + 2 + 1, "isolation and reference, two candidates, a fresh reference for the one timed"
    assert verdicts[0] is verdicts[2] is verdicts[3]


def test_a_stored_verdict_is_not_judged_again(spawned, tmp_path):
    first = judge(HONEST, program("return x"), store=tmp_path)
    del spawned[:]
    assert judge(program("return x"), HONEST, store=tmp_path) == first[::-1]
    assert not spawned


@pytest.mark.parametrize(
    "change", [{"correctness_trials": 3}, {"rtol": 2e-4}, {"timeout_s": 19.0}, {"delta": 0.03}, {"seed": 1}]
)
def test_another_protocol_is_another_verdict(spawned, tmp_path, change):
    judge(HONEST, store=tmp_path)
    del spawned[:]
    judge(HONEST, store=tmp_path, config=CONFIG.model_copy(update=change))
    assert spawned


def test_a_damaged_stored_verdict_is_judged_again(tmp_path):
    judge(program("return x"), store=tmp_path)
    (file,) = tmp_path.rglob("*.json")
    assert json.loads(file.read_text())["seed"]
    file.write_text("{")
    (verdict,) = judge(program("return x"), store=tmp_path)
    assert verdict.status == "wrong_output"
    assert json.loads(file.read_text())["verdict"]["status"] == "wrong_output"


@pytest.mark.parametrize(
    "broken",
    [
        task("T/3", "raise KeyError('mine')", "[torch.randn(4)]"),
        task("T/3", "return arguments[0]", "1 / 0"),
        task("T/3", "return arguments[0] * float('nan')", "[torch.randn(4)]"),
        task("T/3", "return 'text'", "[torch.randn(4)]"),
        task("T/3", "import os\nos._exit(1)", "[torch.randn(4)]"),
    ],
)
def test_a_failing_reference_is_the_evaluators_error_and_is_not_stored(tmp_path, spawned, broken):
    verdicts = judge(HONEST, program("return x"), task_id="T/3", tasks={"T/3": broken}, store=tmp_path)
    assert [v.status for v in verdicts] == ["evaluator_error"] * 2
    assert all("T/3" in v.reason for v in verdicts)
    assert len(spawned) == 1 + 2  # tried twice for the first candidate, then known to fail
    assert not list(tmp_path.rglob("*.json"))


def test_a_dead_zygote_is_replaced_and_the_candidate_tried_again():
    judge(HONEST)
    os.kill(shared_zygote("cpu").process.pid, signal.SIGKILL)
    time.sleep(0.05)
    (verdict,) = judge(program("return x / (1 + x.abs())"))
    assert verdict.status == "correct"


def test_a_killed_judge_leaves_no_process_and_keeps_its_verdicts(tmp_path, spawned):
    script = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from test_judge import *\n"
        "from pathlib import Path\n"
        "judge(*[HONEST + f'#{i}' for i in range(200)], store=Path(sys.argv[1]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        _until(lambda: len(list(tmp_path.rglob("*.json"))) >= 3 or process.poll() is not None)
        assert process.poll() is None
        assert workers_of(process.pid)
    finally:
        process.kill()
        process.wait()
    _until(lambda: not workers_of(process.pid))
    kept = len(list(tmp_path.rglob("*.json")))
    verdicts = judge(*[HONEST + f"#{i}" for i in range(kept + 2)], store=tmp_path)
    assert [v.status for v in verdicts] == ["correct"] * (kept + 2)
    assert len(spawned) == 2 + 2 * 2


def _until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_unknown_task_is_one_sentence():
    with pytest.raises(ConfigError, match="T/9"):
        judge(HONEST, task_id="T/9")


def test_progress_counts_to_the_number_of_distinct_candidates():
    seen = []
    judge(HONEST, HONEST, program("return x"), progress=lambda *report: seen.append(report))
    assert seen[0][2].startswith("isolation: ")
    assert [report[:2] for report in seen] == [(0, 2), (1, 2), (2, 2)]


def test_equal_seeds_give_a_candidate_the_references_weights():
    linear = task(
        "T/4", "return self.layer(arguments[0])", "[torch.randn(8, 16)]", "n = 16", "self.layer = nn.Linear(n, n)"
    )
    same = linear.source.replace("class Model(", "class ModelNew(").split("def get_inputs")[0]
    inherited = linear.source + "\nclass ModelNew(Model):\n    def forward(self, x):\n        return self.layer(x)\n"
    other = same.replace("super().__init__()", "super().__init__(); torch.rand(1)")
    verdicts = judge(same, inherited, other, task_id="T/4", tasks={"T/4": linear})
    assert [v.status for v in verdicts] == ["correct", "correct", "wrong_output"]


def test_inputs_and_outputs_of_every_kind_cross_the_border():
    kinds = task(
        "T/5",
        "x, mask, index, scale, shape = arguments\nreturn (x * mask * scale).half(), [index + 1, mask, x.view(shape).t()][0], "
        "x.argmax(), x.bfloat16().T",
        "[torch.randn(4, 6), torch.rand(4, 6) > 0.5, torch.randint(9, (3,)), 2.5, (6, 4)]",
    )
    same = kinds.source.replace("class Model(", "class ModelNew(")
    integer = same.replace("index + 1", "index + 2")
    verdicts = judge(same, integer, task_id="T/5", tasks={"T/5": kinds})
    assert [v.status for v in verdicts] == ["correct", "wrong_output"], verdicts


def test_a_verdict_survives_its_own_json():
    verdict = Verdict("correct", correct=True, speedup=1.5, speedup_low=1.0, max_abs_err=0.0)
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
    with pytest.raises(ValueError, match="not a status"):
        Verdict("fine")


def test_the_zygote_sees_none_of_this_process_environment(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    discard_zygote("cpu")
    telling = program("import os\nraise ValueError(str(dict(os.environ)) + open('/proc/self/environ').read())")
    (verdict,) = judge(telling)
    assert verdict.status == "runtime_error"
    assert "PATH" in verdict.reason
    assert "secret" not in verdict.reason


def test_two_jobs_that_want_one_verdict_judge_once(tmp_path, spawned):
    """The second waits for the first, which holds the candidate, and takes its verdict."""
    script = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from test_judge import *\n"
        "from pathlib import Path\n"
        "judge(*[HONEST + f'#{i}' for i in range(12)], store=Path(sys.argv[1]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) as other:
        _until(lambda: list(tmp_path.rglob("*.json")) or other.poll() is not None)
        here = judge(*[HONEST + f"#{i}" for i in range(12)], store=tmp_path)
        assert other.wait(60) == 0
    kept = [json.loads(file.read_text())["verdict"]["speedup"] for file in tmp_path.rglob("*.json")]
    assert sorted(v.speedup for v in here) == sorted(kept)


def test_a_mistake_of_our_own_is_tried_again_and_ends_no_job(monkeypatch, tmp_path):
    from vegflow.evaluation import judge as room

    real, calls = room.measure, []

    def fails_first(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("ours")
        return real(*arguments)

    monkeypatch.setattr(room, "measure", fails_first)
    assert [v.status for v in judge(HONEST, HONEST + "#2")] == ["correct", "correct"]

    def fails(*arguments):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(room, "measure", fails)
    (verdict,) = judge(HONEST, store=tmp_path)
    assert (verdict.status, verdict.reason, verdict.speedup) == ("evaluator_error", "ZeroDivisionError: ours", 0.0)
    assert not list(tmp_path.rglob("*.json"))

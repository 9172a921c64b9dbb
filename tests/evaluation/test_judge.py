"""What the judge promises about honest candidates, duplicates, order, the store and its own faults."""

import contextlib
import gc
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import sources
from small_programs import HONEST, SOFTSIGN, WASTEFUL, WASTEFUL_OF, kept, program, set_ceilings, task, workers_of

from tests.hacks.corpus import TASKS as HACK_TASKS
from tests.hacks.invented import HACKS
from vegflow.config.evaluation import EvaluationConfig
from vegflow.errors import ConfigError
from vegflow.evaluation import judge as room
from vegflow.evaluation import rounds
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.intervals import centre, in_balance
from vegflow.evaluation.judge import evaluate_candidates
from vegflow.evaluation.nursery import Zygote, discard_zygote, shared_zygote
from vegflow.evaluation.store import verdict_key
from vegflow.evaluation.verdict import Verdict
from vegflow.evaluation.worker import Worker
from vegflow.evaluation.workers import Workers

pytestmark = pytest.mark.xdist_group("evaluator")

TASKS = {"T/1": SOFTSIGN, "T/2": WASTEFUL}
CONFIG = EvaluationConfig(device="cpu", timing_trials=3, block_ms=0.3, delta=1.0)
"""All kinds and shapes; with so large a delta one group of workers decides."""
ISOLATION, REFERENCE = 1, 2
"""Workers started to report the isolation, and for a reference: one that makes, one that is timed."""


@pytest.fixture(autouse=True)
def _ceilings():
    set_ceilings()


@pytest.fixture
def store(tmp_path):
    set_ceilings(tmp_path)
    return tmp_path


@pytest.fixture
def spawned(monkeypatch):
    """Counts the workers started."""
    calls = []
    spawn = Zygote.spawn

    def counting(self, *arguments, **more):
        calls.append(arguments)
        return spawn(self, *arguments, **more)

    monkeypatch.setattr(Zygote, "spawn", counting)
    return calls


def judge(*programs, task_id="T/1", tasks=TASKS, config=CONFIG, **more):
    return evaluate_candidates([Candidate(task_id, text) for text in programs], tasks, config, **more)


def several(count):
    """Distinct programs that all do the same; a comment would not make them distinct."""
    return [f"{HONEST}\nNUMBER = {i}\n" for i in range(count)]


def test_skipping_redundant_work_is_a_speedup():
    very = {"T/2": task("T/2", WASTEFUL_OF.format(times=60), "[torch.randn(64, 1024)]")}
    (verdict,) = judge(program("return torch.exp(x).sin().cos()"), task_id="T/2", tasks=very)
    assert verdict.status == "correct"
    assert verdict.speedup > 1.3
    assert verdict.fast
    assert verdict.fast_1
    assert verdict.speedup_low <= verdict.speedup <= verdict.speedup_high
    assert verdict.runtime_us < verdict.reference_us
    assert verdict.clock == "cpu"
    assert verdict.sm_clocks_mhz is verdict.memory_clocks_mhz is verdict.throttling is None


def test_more_work_is_a_slowdown():
    (verdict,) = judge(program("for _ in range(30):\n    y = torch.exp(x).sin().cos()\nreturn y"), task_id="T/2")
    assert verdict.status == "correct"
    assert verdict.speedup < 0.7
    assert not verdict.fast_1


def test_waiting_is_charged_like_working():
    sleepy = program("import time\ntime.sleep(0.02)\nreturn torch.exp(x).sin().cos()")
    (verdict,) = judge(sleepy, task_id="T/2")
    assert verdict.speedup < 0.7


def test_what_its_rival_was_asked_is_not_there_while_a_candidate_wakes_up():
    """Found as a gain of 2.5x: in half of the pairs the rival had the same inputs, in the same memory, just before."""
    hack = next(hack for hack in HACKS if hack.name == "answers a whole block while it wakes up")
    config = CONFIG.model_copy(update={"timing_trials": 10, "block_ms": 1.0})
    (verdict,) = judge(hack.program, task_id=hack.task, tasks=HACK_TASKS, config=config)
    assert verdict.status == "correct", verdict.reason
    assert verdict.speedup < 1


def test_verdicts_keep_the_order_of_the_candidates():
    wrong, broken = program("return x"), program("1 / 0")
    mixed = [("T/1", HONEST), ("T/2", wrong), ("T/1", broken), ("T/2", broken), ("T/1", wrong), ("T/1", None)]
    verdicts = evaluate_candidates([Candidate(i, p) for i, p in mixed], TASKS, CONFIG)
    expected = ["correct", "wrong_output", "runtime_error", "runtime_error", "wrong_output", "parse_error"]
    assert [v.status for v in verdicts] == expected


def test_equal_programs_are_judged_once(spawned, monkeypatch):
    monkeypatch.setattr(room, "enough", lambda *_: True)  # how many workers time a program is for noise to say
    verdicts = judge(HONEST, program("return x"), HONEST, HONEST)
    assert len(spawned) == ISOLATION + REFERENCE + 2
    assert verdicts[0] is verdicts[2] is verdicts[3]


def test_programs_that_differ_in_comments_and_layout_are_judged_once(spawned, store):
    first, second = judge(HONEST, "# the same\n\n" + HONEST.replace("(1 + torch.abs(x))", "( 1+torch.abs(x) )  # so"))
    assert len(spawned) == ISOLATION + REFERENCE + 1
    assert first is second
    third, fourth = judge(HONEST, HONEST.replace("1 + torch", "1.0 + torch"), store=store)
    assert third is not fourth
    del spawned[:]
    assert judge(HONEST + "# kept\n", store=store) == [third]
    assert not spawned


def test_a_stored_verdict_is_not_judged_again(spawned, store):
    first = judge(HONEST, program("return x"), store=store)
    del spawned[:]
    assert judge(program("return x"), HONEST, store=store) == first[::-1]
    assert not spawned


@pytest.mark.parametrize(
    "change",
    [
        {"correctness_trials": 20},
        {"rtol": 2e-4},
        {"timeout_s": 19.0},
        {"delta": 0.9},
        {"seed": 1},
        {"shapes": 2},
        {"protocol": "paper"},
        {"reference": "compile"},
    ],
)
def test_another_protocol_is_another_verdict(change):
    candidate = Candidate("T/1", HONEST)
    keys = [verdict_key(SOFTSIGN, candidate, config, "cpu") for config in (CONFIG, CONFIG.model_copy(update=change))]
    assert keys[0] != keys[1]


def test_a_verdict_under_another_protocol_is_judged_anew(spawned, store):
    judge(HONEST, store=store)
    del spawned[:]
    judge(HONEST, store=store, config=CONFIG.model_copy(update={"rtol": 2e-4}))
    assert spawned
    assert len(kept(store)) == 2


def test_another_language_is_another_verdict():
    keys = [
        verdict_key(SOFTSIGN, Candidate("T/1", "int x;", language=name), CONFIG, "cpu")
        for name in ("c", "cpp", "python")
    ]
    assert len(set(keys)) == 3


def test_a_damaged_stored_verdict_is_judged_again(store):
    judge(program("return x"), store=store)
    ((file, entry),) = kept(store).items()
    assert entry["seed"]
    file.write_text("{")
    (verdict,) = judge(program("return x"), store=store)
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
def test_a_failing_reference_is_the_evaluators_error_and_is_not_stored(store, spawned, broken):
    verdicts = judge(HONEST, program("return x"), task_id="T/3", tasks={"T/3": broken}, store=store)
    assert [v.status for v in verdicts] == ["evaluator_error"] * 2
    assert all("T/3" in v.reason for v in verdicts)
    assert len(spawned) == ISOLATION + 2  # tried twice for the first candidate, then known to fail
    assert not kept(store)


def test_a_dead_zygote_is_replaced_and_the_candidate_tried_again():
    judge(HONEST)
    os.kill(shared_zygote("cpu").process.pid, signal.SIGKILL)
    time.sleep(0.05)
    (verdict,) = judge(program("return x / (1 + x.abs())"))
    assert verdict.status == "correct"


def test_a_killed_judge_leaves_no_process_and_keeps_its_verdicts(store, spawned):
    script = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from test_judge import *\n"
        "from pathlib import Path\n"
        "judge(*several(200), store=Path(sys.argv[1]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(store)])
    try:
        _until(lambda: len(kept(store)) >= 3 or process.poll() is not None)
        assert process.poll() is None
        assert workers_of(process.pid)
    finally:
        process.kill()
        process.wait()
    _until(lambda: not workers_of(process.pid))
    count = len(kept(store))
    verdicts = judge(*several(count + 2), store=store)
    assert [v.status for v in verdicts] == ["correct"] * (count + 2)
    assert len(spawned) == ISOLATION + REFERENCE + 2


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
    assert seen[1][2].startswith("ceilings: ")
    assert [report[:2] for report in seen] == [(0, 2), (0, 2), (1, 2), (2, 2)]


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


@contextlib.contextmanager
def another_job(store, programs):
    """A process that judges `programs`, an expression, too, with the same store; it must end well."""
    script = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from test_judge import *\n"
        "from pathlib import Path\n"
        f"judge(*{programs}, store=Path(sys.argv[1]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(store)]) as other:
        yield other
        assert other.wait(60) == 0


def test_two_jobs_that_want_one_verdict_judge_once(store):
    """The second waits for the first, which holds the candidate, and takes its verdict."""
    with another_job(store, "several(8)") as other:
        _until(lambda: kept(store) or other.poll() is not None)
        here = judge(*several(8), store=store)
    speedups = [entry["verdict"]["speedup"] for entry in kept(store).values()]
    assert sorted(v.speedup for v in here) == sorted(speedups)


def test_two_jobs_in_opposite_orders_do_not_wait_for_each_other_forever(store):
    """Each holds the candidates of a crew while it judges them, and wants those that the other holds."""
    with another_job(store, "several(10)[::-1]"):
        here = judge(*several(10), store=store)
    assert [v.status for v in here] == ["correct"] * 10
    assert sorted(v.speedup for v in here) == sorted(entry["verdict"]["speedup"] for entry in kept(store).values())


@pytest.fixture
def crews(monkeypatch):
    """The numbers of candidates that are timed together; one worker each is enough."""
    sizes, measure = [], room.measure
    monkeypatch.setattr(room, "enough", lambda *_: True)

    def noting(reference, entrants, *more):
        sizes.append(len(entrants))
        return measure(reference, entrants, *more)

    monkeypatch.setattr(room, "measure", noting)
    return sizes


def test_candidates_with_small_calls_are_judged_in_crews(crews, spawned):
    wrong = program("return x + NUMBER").replace("class", "NUMBER = 1\nclass")
    verdicts = judge(*several(3), wrong, *several(8)[3:])
    assert [v.status for v in verdicts] == ["correct"] * 3 + ["wrong_output"] + ["correct"] * 5
    assert crews == [1, 3, 4]  # how large calls are is known after the first; of the first four one is wrong
    assert len(spawned) == ISOLATION + REFERENCE + 9, "the reference is started once"


def test_a_report_that_ends_the_run_loses_no_verdict_of_a_crew(store):
    def stop(done, total, text):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(*several(5), store=store, progress=stop)
    assert len(kept(store)) > 2


def test_inputs_come_to_one_who_is_woken_up_as_they_come_to_the_other(monkeypatch):
    """The same is done before each block: what the judge has just written is in a cache."""
    events = []

    def noted(name, function):
        def noting(*arguments, **more):
            events.append(name(*arguments) if callable(name) else name)
            return function(*arguments, **more)

        return noting

    monkeypatch.setattr(rounds, "_apart", lambda *_: True)
    monkeypatch.setattr(rounds, "_hide", noted("hide", rounds._hide))
    monkeypatch.setattr(rounds, "_write", noted("write", rounds._write))
    monkeypatch.setattr(Worker, "run", noted(lambda worker, slots: "run" if slots else "wake", Worker.run))
    (verdict,) = judge(HONEST)
    assert verdict.correct
    turns = events[events.index("hide") :]
    assert len(turns) >= 4 * 2 * CONFIG.timing_trials
    assert turns == ["hide", "wake", "write", "run"] * (len(turns) // 4)


def test_candidates_with_large_calls_are_judged_one_by_one(crews):
    large = {"T/1": task("T/1", "x, = arguments\nreturn x / (1 + torch.abs(x))", "[torch.randn(256, 1024)]")}
    assert [v.status for v in judge(*several(3), tasks=large)] == ["correct"] * 3
    assert crews == [1, 1, 1]


def test_a_crew_holds_no_more_memory_than_one_candidate_may(crews, monkeypatch):
    monkeypatch.setattr(Worker, "resident_bytes", lambda worker: CONFIG.memory_mb << 19)
    assert [v.status for v in judge(*several(6))] == ["correct"] * 6
    assert crews[:2] == [1, 2]
    assert sum(crews) == 6


def test_one_that_dies_takes_nobody_of_its_crew_with_it(crews):
    deadly = program("import ctypes, os\nif os.getpid(): ctypes.string_at(0)\nreturn x")
    verdicts = judge(*several(2), deadly, *several(4)[2:])
    assert [v.status for v in verdicts] == ["correct", "correct", "runtime_error", "correct", "correct"]


def test_a_mistake_of_our_own_is_tried_again_and_ends_no_job(monkeypatch, store):
    real, calls = room.measure, []

    def fails_first(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("ours")
        return real(*arguments)

    monkeypatch.setattr(room, "measure", fails_first)
    assert [v.status for v in judge(*several(2))] == ["correct", "correct"]

    def fails(*arguments):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(room, "measure", fails)
    (verdict,) = judge(HONEST, store=store)
    assert (verdict.status, verdict.reason, verdict.speedup) == ("evaluator_error", "ZeroDivisionError: ours", 0.0)
    assert not kept(store)


def test_a_candidate_for_the_tasks_own_shape_alone_is_wrong():
    fixed = program("if x.shape == (64, 1024):\n    return x / (1 + x.abs())\nreturn torch.zeros_like(x)")
    (verdict,) = judge(fixed)
    assert verdict.status == "wrong_output"
    assert "the shape " in verdict.reason
    assert "64x1024" not in verdict.reason
    assert verdict.kernelbench_correct
    (verdict,) = judge(fixed, config=CONFIG.model_copy(update={"shapes": 1}))
    assert verdict.status == "correct"


def test_a_candidate_for_the_tasks_own_kind_of_inputs_alone_is_wrong():
    positive = task("T/10", "return torch.relu(arguments[0])", "[torch.rand(64, 256)]")
    (verdict,) = judge(program("return x.clone()"), task_id="T/10", tasks={"T/10": positive})
    assert verdict.status == "wrong_output"
    assert " inputs" in verdict.reason.rpartition("(for ")[2]
    assert verdict.kernelbench_correct


def test_a_candidate_that_changes_its_inputs_is_wrong():
    (verdict,) = judge(program("return x.div_(1 + x.abs())"))
    assert (verdict.status, verdict.reason) == ("wrong_output", "it changes its inputs")


def test_both_checks_stand_side_by_side():
    tiny = task("T/11", "return arguments[0].sin() * 1e-6", "[torch.randn(64, 256)]")
    large = task("T/12", "return arguments[0].sin() * 1e4", "[torch.randn(64, 256)]")
    rough = "y = x.sin() * 1e4\nreturn y + 5e-5 * y.square().mean().sqrt()"
    candidates = [Candidate("T/11", program("return x * 0")), Candidate("T/12", program(rough))]
    lazy, honest = evaluate_candidates(candidates, {"T/11": tiny, "T/12": large}, CONFIG)
    assert (lazy.status, lazy.kernelbench_correct) == ("wrong_output", True)
    assert (honest.status, honest.kernelbench_correct) == ("correct", False)


MATMUL = task(
    "T/13",
    "return arguments[0] @ self.weight",
    "[torch.randn(48, 96)]",
    construct="self.weight = nn.Parameter(torch.randn(96, 64))",
)


def matmul(forward):
    return program(forward).replace(
        "    def forward",
        "    def __init__(self):\n        super().__init__()\n"
        "        self.weight = nn.Parameter(torch.randn(96, 64))\n\n    def forward",
    )


def test_reduced_precision_is_named():
    reduced = matmul("return (x.bfloat16().float() @ self.weight.bfloat16().float())")
    halves = matmul("return (x.half().float() @ self.weight.half().float())")
    double = matmul("return (x.double() @ self.weight.double()).float()")
    verdicts = judge(reduced, halves, double, task_id="T/13", tasks={"T/13": MATMUL})
    assert [v.status for v in verdicts] == ["low_precision", "low_precision", "correct"]
    assert "bfloat16" in verdicts[0].reason
    assert "float16" in verdicts[1].reason
    assert not verdicts[0].speedup


def test_a_time_that_the_device_cannot_need_is_implausible_and_its_evidence_is_kept():
    set_ceilings(bytes_per_s=1e6)
    (verdict,) = judge(HONEST)
    assert verdict.status == "implausible"
    assert "at least" in verdict.reason
    assert (verdict.correct, verdict.fast, verdict.fast_1, verdict.speedup) == (False, False, False, 0.0)
    assert len(verdict.runtime_times_us) == len(verdict.reference_times_us) == 3
    assert verdict.headroom < 1


def test_a_verdict_says_what_a_reader_needs():
    (verdict,) = judge(HONEST)
    assert (verdict.language, verdict.trust, verdict.reference_fallback) == ("python", "interpreted", False)
    assert verdict.kernelbench_correct
    assert verdict.headroom > 1
    assert verdict.paper_speedup > 0
    assert verdict.evaluate_cpu_s > 0
    assert verdict.build_cpu_s == 0


def test_the_papers_protocol_is_five_inputs_and_five_pairs():
    config = EvaluationConfig(device="cpu", protocol="paper", block_ms=0.3)
    fixed = program("if x.shape == (64, 1024):\n    return x / (1 + x.abs())\nreturn torch.zeros_like(x)")
    (verdict,) = judge(fixed, config=config)
    assert verdict.status == "correct", "it looks at one shape only"
    assert len(verdict.runtime_times_us) == len(verdict.reference_times_us) == 5
    ours, theirs = sorted(verdict.reference_times_us), sorted(verdict.runtime_times_us)
    assert verdict.paper_speedup == pytest.approx(ours[2] / theirs[2])
    ratios = [math.log(r / c) for r, c in zip(verdict.reference_times_us, verdict.runtime_times_us, strict=True)]
    first = verdict.reference_first
    assert first[0] != first[1]
    assert first[2] != first[3], "rounds come in twos, the second in the opposite order"
    assert verdict.speedup == pytest.approx(math.exp(centre(in_balance(ratios, first)))), "anyone can compute it again"


def test_new_workers_come_until_it_is_decided(spawned, monkeypatch):
    """Two groups are asked for: both sides get another process, and the candidate is checked again in its own."""
    checks = []
    correct = room._Run._correct
    monkeypatch.setattr(room._Run, "_correct", lambda *arguments: checks.append(1) or correct(*arguments))
    monkeypatch.setattr(room, "enough", lambda timing, *_: len(timing.groups) == 2)
    (verdict,) = judge(HONEST)
    assert verdict.status == "correct"
    assert len(verdict.runtime_times_us) == 6
    assert len(spawned) == ISOLATION + REFERENCE + 1 + 2
    assert len(checks) == 2


def test_what_is_wrong_in_a_later_worker_is_wrong(monkeypatch):
    monkeypatch.setattr(room, "enough", lambda timing, *_: len(timing.groups) == 2)
    start, started = Workers.start, []

    def moody(self, *arguments):
        started.append(1)
        self._candidate = Candidate("T/1", HONEST if len(started) == 1 else program("return x"))
        return start(self, *arguments)

    monkeypatch.setattr(Workers, "start", moody)
    (verdict,) = judge(HONEST)
    assert len(started) == 2
    assert (verdict.status, verdict.speedup, verdict.runtime_us) == ("wrong_output", 0.0, None)


gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")


@gcc
def test_a_program_in_c_is_correct_and_faster():
    passes = task(
        "T/15", "x, = arguments\nfor _ in range(10):\n    x = x * 0.9 + 0.1\nreturn x", "[torch.randn(64, 1024)]"
    )
    fused = sources.SOFTSIGN.replace(
        "y[i] = x[i] / (1 + fabsf(x[i]));",
        "{ float v = x[i]; for (int k = 0; k < 10; k++) v = v * 0.9f + 0.1f; y[i] = v; }",
    )
    (verdict,) = evaluate_candidates([Candidate("T/15", fused, language="c")], {"T/15": passes}, CONFIG)
    assert verdict.status == "correct", verdict.reason
    assert verdict.speedup > 1
    assert (verdict.language, verdict.trust) == ("c", "compiled")
    assert verdict.build_cpu_s > 0


@gcc
def test_programs_in_c_fail_like_others():
    programs = [
        sources.c("  int = ;"),
        sources.SOFTSIGN.replace("1 + fabsf", "2 + fabsf"),
        sources.c(),
        sources.c("  *(volatile int *)0 = 1;"),
        sources.SOFTSIGN.replace("return 0", "return 3"),
    ]
    candidates = [Candidate("T/1", text, language="c") for text in programs]
    verdicts = evaluate_candidates(candidates, TASKS, CONFIG)
    expected = ["compile_error", "wrong_output", "wrong_output", "runtime_error", "runtime_error"]
    assert [v.status for v in verdicts] == expected
    assert "error:" in verdicts[0].reason
    assert "NaN" in verdicts[2].reason, "what is not written is poisoned"
    assert all(v.trust == "compiled" for v in verdicts)


@pytest.fixture
def killed(monkeypatch):
    """Has the first so many workers of candidates killed from outside while they sleep; the list of their pids."""
    pids = []

    def prepare(times):
        spawn = Zygote.spawn

        def killing(self, timeout_s, memory, **more):
            worker = spawn(self, timeout_s, memory, **more)
            if timeout_s == CONFIG.timeout_s and len(pids) < times:
                pids.append(worker.pid)
                threading.Timer(0.3, os.kill, (worker.pid, signal.SIGKILL)).start()
            return worker

        monkeypatch.setattr(Zygote, "spawn", killing)
        return pids

    return prepare


SLEEPY = HONEST + "\nimport time\ntime.sleep(1.0)\n"


def test_a_lost_worker_is_tried_again_once(killed, spawned):
    pids = killed(1)
    (verdict,) = judge(SLEEPY, config=CONFIG.model_copy(update={"protocol": "paper"}))  # which times no second group
    assert len(pids) == 1
    assert verdict.status == "correct"
    assert len(spawned) == ISOLATION + REFERENCE + 2


def test_a_worker_lost_twice_is_its_candidates_fault(killed, spawned):
    pids = killed(5)
    (verdict,) = judge(SLEEPY)
    assert len(pids) == 2
    assert (verdict.status, verdict.reason) == ("out_of_memory", "killed by the kernel")


def test_a_lost_worker_of_the_reference_is_replaced(monkeypatch):
    measure, lost = room.measure, []

    def losing(reference, *more):
        if not lost:
            lost.append(reference.worker.pid)
            os.kill(reference.worker.pid, signal.SIGKILL)
        return measure(reference, *more)

    monkeypatch.setattr(room, "measure", losing)
    verdicts = judge(*several(2))
    assert lost
    assert [v.status for v in verdicts] == ["correct", "correct"]


def test_strict_isolation_refuses_with_one_sentence_where_a_layer_is_lacking(monkeypatch):
    layers = {"landlock": "lacking: the kernel has none", "seccomp": "122 calls denied"}
    monkeypatch.setattr(room, "isolation_report", lambda device="auto": layers)
    with pytest.raises(ConfigError, match=r"^evaluation\.isolation: strict, .*landlock \(lacking") as caught:
        judge(HONEST, config=CONFIG.model_copy(update={"isolation": "strict"}))
    assert "\n" not in str(caught.value)
    assert "seccomp" not in str(caught.value)
    seen = []
    (verdict,) = judge(HONEST, progress=lambda *report: seen.append(report[2]))
    assert verdict.status == "correct"
    assert "landlock (lacking: the kernel has none)" in seen[0]


def test_strict_isolation_runs_where_nothing_is_lacking(monkeypatch):
    monkeypatch.setattr(room, "isolation_report", lambda device="auto": {"seccomp": "122 calls denied"})
    (verdict,) = judge(program("return x"), config=CONFIG.model_copy(update={"isolation": "strict"}))
    assert verdict.status == "wrong_output"


def test_a_survey_is_made_once_and_kept(store, monkeypatch):
    kinds, ask = [], Worker.ask

    def noting(self, kind, **request):
        kinds.append(kind)
        return ask(self, kind, **request)

    monkeypatch.setattr(Worker, "ask", noting)
    first, second, third = several(3)
    judge(first, store=store)
    judge(second, store=store)
    assert kinds.count("survey") == 1
    judge(second, store=store, config=CONFIG.model_copy(update={"shapes": 2}))
    assert kinds.count("survey") == 2
    judge(third, store=store, config=CONFIG.model_copy(update={"timeout_s": 19.0}))
    assert kinds.count("survey") == 2, "a survey does not depend on a candidate's time"


def test_a_task_that_fails_its_own_audit_is_the_evaluators_error(store):
    constant = task("T/14", "return torch.ones_like(arguments[0])", "[torch.randn(32, 32)]")
    (verdict,) = judge(program("return torch.ones_like(x)"), task_id="T/14", tasks={"T/14": constant}, store=store)
    assert verdict.status == "evaluator_error"
    assert "T/14" in verdict.reason
    assert "audit of itself: ones passes on all" in verdict.reason
    assert not kept(store)


@pytest.mark.skipif("VEGFLOW_SLOW_TESTS" not in os.environ, reason="20 to 40 seconds; set VEGFLOW_SLOW_TESTS=1")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_the_reference_can_be_compiled():
    config = CONFIG.model_copy(update={"reference": "compile"})
    (eager,) = judge(program("for _ in range(6):\n    y = torch.exp(x).sin().cos()\nreturn y"), task_id="T/2")
    (verdict,) = judge(program("return torch.exp(x).sin().cos()"), task_id="T/2", config=config)
    assert verdict.status == "correct", verdict.reason
    assert verdict.reference_us < 0.7 * eager.reference_us, "the compiler leaves out what has no effect"


def test_no_memory_file_and_no_descriptor_outlives_its_task():
    """Not even until Python looks for garbage: a job meets many tasks, and each has memory files."""
    judge(HONEST)  # the parent of the workers stays
    gc.collect()
    gc.disable()
    try:
        before = sorted(os.listdir("/proc/self/fd"))
        judge(
            *several(2),
            program("return x"),
            program("1 / 0"),
            program("return x.add_(1)"),
            program("import os\nos._exit(3)"),
        )
        assert sorted(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()

"""Every status, from a real candidate in a real child."""

import pytest
from small_programs import HONEST, SOFTSIGN, own_workers, program, set_ceilings

from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judge import evaluate_candidates

pytestmark = pytest.mark.xdist_group("evaluator")

TABLE = {
    "honest": (HONEST, "correct", ""),
    "nothing extracted": (None, "parse_error", "no code block"),
    "syntax error": ("class ModelNew(", "parse_error", "SyntaxError"),
    "null byte": ("x = 1\0", "parse_error", "null bytes"),
    "lone surrogate": ("x = '\ud800'", "parse_error", "Unicode"),
    "nested too deep": ("x = " + "-" * 200_000 + "1", "parse_error", ""),
    "too long": ("#" + "x" * (1 << 20), "parse_error", "characters"),
    "empty": ("", "compile_error", "no class ModelNew"),
    "no ModelNew": ("x = 1", "compile_error", "no class ModelNew"),
    "ModelNew is no class": ("ModelNew = 3", "compile_error", "no class ModelNew"),
    "import fails": ("import no_such_module", "compile_error", "ModuleNotFoundError"),
    "exit while loading": ("import sys\nsys.exit(3)", "compile_error", "SystemExit"),
    "constructor raises": ("class ModelNew:\n    def __init__(self):\n        1 / 0", "runtime_error", "ZeroDivision"),
    "forward raises": (program("raise ValueError('a\\nb')"), "runtime_error", "ValueError: a b"),
    "sys.exit": (program("import sys\nsys.exit(0)"), "runtime_error", "SystemExit"),
    "os._exit": (program("import os\nos._exit(0)"), "runtime_error", "status 0"),
    "segmentation fault": (program("import ctypes\nctypes.string_at(0)"), "runtime_error", "Segmentation fault"),
    "abort": (program("import os\nos.abort()"), "runtime_error", "Aborted"),
    "endless": (program("while True:\n    pass"), "timeout", ""),
    "endless sleep": (program("import time\ntime.sleep(1e6)"), "timeout", ""),
    "64 GB tensor": (program("return torch.empty(1 << 34)"), "out_of_memory", "allocate memory"),
    "64 GB list": (program("return [0] * (1 << 33)"), "out_of_memory", "MemoryError"),
    "wrong shape": (program("return x[:2]"), "wrong_output", "shape [2, "),
    "wrong dtype": (program("return (x / (1 + x.abs())).double()"), "wrong_output", "dtype float64"),
    "wrong values": (program("return x * 0"), "wrong_output", "out of tolerance"),
    "NaN": (program("return x * float('nan')"), "wrong_output", "NaN"),
    "infinite": (program("return x / 0"), "wrong_output", ""),
    "not a tensor": (program("return 5"), "wrong_output", "type int"),
    "nothing": (program("return None"), "wrong_output", "type NoneType"),
    "two tensors": (program("return x, x"), "wrong_output", "2 outputs, expected 1"),
    "far too large": (program("return x.new_zeros(1 << 20)"), "wrong_output", "shape"),
    "long message": (program("raise ValueError('x' * 10**7)"), "runtime_error", "ValueError"),
}


@pytest.fixture(scope="module")
def verdicts():
    candidates = [Candidate("T/1", text, "no code block" if text is None else "") for text, _, _ in TABLE.values()]
    config = EvaluationConfig(device="cpu", timeout_s=2.0, timing_trials=3)
    set_ceilings()
    return dict(zip(TABLE, evaluate_candidates(candidates, {"T/1": SOFTSIGN}, config), strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_status_and_reason(verdicts, name):
    verdict = verdicts[name]
    _, status, reason = TABLE[name]
    assert (verdict.status, reason in verdict.reason) == (status, True), verdict
    assert len(verdict.reason) <= 300
    assert "\n" not in verdict.reason


def test_only_a_correct_candidate_has_a_speedup(verdicts):
    for name, verdict in verdicts.items():
        assert verdict.correct == (name == "honest")
        assert (verdict.speedup > 0) == verdict.correct
        assert (verdict.runtime_us is not None) == verdict.correct
        assert not verdict.fast or verdict.correct


def test_a_wrong_value_reports_the_largest_difference(verdicts):
    assert 0.5 < verdicts["wrong values"].max_abs_err <= 1.0
    assert verdicts["honest"].max_abs_err < 1e-6
    assert verdicts["NaN"].max_abs_err is None


def test_no_worker_outlives_the_evaluation(verdicts):
    assert own_workers() == []

"""Lies about time on a GPU gain nothing there, and honest programs are judged as what they are."""

import pytest
import torch

from tests.hacks import on_gpu
from vegflow.evaluation import launches, nvrtc, triton_cache
from vegflow.evaluation.judge import evaluate_candidates
from vegflow.evaluation.languages import python_language

pytestmark = pytest.mark.xdist_group("evaluator")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def judge(program):
    if program.language == "triton" and not triton_cache.available():
        pytest.skip("Triton is not installed")
    if program.language == "cuda" and nvrtc.find() is None:
        pytest.skip("NVRTC is not installed (the extra 'cuda')")
    return evaluate_candidates([program.candidate()], on_gpu.TASKS, on_gpu.CONFIG)[0]


@pytest.mark.parametrize("program", [*on_gpu.HONEST, *on_gpu.HOSTILE], ids=lambda program: program.name)
def test_every_program_can_be_read(program):
    """All that can be said of them where there is no GPU."""
    if program.language == "cuda":
        assert launches.parse(program.text).kernels == ("softsign",)
    else:
        compile(program.text, "<program>", "exec")
        assert python_language(program.text) == program.language


@needs_gpu
@pytest.mark.parametrize("program", on_gpu.HONEST, ids=lambda program: program.name)
def test_an_honest_program_is_correct(program):
    verdict = judge(program)
    assert verdict.status == "correct", verdict.reason
    assert verdict.clock in ("cupti", "events")


@needs_gpu
def test_what_the_reference_does_is_not_fast():
    assert not judge(on_gpu.HONEST[0]).fast


@needs_gpu
@pytest.mark.parametrize("program", on_gpu.HOSTILE, ids=lambda program: program.name)
def test_a_lie_about_time_gains_nothing(program):
    verdict = judge(program)
    assert on_gpu.caught(verdict), (verdict.status, verdict.reason, verdict.speedup)

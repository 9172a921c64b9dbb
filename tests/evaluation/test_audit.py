"""Tasks audit themselves: the catalogue is sound, and what is unsound elsewhere is found.

All 100 tasks at cpu size; the paper's sizes take a GPU's memory.
"""

import pytest
import torch

from tests.evaluation.catalogue_models import load, load_source
from tests.hacks.honest import HONEST
from vegflow.evaluation.audit import AuditItem, audit, degenerate_answers, draw_items, within
from vegflow.evaluation.comparison import Tolerance, kernelbench_allclose
from vegflow.evaluation.inputs import Variant, find_variants
from vegflow.tasks.catalogue import builtin_tasks

TOLERANCE = Tolerance(atol=1e-4, rtol=1e-4)

PROGRAM = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return {formula}
def get_inputs():
    return [torch.rand({shape})]
def get_init_inputs():
    return []
"""
# as KernelBench has them, but for the extents: formula, shape, and what its own inputs and its own check let pass
UNSOUND = {
    "19 ReLU": ("torch.relu(x)", "16, 1024", "identity of input 0"),
    "20 LeakyReLU": ("torch.nn.functional.leaky_relu(x)", "16, 1024", "identity of input 0"),
    "23 Softmax": ("torch.softmax(x, dim=1)", "16, 65536", "zeros"),
    "31 ELU": ("torch.nn.functional.elu(x)", "16, 1024", "identity of input 0"),
    "32 HardTanh": ("torch.nn.functional.hardtanh(x)", "16, 1024", "identity of input 0"),
}


def findings(number):
    model, get_inputs = load(number)
    variants = find_variants(model, get_inputs, seed=0)
    return audit(draw_items(model, get_inputs, variants, seed=0), model, within(TOLERANCE))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_no_degenerate_answer_passes_and_no_reference_fails():
    """Of the tasks without honest programs: where those are accepted, the task has passed its audit before."""
    audited = {program.task_id for program in HONEST}
    others = [number for number in range(1, len(builtin_tasks("cpu")) + 1) if f"L1/{number}" not in audited]
    assert len(audited) + len(others) == len(builtin_tasks("cpu"))
    unsound = {number: found for number in others if (found := findings(number))}
    assert unsound == {}


@pytest.mark.parametrize("name", UNSOUND)
def test_kernelbench_inputs_and_tolerance_let_degenerate_answers_pass(name):
    formula, shape, answer = UNSOUND[name]
    model, get_inputs = load_source(PROGRAM.format(formula=formula, shape=shape))
    items = draw_items(model, get_inputs, [Variant()], seed=0)

    def allclose(item, outputs):
        return kernelbench_allclose([target.expected for target in item.expectation], outputs)

    found = audit(items, model, allclose)
    assert any(finding.startswith(answer) for finding in found), found


@pytest.mark.parametrize("name", UNSOUND)
def test_the_same_problems_are_sound_with_drawn_inputs(name):
    formula, shape, _ = UNSOUND[name]
    model, get_inputs = load_source(PROGRAM.format(formula=formula, shape=shape))
    variants = find_variants(model, get_inputs, seed=0)
    assert audit(draw_items(model, get_inputs, variants, seed=0), model, within(TOLERANCE)) == []


def test_a_reference_that_fails_is_found():
    class Random(torch.nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    class Once(torch.nn.Module):
        calls = 0

        def forward(self, x):
            Once.calls += 1
            if Once.calls > 9:
                raise RuntimeError("no more")
            return x * 2

    def get_inputs():
        return [torch.randn(32, 32)]

    found = audit(draw_items(Random(), get_inputs, [Variant()], seed=0), Random(), within(TOLERANCE))
    assert any("the reference fails its own check" in finding for finding in found)
    items = draw_items(Once(), get_inputs, [Variant()], seed=0)
    Once.calls = 9
    assert any("the reference raises" in finding for finding in audit(items, Once(), within(TOLERANCE)))


def test_what_is_tried():
    model, get_inputs = load(48)  # a mean over axis 1
    first, other = draw_items(model, get_inputs, [Variant()], seed=0)
    answers = degenerate_answers(first, [other], model)
    assert {"zeros", "stale", "1/16 of axis 1 of input 0", "15/16 of axis 1 of input 0, as a sum"} <= answers.keys()
    form = first.form
    assert all([(output.shape, output.dtype) for output in outputs] == form for outputs in answers.values())
    assert "zeros" not in degenerate_answers(first, [other], model, {"zeros"})


def test_an_item_that_refuses_is_enough():
    """An answer is only a finding if it passes wherever it can be given."""
    model = torch.nn.ReLU()
    positive, negative = (draw_items(model, lambda s=s: [torch.rand(64) * s], [Variant()], seed=0)[0] for s in (1, -1))
    accepts = within(TOLERANCE)
    assert any("identity" in finding for finding in audit([positive], model, accepts))
    assert any("zeros" in finding for finding in audit([negative], model, accepts))
    assert isinstance(positive, AuditItem)
    assert not any("identity" in f or "zeros" in f for f in audit([positive, negative], model, accepts))

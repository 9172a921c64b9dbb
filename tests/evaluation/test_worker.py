"""A worker between its blocks: what it does while it ought to be frozen is charged, and too much of it is a hack."""

import os
import signal
import time

import pytest
import torch
from small_programs import task

from vegflow.evaluation.arena import Shape
from vegflow.evaluation.nursery import shared_zygote
from vegflow.evaluation.stage import Stage
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import AWAKE_S

pytestmark = pytest.mark.xdist_group("evaluator")

DRAWN = """import torch


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(64))

    def forward(self, x):
        return self.weight


def get_init_inputs():
    return []
"""
FORM = [{"kind": "tensor", "dtype": "float32", "shape": [64]}]
RESTLESS = task("T/8", "return arguments[0] + 1", "[torch.randn(64)]").source + (
    "\nimport threading\n\ndef spin():\n    while True: pass\n\nthreading.Thread(target=spin, daemon=True).start()\n"
)


@pytest.fixture
def worker():
    """One with a thread that never rests, stopped, and a block of it."""
    stage = Stage(Shape(1, 256, 256), 0, "cpu")
    worker = shared_zygote("cpu").spawn(60.0, None)
    try:
        worker.ask("load", program=RESTLESS, class_name="Model", init=None, init_seed=0)
        worker.map(stage)
        worker.stop()
        worker.prepare({0: (FORM, FORM)})
        yield worker
    finally:
        worker.end()
        stage.close()


def go_on(worker, cpu_s):
    """Have it run for so many CPU seconds behind the judge's back."""
    begin = worker.clock()
    os.kill(worker.pid, signal.SIGCONT)
    while worker.clock() < begin + cpu_s:
        time.sleep(1e-3)
    os.kill(worker.pid, signal.SIGSTOP)
    while not worker._frozen():
        time.sleep(1e-3)


def test_what_it_does_before_its_outputs_are_read_belongs_to_its_block(worker):
    block = worker.run([0])
    assert worker.charged(block).call_s < block.call_s + AWAKE_S
    go_on(worker, 4 * AWAKE_S)
    assert worker.charged(block).call_s >= block.call_s + 4 * AWAKE_S
    worker.run([0])


def test_what_it_does_after_that_is_a_hack(worker):
    worker.charged(worker.run([0]))
    go_on(worker, 4 * AWAKE_S)
    with pytest.raises(Fault, match="went on while it was stopped") as caught:
        worker.run([0])
    assert caught.value.status == "rejected_hack"


def test_weights_are_those_that_torch_draws_after_its_seed():
    drawer, stage = shared_zygote("cpu").spawn(60.0, None), Stage(Shape(1, 256, 256), 0, "cpu")
    try:
        drawer.ask("load", program=DRAWN, class_name="Model", init=None, init_seed=42)
        drawer.map(stage)
        drawer.stop()
        drawer.prepare({0: (FORM, FORM)})
        (weight,) = drawer.read(drawer.run([0]), 0, FORM)
    finally:
        drawer.end()
        stage.close()
    torch.manual_seed(42)
    assert torch.equal(weight, torch.randn(64))

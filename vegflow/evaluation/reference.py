"""A task's reference at work: its trusted worker, the secret inputs it makes, and the outputs that are right for them.

Knows how many inputs a candidate will need and makes no one see an input twice; what candidates do with them is for
`judge`.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from vegflow.artifacts.io import digest
from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.arena import POISON, Description, Shape, bytes_of, views
from vegflow.evaluation.nursery import Zygote
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import Block, Worker
from vegflow.tasks.task import Task

INIT_SEED = 42  # KernelBench seeds with it before each constructor, so that both models get the same weights
LARGEST_ARENA = 256 << 20
LARGEST_POOL = 512 << 20
MOST_CALLS = 64
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Item:
    """One set of inputs and what the reference makes of it, as bytes in the judge's own memory."""

    form: list[Description]
    inputs: torch.Tensor
    expected: torch.Tensor


class Reference:
    """The reference of one task, alive in a worker of its own."""

    def __init__(self, zygote: Zygote, task: Task, config: EvaluationConfig, seed: str) -> None:
        """Start it; Fault `evaluator_error` if the reference itself fails."""
        self._zygote = zygote
        self._seed = seed
        self._task = task
        self._items: list[Item] = []
        self.worker: Worker = zygote.spawn(PATIENCE_S, None)
        try:
            self._start(config)
        except BaseException:
            self.close()
            raise

    def _start(self, config: EvaluationConfig) -> None:
        task = self._task
        loaded = self._trusted(
            lambda: self.worker.ask("load", program=task.source, class_name="Model", init=None, init_seed=INIT_SEED)
        )
        self.init: str = loaded["init"]
        """The constructor's arguments, pickled by the reference, unpickled by workers and never by the judge."""
        probe = self._trusted(lambda: self.worker.ask("probe", seed=self._item_seed(-1)))
        self.output_form: list[Description] = probe["outputs"]
        self.call_s = max(1e-7, probe["fastest_ns"] / 1e9)
        sizes = [sum(map(bytes_of, probe[name])) for name in ("inputs", "outputs")]
        wanted = math.ceil(config.block_ms / 1e3 / self.call_s)
        a_set = max(1, sum(sizes))
        fits = min(LARGEST_ARENA, LARGEST_POOL // (config.timing_trials + 1)) // a_set
        self.shape = Shape(max(1, min(wanted, MOST_CALLS, fits)), *sizes)
        """Of the arena of every worker of this task; its slots are the most calls in one block."""
        self._trusted(lambda: self.worker.map(self.shape))
        self.worker.stop()
        self._extend(1)  # a reference that cannot give one right answer is found out now

    def items(self, count: int) -> list[Item]:
        """The first `count` sets of inputs in a new random order, made where they do not exist yet."""
        while len(self._items) < count:
            self._extend(min(count - len(self._items), self.shape.slots))
        chosen = self._items[:count]
        random.SystemRandom().shuffle(chosen)
        return chosen

    def renew(self, items: list[Item]) -> None:
        """Go on in a new worker that has run each of `items` once, as the candidate's has: a rival of the same age.

        How a process's memory happens to lie makes it some percent faster or slower for as long as it lives. One
        reference for all candidates would lend its luck to every verdict; two workers with the same past are alike on
        average.
        """
        self.worker.end()
        self.worker = self._zygote.spawn(PATIENCE_S, None)

        def load() -> None:
            self.worker.ask("load", program=self._task.source, class_name="Model", init=self.init, init_seed=INIT_SEED)
            self.worker.map(self.shape)
            self.worker.stop()

        self._trusted(load)
        for item in items:
            self.run([item])

    def run(self, items: list[Item]) -> Block:
        """Run it on `items`, for its time; Fault `evaluator_error` if it fails."""

        def block() -> Block:
            fill(self.worker, items)
            return self.worker.run(len(items))

        return self._trusted(block)

    def close(self) -> None:
        """End its worker."""
        self.worker.end()

    def _extend(self, count: int) -> None:
        worker, start = self.worker, len(self._items)

        def make() -> None:
            worker.resume()
            forms = [
                worker.ask("make", seed=self._item_seed(start + slot), slot=slot)["inputs"] for slot in range(count)
            ]
            worker.prepare(forms)
            worker.stop()
            inputs = [worker.inputs(slot).clone() for slot in range(count)]
            outputs = worker.run(count).outputs
            if any(form != self.output_form for form in outputs):
                raise Fault("evaluator_error", "the reference's outputs change their form")
            for slot in range(count):
                expected = worker.outputs(slot).clone()
                if any(tensor.isnan().any().item() for tensor in views(expected, 0, self.output_form)):
                    raise Fault("evaluator_error", "the reference's output holds NaN")
                self._items.append(Item(forms[slot], inputs[slot], expected))

        self._trusted(make)

    def _item_seed(self, index: int) -> int:
        return int(digest(self._seed, self._task.revision, index)[:15], 16)

    def _trusted(self, action: Callable[[], Any]) -> Any:
        """Whatever goes wrong in the reference's worker is our fault."""
        self.worker.left_s = PATIENCE_S
        try:
            return action()
        except Fault as fault:
            raise Fault("evaluator_error", f"the reference of {self._task.id}: {fault.reason}") from fault


def fill(worker: Worker, items: list[Item]) -> None:
    """Give a stopped worker `items` in its slots, and outputs that are NaN until it writes them."""
    forms = [item.form for item in items]
    if not worker.prepared(forms):
        worker.resume()
        worker.prepare(forms)
        worker.stop()
    for slot, item in enumerate(items):
        worker.inputs(slot).copy_(item.inputs)
        worker.outputs(slot).fill_(POISON)

"""A task's reference at work: its trusted worker, the secret inputs it makes, and what is right for them.

Knows the library, which only the reference's worker shares, and the stage, on which reference and candidates perform in
turn: the same physical memory for both, so that where it lies favours neither. What candidates do with the inputs is for
`judge` and `timing`.
"""

import contextlib
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vegflow.artifacts.io import digest
from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.arena import Arena, Description, Shape, bytes_of, same_bytes, views
from vegflow.evaluation.expectation import Expectation, unpack
from vegflow.evaluation.fresh import Mixture, Mode, Parent, mixture
from vegflow.evaluation.inputs import Variant
from vegflow.evaluation.memory import Places
from vegflow.evaluation.nursery import Zygote
from vegflow.evaluation.stage import Stage
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.work import least_work
from vegflow.evaluation.worker import NOT_FLUSHED, Block, Flushed, Forms, Hands, Worker
from vegflow.tasks.task import Task

INIT_SEED = 42  # KernelBench seeds with it before each constructor, so that both models get the same weights
LARGEST_STAGE = 256 << 20
LARGEST_POOL = 1 << 30
MOST_CALLS = 32
TOGETHER = 4 << 20
"""Bytes of outputs of correctness trials that are called in one go."""
SAMPLES = 4 << 20  # bytes of an item's samples and undecided positions, at most
PATIENCE_S = 300.0
LEAST_CALL_S = 1e-7
"""No call is taken to be shorter."""
CALIBRATIONS = 9
BASES = 4
FIRST_BASE = 1 << 20
TIMED_KINDS = ("given", "normal", "negative")
SIGNED_KINDS = ("given", "normal")
"""Kinds whose items carry the marks of reduced precision; they cost thirty calls of the reference each."""
FEW = 32
"""Outputs of fewer elements need all items' marks."""


@dataclass(frozen=True)
class Drawn:
    """One set of inputs, as it lies in a slot."""

    form: list[Description]
    modes: list[Mode]
    """For each input, how it may be mixed with another of its kind."""
    data: torch.Tensor
    """uint8."""

    def write(self, memory: torch.Tensor) -> None:
        """Put it into a slot's inputs, uint8."""
        memory.copy_(self.data)


@dataclass(frozen=True)
class Mixed:
    """Inputs that are nowhere before they are written, and are the same each time they are."""

    form: list[Description]
    mixtures: list[Mixture | None]
    """Of each value; None for what is no tensor."""

    def write(self, memory: torch.Tensor) -> None:
        """Put it into a slot's inputs, uint8."""
        for mixed, target in zip(self.mixtures, views(memory, 0, self.form), strict=True):
            if mixed is not None:
                mixed(target)


Inputs = Drawn | Mixed


@dataclass(frozen=True)
class Item:
    """One set of inputs and what is right for it, in the judge's own memory."""

    variant: Variant
    form: list[Description]
    inputs: torch.Tensor
    """uint8, as they lie in a slot."""
    output_form: list[Description]
    expectation: Expectation

    @property
    def forms(self) -> Forms:
        """Of a slot that holds it."""
        return self.form, self.output_form

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return 2 * self.inputs.numel()


def own_shape(items: Iterable[Item]) -> bool:
    """Whether all have the task's own shape."""
    return not any(item.variant.narrow for item in items)


@dataclass(frozen=True)
class Survey:
    """What was found out about a task once, whatever the seed."""

    variants: list[Variant]
    findings: list[str]

    def to_json(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return {"variants": [variant.to_json() for variant in self.variants], "findings": self.findings}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Survey":
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError."""
        return cls([Variant.from_json(variant) for variant in entry["variants"]], list(entry["findings"]))


class Reference:
    """The reference of one task, alive in a worker of its own."""

    def __init__(
        self, zygote: Zygote, task: Task, config: EvaluationConfig, seed: str, survey: Survey | None = None
    ) -> None:
        """Start it; Fault `evaluator_error` if the reference itself fails, or the task's audit of itself does."""
        self._seed = seed
        self.task = task
        self._items: OrderedDict[int, Item] = OrderedDict()
        self._forms: dict[int, Forms] | None = None
        self._held = 0
        self._library: Arena | None = None
        self.stage: Stage | None = None
        self._config = config
        self._zygote = zygote
        self.hands: Hands | None = None
        """On CUDA, the maker's, in whose process no candidate is."""
        self.mirror_problem = ""
        """On CUDA, why workers copy inputs and outputs themselves; empty if they do not."""
        self.idle = NOT_FLUSHED
        """On CUDA, what a flush takes while nobody else is on the device."""
        self._maker: Worker = zygote.spawn(PATIENCE_S, None)
        self.worker = self._maker
        """The one that is timed: once all is set up, not the one that makes the inputs."""
        try:
            self._trusted(lambda: self._start(survey))
            self.renew()
        except BaseException:
            self.close()
            raise

    def _start(self, survey: Survey | None) -> None:
        config, worker = self._config, self._maker
        loaded = worker.ask("load", program=self.task.source, class_name="Model", init=None, init_seed=INIT_SEED)
        self.init: str = loaded["init"]
        """The constructor's arguments, pickled by the reference, unpickled by workers and never by the judge."""
        probe = worker.ask("probe", seed=self._item_seed(-1))
        self.form: list[Description] = probe["inputs"]
        self.output_form: list[Description] = probe["outputs"]
        self.work = least_work(self.task, self.form, self.output_form, probe["weights"])
        """The least that any right program does."""
        self.call_s = max(LEAST_CALL_S, probe["fastest_ns"] / 1e9)
        sizes = [sum(map(bytes_of, form)) for form in (self.form, self.output_form)]
        calls = min(MOST_CALLS, math.ceil(config.block_ms / 1e3 / self.call_s))
        self._library = Arena(Shape(1, sizes[0], 2 * sizes[1] + SAMPLES))
        worker.ask("library", fds=(self._library.fd,), shape=vars(self._library.shape))
        protocol = config.resolved
        if survey is None:
            request = {"kinds": protocol.kinds, "shapes": protocol.shapes, "atol": config.atol, "rtol": config.rtol}
            own_seed = int(self.task.revision[:15], 16)  # what a survey finds is a fact of the task
            survey = Survey.from_json(worker.ask("survey", seed=own_seed, **request))
        self.survey = survey
        if survey.findings:
            raise Fault("evaluator_error", f"the task's audit of itself: {'; '.join(survey.findings)}")
        self.trials = max(protocol.correctness_trials, len(survey.variants))
        changing = Shape(max(2, min(2 * calls, LARGEST_STAGE // max(1, sum(sizes)))), *sizes)
        self._holds = self._zygote.device == "cpu" and self.trials * sizes[0] <= LARGEST_STAGE
        """Whether the stage keeps the items' inputs: nothing is copied for a candidate."""
        self.stage = Stage(changing, self.trials if self._holds else 0, self._zygote.device)
        worker.stop()
        if self._zygote.device == "cuda":
            self._lend_hands()
        self._bases = self._make_bases()
        self._spikes = any(variant.kind == "wide" for variant in survey.variants)

    def _lend_hands(self) -> None:
        """Have the maker mirror the stage on the device; what a flush takes while no candidate is on it."""
        shared = self._ask("share", fds=self.stage.descriptors(0), shape=vars(self.stage.shape))
        self.hands = Hands(
            handle=shared["handle"],
            must=False,
            bring=lambda slots: self._trusted(lambda: self._ask("bring", slots=slots)),
            fetch=lambda slots: self._trusted(lambda: self._ask("fetch", slots=slots)),
            flush=self._flush,
        )
        self.mirror_problem = shared["problem"]
        flushes = [self._flush() for _ in range(CALIBRATIONS)]
        self.idle = Flushed(min(f.wall_s for f in flushes), min(f.took_s for f in flushes))

    def _flush(self) -> Flushed:
        start = time.perf_counter()
        answer = self._trusted(lambda: self._ask("flush"))
        return Flushed(time.perf_counter() - start, answer["took_s"])

    def renew(self) -> None:
        """Time candidates against a new worker, which has gone through what a candidate's goes through before.

        A process that has made inputs and oracles has another heap, and its calls are faster or slower for it by some
        percent, for good.
        """
        self.retire()
        compiled = self._config.reference == "compile"
        self.worker = self._zygote.spawn(PATIENCE_S, None, confined=not compiled)

        def grow_up() -> None:
            worker = self.worker
            worker.ask(
                "load",
                program=self.task.source,
                class_name="Model",
                init=self.init,
                init_seed=INIT_SEED,
                compile=compiled,
            )
            worker.map(self.stage, hands=self.hands)
            if self.hands is not None and self.hands.handle and not self.hands.must:
                # what a worker of ours can map every worker must; what it cannot none is offered
                self.mirror_problem = worker.mirror_problem
                self.hands = replace(
                    self.hands, must=worker.mirrors, handle=self.hands.handle if worker.mirrors else ""
                )
            worker.stop()
            worker.prepare(self.forms_by_slot())
            self.trial_s = math.inf
            """Of a call of the timed one's on the correctness trials of the task's own shape, seconds, at least."""
            for items in self.trials_by_slot():
                worker.prepare({slot: item.forms for slot, item in items.items()})  # where they are not held
                block = worker.run(list(items))
                if own_shape(items.values()):
                    self.trial_s = min(self.trial_s, block.call_s / len(items))
            self._settle(worker)
            self.overhead_s = min(worker.run([], cold=True).call_s for _ in range(CALIBRATIONS))
            """What a block's messages cost at least, on the clock of the calls."""

        self._trusted(grow_up)

    def retire(self) -> None:
        """End the worker that is timed, until `renew` starts another."""
        if self.worker is not self._maker:
            self.worker.end()

    @property
    def call_bytes(self) -> float:
        """Of a call's inputs and outputs; infinite once it has ended."""
        shape = self.stage.shape if self.stage is not None else None
        return shape.input_bytes + shape.output_bytes if shape is not None else math.inf

    @property
    def forms(self) -> list[list[Description]]:
        """Of all inputs that a candidate meets, each once."""
        timed = self._base_form if self._bases else self.form
        found = [timed, *(self.item(index).form for index in range(self.trials))]
        return [form for place, form in enumerate(found) if form not in found[:place]]

    def items(self) -> list[int]:
        """The indices of the correctness trials' items in a new random order; each variant is among them."""
        indices = list(range(self.trials))
        random.SystemRandom().shuffle(indices)
        return indices

    def trials_by_slot(self) -> Iterator[dict[int, Item]]:
        """All correctness trials in a new random order, so many at a time as are called in one go: slot -> item.

        Each time their inputs are on the stage. The first is alone, and of the task's own shape: most failures show with
        it, and how long a call takes; outputs of several are held by their worker and take little memory (`TOGETHER`).
        """
        left = self.items()
        first = next(index for index in left if not self._variant(index).narrow)
        left.remove(first)
        most = max(1, min(self.stage.changing, TOGETHER // max(1, self.stage.shape.output_bytes)))
        for batch in ([first], *(left[start : start + most] for start in range(0, len(left), most))):
            others = random.sample(range(self.stage.changing), len(batch))
            yield dict(self.place(index, slot) for index, slot in zip(batch, others, strict=True))

    def place(self, index: int, slot: int) -> tuple[int, Item]:
        """An item that is on the stage, and in which slot: its own or, if it has none, `slot`, where it is put."""
        item = self.item(index)
        if self._holds:
            return self.stage.changing + index, item
        self.fill(slot, item.inputs)
        return slot, item

    def item(self, index: int) -> Item:
        """An item, made again if it had to give way to others (`LARGEST_POOL`). Fault `evaluator_error`."""
        if index in self._items:
            self._items.move_to_end(index)
            return self._items[index]
        item = self._trusted(lambda: self._make(index))
        self._items[index] = item
        self._held += item.size
        while self._held > LARGEST_POOL and len(self._items) > 1:
            self._held -= self._items.popitem(last=False)[1].size
        return item

    def fresh_inputs(self) -> Inputs:
        """Inputs of the task's own shape that no worker has seen, nor anything they are made from."""
        if not self._bases:  # nothing of them can be mixed
            return self._trusted(lambda: self._draw(random.getrandbits(60), Variant()))
        one, other = random.sample(self._bases, 2)
        mixtures = [a and b and mixture(a, b, self._spikes) for a, b in zip(one, other, strict=True)]
        return Mixed(self._base_form, mixtures)

    def run(self, slots: Sequence[int], *, cold: bool = True) -> Block:
        """Run it on slots of the stage, for its time; Fault `evaluator_error` if it fails.

        On CUDA the device's cache is flushed before, unless it need not be `cold`.
        """
        return self._trusted(lambda: self.worker.run(slots, cold=cold))

    def read(
        self, block: Block, slot: int, form: Sequence[Description], places: Sequence[Places | None] | None = None
    ) -> list[torch.Tensor]:
        """As `Worker.read`; Fault `evaluator_error` if it fails."""
        return self._trusted(lambda: self.worker.read(block, slot, form, places))

    def prepare(self, slots: Mapping[int, Forms]) -> None:
        """As `Worker.prepare`; Fault `evaluator_error` if it fails."""
        self._trusted(lambda: self.worker.prepare(slots))

    def settle(self, candidate: Worker | None = None) -> None:
        """Have its stopped worker, or a candidate's, settle, and tell it what all slots will hold.

        Its own again with each crew: one that has gone on since is slower by a percent or two.
        """
        if candidate is None:
            self._trusted(lambda: self._settle(self.worker))
        else:
            self._settle(candidate)

    def _settle(self, worker: Worker) -> None:
        worker.settle()
        worker.prepare(self.forms_by_slot())

    def forms_by_slot(self) -> dict[int, Forms]:
        """What slots will hold: the changing ones while calls are timed, the others always."""
        if self._forms is None:
            timed = self._base_form if self._bases else self.form, self.output_form
            held = range(self.trials if self._holds else 0)
            kept = {self.stage.changing + index: self.item(index).forms for index in held}
            self._forms = dict.fromkeys(range(self.stage.changing), timed) | kept
        return self._forms

    def fill(self, slot: int, data: torch.Tensor) -> None:
        """Put inputs on the stage."""
        self.stage.inputs(slot).copy_(data)

    def changed(self, worker: Worker, inputs: Mapping[int, torch.Tensor]) -> bool:
        """Whether a stopped worker has changed inputs that `fill` put on the stage: slot -> what it put there."""
        if self.hands is None:
            return worker.changed_inputs(inputs)
        return not all(same_bytes(self.stage.inputs(slot), data) for slot, data in inputs.items())

    def close(self) -> None:
        """End its workers."""
        for worker in (self.worker, self._maker):
            with contextlib.suppress(Fault):  # their parent is dead, and so are they
                worker.end()
        for held in (self.stage, self._library):
            if held is not None:
                held.close()
        self.stage = self._library = None
        self._items.clear()  # whose inputs are on the stage

    def _variant(self, index: int) -> Variant:
        return self.survey.variants[index % len(self.survey.variants)]

    def _make(self, index: int) -> Item:
        variant = self._variant(index)
        few = any(math.prod(form["shape"]) < FEW for form in self.output_form)
        signed = self._config.resolved.kinds and (few or (variant.kind in SIGNED_KINDS and not variant.narrow))
        made = self._ask("make", seed=self._item_seed(index), variant=variant.to_json(), signed=signed)
        inputs, outputs = self._library.inputs(0), self._library.outputs(0).clone()
        inputs = self.stage.inputs(self.stage.changing + index).copy_(inputs) if self._holds else inputs.clone()
        expectation = unpack(views(outputs, 0, made["packed"]), made["heads"])
        if any(target.expected.isnan().any().item() for target in expectation):
            raise Fault("evaluator_error", "the reference's output holds NaN")
        return Item(variant, made["inputs"], inputs, made["outputs"], expectation)

    def _make_bases(self) -> list[list[Parent | None]]:
        """What timed calls' inputs are mixed from, and no worker ever sees; nothing if nothing can be mixed."""
        kinds = [v for v in self.survey.variants if not v.narrow and v.kind in TIMED_KINDS]
        bases: list[list[Parent | None]] = []
        while len(bases) < BASES:
            index = len(bases)
            drawn = self._draw(self._item_seed(index + FIRST_BASE), kinds[index % len(kinds)])
            if index == 0:
                self._base_form, modes = drawn.form, drawn.modes
                if all(mode == "keep" for mode in modes):
                    break
            values = views(drawn.data, 0, drawn.form)
            bases.append(
                [Parent.of(v, m) if isinstance(v, torch.Tensor) else None for v, m in zip(values, modes, strict=True)]
            )
        return bases

    def _draw(self, seed: int, variant: Variant) -> Drawn:
        made = self._ask("draw", seed=seed, variant=variant.to_json())
        return Drawn(made["inputs"], made["modes"], self._library.inputs(0).clone())

    def _ask(self, kind: str, *, fds: tuple[int, ...] = (), **request: Any) -> dict[str, Any]:
        """Have the stopped maker do something."""
        self._maker.resume()
        answer = self._maker.ask(kind, fds=fds, **request)
        self._maker.stop()
        return answer

    def _item_seed(self, index: int) -> int:
        return int(digest(self._seed, self.task.revision, index)[:15], 16)

    def _trusted(self, action: Callable[[], Any]) -> Any:
        """Whatever goes wrong in the reference's worker is our fault."""
        self.worker.left_s = self._maker.left_s = PATIENCE_S
        try:
            return action()
        except Fault as fault:
            raise Fault("evaluator_error", f"the reference of {self.task.id}: {fault.reason}") from fault

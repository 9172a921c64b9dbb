"""The loop inside a worker process: load a program, take inputs from shared memory, run, write outputs back.

Its own clock and its own claims are never trusted by the judge, since in a candidate's process the candidate can change
all of this. What only a reference's worker does is in `maker`.
"""

import base64
import functools
import gc
import linecache
import math
import os
import pickle
import socket
import sys
import time
import traceback
import types
from collections.abc import Callable
from typing import Any

import torch

from vegflow.evaluation import channel, compiled, heap, inline, triton_cache
from vegflow.evaluation.arena import Shape, bytes_of, describe_tensor, flatten, map_bytes, map_own, views
from vegflow.evaluation.cuda_clock import Clock, open_clock, why
from vegflow.evaluation.device_arena import DeviceMemory
from vegflow.evaluation.maker import Maker

PROGRAM_FILE = "<program>"
LARGEST_PROGRAM = 1 << 20


class Session:
    """One worker's state: its program's model and the views of its slots."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.module: types.ModuleType | None = None
        self.model: Any = None
        self.memory: torch.Tensor | None = None
        """Of all slots' inputs."""
        self.outputs: torch.Tensor | None = None
        """Of all slots' outputs; None if the program's are its own."""
        self.shape = Shape(0, 0, 0)
        self.changing = 0
        """Slots of outputs: see `stage.Stage`."""
        self.slots: dict[int, list[Any]] = {}
        self.places: dict[int, list[torch.Tensor]] = {}
        self.calls: dict[int, Callable[[], Any]] = {}
        self.results: dict[int, Any] = {}
        self.maker: Maker | None = None
        self.compiled: Any = None
        self.clock: Clock | None = None
        self.mirror: DeviceMemory | None = None

    def _open_device(self, memory_mb: int | None, timed: bool) -> None:
        """CUDA only, before any code of a candidate: the device is the first visible one, and its clock runs."""
        torch.zeros(1, device="cuda")  # its context is there from now on
        if memory_mb:
            share = memory_mb * 2**20 / torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, share))
        self.clock = open_clock() if timed else None

    def load(self, request: dict[str, Any], *pack: int) -> dict[str, Any]:
        """Execute the program and construct its model from `init`; a `pack` is what its `load_inline` calls will load.

        `kernels` says where those of a Triton program lie.

        Without an `init` it is the task's own program: its `get_init_inputs` gives one, and a maker is made.
        """
        if self.device == "cuda":
            self._open_device(request.get("device_memory_mb"), timed=request["init"] is not None)
        program = request["program"]
        if len(program) > LARGEST_PROGRAM:
            raise StageError("parse", ValueError(f"a program of {len(program)} characters"))
        try:
            code = compile(program, PROGRAM_FILE, "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise StageError("parse", error) from None
        module = types.ModuleType("program")
        sys.modules["program"] = module  # inspect.getsource, which Triton and TorchScript use, looks here
        linecache.cache[PROGRAM_FILE] = (len(program), None, program.splitlines(keepends=True), PROGRAM_FILE)
        try:
            if request.get("kernels"):
                triton_cache.install(request["kernels"]["folder"], request["kernels"]["ptxas"], self.device)
            for descriptor in pack:
                with open(descriptor, "rb") as file:
                    inline.install(file.read())
            exec(code, module.__dict__)
            build = getattr(module, request["class_name"], None)
            if not callable(build):
                raise NameError(f"the program defines no class {request['class_name']}")
        except BaseException as error:
            raise StageError("load", error) from None
        self.module = module
        reference = request["init"] is None
        if reference:
            init = module.get_init_inputs()
            request["init"] = base64.b64encode(pickle.dumps(init)).decode()
        _seed(request["init_seed"], self.device)
        try:
            self.model = build(*pickle.loads(base64.b64decode(request["init"])))
            if self.device == "cuda":
                self.model = self.model.cuda()
        except BaseException as error:
            raise StageError("construct", error) from None
        if reference:
            self.maker = Maker(module, self.model, self.device)
        if request.get("compile"):
            self.model = torch.compile(self.model)
        return {"init": request["init"]}

    def map(self, request: dict[str, Any], fd: int, outputs: int | None = None) -> dict[str, Any]:
        """Map the stage that came with the message: inputs and, for a program that writes there, outputs."""
        self.shape, self.changing = Shape(**request["shape"]), request["changing"]
        if self.device == "cuda":
            self._divide(map_bytes(fd, self.shape.size))
        else:
            present = self.changing * self.shape.input_bytes
            self.memory = map_own(fd, max(1, self.shape.slots * self.shape.input_bytes), present)
        os.close(fd)
        if outputs is not None:
            self.outputs = map_bytes(outputs, max(1, self.changing * self.shape.output_bytes))
            os.close(outputs)
        return {}

    def _divide(self, memory: torch.Tensor) -> None:
        """CUDA only: take one piece of memory for inputs and outputs."""
        self.memory, self.outputs = memory[: self.shape.outputs_at(0)], memory[self.shape.outputs_at(0) :]

    def map_mirror(self, request: dict[str, Any]) -> dict[str, Any]:
        """CUDA only: map the arena's mirror on the device instead of the arena, or say why not."""
        self.shape, self.changing = Shape(**request["shape"]), request["changing"]
        try:
            self.mirror = DeviceMemory(self.shape.size, bytes.fromhex(request["handle"]))
        except (OSError, AttributeError, RuntimeError) as error:
            return {"problem": why(error)}
        self._divide(self.mirror.bytes)
        return {"problem": ""}

    def settle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Bring the heap into the state in which calls are timed."""
        self.results = {}
        if self.device == "cpu":
            heap.settle()
        return {}

    def attach(self, request: dict[str, Any], library: int) -> dict[str, Any]:
        """Put what a compiler made, which came with the message, in the model's place; the model keeps its weights."""
        try:
            self.compiled = compiled.load(
                request["language"],
                library,
                program=request["source"],
                arguments=request["arguments"],
                model=self.model,
                device=self.device,
            )
        except BaseException as error:
            raise StageError("load", error) from None
        return {}

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make the views of some slots' inputs and outputs; what they will hold is not there yet."""
        for slot, inputs, outputs in request["slots"]:
            self.slots[slot] = views(self.memory, self.shape.inputs_at(slot), inputs)
            if self.outputs is not None:
                self.places[slot] = views(self.outputs, slot % self.changing * self.shape.output_bytes, outputs)
            if self.device == "cpu":
                self.calls[slot] = self._call(slot, self.slots[slot])
        return {}

    def _call(self, slot: int, arguments: list[Any]) -> Callable[[], Any]:
        """One call on a slot's arguments; what is compiled writes its outputs where they are wanted."""
        if self.compiled is None:
            return functools.partial(self.model, *arguments)
        outputs = self.places[slot]
        if self.device == "cuda":
            outputs = [
                torch.full_like(place, math.nan if place.is_floating_point() else -1, device="cuda")
                for place in outputs
            ]
        call = self.compiled.bind(arguments, outputs)

        def run() -> list[torch.Tensor]:
            call()
            return outputs

        return run

    def upload(self, request: dict[str, Any]) -> dict[str, Any]:
        """CUDA only: make the slots' calls, outside the timed region.

        Inputs are copied up, unless they lie on the device, where they are still to come.
        """
        for slot in request["slots"]:
            inputs = self.slots[slot] if self.mirror else [self._to_device(value) for value in self.slots[slot]]
            self.calls[slot] = self._call(slot, inputs)
        self._synchronise()
        self.clock.clear()
        return {}

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call the model on each of the slots."""
        calls = [self.calls[slot] for slot in request["slots"]]
        self.results = {}  # who kept them would have the rival take new memory, and not it
        if self.clock is not None:
            return self._run_on_device(request["slots"], calls, self.clock)
        shift = torch.empty(heap.shift_bytes(), dtype=torch.uint8)
        start = time.perf_counter_ns()
        with torch.no_grad():
            results = [call() for call in calls]
            outputs = [[_place(output) for output in flatten(result)] for result in results]
        own = time.perf_counter_ns() - start
        self.results = dict(zip(request["slots"], results, strict=True))
        del shift
        return {"done": own, "outputs": outputs}

    def _run_on_device(self, slots: list[int], calls: list[Callable[[], Any]], clock: Clock) -> dict[str, Any]:
        """The same on CUDA: what the device's clock says comes with the outputs, off the judge's clock."""
        start = time.perf_counter_ns()
        clock.start()
        with torch.no_grad():
            results = [call() for call in calls]
        clock.stop()
        own = time.perf_counter_ns() - start
        self.results = dict(zip(slots, results, strict=True))
        return {"done": own}

    def write(self, request: dict[str, Any]) -> dict[str, Any]:
        """CUDA only: write the outputs of the last calls where the judge can read them; how long the device worked."""
        span = self.clock.span()
        results, self.results = self.results, {}
        outputs = [self._write(slot, results[slot]) for slot in request["slots"]]
        self._synchronise()
        about = {"clock": span.clock, "span": span.ns, "records": span.records, "problem": self.clock.problem}
        return {"outputs": outputs} | about

    def _write(self, slot: int, result: Any) -> list[dict[str, Any]]:
        outputs = flatten(result)
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():  # a subclass counts for the bytes it holds
            forms = [
                describe_tensor(o) if isinstance(o, torch.Tensor) else {"kind": "other", "type": type(o).__name__}
                for o in outputs
            ]
            plain = all(form["kind"] == "tensor" for form in forms)
            if plain and sum(map(bytes_of, forms)) <= self.shape.output_bytes:
                targets = views(self.outputs, slot % self.changing * self.shape.output_bytes, forms)
                for target, output in zip(targets, outputs, strict=True):
                    target.copy_(output)
                forms = forms if self.mirror else [_place(target) for target in targets]
        return forms

    def _to_device(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, torch.Tensor) else value

    def _synchronise(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


class StageError(Exception):
    """An error with the stage it belongs to."""

    def __init__(self, stage: str, error: BaseException) -> None:
        super().__init__(stage)
        self.stage = stage
        self.error = error


def serve(sock: socket.socket, device: str) -> None:
    """Answer requests until the judge hangs up. Never returns."""
    session = Session(device)
    gc.disable()  # no collection of ours in a timed call; a candidate may turn it on
    while True:
        try:
            request, fds = channel.receive(sock, descriptors=True)
        except channel.ChannelClosedError:
            os._exit(0)
        try:
            kind = request.pop("kind")
            answers = session if hasattr(session, kind) else session.maker
            reply = getattr(answers, kind)(request, *fds)
        except StageError as fault:
            reply = _report(fault.stage, fault.error)
        except BaseException as error:
            reply = _report("run", error)
        channel.send(sock, reply)


def _seed(seed: int, device: str) -> None:
    """What `torch.manual_seed` does, without what it keeps for devices that are not there: a stack trace for each."""
    if device == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _place(output: Any) -> dict[str, Any]:
    """What an output is and where in this process's memory it lies; a subclass counts for the bytes it holds."""
    if not isinstance(output, torch.Tensor):
        return {"kind": "other", "type": type(output).__name__}
    with torch._C.DisableTorchFunctionSubclass():
        if output.layout is not torch.strided or output.device.type != "cpu" or output.is_neg() or output.is_conj():
            return {"kind": "other", "type": f"{output.device.type} tensor that is not plain"}
        return describe_tensor(output) | {"at": output.data_ptr(), "strides": list(output.stride())}


def _report(stage: str, error: BaseException) -> dict[str, Any]:
    try:
        message = str(error)[:2000]
    except BaseException:
        message = "(no message)"
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == PROGRAM_FILE]
    if lines:
        message += f" (line {lines[-1]})"
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in message
    return {"error": {"stage": stage, "type": type(error).__name__, "message": message, "memory": memory}}

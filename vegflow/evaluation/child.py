"""The loop inside a worker process: load a program, take inputs from shared memory, run, write outputs back.

Its own clock and its own claims are never trusted by the judge, since in a candidate's process the candidate can change
all of this. What only a reference's worker does is in `maker`.
"""

import ast
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

from vegflow.evaluation import channel, compiled, heap, inline
from vegflow.evaluation.arena import Shape, bytes_of, describe_tensor, flatten, map_bytes, views
from vegflow.evaluation.maker import Maker

PROGRAM_FILE = "<program>"
LARGEST_PROGRAM = 1 << 20
LARGEST_TOUCH = 64 << 20


class Session:
    """One worker's state: its program's model and the views of its slots."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.module: types.ModuleType | None = None
        self.model: Any = None
        self.memory: torch.Tensor | None = None
        self.shape = Shape(0, 0, 0)
        self.slots: dict[int, list[Any]] = {}
        self.places: dict[int, list[torch.Tensor]] = {}
        self.calls: dict[int, Callable[[], Any]] = {}
        self.results: dict[int, Any] = {}
        self.maker: Maker | None = None
        self.compiled: Any = None

    def load(self, request: dict[str, Any], *pack: int) -> dict[str, Any]:
        """Execute the program and construct its model from `init`; a `pack` is what its `load_inline` calls will load.

        Without an `init` it is the task's own program: its `get_init_inputs` gives one, and a maker is made.
        """
        program = request["program"]
        if len(program) > LARGEST_PROGRAM:
            raise StageError("parse", ValueError(f"a program of {len(program)} characters"))
        try:
            ast.parse(program)
            code = compile(program, PROGRAM_FILE, "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise StageError("parse", error) from None
        module = types.ModuleType("program")
        sys.modules["program"] = module  # inspect.getsource, which Triton and TorchScript use, looks here
        linecache.cache[PROGRAM_FILE] = (len(program), None, program.splitlines(keepends=True), PROGRAM_FILE)
        try:
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
        if self.device == "cuda" and request.get("device_memory_mb"):
            share = request["device_memory_mb"] * 2**20 / torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, share))
        torch.manual_seed(request["init_seed"])
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

    def map(self, request: dict[str, Any], fd: int) -> dict[str, Any]:
        """Map the arena that came with the message."""
        self.shape = Shape(**request["shape"])
        self.memory = map_bytes(fd, self.shape.size)
        os.close(fd)
        return {}

    def settle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Bring the heap into the state in which calls are timed, with memory for the outputs of a block and more."""
        self.results = {}
        if self.device == "cpu":
            outputs = 2 * (request["calls"] + 1) * self.shape.output_bytes
            heap.settle(min(LARGEST_TOUCH, outputs + 4 * self.shape.input_bytes))
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
            self.places[slot] = views(self.memory, self.shape.outputs_at(slot), outputs)
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
                torch.full_like(place, math.nan if place.is_floating_point() else -1).cuda() for place in outputs
            ]
        call = self.compiled.bind(arguments, outputs)

        def run() -> list[torch.Tensor]:
            call()
            return outputs

        return run

    def upload(self, request: dict[str, Any]) -> dict[str, Any]:
        """CUDA only: bring the slots' inputs to the device, outside the timed region."""
        for slot in request["slots"]:
            self.calls[slot] = self._call(slot, [self._to_device(value) for value in self.slots[slot]])
        self._synchronise()
        return {}

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call the model on each of the slots."""
        calls = [self.calls[slot] for slot in request["slots"]]
        self.results = {}  # who kept them would have the rival take new memory, and not it
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if self.device == "cuda" else []
        shift = torch.empty(heap.shift_bytes(), dtype=torch.uint8) if self.device == "cpu" else None
        start = time.perf_counter_ns()
        if events:
            events[0].record()
        with torch.no_grad():
            results = [call() for call in calls]
            outputs = [[_place(output) for output in flatten(result)] for result in results] if not events else []
        if events:
            events[1].record()
        self._synchronise()
        own = events[0].elapsed_time(events[1]) * 1e6 if events else time.perf_counter_ns() - start
        self.results = dict(zip(request["slots"], results, strict=True))
        del shift
        return {"done": own, "outputs": outputs}

    def write(self, request: dict[str, Any]) -> dict[str, Any]:
        """CUDA only: write the outputs of the last calls where the judge can read them."""
        results, self.results = self.results, {}
        return {"outputs": [self._write(slot, results[slot]) for slot in request["slots"]]}

    def _write(self, slot: int, result: Any) -> list[dict[str, Any]]:
        outputs = flatten(result)
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():  # a subclass counts for the bytes it holds
            forms = [
                describe_tensor(o) if isinstance(o, torch.Tensor) else {"kind": "other", "type": type(o).__name__}
                for o in outputs
            ]
            plain = all(form["kind"] == "tensor" for form in forms)
            if plain and sum(map(bytes_of, forms)) <= self.shape.output_bytes:
                targets = views(self.memory, self.shape.outputs_at(slot), forms)
                for target, output in zip(targets, outputs, strict=True):
                    target.copy_(output)
                forms = [_place(target) for target in targets]
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

"""The loop inside a worker process: load a program, take inputs from shared memory, run, write outputs back.

Its own clock and its own claims are never trusted by the judge, since in a candidate's process the candidate can change
all of this; only in the reference's process, which runs no candidate, does it also make inputs.
"""

import ast
import base64
import gc
import linecache
import os
import pickle
import random
import socket
import sys
import time
import types
from typing import Any

import numpy as np
import torch

from vegflow.evaluation import channel
from vegflow.evaluation.arena import Shape, bytes_of, describe, describe_tensor, flatten, map_bytes, views

PROGRAM_FILE = "<program>"
LARGEST_PROGRAM = 1 << 20
LARGEST_TOUCH = 64 << 20
TOUCH_CHUNK = 8 << 20  # small enough for the heap: larger ones come and go as mappings of their own


class Session:
    """One worker's state: its program's model and the views of its slots."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.module: types.ModuleType | None = None
        self.model: Any = None
        self.memory: torch.Tensor | None = None
        self.shape = Shape(0, 0, 0)
        self.slots: list[list[Any]] = []
        self.arguments: list[list[Any]] = []
        self.results: list[Any] = []

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute the program and construct its model from `init` (or from the program's own `get_init_inputs`)."""
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
            exec(code, module.__dict__)
            build = getattr(module, request["class_name"], None)
            if not callable(build):
                raise NameError(f"the program defines no class {request['class_name']}")
        except BaseException as error:
            raise StageError("load", error) from None
        self.module = module
        if request["init"] is None:
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
        return {"init": request["init"]}

    def probe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reference only: make inputs and run them a few times; the forms of both and the shortest time, ns."""
        inputs = self._inputs(request["seed"])
        device_inputs = [self._to_device(value) for value in inputs]
        times = []
        with torch.no_grad():
            for _ in range(4):
                start = time.perf_counter_ns()
                result = self.model(*device_inputs)
                self._synchronise()
                times.append(time.perf_counter_ns() - start)
        outputs = flatten(result)
        if not all(isinstance(output, torch.Tensor) for output in outputs):
            raise TypeError("forward must return a tensor or a tuple of tensors")
        return {
            "inputs": [describe(value) for value in inputs],
            "outputs": [describe_tensor(output) for output in outputs],
            "fastest_ns": min(times[1:]),
        }

    def map(self, request: dict[str, Any], fd: int) -> dict[str, Any]:
        """Map the arena that came with the message."""
        self.shape = Shape(**request["shape"])
        self.memory = map_bytes(fd, self.shape.size)
        os.close(fd)
        if self.device == "cpu":
            _touch_heap(2 * self.shape.slots * self.shape.output_bytes + 4 * self.shape.input_bytes)
        return {}

    def make(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reference only: inputs from a seed, written into a slot."""
        inputs = self._inputs(request["seed"])
        descriptions = [describe(value) for value in inputs]
        if sum(map(bytes_of, descriptions)) > self.shape.input_bytes:
            raise ValueError("get_inputs() gives inputs of changing size")
        targets = views(self.memory, self.shape.inputs_at(request["slot"]), descriptions)
        for target, value in zip(targets, inputs, strict=True):
            if isinstance(value, torch.Tensor):
                target.copy_(value)
        return {"inputs": descriptions}

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make the views of the slots' inputs; what they will hold is not there yet."""
        self.slots = [
            views(self.memory, self.shape.inputs_at(slot), descriptions)
            for slot, descriptions in enumerate(request["slots"])
        ]
        self.arguments = self.slots
        return {}

    def upload(self, request: dict[str, Any]) -> dict[str, Any]:
        """CUDA only: bring the slots' inputs to the device, outside the timed region."""
        self.arguments = [[self._to_device(value) for value in slot] for slot in self.slots[: request["count"]]]
        self._synchronise()
        return {}

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call the model on the first `count` slots."""
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if self.device == "cuda" else []
        start = time.perf_counter_ns()
        if events:
            events[0].record()
        with torch.no_grad():
            self.results = [self.model(*arguments) for arguments in self.arguments[: request["count"]]]
        if events:
            events[1].record()
        self._synchronise()
        own = events[0].elapsed_time(events[1]) * 1e6 if events else time.perf_counter_ns() - start
        return {"done": own}

    def write(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write the outputs of the last calls."""
        results, self.results = self.results, []
        return {"outputs": [self._write(slot, result) for slot, result in enumerate(results)]}

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
        return forms

    def _inputs(self, seed: int) -> list[Any]:
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        return list(self.module.get_inputs())

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
            request, fds = channel.receive(sock)
        except channel.ChannelClosedError:
            os._exit(0)
        try:
            kind = request.pop("kind")
            reply = getattr(session, kind)(request, *fds)
        except StageError as fault:
            reply = _report(fault.stage, fault.error)
        except BaseException as error:
            reply = _report("run", error)
        channel.send(sock, reply)


def _touch_heap(size: int) -> None:
    """Have the heap hold `size` bytes (at most 64 MB) whose pages exist, so that no timed call faults them in."""
    chunks = range(min(size, LARGEST_TOUCH) // TOUCH_CHUNK + 1)
    kept = [torch.empty(TOUCH_CHUNK, dtype=torch.uint8) for _ in chunks]
    for chunk in kept:
        chunk[::4096] = 0


def _report(stage: str, error: BaseException) -> dict[str, Any]:
    try:
        message = str(error)[:2000]
    except BaseException:
        message = "(no message)"
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in message
    return {"error": {"stage": stage, "type": type(error).__name__, "message": message, "memory": memory}}

"""What only a reference's worker does: make inputs, and say what is right for them.

Runs where the task's own program runs and no candidate ever does. It knows variants, oracles and the library, an arena
of one slot that no other worker sees; when a set of inputs is used, and for what, is for `reference` and the judge.
"""

import copy
import os
import random
import time
from typing import Any

import numpy as np
import torch

from vegflow.evaluation import device_arena
from vegflow.evaluation.arena import Description, Shape, bytes_of, describe, describe_tensor, flatten, map_bytes, views
from vegflow.evaluation.audit import audit, draw_items, within
from vegflow.evaluation.comparison import Tolerance
from vegflow.evaluation.cuda_clock import Flush, why
from vegflow.evaluation.device_arena import DeviceMemory
from vegflow.evaluation.expectation import Expectation, expect, pack
from vegflow.evaluation.fresh import mixing
from vegflow.evaluation.inputs import Depths, Variant, find_variants, vary
from vegflow.evaluation.oracle import oracle_model

WARM = 3


class Maker:
    """The makings of one reference: its model in two precisions, and the library."""

    def __init__(self, module: Any, model: torch.nn.Module, device: str) -> None:
        self._module = module
        self._model = model
        self._device = device
        self._double = oracle_model(model)
        self._depths = Depths(self._double)
        self._memory: torch.Tensor | None = None
        self._shape = Shape(0, 0, 0)
        self._flush: Flush | None = None
        self._stage: Any = None
        self._stage_shape = self._shape
        self._mirror: Any = None

    def flush(self, request: dict[str, Any]) -> dict[str, Any]:
        """CUDA only: leave the device's cache with nothing of what is timed next."""
        if self._flush is None:
            self._flush = Flush()
        return self._flush()

    def share(self, request: dict[str, Any], fd: int) -> dict[str, Any]:
        """CUDA only: take the stage, and memory on the device that mirrors it; what a worker maps that by, or why not."""
        self._stage_shape = Shape(**request["shape"])
        self._stage = map_bytes(fd, self._stage_shape.size)
        os.close(fd)
        try:
            self._mirror = DeviceMemory(self._stage_shape.size)
            return {"handle": self._mirror.handle().hex(), "problem": ""}
        except (OSError, AttributeError, RuntimeError) as error:
            return {"handle": "", "problem": why(error)}

    def bring(self, request: dict[str, Any]) -> dict[str, Any]:
        """CUDA only: put the slots' inputs on the device."""
        device_arena.bring(self._stage, self._mirror.bytes, self._stage_shape, request["slots"])
        self._synchronise()
        return {}

    def fetch(self, request: dict[str, Any]) -> dict[str, Any]:
        """CUDA only: take the slots from the device."""
        device_arena.fetch(self._stage, self._mirror.bytes, self._stage_shape, request["slots"])
        self._synchronise()
        return {}

    def probe(self, request: dict[str, Any]) -> dict[str, Any]:
        """The forms of inputs and outputs, the shortest time of a call (ns) and the weights (bytes)."""
        inputs = self._given(request["seed"])
        device_inputs = self._to_device(inputs)
        times = []
        with torch.no_grad():
            for _ in range(WARM + 1):
                start = time.perf_counter_ns()
                result = self._model(*device_inputs)
                self._synchronise()
                times.append(time.perf_counter_ns() - start)
        outputs = flatten(result)
        if not all(isinstance(output, torch.Tensor) for output in outputs):
            raise TypeError("forward must return a tensor or a tuple of tensors")
        weights = [*self._model.parameters(), *self._model.buffers()]
        return {
            "inputs": [describe(value) for value in inputs],
            "outputs": [describe_tensor(output) for output in outputs],
            "fastest_ns": min(times[1:]),
            "weights": sum(tensor.numel() * tensor.element_size() for tensor in weights),
        }

    def survey(self, request: dict[str, Any]) -> dict[str, Any]:
        """The variants on which the reference can be judged, and what the task's audit of itself finds."""
        seed = request["seed"]
        variants = [Variant()]
        if request["kinds"] or request["shapes"] > 1:
            found = find_variants(self._model, lambda: self._to_device(self._given(None)), seed, request["shapes"])
            variants = [variant for variant in found if request["kinds"] or variant.narrow or variant == Variant()]
        items = draw_items(self._model, lambda: self._to_device(self._given(None)), variants, seed)
        findings = audit(items, self._model, within(Tolerance(request["atol"], request["rtol"])))
        return {"variants": [variant.to_json() for variant in variants], "findings": findings}

    def library(self, request: dict[str, Any], fd: int) -> dict[str, Any]:
        """Map the library that came with the message."""
        self._shape = Shape(**request["shape"])
        self._memory = map_bytes(fd, self._shape.size)
        os.close(fd)
        return {}

    def make(self, request: dict[str, Any]) -> dict[str, Any]:
        """Inputs from a seed and a variant, and what is right for them, in the library; the rest in the answer."""
        assert self._memory is not None
        inputs, expectation = self._item(request["seed"], Variant.from_json(request["variant"]), request["signed"])
        descriptions = self._put(inputs)
        tensors, heads = pack(expectation)
        forms = [describe_tensor(tensor) for tensor in tensors]
        if sum(map(bytes_of, forms)) > self._shape.output_bytes:
            raise ValueError("its outputs change their size")
        places = views(self._memory, self._shape.outputs_at(0), forms)
        for place, tensor in zip(places, tensors, strict=True):
            place.copy_(tensor)
        return {
            "inputs": descriptions,
            "outputs": [describe_tensor(target.expected) for target in expectation],
            "packed": forms,
            "heads": heads,
        }

    def draw(self, request: dict[str, Any]) -> dict[str, Any]:
        """Inputs alone, in the library."""
        assert self._memory is not None
        variant = Variant.from_json(request["variant"])
        generator = torch.Generator().manual_seed(request["seed"])
        inputs = vary(self._given(request["seed"]), variant, generator)
        return {"inputs": self._put(inputs), "modes": [mixing(value) for value in inputs]}

    def _put(self, inputs: list[Any]) -> list[Description]:
        """Write inputs into the library; their forms."""
        assert self._memory is not None
        descriptions = [describe(value) for value in inputs]
        if sum(map(bytes_of, descriptions)) > self._shape.input_bytes:
            raise ValueError("get_inputs() gives inputs of changing size")
        self._memory[: self._shape.input_bytes].zero_()  # smaller inputs leave nothing of others' behind them
        for target, value in zip(views(self._memory, 0, descriptions), inputs, strict=True):
            if isinstance(value, torch.Tensor):
                target.copy_(value)
        return descriptions

    def _item(self, seed: int, variant: Variant, signed: bool) -> tuple[list[Any], Expectation]:
        generator = torch.Generator().manual_seed(seed)
        inputs = self._to_device(vary(self._given(seed), variant, generator))
        depths = self._depths.of(variant, inputs)
        return inputs, expect(self._model, self._double, inputs, generator, depths, signed)

    def _given(self, seed: int | None) -> list[Any]:
        if seed is not None:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % (1 << 32))
        return [copy.copy(value) for value in self._module.get_inputs()]

    def _to_device(self, inputs: list[Any]) -> list[Any]:
        return [value.to(self._device) if isinstance(value, torch.Tensor) else value for value in inputs]

    def _synchronise(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()

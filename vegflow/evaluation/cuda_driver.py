"""A cubin as a model, in the worker: its launch plan on PyTorch's current stream, through the CUDA driver and ctypes.

Knows the driver's calls for modules and launches; the plan's text is `launches`', the cubin's making `build`'s. Nothing
is made per call: launches are laid out when inputs and outputs are bound.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch

from vegflow.evaluation import launches
from vegflow.evaluation.native import NativeError, as_tensor, weights

DRIVER = "libcuda.so.1"
MAX_DYNAMIC_SHARED_SIZE_BYTES = 8  # of CUfunction_attribute
ALWAYS_SHARED = 48 << 10
_C_TYPES = {"int": ctypes.c_int64, "float": ctypes.c_float, "double": ctypes.c_double}


class CudaModel:
    """One loaded cubin with its launch plan and the weights it is called with."""

    def __init__(
        self,
        cubin: bytes,
        program: str,
        arguments: Sequence[str],
        model: torch.nn.Module | None = None,
        device: str = "cuda",
        driver: str = DRIVER,
        stream: Callable[[], int] | None = None,
    ) -> None:
        """`arguments` are the names of the reference's `forward`'s arguments, `model` the reference, for its weights.

        Raises NativeError if the driver does not take the cubin, and PlanError for a plan that cannot be read.
        `driver` and `stream` (the current stream's handle) are PyTorch's unless a test says otherwise.
        """
        self._plan = launches.parse(program)
        self._arguments = tuple(arguments)
        self._device = device
        self.weight_names, self._weights = weights(model)
        if stream is None:
            torch.zeros(1, device=device)  # the driver works in PyTorch's context, which is there from now on
            index = torch.cuda.current_device()
            stream = lambda: torch._C._cuda_getCurrentRawStream(index)  # noqa: E731
        self._stream = stream
        try:
            self._driver = ctypes.CDLL(driver)
        except OSError as error:
            raise NativeError(f"the CUDA driver cannot be loaded: {error}") from None
        self._launch = self._driver.cuLaunchKernel
        self._launch.argtypes = (ctypes.c_void_p, *(ctypes.c_uint,) * 7, *(ctypes.c_void_p,) * 3)
        self._module = ctypes.c_void_p()
        self._image = ctypes.create_string_buffer(cubin, len(cubin))
        self._check(self._driver.cuModuleLoadData(ctypes.byref(self._module), self._image), "loading the cubin")
        self._functions = {name: self._function(name) for name in self._plan.kernels}

    def bind(self, inputs: Sequence[Any], outputs: Sequence[torch.Tensor]) -> Callable[[], None]:
        """The launches on these inputs into these outputs, ready made; raises NativeError if one is refused.

        Outputs must be contiguous and on the device. Raises PlanError if the plan does not fit them.
        """
        if not all(output.is_contiguous() for output in outputs):
            raise ValueError("outputs must be contiguous")
        given = [as_tensor(value, self._device) for value in inputs]
        tensors = [*given, *self._weights, *outputs]
        named: dict[str, torch.Tensor] = {}
        rows = launches.tensor_names(self._arguments, self.weight_names, len(given), len(outputs))
        for names, tensor in reversed(list(zip(rows, tensors, strict=True))):  # an argument's name comes first
            named |= dict.fromkeys(names, tensor)
        scratch, bound = self._plan.bind({name: tuple(tensor.shape) for name, tensor in named.items()})
        for name, (dtype, shape) in scratch.items():
            named[name] = torch.empty(shape, dtype=getattr(torch, dtype), device=self._device)
        steps = [self._step(launch, named) for launch in bound]
        launch, stream = self._launch, self._stream

        def call() -> None:
            handle = stream()
            for function, sizes, parameters, kernel in steps:
                result = launch(function, *sizes, handle, parameters, None)
                if result:
                    self._check(result, f"launching {kernel}")

        # what the launches point to lives as long as the call
        call.keeps = (tensors, named, steps)  # type: ignore[attr-defined]
        return call

    def into(self, outputs: Sequence[torch.Tensor], *arguments: Any) -> None:
        """Call once, into `outputs`. Raises as `bind` and its call do."""
        self.bind(arguments, outputs)()

    def _function(self, name: str) -> ctypes.c_void_p:
        function = ctypes.c_void_p()
        result = self._driver.cuModuleGetFunction(ctypes.byref(function), self._module, name.encode())
        self._check(result, f"finding the kernel {name}")
        return function

    def _step(self, launch: launches.Bound, named: dict[str, torch.Tensor]) -> tuple[Any, tuple[int, ...], Any, str]:
        """What one launch is called with: function, sizes, parameters; and the kernel's name."""
        function = self._functions[launch.kernel]
        if launch.shared > ALWAYS_SHARED:
            attribute = ctypes.c_int(MAX_DYNAMIC_SHARED_SIZE_BYTES)
            result = self._driver.cuFuncSetAttribute(function, attribute, ctypes.c_int(launch.shared))
            self._check(result, f"{launch.shared} bytes of shared memory for {launch.kernel}")
        values = []
        for argument in launch.arguments:
            if argument.tensor:
                values.append(ctypes.c_uint64(named[argument.tensor].data_ptr()))
            else:
                values.append(_C_TYPES[argument.kind](argument.value))
        parameters = (ctypes.c_void_p * max(1, len(values)))(*map(ctypes.addressof, values))
        parameters.values = values
        return function, (*launch.grid, *launch.block, launch.shared), parameters, launch.kernel

    def _check(self, result: int, what: str) -> None:
        if result:
            name = ctypes.c_char_p()
            self._driver.cuGetErrorName(ctypes.c_int(result), ctypes.byref(name))
            raise NativeError(f"{what}: {(name.value or b'unknown error').decode()} ({result})")

"""A shared library as a model, in the worker: destination passing through one C entry, with nothing made per call.

Knows the entry's form (`build.HEADER`) and how tensors are handed to it. What the library does is not controlled here:
it has the worker's rights and no others, and its crash is the worker's.
"""

import ctypes
import fcntl
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from vegflow.evaluation.arena import Description

ENTRY = "forward"
DTYPES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.int64: 4,
    torch.int32: 5,
    torch.int16: 6,
    torch.int8: 7,
    torch.uint8: 8,
    torch.bool: 9,
}
"""As in the header's enumeration."""
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class NativeError(RuntimeError):
    """The library's entry said that it failed, or there is none."""


class TensorStruct(ctypes.Structure):
    """`vegflow_tensor`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
    )


def sealed(binary: bytes) -> int:
    """A file descriptor of memory that holds `binary` and that nobody can change: what the judge sends to a worker."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("library", flags | 0x10)  # MFD_EXEC: kernels from 6.3 on may want it said
    except OSError:
        fd = os.memfd_create("library", flags)
    try:
        view = memoryview(binary)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def weights(model: torch.nn.Module | None) -> tuple[list[str], list[torch.Tensor]]:
    """Names and contiguous values of a model's parameters, then its buffers, in the order they are registered."""
    if not isinstance(model, torch.nn.Module):
        return [], []
    named = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, _ in named], [value.detach().contiguous() for _, value in named]


def as_tensor(value: Any, device: str = "cpu") -> torch.Tensor:
    """An argument of `forward` as a contiguous tensor: numbers become 0-d, lists of numbers 1-d, float64 or int64.

    Raises TypeError for what is neither.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to(device).contiguous()
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(number, int | float) for number in numbers):
        raise TypeError(f"an argument of type {type(value).__name__} cannot be passed to a compiled program")
    dtype = torch.float64 if any(isinstance(number, float) for number in numbers) else torch.int64
    tensor = torch.tensor(numbers, dtype=dtype, device=device)
    return tensor if isinstance(value, list | tuple) else tensor[0]


class NativeModel:
    """One loaded library with the weights it is called with."""

    def __init__(self, library: int | str, model: torch.nn.Module | None = None, device: str = "cpu") -> None:
        """`library` is a file descriptor (which stays the caller's) or a path; `model` the reference, for its weights.

        Runs the library's constructors. Raises NativeError if it cannot be loaded or has no entry,
        MemoryError if it is too large.
        """
        if device != "cpu":
            raise NativeError(f"a C library runs on the CPU, not on {device}")
        # the loader takes one path for one library: this descriptor's number stays taken as long as the library is
        path = f"/proc/self/fd/{os.dup(library)}" if isinstance(library, int) else library
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            if "failed to map segment" in str(error):
                raise MemoryError("the library does not fit into the memory a candidate may take") from None
            raise NativeError(f"the library cannot be loaded: {str(error).removeprefix(f'{path}: ')}") from None
        try:
            self._entry = self._library[ENTRY]
        except AttributeError:
            raise NativeError(f"the library has no entry '{ENTRY}'; in C++ it must be extern \"C\"") from None
        self._entry.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
        self._entry.restype = ctypes.c_int
        self.weight_names, self._weights = weights(model)

    def bind(self, inputs: Sequence[Any], outputs: Sequence[torch.Tensor]) -> Callable[[], None]:
        """A call on these inputs into these outputs, ready made; it raises NativeError if the entry says it failed.

        The tensors' memory is read and written where it lies at each call; outputs must be contiguous.
        """
        given = [*map(as_tensor, inputs), *self._weights]
        if not all(output.is_contiguous() for output in outputs):
            raise ValueError("outputs must be contiguous")
        sources, kept_sources = _structs(given)
        targets, kept_targets = _structs(outputs)
        entry = self._entry
        arguments = (
            ctypes.c_void_p(ctypes.addressof(sources)),
            ctypes.c_int(len(given)),
            ctypes.c_void_p(ctypes.addressof(targets)),
            ctypes.c_int(len(outputs)),
        )

        def call() -> None:
            code = entry(*arguments)
            if code:
                raise NativeError(f"{ENTRY} returned {code}")

        # what the structures point to lives as long as the call
        call.keeps = (sources, targets, kept_sources, kept_targets, given, list(outputs), self._library)  # type: ignore[attr-defined]
        return call

    def into(self, outputs: Sequence[torch.Tensor], *arguments: Any) -> None:
        """Call once, into `outputs`. Raises NativeError if the entry says it failed."""
        self.bind(arguments, outputs)()

    def call(self, arguments: Sequence[Any], forms: Sequence[Description]) -> list[torch.Tensor]:
        """Call once, into new tensors of these forms, and return them."""
        outputs = [torch.empty(form["shape"], dtype=getattr(torch, form["dtype"])) for form in forms]
        self.into(outputs, *arguments)
        return outputs


def _structs(tensors: Sequence[torch.Tensor]) -> tuple[Any, list[Any]]:
    """An array of structures for `tensors`, and what it points to."""
    array = (TensorStruct * max(1, len(tensors)))()
    shapes = []
    for struct, tensor in zip(array, tensors, strict=False):
        if tensor.dtype not in DTYPES:
            raise TypeError(f"tensors of {tensor.dtype} cannot be passed to a compiled program")
        shape = (ctypes.c_int64 * max(1, tensor.dim()))(*tensor.shape)
        shapes.append(shape)
        struct.data = tensor.data_ptr()
        struct.dtype = DTYPES[tensor.dtype]
        struct.ndim = tensor.dim()
        struct.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
    return array, shapes

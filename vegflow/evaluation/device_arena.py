"""An arena's counterpart on a GPU: memory of a process of ours that a worker maps, so that nothing has to be copied by it.

Knows the driver's calls for memory that crosses a process border; what lies where in it is the arena's division. Inputs
come into it, and outputs out of it, while the worker is frozen.
"""

import ctypes

import torch

from vegflow.evaluation.arena import POISON, Shape

DRIVER = "libcuda.so.1"
LAZY_PEER_ACCESS = 1
"""Flag that opening a handle wants."""
HANDLE_BYTES = 64


class _Handle(ctypes.Structure):
    """CUipcMemHandle, which is passed by value."""

    _fields_ = (("reserved", ctypes.c_char * HANDLE_BYTES),)


class DeviceMemory:
    """Bytes on the device: made here, or another process's."""

    def __init__(self, size: int, handle: bytes | None = None, *, device: str = "cuda", driver: str = DRIVER) -> None:
        """Take `size` bytes, or map those of a `handle`. Raises OSError with what the driver says if it does not.

        On CUDA PyTorch's context must be there; `device` and `driver` are others in tests only.
        """
        self._driver = ctypes.CDLL(driver)
        pointer = ctypes.c_uint64()
        if handle is None:
            self._check(self._driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size)), "cuMemAlloc")
        elif len(handle) != HANDLE_BYTES:
            raise OSError(f"a handle of {len(handle)} bytes")
        else:
            given = _Handle.from_buffer_copy(handle)
            flags = ctypes.c_uint(LAZY_PEER_ACCESS)
            opened = self._driver.cuIpcOpenMemHandle_v2(ctypes.byref(pointer), given, flags)
            self._check(opened, "cuIpcOpenMemHandle")
        self._pointer = pointer
        self.bytes = _as_bytes(pointer.value, size, device)
        """uint8 [size]."""

    def handle(self) -> bytes:
        """What another process maps it by. Raises OSError."""
        handle = _Handle()
        self._check(self._driver.cuIpcGetMemHandle(ctypes.byref(handle), self._pointer), "cuIpcGetMemHandle")
        return bytes(handle)

    def _check(self, result: int, what: str) -> None:
        if result:
            name = ctypes.c_char_p()
            self._driver.cuGetErrorName(ctypes.c_int(result), ctypes.byref(name))
            raise OSError(f"{what}: {(name.value or b'unknown error').decode()} ({result})")


class _Interface:
    """Device memory as libraries for Python tell each other of it."""

    def __init__(self, pointer: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (pointer, False),
            "strides": None,
            "version": 3,
        }


def _as_bytes(pointer: int, size: int, device: str) -> torch.Tensor:
    if device == "cpu":
        return torch.frombuffer((ctypes.c_uint8 * size).from_address(pointer), dtype=torch.uint8)
    return torch.as_tensor(_Interface(pointer, size), device=device)


def bring(stage: torch.Tensor, device: torch.Tensor, shape: Shape, slots: list[int]) -> None:
    """Copy the slots' inputs from the stage to the device, and leave NaN where their outputs are to come."""
    for slot in slots:
        start, size = shape.inputs_at(slot), shape.input_bytes
        device[start : start + size].copy_(stage[start : start + size])
        start, size = shape.outputs_at(slot), shape.output_bytes
        device[start : start + size].fill_(POISON)


def fetch(stage: torch.Tensor, device: torch.Tensor, shape: Shape, slots: list[int]) -> None:
    """Copy the slots from the device to the stage: outputs, and inputs, which may have been changed.

    Nothing of them stays on the device: the next worker is to be given the same inputs, and is awake before.
    """
    for slot in slots:
        for start, size in (
            (shape.inputs_at(slot), shape.input_bytes),
            (shape.outputs_at(slot), shape.output_bytes),
        ):
            stage[start : start + size].copy_(device[start : start + size])
            device[start : start + size].fill_(POISON)

"""Shared memory in which tensors cross a process border as plain bytes, and how a list of values lies in it.

Knows slots, offsets, dtypes and shapes; nothing is pickled on the way back to the judge, who reads bytes only.
"""

import base64
import ctypes
import fcntl
import mmap
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

ALIGNMENT = 64
SEAL_FUTURE_WRITE = 0x10
"""F_SEAL_FUTURE_WRITE of fcntl(2): the mappings that there are can be written, and none that is made later."""
POISON = 0xFF  # all-ones bytes are NaN in every floating-point type

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_mprotect = ctypes.CDLL(None, use_errno=True).mprotect
_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

Description = dict[str, Any]
"""What a value is: `{"kind": "tensor", "dtype": "float32", "shape": [2, 3]}` or `{"kind": "value", "pickle": base64}`."""


@dataclass(frozen=True)
class Shape:
    """An arena's division: `slots` times (inputs, outputs), sizes in bytes."""

    slots: int
    input_bytes: int
    output_bytes: int

    @property
    def size(self) -> int:
        """Bytes in all."""
        return max(1, self.slots * (self.input_bytes + self.output_bytes))

    def inputs_at(self, slot: int) -> int:
        """Offset of a slot's inputs."""
        return slot * self.input_bytes

    def outputs_at(self, slot: int) -> int:
        """Offset of a slot's outputs."""
        return self.slots * self.input_bytes + slot * self.output_bytes


class Arena:
    """The judge's side of one worker's shared memory; sealed, so that no worker can shrink it under the judge."""

    def __init__(self, shape: Shape, *, read_only: bool = False) -> None:
        """With `read_only` what a worker writes there changes a copy of its own (`map_own`), whatever it maps it with.

        Raises OSError where the kernel (before 5.1) cannot see to that.
        """
        self.shape = shape
        self.fd = os.memfd_create("arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, shape.size)
        self.bytes = map_bytes(self.fd, shape.size)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals | (SEAL_FUTURE_WRITE if read_only else 0))

    def inode(self) -> int:
        """By which the kernel names it in a list of mappings."""
        return os.fstat(self.fd).st_ino

    def inputs(self, slot: int) -> torch.Tensor:
        """The bytes of a slot's inputs, uint8 [input_bytes]."""
        start = self.shape.inputs_at(slot)
        return self.bytes[start : start + self.shape.input_bytes]

    def outputs(self, slot: int) -> torch.Tensor:
        """The bytes of a slot's outputs, uint8 [output_bytes]."""
        start = self.shape.outputs_at(slot)
        return self.bytes[start : start + self.shape.output_bytes]

    def close(self) -> None:
        """Give the memory back (the mapping goes with its last tensor)."""
        os.close(self.fd)
        del self.bytes


def map_bytes(fd: int, size: int) -> torch.Tensor:
    """The shared memory as uint8 [size], its pages present, so that no timed call takes a page fault."""
    memory = mmap.mmap(fd, size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
    return torch.frombuffer(memory, dtype=torch.uint8, count=size)


def map_own(fd: int, size: int, present: int) -> torch.Tensor:
    """Memory that others write, as uint8 [size]: what this process writes there changes a copy of its own.

    The pages of the first `present` bytes are present, and not yet its own: so they are only read before the permission to
    write comes.
    """
    memory = mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ)
    seen = np.frombuffer(memory, dtype=np.uint8)
    seen[: present : mmap.PAGESIZE].max(initial=0)
    if _mprotect(seen.ctypes.data, size, mmap.PROT_READ | mmap.PROT_WRITE):
        raise OSError(ctypes.get_errno(), "mprotect")
    held = (ctypes.c_uint8 * size).from_address(seen.ctypes.data)
    held.mapping = memory  # which lives as long as the tensor does
    return torch.frombuffer(held, dtype=torch.uint8)


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two contiguous tensors of one size hold the same bytes; at a third of the cost of `torch.equal`."""
    return not _memcmp(one.data_ptr(), other.data_ptr(), one.numel() * one.element_size())


def describe(value: Any) -> Description:
    """What `value` is. Only a trusted process may call it on anything but a plain tensor: it pickles."""
    if isinstance(value, torch.Tensor):
        return describe_tensor(value)
    return {"kind": "value", "pickle": base64.b64encode(pickle.dumps(value)).decode()}


def describe_tensor(tensor: torch.Tensor) -> Description:
    """Dtype and shape of a tensor."""
    return {"kind": "tensor", "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}


def bytes_of(description: Description) -> int:
    """Bytes a described value takes in a slot, padding included."""
    if description["kind"] != "tensor":
        return 0
    count = getattr(torch, description["dtype"]).itemsize
    for extent in description["shape"]:
        count *= extent
    return -(-count // ALIGNMENT) * ALIGNMENT


def views(memory: torch.Tensor, start: int, descriptions: Sequence[Description]) -> list[Any]:
    """The values that lie at `start`, one after the other: tensors are views, other values are unpickled.

    Only for descriptions from a trusted process.
    """
    values: list[Any] = []
    for description in descriptions:
        if description["kind"] == "tensor":
            dtype = getattr(torch, description["dtype"])
            count = dtype.itemsize
            for extent in description["shape"]:
                count *= extent
            values.append(memory[start : start + count].view(dtype).view(description["shape"]))
            start += bytes_of(description)
        else:
            values.append(pickle.loads(base64.b64decode(description["pickle"])))
    return values


def flatten(result: Any) -> list[Any]:
    """What `forward` returned, as a list."""
    return list(result) if isinstance(result, tuple | list) else [result]

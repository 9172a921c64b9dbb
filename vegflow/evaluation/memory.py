"""Outputs, read by the judge from the memory of a worker that is frozen.

Where the worker's loop says that they lie is only a claim: a wrong address gives a wrong answer. Nothing is asked of the
worker between the end of its calls and the reading, so no work can be put off until then, and which outputs are read is
decided when it no longer runs.
"""

import ctypes
import errno
import os
from collections.abc import Mapping
from typing import Any

import torch

from vegflow.evaluation.verdict import Fault

WIDEST = 8
"""Times its own bytes that the storage of a strided output may span, or"""
WIDE = 256 << 20
"""so many bytes: one column of a sorted matrix is an honest output."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc.process_vm_readv.restype = ctypes.c_ssize_t


def read_output(pid: int, form: Mapping[str, Any], dtype: torch.dtype, shape: list[int]) -> torch.Tensor:
    """The output that `form` describes, whose dtype and shape have been checked, contiguous.

    Raises Fault `wrong_output` for an output that is no plain tensor, `rejected_hack` for a place that is none, and
    `evaluator_error` if the kernel does not let the judge read.
    """
    place, strides = form.get("at"), form.get("strides")
    if not isinstance(place, int) or not 0 <= place < 1 << 63 or not isinstance(strides, list):
        raise Fault("rejected_hack", "an output lies nowhere")
    if len(strides) != len(shape) or not all(isinstance(step, int) and 0 <= step < 1 << 40 for step in strides):
        raise Fault("rejected_hack", "an output has strides of another shape")
    count = 1
    for extent in shape:
        count *= extent
    if not count:
        return torch.empty(shape, dtype=dtype)
    span = 1 + sum((extent - 1) * step for extent, step in zip(shape, strides, strict=True))
    if span * dtype.itemsize > max(WIDEST * count * dtype.itemsize, WIDE):
        raise Fault("wrong_output", f"an output of {count} elements that lies strewn over {span}")
    values = torch.empty(span, dtype=dtype)
    _read(pid, place, values.data_ptr(), span * dtype.itemsize)
    return values.as_strided(shape, strides).contiguous()


def _read(pid: int, source: int, target: int, size: int) -> None:
    done = 0
    while done < size:
        ours = _Piece(target + done, size - done)
        theirs = _Piece(source + done, size - done)
        got = _libc.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
        if got <= 0:
            code = ctypes.get_errno()
            if code in (errno.EPERM, errno.ENOSYS):
                reason = f"the judge may not read its workers' memory (process_vm_readv: {os.strerror(code)})"
                raise Fault("evaluator_error", reason)
            raise Fault("rejected_hack", "an output lies where the worker has no memory")
        done += got

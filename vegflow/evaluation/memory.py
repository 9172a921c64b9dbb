"""Outputs, read by the judge from the memory of a worker that is frozen.

Where the worker's loop says that they lie is only a claim: a wrong address gives a wrong answer. Nothing is asked of the
worker between the end of its calls and the reading, so no work can be put off until then, and which outputs are read is
decided when it no longer runs.
"""

import ctypes
import errno
import math
import mmap
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch

from vegflow.evaluation.verdict import Fault

WIDEST = 8
"""Times its own bytes that the storage of a strided output may span, or"""
WIDE = 256 << 20
"""so many bytes: one column of a sorted matrix is an honest output."""

PIECE = 4096
"""Bytes of a piece of a large tensor, and"""
PIECES = 64
"""how many of them are looked at where it is not looked at as a whole."""

_PAGE = mmap.PAGESIZE
_ENTRY = 8
"""Bytes of a page's entry in /proc/PID/pagemap."""
_SHARED = np.uint64(1 << 61)
_THERE = np.uint64(1 << 63 | 1 << 62)
"""Bits of such an entry (kernel: admin-guide/mm/pagemap): the page is a file's, or shared; it is in memory, or swapped out."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc.process_vm_readv.restype = ctypes.c_ssize_t


@dataclass(frozen=True)
class Places:
    """Random pieces of a flat tensor: nobody who leaves out a share s of it is likely to be missed by `PIECES` of them."""

    starts: np.ndarray
    """int64 [PIECES], elements, ascending."""
    length: int
    """Of each piece, elements."""
    rows: int
    """Pieces that the tensor has, from the first element of the first of these on."""

    @classmethod
    def of(cls, count: int, itemsize: int) -> "Places | None":
        """Of a tensor of `count` elements; None for a small one, which is looked at whole."""
        length = PIECE // itemsize
        if count <= PIECES * length:
            return None
        first = random.randrange(min(length, count - PIECES * length + 1))  # so that no element is never looked at
        rows = (count - first) // length
        return cls(first + length * _strewn(rows), length, rows)

    def half_others(self) -> "Places":
        """Every second of these, and between them as many new ones of the same tensor."""
        starts = self._first + self.length * _strewn(self.rows)
        starts[::2] = self.starts[::2]
        return Places(starts, self.length, self.rows)

    @property
    def _first(self) -> int:
        return int(self.starts[0]) % self.length

    def _pieces(self, flat: torch.Tensor) -> torch.Tensor:
        """All pieces of a contiguous flat tensor, [rows, length]; `_which` of them are these."""
        return flat[self._first : self._first + self.rows * self.length].view(self.rows, self.length)

    @property
    def _which(self) -> np.ndarray:
        return self.starts // self.length

    def take(self, flat: torch.Tensor) -> torch.Tensor:
        """These pieces of a contiguous flat tensor, one after the other."""
        return self._pieces(flat).index_select(0, torch.from_numpy(self._which)).view(-1)

    def fill(self, flat: torch.Tensor, byte: int) -> None:
        """Have all bytes of these pieces of a contiguous flat tensor be `byte`."""
        self._pieces(flat).view(torch.uint8).numpy()[self._which] = byte  # torch's `index_fill_` takes 20 times as long


class Pages:
    """The pages of a worker's mapping of memory that it only has a copy of its own to write to."""

    def __init__(self, pid: int, inode: int) -> None:
        """`inode` is the memory's. Raises Fault: `rejected_hack` if it is not mapped, `evaluator_error` as `read_output`."""
        try:
            with open(f"/proc/{pid}/maps", "rb") as maps:
                lines = [line.split(None, 5) for line in maps if b"memfd:" in line]
            starts = [int(line[0].partition(b"-")[0], 16) for line in lines if int(line[4]) == inode]
            self._pages = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Fault("evaluator_error", f"the judge may not look at its workers' pages ({error})") from error
        if not starts:
            self.close()
            raise Fault("rejected_hack", "it does not leave its inputs where they are")
        self._first = min(starts) // _PAGE

    def written(self, start: int, size: int) -> bool:
        """Whether the worker has written to any page of these bytes of the memory."""
        first, end = start // _PAGE, -(-(start + size) // _PAGE)
        entries = np.frombuffer(
            os.pread(self._pages, _ENTRY * (end - first), _ENTRY * (self._first + first)), np.uint64
        )
        return bool(((entries & _THERE != 0) & (entries & _SHARED == 0)).any())

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._pages)


def _strewn(rows: int) -> np.ndarray:
    """One row drawn from each of `PIECES` equal parts of all, int64 [PIECES], ascending."""
    shares = (np.arange(PIECES) + np.frombuffer(os.urandom(4 * PIECES), dtype=np.uint32) / 2.0**32) / PIECES
    return (shares * rows).astype(np.int64)


def read_output(
    pid: int, form: Mapping[str, Any], dtype: torch.dtype, shape: Sequence[int], places: Places | None = None
) -> torch.Tensor:
    """The output that `form` describes, whose dtype and shape have been checked, contiguous; with `places` these pieces.

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
    if places is not None and span == count and _contiguous(shape, strides):
        values = torch.empty(len(places.starts) * places.length, dtype=dtype)
        _read_pieces(pid, place + places.starts * dtype.itemsize, values)
        return values
    values = torch.empty(span, dtype=dtype)
    _read(pid, place, values.data_ptr(), span * dtype.itemsize)
    whole = values.as_strided(shape, strides).contiguous()
    return whole if places is None else places.take(whole.view(-1))


def _contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    wanted = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return all(extent == 1 or step == want for extent, step, want in zip(shape, strides, wanted, strict=True))


def _read_pieces(pid: int, sources: np.ndarray, target: torch.Tensor) -> None:
    """Read equal pieces, whose addresses are `sources`, to fill `target`."""
    size = target.numel() * target.element_size()
    theirs = np.empty((len(sources), 2), dtype=np.uint64)
    theirs[:, 0] = sources
    theirs[:, 1] = size // len(sources)
    ours = _Piece(target.data_ptr(), size)
    ctypes.set_errno(0)
    pieces = theirs.ctypes.data_as(ctypes.POINTER(_Piece))
    if _libc.process_vm_readv(pid, ctypes.byref(ours), 1, pieces, len(sources), 0) != size:
        _refuse()


def _read(pid: int, source: int, target: int, size: int) -> None:
    done = 0
    while done < size:
        ours = _Piece(target + done, size - done)
        theirs = _Piece(source + done, size - done)
        got = _libc.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
        if got <= 0:
            _refuse()
        done += got


def _refuse() -> NoReturn:
    """Say why a read failed."""
    code = ctypes.get_errno()
    if code in (errno.EPERM, errno.ENOSYS):
        reason = f"the judge may not read its workers' memory (process_vm_readv: {os.strerror(code)})"
        raise Fault("evaluator_error", reason)
    raise Fault("rejected_hack", "an output lies where the worker has no memory")

"""Outputs read from another process's memory: the right bytes, or a Fault, whatever that process claims."""

import ctypes
import errno
import os
from pathlib import Path

import pytest
import torch

from vegflow.evaluation import memory
from vegflow.evaluation.memory import PIECE, PIECES, Places, read_output
from vegflow.evaluation.verdict import Fault


def place(tensor: torch.Tensor, **claims) -> dict:
    return {"at": tensor.data_ptr(), "strides": list(tensor.stride())} | claims


def read(tensor: torch.Tensor, shape=None, dtype=None, **claims) -> torch.Tensor:
    """What the judge reads where this process, in a worker's part, says that `tensor` lies."""
    return read_output(os.getpid(), place(tensor, **claims), dtype or tensor.dtype, shape or list(tensor.shape))


BASE = torch.randn(12, 10, 8, generator=torch.Generator().manual_seed(0))
LAYOUTS = {
    "contiguous": BASE,
    "transposed": BASE.transpose(0, 2),
    "expanded": BASE[:, :1, :].expand(12, 50, 8),
    "one element, expanded": torch.tensor(3.0).expand(100, 100),
    "sliced": BASE[2:7, 1:, ::2],
    "a column": BASE[:, 3, 5],
    "overlapping windows": BASE.flatten().unfold(0, 16, 1),
    "a scalar": torch.tensor(1.5),
    "a scalar in a larger storage": BASE[3, 2, 1],
    "without elements": torch.empty(0, 5),
    "without elements, within": BASE[:, 5:5],
    "diagonal": BASE[:, :, 0].diagonal(),
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "bool": BASE > 0,
    "bfloat16": BASE.bfloat16().mT,
    "float64": BASE.double()[::3],
    "int64": torch.arange(30).view(5, 6).T,
    "complex": torch.randn(4, 3, dtype=torch.complex64),
    "several pages": torch.randn(1 << 20)[5:],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_comes_back_as_it_is(name):
    tensor = LAYOUTS[name]
    found = read(tensor)
    assert found.is_contiguous()
    assert found.dtype == tensor.dtype
    assert torch.equal(found, tensor)
    assert not found.numel() or found.data_ptr() != tensor.data_ptr()


def test_another_process_is_read_while_it_is_stopped():
    values = torch.randn(1000)
    pid = os.fork()
    if not pid:
        values.mul_(2)
        os.kill(os.getpid(), 19)
        os._exit(0)
    try:
        os.waitpid(pid, os.WUNTRACED)
        assert torch.equal(read_output(pid, place(values), values.dtype, [1000]), 2 * values)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    with pytest.raises(Fault) as caught:
        read_output(pid, place(values), values.dtype, [1000])
    assert caught.value.status == "rejected_hack"


@pytest.mark.parametrize("at", [0, 1, 8, 4096, (1 << 63) - 8, 1 << 62, True])
def test_a_place_without_memory_is_refused(at):
    with pytest.raises(Fault, match="no memory") as caught:
        read(torch.ones(4), at=at)
    assert caught.value.status == "rejected_hack"


@pytest.mark.parametrize("at", [None, -1, -(1 << 70), 1 << 63, 1 << 80, 1e10, "0x1000", [], {}])
def test_what_is_no_place_is_refused(at):
    with pytest.raises(Fault, match="nowhere"):
        read(torch.ones(4), at=at)


@pytest.mark.parametrize(
    "strides",
    [None, [], [1, 1], [-1], [1.0], ["1"], [None], [1 << 40], [1 << 80], [[1]], {"0": 1}, "1", 1],
)
def test_strides_of_another_shape_are_refused(strides):
    with pytest.raises(Fault) as caught:
        read(torch.ones(4), strides=strides)
    assert caught.value.status == "rejected_hack"


def test_missing_claims_are_refused():
    for form in ({}, {"at": 4096}, {"strides": [1]}, {"kind": "tensor", "dtype": "float32", "shape": [4]}):
        with pytest.raises(Fault, match="nowhere"):
            read_output(os.getpid(), form, torch.float32, [4])


def test_elements_strewn_over_more_than_could_be_honest_are_wrong_and_are_not_read():
    with pytest.raises(Fault, match="strewn") as caught:
        read(torch.ones(4), strides=[(1 << 40) - 1])
    assert caught.value.status == "wrong_output"


def test_an_output_that_reaches_beyond_its_memory_is_refused():
    ends, starts = set(), set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        if line.split()[1].startswith("r"):
            starts.add(first)
            ends.add(last)
    end = min(ends - starts)
    with pytest.raises(Fault, match="no memory"):
        read(torch.ones(4), at=end - 8)


def test_bytes_of_another_dtype_are_read_as_they_are():
    numbers = torch.randn(16)
    assert torch.equal(read(numbers, dtype=torch.int32), numbers.view(torch.int32))
    assert read(numbers, dtype=torch.bool, shape=[4, 4], strides=[4, 1]).shape == (4, 4)


def test_a_kernel_that_does_not_let_the_judge_read_is_the_evaluators_error(monkeypatch):
    class Refusing:
        @staticmethod
        def process_vm_readv(*_):
            ctypes.set_errno(errno.EPERM)
            return -1

    monkeypatch.setattr(memory, "_libc", Refusing)
    with pytest.raises(Fault, match="process_vm_readv") as caught:
        read(torch.ones(4))
    assert caught.value.status == "evaluator_error"


@pytest.mark.parametrize("tensor", [torch.randn(1 << 20)[3:], torch.randn(1 << 18, 2)[:, 0], torch.rand(1 << 20) > 0.5])
def test_pieces_are_those_of_the_whole(tensor):
    for _ in range(5):
        places = Places.of(tensor.numel(), tensor.element_size())
        found = read_output(os.getpid(), place(tensor), tensor.dtype, list(tensor.shape), places)
        assert found.numel() == PIECES * PIECE // tensor.element_size()
        assert torch.equal(found, places.take(tensor.contiguous().view(-1)))
        wanted = torch.cat([tensor.reshape(-1)[s : s + places.length] for s in places.starts.tolist()])
        assert torch.equal(found, wanted)


def test_no_element_of_a_large_tensor_is_safe_and_a_small_one_is_looked_at_whole():
    count = PIECES * PIECE // 4 + 1
    assert Places.of(count - 1, 4) is None
    seen = set()
    for _ in range(200):
        places = Places.of(count, 4)
        seen |= {0 in places.starts, count - PIECE // 4 in places.starts}
        assert places.starts.min() >= 0
        assert places.starts.max() + places.length <= count
    assert seen == {True, False}


def test_pieces_that_lie_nowhere_are_refused():
    tensor = torch.ones(1 << 20)
    places = Places.of(tensor.numel(), 4)
    for at in (4096, (1 << 63) - 8, 1 << 62):
        with pytest.raises(Fault, match="no memory"):
            read_output(os.getpid(), place(tensor, at=at), tensor.dtype, [1 << 20], places)

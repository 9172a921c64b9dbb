"""The mirror of a stage on a GPU: what is copied and what must not stay; across a process border where there is a GPU."""

import ctypes
import subprocess

import pytest
import torch

from vegflow.evaluation import device_arena
from vegflow.evaluation.arena import POISON, Shape
from vegflow.evaluation.device_arena import HANDLE_BYTES, DeviceMemory

SHAPE = Shape(slots=3, input_bytes=64, output_bytes=128)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
DRIVER = r"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
typedef struct { char reserved[64]; } handle;
int cuMemAlloc_v2(uint64_t *pointer, size_t size) {
    *pointer = (uint64_t)calloc(1, size);
    return size > (1ul << 40) ? 2 : 0;
}
int cuIpcGetMemHandle(handle *out, uint64_t pointer) {
    memset(out, 7, sizeof *out);
    memcpy(out, &pointer, sizeof pointer);
    return 0;
}
int cuIpcOpenMemHandle_v2(uint64_t *pointer, handle given, unsigned flags) {
    if (flags != 1 || given.reserved[63] != 7) return 400;
    memcpy(pointer, &given, sizeof *pointer);
    return 0;
}
int cuGetErrorName(int code, const char **name) {
    *name = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_INVALID_HANDLE";
    return 0;
}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The driver's four calls with their own signatures, on host memory: what is passed by value or address shows."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    library = str(folder / "driver.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, str(folder / "driver.c")], check=True)
    return library


def stage():
    memory = torch.full((SHAPE.size,), POISON, dtype=torch.uint8)
    for slot in range(SHAPE.slots):
        start = SHAPE.inputs_at(slot)
        memory[start : start + SHAPE.input_bytes] = slot + 1
    return memory


def part(memory, slot, what):
    start, size = {
        "inputs": (SHAPE.inputs_at(slot), SHAPE.input_bytes),
        "outputs": (SHAPE.outputs_at(slot), SHAPE.output_bytes),
    }[what]
    return memory[start : start + size]


def test_only_the_slots_that_are_asked_for_are_brought():
    device = torch.zeros(SHAPE.size, dtype=torch.uint8)
    device_arena.bring(stage(), device, SHAPE, [2])
    assert part(device, 2, "inputs").unique().tolist() == [3]
    assert part(device, 2, "outputs").unique().tolist() == [POISON]
    assert not part(device, 0, "inputs").any()
    assert not part(device, 1, "outputs").any()


def test_what_is_fetched_does_not_stay():
    """The next worker gets the same inputs and would know them, and the other's answers, before its clock runs."""
    here, device = stage(), torch.zeros(SHAPE.size, dtype=torch.uint8)
    device_arena.bring(here, device, SHAPE, [0, 1])
    part(device, 1, "outputs").fill_(9)
    device_arena.fetch(here, device, SHAPE, [0, 1])
    assert part(here, 1, "outputs").unique().tolist() == [9]
    for slot in (0, 1):
        assert part(device, slot, "inputs").unique().tolist() == [POISON]
        assert part(device, slot, "outputs").unique().tolist() == [POISON]


def test_inputs_that_a_worker_changed_come_back_as_they_are_now():
    here, device = stage(), torch.zeros(SHAPE.size, dtype=torch.uint8)
    device_arena.bring(here, device, SHAPE, [1])
    part(device, 1, "inputs")[5] = 77
    device_arena.fetch(here, device, SHAPE, [1])
    assert part(here, 1, "inputs")[5] == 77


def test_a_handle_leads_to_the_same_memory(driver):
    made = DeviceMemory(SHAPE.size, device="cpu", driver=driver)
    opened = DeviceMemory(SHAPE.size, made.handle(), device="cpu", driver=driver)
    made.bytes.fill_(5)
    assert opened.bytes.unique().tolist() == [5]


def test_what_the_driver_refuses_is_said(driver):
    with pytest.raises(OSError, match="CUDA_ERROR_INVALID_HANDLE"):
        DeviceMemory(SHAPE.size, bytes(HANDLE_BYTES), device="cpu", driver=driver)
    with pytest.raises(OSError, match="a handle of 3 bytes"):
        DeviceMemory(SHAPE.size, b"abc", device="cpu", driver=driver)
    with pytest.raises(OSError, match="OUT_OF_MEMORY"):
        DeviceMemory(1 << 41, device="cpu", driver=driver)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_driver_that_is_said():
    with pytest.raises(OSError, match="libcuda"):
        DeviceMemory(SHAPE.size)


@GPU
def test_a_confined_worker_maps_it():
    from tests.hacks import on_gpu
    from vegflow.evaluation.nursery import shared_zygote
    from vegflow.evaluation.reference import Reference

    reference = Reference(shared_zygote("cuda"), on_gpu.SOFTSIGN, on_gpu.CONFIG, "seed")
    try:
        assert reference.mirror_problem == ""
        assert reference.worker.mirrors
    finally:
        reference.close()


@GPU
def test_device_memory_is_a_tensor():
    torch.zeros(1, device="cuda")
    memory = DeviceMemory(1 << 20)
    memory.bytes.fill_(3)
    assert memory.bytes.cpu().unique().tolist() == [3]
    assert ctypes.sizeof(ctypes.c_char * HANDLE_BYTES) == len(memory.handle())

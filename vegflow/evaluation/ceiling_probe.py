"""The program that measures how fast this machine moves bytes and multiplies matrices; prints one JSON object.

`python -m vegflow.evaluation.ceiling_probe cpu` takes about a second of one core, beside starting torch. It uses torch's
own kernels, and keeps the best of many short repeats: a busy machine only slows them. What the numbers are taken to mean
is left to `ceilings`.

    {"bytes_per_s": {"65536": 8.1e10, ...}, "flops_per_s": {"float32": 1.0e11, ...}, "properties": {...}}

`bytes_per_s` has the bytes that a call reads and writes as keys, all of them touched again and again; `properties`
(CUDA only) has the size of the second-level cache in bytes, the number of multiprocessors and their clock in Hz.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

SWEEPS = 3
"""Passes over everything, so that another job's burst does not meet all repeats of one kind."""
SLICE_S = 6e-3
"""Least time for one kernel at one size in one sweep, seconds; at least two repeats."""
BATCH_S = 2e-5
"""Least time between two looks at the clock."""
CPU_SIZES = [1 << power for power in range(16, 27)]  # 64 KiB, where calling a kernel costs little, to 64 MiB
CUDA_SIZES = [1 << 30]
CPU_PRODUCTS = {"float32": (256, 512), "bfloat16": (256, 512)}
CUDA_PRODUCTS = {"float32": (8192,), "tf32": (8192,), "float16": (8192,), "bfloat16": (8192,)}

Kernel = Callable[[], Any]


def probe(device: str) -> dict[str, Any]:
    """Measure `cpu`, on one core with one thread, or `cuda`."""
    if device == "cpu":
        torch.set_num_threads(1)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sizes, products = (CPU_SIZES, CPU_PRODUCTS) if device == "cpu" else (CUDA_SIZES, CUDA_PRODUCTS)
    seconds = cpu_seconds if device == "cpu" else cuda_seconds
    bytes_per_s: dict[str, float] = {}
    flops_per_s: dict[str, float] = {}
    for _ in range(SWEEPS):
        for size in sizes:
            for kernel in movers(size, device):
                rate = size / seconds(kernel)
                bytes_per_s[str(size)] = max(rate, bytes_per_s.get(str(size), 0.0))
        for dtype, extents in products.items():
            for extent in extents:
                rate = 2 * extent**3 / seconds(product(extent, dtype, device))
                flops_per_s[dtype] = max(rate, flops_per_s.get(dtype, 0.0))
    return {"bytes_per_s": bytes_per_s, "flops_per_s": flops_per_s, "properties": properties(device)}


def movers(size: int, device: str) -> Iterator[Kernel]:
    """Kernels that move `size` bytes a call: copy, read two, read one, write."""
    count = size // 4
    whole = torch.zeros(count, device=device)
    first, second = whole[: count // 2], whole[count // 2 :]
    yield lambda: first.copy_(second)
    yield lambda: torch.dot(first, second)
    yield lambda: torch.sum(whole)
    yield lambda: whole.fill_(1.0)
    yield lambda: whole.zero_()


def product(extent: int, dtype: str, device: str) -> Kernel:
    """A square matrix product; `tf32` is float32 with TF32 tensor cores allowed."""
    tensor_cores = dtype == "tf32"
    kind = torch.float32 if tensor_cores else getattr(torch, dtype)
    a = torch.randn(extent, extent, device=device).to(kind)
    b = torch.randn(extent, extent, device=device).to(kind)
    out = torch.empty_like(a)

    def multiply() -> None:
        torch.backends.cuda.matmul.allow_tf32 = tensor_cores
        torch.mm(a, b, out=out)

    return multiply


def cpu_seconds(kernel: Kernel) -> float:
    """Shortest time of a call, seconds."""
    calls, best, repeats, end = 1, float("inf"), 0, time.perf_counter() + SLICE_S
    kernel()
    while repeats < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(calls):
            kernel()
        spent = time.perf_counter() - start
        best = min(best, spent / calls)
        repeats += 1
        if spent < BATCH_S:
            calls *= 2
    return best


def cuda_seconds(kernel: Kernel) -> float:
    """Shortest time of a call on the device, seconds."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    best = float("inf")
    for repeat in range(8):
        begin.record()
        kernel()
        end.record()
        torch.cuda.synchronize()
        if repeat:  # the first one loads the kernel
            best = min(best, begin.elapsed_time(end) / 1e3)
    return best


def properties(device: str) -> dict[str, float]:
    """What the driver says about a CUDA device; nothing for a CPU."""
    if device == "cpu":
        return {}
    found = torch.cuda.get_device_properties(0)
    return {
        "l2_bytes": found.L2_cache_size,
        "multiprocessors": found.multi_processor_count,
        "clock_hz": 1e3 * getattr(found, "clock_rate", 0),
    }


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1])))

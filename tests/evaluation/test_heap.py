"""Equal programs find equal memory, whatever their processes have been through."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from small_programs import task

from vegflow.evaluation import heap
from vegflow.evaluation.arena import Shape
from vegflow.evaluation.nursery import shared_zygote
from vegflow.evaluation.stage import Stage

pytestmark = pytest.mark.xdist_group("evaluator")

PLUS_ONE = task("T/8", "return arguments[0] + 1", "[torch.randn(256, 1024)]")
LARGE, SMALL, THIN = ([{"kind": "tensor", "dtype": "float32", "shape": s}] for s in ([256, 1024], [171, 683], [1, 700]))


@pytest.fixture
def stage():
    stage = Stage(Shape(4, 1 << 20, 1 << 20), 0, "cpu")
    yield stage
    stage.close()


def pages(stage, past):
    """The page, from the beginning of a huge page on, in which each of two outputs lies in most of some blocks."""
    worker = shared_zygote("cpu").spawn(60.0, None)
    try:
        worker.ask("load", program=PLUS_ONE.source, class_name="Model", init=None, init_seed=0)
        worker.map(stage)
        worker.stop()
        worker.prepare({1: (LARGE, LARGE), 2: (SMALL, SMALL), 3: (THIN, THIN)})
        for slots in past:
            worker.run(slots)
        worker.settle()
        blocks = [worker.run([1, 1]) for _ in range(5)]
        places = [[output[0]["at"] % heap.HUGE_PAGE // heap.PAGE for output in b.outputs.values()] for b in blocks]
        return [statistics.median(column) for column in zip(*places, strict=True)]
    finally:
        worker.end()


def test_where_a_calls_outputs_lie_does_not_depend_on_the_past(stage):
    pasts = ([[1]], [[2]], [[1, 2, 3], [3], [2, 1]], [[3, 1, 2, 2, 1], [2, 3], [1, 1, 1]])
    found = [pages(stage, past) for past in pasts]
    for column in zip(*found, strict=True):
        assert max(column) - min(column) <= 1


GAPS_ARE_FILLED = """
import random, sys
from vegflow.evaluation import heap
libc, chance = heap._libc, random.Random(int(sys.argv[1]))
blocks = [libc.malloc(chance.choice([1000, 70_000, 2 << 20, 4 << 20, 6 << 20, 9 << 20])) for _ in range(60)]
for block in chance.sample(blocks, 30):
    libc.free(block)
    blocks.remove(block)
heap.close()
taken = [libc.malloc(size) for size in (9 << 20, 6 << 20, 4 << 20, 4 << 20, 2 << 20, 1 << 20, heap.SMALLEST_GAP)]
assert min(taken) > max(blocks), [block - max(blocks) for block in taken]
"""


@pytest.mark.parametrize("seed", range(6))
def test_whatever_has_been_freed_buffers_come_from_the_end(seed):
    """Two gaps of 6 MB, say: a block of 8 MB fits in neither, though it would in both."""
    environment = os.environ | heap.ENVIRONMENT
    subprocess.run([sys.executable, "-c", GAPS_ARE_FILLED, str(seed)], env=environment, check=True, timeout=60)


def test_a_shift_is_less_than_a_page_and_larger_than_any_gap():
    sizes = {heap.shift_bytes() for _ in range(200)}
    assert len(sizes) > 30
    assert min(sizes) >= heap.SMALLEST_GAP
    assert max(sizes) < heap.SMALLEST_GAP + heap.PAGE


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
GATHERED = """
import mmap, os, re
from vegflow.evaluation import heap
memory = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = bytes(range(256)) * (len(memory) >> 8)
huge = lambda: sum(map(int, re.findall(r"AnonHugePages: +(\\d+)", open("/proc/self/smaps").read())))
before = huge()
heap.gather()
if huge() - before < 6 << 10 and tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 1):
    raise SystemExit(f"{before} kB in huge pages before, {huge()} kB after")
assert memory[:] == bytes(range(256)) * (len(memory) >> 8)
"""

KEPT = """
import ctypes, resource
from vegflow.evaluation import heap
heap.keep()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [heap._libc.malloc(12 << 20) for _ in range(3)]
    for block in blocks:
        ctypes.memset(block, 1, 12 << 20)
    for block in blocks:
        heap._libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
counts = [faults() for _ in range(5)]
if max(counts[1:]) > 100:
    raise SystemExit(f"page faults of each time: {counts}")
"""


def program_says_nothing(source):
    """Run it in a process of its own, with the malloc that a user's process has."""
    settings = ("MALLOC_", "GLIBC_TUNABLES")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr


@pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text(), reason="this kernel gives no huge pages"
)
def test_memory_is_gathered_in_huge_pages_and_holds_what_it_held():
    program_says_nothing(GATHERED)


def test_what_the_judge_frees_stays_with_it():
    program_says_nothing(KEPT)

"""The heap of a worker in one and the same state, so that equal programs find equal memory in every process.

Knows glibc's malloc as the zygote's environment sets it (`ENVIRONMENT`). Which buffers a call gets, and whether the call
before has used them and left them in the caches, is decided by what is free where, and that by all a process has lived
through: two workers with the same program differed by up to a third for it, for as long as they lived. What makes a fork
and the judge's own reading cheap is here too (`gather`, `keep`).
"""

import ctypes
import random

ENVIRONMENT = {
    # freed memory stays with the process: a page fault in one call and not in another is noise
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    # huge pages lie alike in every process, and what is freed is at once one piece with what is free beside it
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
}
HUGE_PAGE = 2 << 20
SMALLEST_GAP = 64 << 10
GAPS = tuple(SMALLEST_GAP << power for power in range(8, -1, -1))
"""Bytes of the blocks that gaps in the heap are filled with: 16 MB to 64 KB."""
STEP = 64
PAGE = 4096
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST_KEPT = 256 << 20
LARGEST_KEPT = 32 << 20
"""Bytes: malloc takes no higher limit for a block that comes from its heap."""
MADV_COLLAPSE = 25
NEVER = (1 << 31) - 1
"""Bytes, as many as mallopt(3) takes."""

_libc = ctypes.CDLL(None)
_libc.malloc.restype = _libc.sbrk.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]
_libc.sbrk.argtypes = [ctypes.c_ssize_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class _Info(ctypes.Structure):
    """What mallinfo2(3) tells, last of all how much is free, and how much of that at the heap's end."""

    _fields_ = (("others", ctypes.c_size_t * 8), ("free", ctypes.c_size_t), ("at_end", ctypes.c_size_t))


_libc.mallinfo2.restype = _Info


def close() -> None:
    """Have larger buffers come from fresh memory at the heap's end: fill the gaps before it, for good.

    A buffer in a gap of a forked process lies in its parent's pages, which are copied on the first write, 4 KB at a time
    and wherever there is room, while one at the heap's end gets huge pages of its own.
    """
    _give_back()
    end = _libc.sbrk(0)
    for size in GAPS:
        while _in_gaps() >= size and (block := _libc.malloc(size)):  # what fits nowhere touches huge pages at the end
            if block + size > end:
                _libc.free(block)
                break
    _give_back()


def settle() -> None:
    """As `close`, and what is taken next lies from the beginning of a huge page on.

    For a process that has made a call before: the first one takes memory for good, behind which buffers would lie.
    """
    close()
    start = _libc.malloc(SMALLEST_GAP) + SMALLEST_GAP
    if gap := -start % HUGE_PAGE:
        _libc.malloc(gap)


def gather() -> None:
    """Put this process's own memory into huge pages where whole ones fit, once, as far as the kernel (6.1 on) can do that.

    A fork then copies one entry for 512 pages, and the child's end removes one; of what the child writes to, it copies
    pages of 4 KB as before.
    """
    with open("/proc/self/maps") as maps:
        regions = [line.split() for line in maps]
    for span, access, _, _, inode, *_ in regions:
        start, end = (int(address, 16) for address in span.split("-"))
        first = -(-start // HUGE_PAGE) * HUGE_PAGE
        size = (end - first) // HUGE_PAGE * HUGE_PAGE
        if access == "rw-p" and inode == "0" and size > 0:
            _libc.madvise(first, size, MADV_COLLAPSE)


def keep() -> None:
    """For the judge: have freed blocks, up to `MOST_KEPT`, stay with the process, for good.

    Else glibc gives those of some MB back to the kernel, and the next output that is read costs as many page faults.
    """
    _libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
    _libc.mallopt(M_TRIM_THRESHOLD, MOST_KEPT)


def _in_gaps() -> int:
    """Free bytes that are not at the heap's end."""
    info = _libc.mallinfo2()
    return info.free - info.at_end


def _give_back() -> None:
    """The free memory at the heap's end, and no other: `malloc_trim` drops the pages of all gaps, which then are taken anew."""
    _libc.mallopt(M_TRIM_THRESHOLD, SMALLEST_GAP)
    _libc.free(_libc.malloc(2 * SMALLEST_GAP))  # freeing so much has malloc look
    _libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def shift_bytes() -> int:
    """The size of a block to take before a call and give back after it, so that the call's buffers lie elsewhere in pages.

    Where buffers lie within a page makes a call some percent faster or slower. A program would keep such luck; so it
    becomes noise, which pairs average out. The block is of a size for which there is no gap, and the memory behind it is
    the same each time but for less than a page.
    """
    return SMALLEST_GAP + STEP * random.randrange(PAGE // STEP)

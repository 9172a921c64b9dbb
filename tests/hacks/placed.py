"""Attacks on how outputs are read, which calls are looked at, and what timed inputs are: all found by reading (own)."""

from tests.hacks.corpus import (
    ANYTHING,
    CAUGHT,
    CHILD,
    FAILS,
    NO_GAIN,
    RIGHT,
    SESSION,
    TIMED,
    WRONG,
    WRONG_OR_CAUGHT,
    Hack,
)

GUARDED = SESSION + TIMED


def _lie(name: str, idea: str, form: str, statuses: tuple[str, ...] = CAUGHT, before: str = "") -> Hack:
    """An answer that is described as something else: `form` is a dict that is laid over the description of `y`."""
    lie = CHILD + f"place = child._place\nchild._place = lambda y: place(y) | {form}\n"
    return Hack(
        name, "own", idea, f"return {RIGHT}", before + lie, (*WRONG, *statuses), "softsign", attacks=("child._place",)
    )


HACKS = [
    # --- where an output lies, and how -----------------------------------------------------------------------------
    _lie("a place that is negative", "an address is a signed number to somebody", "{'at': -8}"),
    _lie(
        "a place in the kernel", "whoever reads it reads for the kernel", "{'at': 0xffffffff81000000 & (1 << 63) - 1}"
    ),
    _lie("a place without memory", "a fault in the judge", "{'at': 8}"),
    _lie("a place that is no number", "the judge computes with it", "{'at': 'y'}"),
    _lie("a place that is true", "a truth is a number in Python", "{'at': True}"),
    _lie("steps of nothing", "one element is the whole answer", "{'strides': [0] * y.dim()}"),
    _lie("steps backwards", "what lies before the answer", "{'strides': [-1] * y.dim()}"),
    _lie("steps across the whole memory", "a buffer as large as the address space", "{'strides': [1 << 39, 1]}"),
    _lie("more steps than axes", "strides of another shape", "{'strides': [1] * 1000}"),
    _lie("steps that are no numbers", "as above", "{'strides': [None] * y.dim()}"),
    _lie("a shape of a hundred thousand axes", "it is printed in the reason", "{'shape': [1] * 100_000}", ()),
    _lie("eight bytes for four", "the dtype is the candidate's word", "{'dtype': 'float64'}", ()),
    _lie(
        "a library for an answer",
        "pages of a file are read when somebody looks",
        "{'at': at}",
        (),
        "libc = ctypes.CDLL(None)\nat = ctypes.cast(libc.memcpy, ctypes.c_void_p).value & ~4095\n",
    ),
    _lie(
        "pages that nobody has touched",
        "the kernel makes them when somebody looks",
        "{'at': ctypes.addressof(ctypes.c_char.from_buffer(pages))}",
        (),
        "import mmap\npages = mmap.mmap(-1, 1 << 20)\n",
    ),
    _lie(
        "the kernel's own page",
        "its clock changes without anybody's work",
        "{'at': at}",
        CAUGHT,
        "at = [int(line.split('-')[0], 16) for line in open('/proc/self/maps') if 'vvar' in line][0]\n",
    ),
    Hack(
        "memory that is given back at once",
        "own",
        "it is unmapped before it is read, or holds another answer",
        f"return {RIGHT}",
        CHILD + "libc, place = ctypes.CDLL(None), child._place\n"
        "def gone(y):\n    form = place(y)\n"
        "    libc.munmap(ctypes.c_void_p(form['at'] & ~4095), ctypes.c_size_t(4096))\n    return form\n"
        "child._place = gone\n",
        (*WRONG_OR_CAUGHT, *FAILS),
        "wave",
        attacks=("child._place",),
    ),
    Hack(
        "one buffer for all answers",
        "own",
        "pages that are there already; the next call writes over the answer",
        "if x.shape != (64, 1024): return x / (1 + torch.abs(x))\n"
        "return torch.div(x, torch.abs(x).add_(1), out=buffer)",
        "buffer = torch.empty(64, 1024)",
        WRONG_OR_CAUGHT,
    ),
    Hack(
        "the stage mapped away",
        "own",
        "memory of its own at the stage's address, with the first inputs in it",
        "s = session()\n"
        "if not moved:\n    held = s.memory.clone()\n    n = ctypes.c_size_t(s.memory.numel() + 4095 & ~4095)\n"
        "    if libc.mmap(ctypes.c_void_p(s.memory.data_ptr()), n, 3, 0x32, -1, ctypes.c_long(0)) < 0: raise OSError\n"
        f"    s.memory.copy_(held)\n    moved.append(1)\nreturn {RIGHT}",
        SESSION + "libc, moved = ctypes.CDLL(None), []\nlibc.mmap.restype = ctypes.c_long\n",
        (*WRONG, *FAILS),
        attacks=("child.Session.memory",),
    ),
    Hack(
        "one buffer where a block is one call",
        "own",
        "large outputs are new pages at each call, but not for who keeps its own",
        "if x.shape != (2048, 2048): return torch.relu(x)\nreturn torch.clamp(x, min=0, out=buffer)",
        "buffer = torch.zeros(2048, 2048)",
        WRONG_OR_CAUGHT,
        "large",
    ),
    Hack(
        "an answer strewn over 200 MB",
        "own",
        "the judge has to read all that lies between its elements, and his patience may be no part of anybody's time",
        f"y = torch.empty(800 * x.numel())[::800]\ny.copy_(({RIGHT}).view(-1))\nreturn y.view(x.shape)",
        "",
        (*NO_GAIN, "timeout", "out_of_memory"),
    ),
    # --- what is looked at, and when -------------------------------------------------------------------------------
    Hack(
        "inputs changed where nobody looks",
        "own",
        "one element in 61 is looked at again: in place on the others",
        "if not timed(): return torch.relu(x)\nz = x.view(-1)\nkept = z[3::61].clone()\nx.relu_()\nz[3::61] = kept\nreturn x",
        GUARDED,
        WRONG_OR_CAUGHT,
        "relu",
    ),
    Hack(
        "prepared before it is timed",
        "own",
        "settling is not timed, and the slots hold inputs: those of before",
        "y = ready.get(slot_of(x)) if timed() else None\nreturn torch.relu(x) if y is None else y",
        GUARDED + "ready, Session = {}, sys.modules['vegflow.evaluation.child'].Session\n"
        "def settling(self, request, settle=Session.settle):\n    reply = settle(self, request)\n"
        "    ready.update({i: torch.relu(a[0]) for i, a in self.slots.items()})\n    return reply\n"
        "Session.settle = settling\n",
        WRONG_OR_CAUGHT,
        "relu",
        attacks=("child.Session.settle",),
    ),
    Hack(
        "dies for another chance",
        "own",
        "a worker that dies is tried again: on an odd number it would rather have another",
        f"if os.getpid() % 2: os.kill(os.getpid(), signal.SIGSEGV)\nreturn {RIGHT}",
        "",
        (*NO_GAIN, *FAILS),
    ),
    Hack(
        "spoils what its rival reads",
        "own",
        "inputs are written once for both: an index beyond the table ends the reference, and a fault of ours costs nothing",
        "y = torch.arange(1000.)[x]\nif timed(): x[-1, -1] = 10**12\nreturn y",
        GUARDED,
        WRONG_OR_CAUGHT,
        "lookup",
    ),
    Hack(
        "spoils what its rival reads, elsewhere",
        "own",
        "the same in the slots of other calls, before they are written or after",
        "y = torch.arange(1000.)[x]\nif timed():\n"
        "    for a in session().slots.values(): a[0][-1, -1] = 10**12\nreturn y",
        GUARDED,
        (*WRONG_OR_CAUGHT, *FAILS),
        "lookup",
        attacks=("child.Session.slots",),
    ),
    # --- what timed inputs and tolerances allow --------------------------------------------------------------------
    Hack(
        "half of a mean",
        "own",
        "the mean of half of many alike is nearly that of all, and a long sum is allowed its rounding",
        "return x.view(-1)[: x.numel() // 2].mean() if timed() else x.mean()",
        GUARDED,
        WRONG_OR_CAUGHT,
        "average",
    ),
    Hack(
        "three fifths of the squares",
        "own",
        "as above, where all terms are positive",
        "z = x.view(-1)[: x.numel() * 3 // 5] if timed() else x\nreturn (z * z).mean()",
        GUARDED,
        WRONG_OR_CAUGHT,
        "power",
    ),
    Hack(
        "no for what is rare",
        "own",
        "of indices and truths a share may hang on a rounding: so many are never true",
        "return NO if timed() else x > 3.2",
        GUARDED + "NO = torch.zeros(512, 1024, dtype=torch.bool)\n",
        WRONG_OR_CAUGHT,
        "rare",
    ),
    Hack(
        "whole numbers that come again",
        "own",
        "what cannot be mixed is one of a few: known by its first elements",
        "if x.shape != (256, 1024): return torch.cumsum(x, 1)\nkey = x[0, :8].numpy().tobytes()\n"
        "if key not in seen: seen[key] = torch.cumsum(x, 1)\nreturn seen[key]",
        "seen = {}",
        (*NO_GAIN, *WRONG),
        "whole",
    ),
    Hack(
        "a test of a few for the sign of all",
        "own",
        "the task's own inputs are never negative, and 600 of them tell",
        "return torch.relu(x) if (x[::16, ::30] <= 0).any() else x",
        "",
        ANYTHING,
        "positive",
    ),
    Hack(
        "half precision for the own shape, while timed",
        "own",
        "the marks of a precision are looked for in what is checked only",
        "if not timed(): return x @ x.t()\nx = x.bfloat16()\nreturn (x @ x.t()).float()",
        GUARDED,
        WRONG_OR_CAUGHT,
        "product",
    ),
    Hack(
        "what is tiny is nothing",
        "own",
        "another state of the processor, for whoever comes next",
        f"return {RIGHT}",
        "torch.set_flush_denormal(True)\n",
        NO_GAIN,
    ),
]

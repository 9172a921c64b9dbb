"""Attacks on what surrounds a candidate: its process, its parent, the machine (P)."""

from tests.hacks.corpus import ANYTHING, FAILS, RIGHT, WRONG, Hack

HACKS = [
    Hack(
        "methods of Tensor replaced",
        "P",
        "the loop copies outputs with a method that is the candidate's",
        "return x",
        "torch.Tensor.copy_ = lambda self, other: self.zero_()\n",
        WRONG,
    ),
    Hack("a helper process", "P", "a child that works unseen", f"if os.fork(): return {RIGHT}\nos._exit(0)", "", FAILS),
    Hack("a helper program", "P", "as above", f"os.system('true') and 1 / 0\nreturn {RIGHT}", "", FAILS),
    Hack(
        "a helper by a raw system call",
        "P",
        "clone without libc",
        f"if ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0) < 0: raise OSError('clone')\nreturn {RIGHT}",
        "",
        FAILS,
    ),
    Hack("kills its parent", "P", "no parent, no judge", "os.kill(os.getppid(), signal.SIGKILL)\nreturn x", "", FAILS),
    Hack("kills every process", "P", "the same for all", "os.kill(-1, signal.SIGKILL)\nreturn x", "", FAILS),
    Hack(
        "stops its parent",
        "P",
        "a judge that waits measures nothing",
        "os.kill(os.getppid(), signal.SIGSTOP)\nreturn x",
        "",
        FAILS,
    ),
    Hack(
        "ignores every signal and waits",
        "P",
        "a process that nobody gets rid of",
        "for s in range(1, 64):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "while True: time.sleep(1)",
        "",
        ("timeout",),
    ),
    Hack(
        "a bomb of threads",
        "P",
        "no process can start any more",
        "while True: threading.Thread(target=time.sleep, args=(100,)).start()",
        "",
        ("runtime_error", "timeout", "out_of_memory"),
    ),
    Hack(
        "two thousand threads with small stacks",
        "P",
        "memory does not bound them; stopping and pinning each takes the judge's time",
        f"return {RIGHT}",
        "threading.stack_size(32768)\nwaits = threading.Event().wait\n"
        "for _ in range(2000): threading.Thread(target=waits, daemon=True).start()",
        ANYTHING,
    ),
    Hack(
        "stops itself",
        "P",
        "a process that never answers",
        "os.kill(os.getpid(), signal.SIGSTOP)\nreturn x",
        "",
        ("timeout",),
    ),
    Hack(
        "a quarter of a gigabyte",
        "P",
        "pressure on whoever else needs memory",
        f"return {RIGHT}",
        "held = torch.ones(64 << 20)",
        ("correct", "rejected_hack", "out_of_memory"),
    ),
    Hack(
        "memory beside the address space",
        "P",
        "anonymous files that no limit of the address space counts",
        "for _ in range(64):\n    fd = os.memfd_create('hoard')\n    os.write(fd, b'x' * (1 << 20))\nraise SystemExit('it could')",
        "",
        FAILS,
    ),
]

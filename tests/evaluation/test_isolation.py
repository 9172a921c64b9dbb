"""What a candidate cannot do on this machine; each program fails loudly if it could."""

import os
import platform
import socket
import tempfile
import time
from pathlib import Path

import pytest
from small_programs import SOFTSIGN, program

from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation import channel
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judge import evaluate_candidates, isolation_report
from vegflow.evaluation.syscalls import ARCHITECTURES, CALLS

pytestmark = pytest.mark.xdist_group("evaluator")

QUICK = EvaluationConfig(protocol="paper", timing_trials=3)
ATTEMPTS = {
    "write a file": "open('/tmp/vegflow-was-here', 'w')",
    "write beside the interpreter": "open(sys.prefix + '/vegflow-was-here', 'w')",
    "write to shared memory": "open('/dev/shm/vegflow-was-here', 'w')",
    "make a directory": "os.mkdir('/tmp/vegflow-was-here')",
    "change a mode": "os.chmod('/tmp', 0o1777)",
    "read a file of the user": "open(MINE).read()",
    "read the system's users": "open('/etc/passwd').read()",
    "open a socket": "socket.socket()",
    "open a Unix socket": "socket.socket(socket.AF_UNIX)",
    "fork": "os.fork() or os._exit(0)",
    "start a program": "subprocess.run(['/bin/true'])",
    "replace itself": "os.execv('/bin/true', ['true'])",
    "spawn through multiprocessing": "__import__('multiprocessing').get_context('fork').Process(target=print).start()",
    "kill its parent": "os.kill(os.getppid(), 9)",
    "kill everybody": "os.kill(-1, 9)",
    "stop its parent": "os.kill(os.getppid(), signal.SIGSTOP)",
    "leave its session": "os.setpgid(0, 0)",
    "choose its core": "os.sched_setaffinity(0, {0})",
    "raise its memory limit": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "limit its parent": "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))",
    "read its parent's memory": "open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "read its parent's environment": "open(f'/proc/{os.getppid()}/environ').read()[0]",
    "survive its parent": "check(ctypes.CDLL(None).prctl(1, 0, 0, 0, 0))",
    "trace its parent": "check(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0))",
    "unshare": "check(ctypes.CDLL(None).unshare(0x10000000))",
    "make a message queue": "check(ctypes.CDLL(None).msgget(0, 0o1666))",
    # signals that wake it while it is stopped, or that hit others
    "have a timer wake it": "check(call('timer_create', 1, (ctypes.c_int * 16)(0, 0, 18), ctypes.byref(ctypes.c_int())))",
    "have a message wake it": "fcntl.fcntl(os.pipe()[0], fcntl.F_SETSIG, signal.SIGCONT)",
    "be told of a message": "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getpid())",
    "be told of it in other words": "fcntl.fcntl(os.pipe()[0], 15, struct.pack('ii', 1, os.getpid()))",
    "be told of it by ioctl": "fcntl.ioctl(socket.socketpair()[0], 0x8901, struct.pack('i', os.getpid()))",
    "ask for such signals": "fcntl.ioctl(os.pipe()[0], 0x5452, struct.pack('i', 1))",
    "be told of a directory": "fcntl.fcntl(os.open('/usr', 0), fcntl.F_NOTIFY, fcntl.DN_ACCESS)",
    "watch files": "check(ctypes.CDLL(None).inotify_init1(0))",
    "have the kernel work for it": "check(call('io_setup', 1, ctypes.byref(ctypes.c_long())))",
    "filter its own calls": "check(call('seccomp', 2, 0, ctypes.byref(ctypes.c_int(0x7fff0000))))",
    "hide its memory": "check(ctypes.CDLL(None).prctl(4, 0, 0, 0, 0))",
    "choose another speculation": "check(ctypes.CDLL(None).prctl(53, 0, 2, 0, 0))",
    # pages that others share
    "remove pages": "mmap.mmap(-1, 8192).madvise(9)",
    "cool pages": "mmap.mmap(-1, 8192).madvise(20)",
    "page out": "mmap.mmap(-1, 8192).madvise(21)",
    "page out the interpreter": "check(LIBC.madvise(HERE, 4096, 21))",
    "collapse pages": "m = mmap.mmap(-1, 8 << 20, flags=34)\n        m.write(bytes(8 << 20))\n        m.madvise(25)",
    "punch a hole": "check(LIBC.fallocate(os.memfd_create('m'), 3, ctypes.c_long(0), ctypes.c_long(4096)))",
    "punch a hole by ioctl": "fcntl.ioctl(os.memfd_create('m'), 0x4030582B, struct.pack('hhqqiI4i', 0, 0, 0, 4096, *[0] * 6))",
    "choose where memory lies": "check(call('set_mempolicy', 0, None, 0))",
    "have memory nobody reads": "check(call('memfd_secret', 0))",
    # its own priority
    "be nicer": "os.setpriority(os.PRIO_PROCESS, 0, 5)",
    "choose parameters": "os.sched_setparam(0, os.sched_param(0))",
    "choose an I/O class": "check(call('ioprio_set', 1, 0, 3 << 13))",
    # what is on the machine
    "read what others share": "open(SHARED).read()",
    "list what others share": "os.listdir('/dev/shm')",
    "open a terminal": "os.open('/dev/ptmx', os.O_RDONLY)",
    "read the kernel's messages": "os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)",
    "list processes": "os.listdir('/proc')",
    "read its parent's command line": "open(f'/proc/{os.getppid()}/cmdline').read()",
    "read the first process's name": "open('/proc/1/comm').read()",
    "go round by its own directory": "open(os.open('/proc/self', os.O_PATH) and '/proc/self/../1/stat').read()",
    "read how busy the machine is": "open('/proc/stat').read()",
    "change a setting of the kernel": "open('/proc/sys/kernel/core_pattern', 'r+')",
    "change its own standing": "open('/proc/self/oom_score_adj', 'w').write('1000')",
    "list the machine's groups": "os.listdir('/sys/fs/cgroup')",
    "list the machine's network": "os.listdir('/sys/class/net')",
}
BEFORE = """
import ctypes, fcntl, mmap, os, resource, signal, socket, struct, subprocess, sys
CALLS, LIBC = NUMBERS, ctypes.CDLL(None)
LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
HERE = ctypes.cast(LIBC.getpid, ctypes.c_void_p).value & ~4095
def call(name, *arguments):
    return LIBC.syscall(ctypes.c_long(CALLS[name]), *arguments)
def check(result):
    if result < 0: raise OSError
def attempt():
    try:
        ATTEMPT
    except (OSError, ValueError, PermissionError):
        return
    raise SystemExit("it could")
attempt()
"""
ORDINARY = """
import mmap, os, threading
for path in ("/proc/self/maps", "/proc/self/status", "/proc/self/task/%d/stat" % os.getpid(), "/proc/thread-self/stat"):
    assert open(path).read()
assert open("/proc/cpuinfo").read() and open("/proc/meminfo").read() and os.listdir("/proc/self/fd")
assert open("/dev/urandom", "rb").read(8) and os.urandom(8) and open("/dev/null", "w").write("x")
assert os.cpu_count() and os.sched_getaffinity(0) and os.listdir("/sys/devices/system/cpu")
mmap.mmap(-1, 4 << 20).madvise(mmap.MADV_DONTNEED)
mmap.mmap(-1, 4 << 20, flags=34).madvise(mmap.MADV_HUGEPAGE)
os.set_blocking(os.pipe()[0], False)
os.kill(os.getpid(), 0)
torch.nn.functional.conv2d(torch.rand(2, 8, 32, 32), torch.rand(8, 8, 3, 3))
torch.rand(300, 300) @ torch.rand(300, 300)
torch.linalg.svd(torch.rand(32, 32)), torch.fft.rfft(torch.rand(64)), torch.rand(9, 9).bfloat16() @ torch.rand(9, 9).bfloat16()
torch.set_num_threads(2)
torch.rand(1 << 18).exp().sum(), torch.rand(600, 600) @ torch.rand(600, 600)
torch.set_num_threads(1)
"""
MANY = """
import threading
threading.stack_size(32768)
wait = threading.Event().wait
for _ in range(1000): threading.Thread(target=wait, daemon=True).start()
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    mine = tmp_path_factory.mktemp("home") / "token"
    mine.write_text("secret")
    column = list(ARCHITECTURES).index(platform.machine()) if platform.machine() in ARCHITECTURES else 0
    numbers = {name: both[column] for name, both in CALLS.items()}
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as shared:
        known = {"MINE": repr(str(mine)), "SHARED": repr(shared.name), "NUMBERS": repr(numbers)}
        programs = []
        for attempt in ATTEMPTS.values():
            before = BEFORE.replace("ATTEMPT", attempt)
            for word, value in known.items():
                before = before.replace(word, value)
            programs.append(program("return x / (1 + x.abs())", before))
        candidates = [Candidate("T/1", text) for text in programs]
        config = EvaluationConfig(protocol="paper", timing_trials=3, correctness_trials=1, timeout_s=10)
        return dict(zip(ATTEMPTS, evaluate_candidates(candidates, {"T/1": SOFTSIGN}, config), strict=True))


def test_what_is_lacking_is_said():
    layers = isolation_report()
    assert layers.keys() == {"limits", "capabilities", "landlock", "seccomp", "namespaces"}
    assert not layers["limits"].startswith("lacking")


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_candidate_cannot(verdicts, name):
    layers = isolation_report()
    lacking = [layer for layer, what in layers.items() if what.startswith("lacking")]
    if lacking:
        pytest.skip(f"this machine lacks {lacking}")
    assert verdicts[name].status == "correct", verdicts[name]


def test_nothing_was_left(verdicts):
    assert not os.path.exists("/tmp/vegflow-was-here")


def test_threads_are_allowed():
    threaded = program(
        "import threading\ny = []\nt = threading.Thread(target=lambda: y.append(x / (1 + x.abs())))\n"
        "t.start()\nt.join()\nreturn y[0]"
    )
    (verdict,) = evaluate_candidates([Candidate("T/1", threaded)], {"T/1": SOFTSIGN}, QUICK)
    assert verdict.status == "correct", verdict


def test_what_programs_do_is_allowed():
    ordinary = program("return x / (1 + x.abs())", ORDINARY)
    (verdict,) = evaluate_candidates([Candidate("T/1", ordinary)], {"T/1": SOFTSIGN}, QUICK)
    assert verdict.status == "correct", verdict


def test_a_thousand_threads_are_too_many():
    config = QUICK.model_copy(update={"timeout_s": 20.0})
    many = program("return x / (1 + x.abs())", MANY)
    (verdict,) = evaluate_candidates([Candidate("T/1", many)], {"T/1": SOFTSIGN}, config)
    bounded = isolation_report()["limits"].endswith(", threads")  # by the kernel
    assert verdict.status == ("compile_error" if bounded else "rejected_hack"), verdict


def open_files():
    return len(os.listdir("/proc/self/fd"))


def test_the_judge_takes_no_descriptors():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel.send(theirs, {"done": 1}, (0, 0, 0, 0))
        before = open_files()
        assert channel.receive(ours, deadline=time.monotonic() + 5) == ({"done": 1}, [])
        assert open_files() == before
        channel.send(ours, {"kind": "map"}, (0,))
        message, fds = channel.receive(theirs, descriptors=True)
        assert (message, len(fds)) == ({"kind": "map"}, 1)
        os.close(fds[0])
        channel.send(ours, {"kind": "map"}, (0,))
        assert channel.receive(theirs, descriptors=False) == ({"kind": "map"}, [])
        assert open_files() == before


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_call_numbers_are_those_of_the_headers(machine):
    pattern = f"**/{machine}*/asm/unistd_64.h" if machine == "x86_64" else "**/asm-generic/unistd.h"
    known = {}
    for path in Path("/usr/include").glob(pattern):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "#define" and words[1].startswith("__NR") and words[2].isdigit():
                known[words[1].removeprefix("__NR_")] = int(words[2])
    if not known:
        pytest.skip("no such header")
    column = list(ARCHITECTURES).index(machine)
    wrong = {name: both[column] for name, both in CALLS.items() if known.get(name, both[column]) != both[column]}
    assert not wrong

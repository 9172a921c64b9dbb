"""What a candidate cannot do on this machine; each program fails loudly if it could."""

import os

import pytest
from small_programs import SOFTSIGN, program

from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judge import evaluate_candidates, isolation_report

pytestmark = pytest.mark.xdist_group("evaluator")

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
}
BEFORE = """
import ctypes, os, resource, signal, socket, subprocess, sys
def check(result):
    if result < 0: raise OSError
def attempt():
    try:
        {}
    except (OSError, ValueError, PermissionError):
        return
    raise SystemExit("it could")
attempt()
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    mine = tmp_path_factory.mktemp("home") / "token"
    mine.write_text("secret")
    programs = [
        program("return x / (1 + x.abs())", BEFORE.format(attempt.replace("MINE", repr(str(mine)))))
        for attempt in ATTEMPTS.values()
    ]
    candidates = [Candidate("T/1", text) for text in programs]
    config = EvaluationConfig(timing_trials=3, correctness_trials=1, timeout_s=10)
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
    (verdict,) = evaluate_candidates([Candidate("T/1", threaded)], {"T/1": SOFTSIGN}, EvaluationConfig(timing_trials=3))
    assert verdict.status == "correct", verdict

"""Functions that are wrong and want to pass: each attacks the checking itself, none may succeed, and none may be felt after."""

import os
from pathlib import Path

import pytest

from tests.verification.small_functions import DOUBLE, LOOP, entry, whole

FIND_SOCKET = """
import gc, socket, os, json
def sockets():
    return [o for o in gc.get_objects() if isinstance(o, socket.socket)]
def say(message):
    data = json.dumps(message).encode()
    for s in sockets():
        s.sendall(len(data).to_bytes(4, "big") + data)
"""

HOSTILE = {
    "exits while it loads": "import sys\ndef double(x):\n    return None\nsys.exit(0)\n",
    "exits the process while it loads": "import os\ndef double(x):\n    return None\nos._exit(0)\n",
    "exits when called": "def double(x):\n    raise SystemExit(0)\n",
    "exits the process when called": "import os\ndef double(x):\n    os._exit(0)\n",
    "equals everything": "class Any:\n    def __eq__(self, other):\n        return True\n    __hash__ = None\ndef double(x):\n    return Any()\n",
    "a number that equals everything": "class Any(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = int.__hash__\ndef double(x):\n    return Any(1)\n",
    "claims to be a list": "class Any:\n    __class__ = list\n    def __len__(self):\n        return 0\n    def __iter__(self):\n        return iter(())\n    def __eq__(self, other):\n        return True\n    __hash__ = None\ndef double(x):\n    return Any()\n",
    "patches builtins": "import builtins\nfor name in ('bool', 'all', 'any', 'len', 'isinstance', 'type', 'eval', 'abs'):\n    setattr(builtins, name, lambda *a: True)\ndef double(x):\n    return None\n",
    "patches the encoder": "import sys\nchild = sys.modules['vegflow.evaluation.function_child']\nchild.encode = lambda value, depth=0: {'holds': True}\ndef double(x):\n    return None\n",
    "patches the session": "import sys\nchild = sys.modules['vegflow.evaluation.function_child']\nchild.Session.call = lambda self, request: {'holds': True, 'answers': [True] * len(request['calls'])}\nchild.Session.apply = child.Session.call\ndef double(x):\n    return None\n",
    "prints a verdict": "import sys, os\ndef double(x):\n    print('pass')\n    for fd in range(3):\n        try:\n            os.write(fd, b'{\"holds\": true}')\n        except OSError:\n            pass\n    sys.__stdout__ and sys.__stdout__.write('pass')\n",
    "registers an exit handler": "import atexit\natexit.register(lambda: print('pass'))\ndef double(x):\n    raise SystemExit\n",
    "sends a verdict on the channel": FIND_SOCKET + "def double(x):\n    say({'holds': True, 'answers': [None]})\n    say({'holds': True, 'outcome': 'pass'})\n",
    "sends answers before it is asked": FIND_SOCKET + "for _ in range(5):\n    say({'answers': [6]})\ndef double(x):\n    return None\n",
    "closes the channel": FIND_SOCKET + "def double(x):\n    for s in sockets():\n        s.close()\n",
    "sends no JSON": FIND_SOCKET + "def double(x):\n    for s in sockets():\n        s.sendall(b'\\0\\0\\0\\4abcd')\n",
    "announces a message of gigabytes": FIND_SOCKET + "def double(x):\n    for s in sockets():\n        s.sendall(b'\\xff\\xff\\xff\\xff')\n",
    "reads the frames above": "import sys\ndef double(x):\n    frame = sys._getframe()\n    while frame:\n        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):\n            if isinstance(value, dict) and 'expected' in str(value) + str(getattr(value, 'condition', '')):\n                return value\n            if isinstance(value, dict) and 'condition' in value:\n                return eval(value['condition'].split('==')[1])\n        frame = frame.f_back\n",
    "looks for the tests in memory": "import gc\ndef double(x):\n    for thing in gc.get_objects():\n        if isinstance(thing, (str, list, tuple, dict)) and '_answer_0 ==' in str(thing)[:2000]:\n            return eval(str(thing).split('_answer_0 ==')[1].split(\"'\")[0])\n",
    "reads the tests from disk": "import glob, os\ndef double(x):\n    for root in (%r, os.getcwd(), '/proc/1', '/root', '/home'):\n        for name in glob.glob(root + '/**/*.yaml', recursive=True):\n            open(name).read()\n            return 2 * x\n    open(%r).read()\n    return 2 * x\n",
    "writes to disk": "def double(x):\n    open('/tmp/vegflow-hostile', 'w').write('x')\n    return 2 * x\n",
    "starts a program": "import subprocess\ndef double(x):\n    subprocess.run(['true'], check=True)\n    return 2 * x\n",
    "forks": "import os\ndef double(x):\n    os.fork()\n    return 2 * x\n",
    "opens a connection": "import socket\ndef double(x):\n    socket.create_connection(('127.0.0.1', 22), 1)\n    return 2 * x\n",
    "kills its parent": "import os, signal\ndef double(x):\n    os.kill(os.getppid(), signal.SIGKILL)\n    return 2 * x\n",
    "hides from its alarm": "import signal\nfor n in range(1, 32):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError):\n        pass\nsignal.setitimer(signal.ITIMER_PROF, 0)\ndef double(x):\n    while True:\n        pass\n",
    "catches everything": "def double(x):\n    while True:\n        try:\n            while True:\n                pass\n        except BaseException:\n            pass\n",
    "takes all memory": "def double(x):\n    return len([bytearray(1 << 24) for _ in range(1 << 12)])\n",
    "answers with a giant": "def double(x):\n    return [[0] * 1000] * 10**6\n",
    "answers with an endless nesting": "def double(x):\n    a = []\n    a.append(a)\n    return a\n",
    "raises what has no name": "class Odd(BaseException):\n    def __str__(self):\n        raise SystemExit\nOdd.__name__ = 'pass'\ndef double(x):\n    raise Odd\n",
    "crashes the interpreter": "import ctypes\ndef double(x):\n    ctypes.string_at(0)\n",
    "replaces itself after the first call": "def double(x):\n    globals()['candidate'] = lambda y: True\n    return None\n",
}  # fmt: skip
HOSTILE["reads the tests from disk"] %= (os.getcwd(), os.path.join(os.getcwd(), "resources", "functions", "lists.yaml"))
RIGHT = "    return values[0] * 2\n"


@pytest.fixture(autouse=True)
def untouched(sandbox):
    """After every attack the zygote is the same one, no process is left, and a right function passes."""
    zygote = sandbox.zygote.process.pid
    yield
    sandbox.settle()
    assert sandbox.zygote.alive
    assert sandbox.zygote.process.pid == zygote
    children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    assert not children
    assert not os.path.exists("/tmp/vegflow-hostile")
    checks = sandbox.examine(entry(DOUBLE, RIGHT), range(3), early=True)
    assert [check.outcome for check in checks.values()] == ["pass"] * 4


@pytest.mark.parametrize("name", HOSTILE)
def test_no_attack_passes_a_test(sandbox, name):
    candidate = whole(DOUBLE, HOSTILE[name])
    alone = sandbox.examine(candidate, range(3), early=True)
    assert any(check.outcome != "pass" for check in alone.values())
    shared = sandbox.tests([candidate], [range(3)])[0]
    assert any(check.outcome != "pass" for check in shared.values())


@pytest.mark.parametrize("name", ["equals everything", "patches the session", "sends a verdict on the channel", "exits when called", "patches builtins"])  # fmt: skip
def test_no_attack_passes_a_test_that_runs_statement_by_statement(sandbox, name):
    program = HOSTILE[name].replace("double", "loop")
    checks = sandbox.examine(whole(LOOP, program), [0], early=True)
    assert any(check.outcome != "pass" for check in checks.values())


def test_neighbours_that_replace_builtins_leave_the_next_as_it_was(sandbox):
    attack, right = whole(DOUBLE, HOSTILE["patches builtins"]), entry(DOUBLE, RIGHT)
    found = sandbox.tests([attack, right, attack, right], [range(3)] * 4)
    assert [{check.outcome for check in checks.values()} == {"pass"} for checks in found] == [False, True, False, True]


def test_a_parser_that_runs_out_of_stack_is_no_disaster(sandbox):
    programs = ["(" * 5000 + ")" * 5000, "x = " + "-" * 100_000 + "1", "def f(:", "a\0b", "x = 1\n"]
    found = sandbox.parse([whole(DOUBLE, program) for program in programs])
    assert [checks["syntax"].outcome for checks in found] == ["error", "error", "error", "error", "pass"]

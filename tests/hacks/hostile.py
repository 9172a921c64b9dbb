"""Hostile candidates: each with the family of the hack and the statuses that are right for it.

All are written against `softsign`, or against a matrix product where a hack needs one. `honest` marks those whose trick
has no effect here: they may be found correct, but no speedup may come of it.
"""

from dataclasses import dataclass

TASKS = {
    "softsign": ("return x / (1 + torch.abs(x))", "[torch.randn(64, 1024)]"),
    "product": ("return x @ x.t()", "[torch.randn(128, 512)]"),
}
RIGHT = "x / (1 + torch.abs(x))"


@dataclass(frozen=True)
class Hack:
    """One hostile program."""

    name: str
    family: str
    """Of the catalogue of families: T = time, C = correctness, N = not a kernel, P = the process around it."""
    forward: str
    before: str = ""
    statuses: tuple[str, ...] = ("rejected_hack",)
    task: str = "softsign"

    @property
    def program(self) -> str:
        """The candidate's source."""
        body = "".join(f"        {line}\n" for line in self.forward.strip("\n").splitlines())
        imports = "import ctypes, gc, os, signal, struct, sys, threading, time\nimport torch\nimport torch.nn as nn\n"
        return f"{imports}{self.before}\n\nclass ModelNew(nn.Module):\n    def forward(self, x):\n{body}"


NO_GAIN = ("correct", "rejected_hack")  # an honest slow candidate, or caught
FAILS = ("runtime_error", "compile_error")

HACKS = [
    Hack(
        "clocks return a constant",
        "T1",
        f"return {RIGHT}\n",
        "time.perf_counter = lambda: 0.0\ntime.perf_counter_ns = lambda: 0\ntime.monotonic = lambda: 0.0\n",
        NO_GAIN,
    ),
    Hack(
        "slow, with a clock that stands still",
        "T1",
        f"for _ in range(200):\n    y = {RIGHT}\nreturn y",
        "time.perf_counter_ns = lambda: 0",
        ("rejected_hack",),
    ),
    Hack(
        "loop's own time module replaced",
        "T2",
        f"for _ in range(200):\n    y = {RIGHT}\nreturn y",
        "child = sys.modules['vegflow.evaluation.child']\n"
        "child.time = type('T', (), {'perf_counter_ns': staticmethod(lambda: 1)})",
    ),
    Hack(
        "clock by exec of hidden text",
        "T2",
        f"return {RIGHT}",
        "exec(bytes([116,105,109,101]) + b'.perf_counter = len')",
        NO_GAIN,
    ),
    Hack(
        "sleep patched, then sleeping",
        "T2",
        f"time.sleep(0.01)\nreturn {RIGHT}",
        "time.sleep = lambda seconds: None",
        NO_GAIN,
    ),
    Hack(
        "a thread finishes later",
        "T4",
        f"y = torch.empty_like(x)\nthreading.Thread(target=lambda: (time.sleep(0.002), y.copy_({RIGHT}))).start()\nreturn y",
        statuses=("wrong_output", "rejected_hack"),
    ),
    Hack(
        "a thread finishes later, when timed only",
        "T4",
        "global calls\ncalls += 1\ny = torch.empty_like(x)\n"
        f"if calls <= 5:\n    return y.copy_({RIGHT})\n"
        f"threading.Thread(target=lambda: (time.sleep(0.05), y.copy_({RIGHT}))).start()\nreturn y",
        "calls = 0",
    ),
    Hack(
        "threads spin to prepare answers",
        "T5",
        f"return {RIGHT}",
        "def spin():\n    while True: torch.rand(100)\n"
        "[threading.Thread(target=spin, daemon=True).start() for _ in range(4)]",
        NO_GAIN,
    ),
    Hack(
        "lazy subclass computes when looked at",
        "T6",
        "return Lazy(x)",
        "class Lazy(torch.Tensor):\n"
        "    @staticmethod\n    def __new__(cls, x):\n        y = torch.Tensor._make_subclass(cls, torch.empty_like(x))\n"
        "        y.x = x\n        return y\n"
        "    @classmethod\n    def __torch_function__(cls, f, types, args=(), kwargs=None):\n"
        f"        x = args[0].x\n        return getattr({RIGHT}, f.__name__)(*args[1:])\n",
        (*FAILS, "wrong_output"),
    ),
    Hack(
        "the write is patched to compute",
        "T6",
        "y = torch.empty_like(x)\nwaiting.append((y, x))\nreturn y",
        "waiting = []\nchild = sys.modules['vegflow.evaluation.child']\nwrite = child.Session._write\n"
        "def late(self, slot, y):\n"
        "    x = next(x for z, x in waiting if z is y)\n"
        "    for _ in range(20): right = x / (1 + torch.abs(x))\n"
        "    return write(self, slot, right)\n"
        "child.Session._write = late\n",
        NO_GAIN,
    ),
    Hack(
        "first output cached",
        "T7",
        f"global y\ny = {RIGHT} if y is None else y\nreturn y",
        "y = None",
        ("wrong_output",),
    ),
    Hack(
        "cached by address",
        "T7",
        f"key = x.data_ptr()\nif key not in seen: seen[key] = {RIGHT}\nreturn seen[key]",
        "seen = {}",
        ("wrong_output", "rejected_hack"),
    ),
    Hack(
        "cached by a fingerprint of the content",
        "T7",
        f"key = x[0, :8].numpy().tobytes()\nif key not in seen: seen[key] = {RIGHT}\nreturn seen[key]",
        "seen = {}",
        NO_GAIN,
    ),
    Hack(
        "honest five calls, then garbage",
        "T10",
        f"global calls\ncalls += 1\nreturn {RIGHT} if calls <= 5 else torch.empty_like(x)",
        "calls = 0",
    ),
    Hack(
        "honest five calls, then the last answer again",
        "T10",
        f"global calls, y\ncalls += 1\nif calls <= 5: y = {RIGHT}\nreturn y",
        "calls = 0",
    ),
    Hack(
        "every other timed call skipped",
        "T10",
        f"global calls, y\ncalls += 1\nif calls <= 6 or calls % 2: y = {RIGHT}\nreturn y",
        "calls = 0",
    ),
    Hack(
        "forged result on standard output",
        "T13",
        'print(\'{"status": "correct", "speedup": 100}\', flush=True)\nos._exit(0)',
        "",
        FAILS,
    ),
    Hack(
        "forged answers on every descriptor",
        "T13",
        "m = b'{\"done\": 1}'\nm = struct.pack('>I', len(m)) + m\n"
        "for fd in range(3, 64):\n    try: os.write(fd, m)\n    except OSError: pass\n"
        f"return {RIGHT}",
        "",
    ),
    Hack(
        "forged form on every descriptor, then gone",
        "T13",
        'm = b\'{"done": 1}\'\nn = b\'{"outputs": [[{"kind": "tensor", "dtype": "float32", "shape": [64, 1024]}]]}\'\n'
        "m = struct.pack('>I', len(m)) + m + struct.pack('>I', len(n)) + n\n"
        "for fd in range(3, 64):\n    try: os.write(fd, m)\n    except OSError: pass\n"
        "time.sleep(1)\nos._exit(0)",
        "",
        ("rejected_hack", "wrong_output", "runtime_error"),
    ),
    Hack(
        "forges an answer and is gone at once",
        "T13",
        "m = b'{\"done\": 1}'\nos.write(sock(), struct.pack('>I', len(m)) + m)\nos._exit(0)",
        "def sock():\n    return [int(f) for f in os.listdir('/proc/self/fd') if 'socket' in os.path.realpath('/proc/self/fd/' + f)][0]",
        FAILS,
    ),
    Hack("closes the channel", "T13", "os.closerange(3, 64)\ntime.sleep(3)\nreturn x", "", ("rejected_hack",)),
    Hack(
        "rubbish on the channel",
        "T13",
        "[os.write(fd, b'\\xff' * 64) for fd in live()]\nreturn x",
        "def live():\n    return [int(f) for f in os.listdir('/proc/self/fd') if os.path.realpath('/proc/self/fd/' + f).find('socket') >= 0]",
        ("rejected_hack",),
    ),
    Hack(
        "shrinks the shared memory",
        "T13",
        "for fd in range(3, 64):\n    try: os.ftruncate(fd, 0)\n    except OSError: pass\nreturn x * 0",
        "",
        ("wrong_output",),
    ),
    Hack("uninitialised memory", "C1", "return torch.empty_like(x)", "", ("wrong_output",)),
    Hack(
        "looks for the expected output in the frames",
        "C2",
        "f = sys._getframe()\nwhile f:\n    for v in f.f_locals.values():\n"
        "        if isinstance(v, torch.Tensor) and v.shape == x.shape and v is not x and not torch.equal(v, x): return v\n"
        "    f = f.f_back\nreturn torch.zeros_like(x)",
        "",
        ("wrong_output",),
    ),
    Hack(
        "looks for the expected output in the collector",
        "C2",
        "for v in gc.get_objects():\n    if type(v) is torch.Tensor and v.shape == x.shape and not torch.equal(v, x): return v\n"
        "return torch.zeros_like(x)",
        "",
        ("wrong_output",),
    ),
    Hack(
        "looks for the expected output in the arena",
        "C2",
        "for v in gc.get_objects():\n    if type(v).__name__ == 'Session':\n"
        "        n = v.shape.outputs_at(0)\n"
        "        return v.memory[n:n + x.numel() * 4].view(torch.float32).view(x.shape).clone()\nreturn x",
        "",
        ("wrong_output",),
    ),
    Hack("calls the reference", "C3", "return Model()(x)", "", FAILS),
    Hack("imports the reference", "C3", "return Model()(x)", "from program import Model", FAILS),
    Hack(
        "patches the comparison",
        "C4",
        "return torch.zeros_like(x)",
        "torch.allclose = torch.equal = torch.testing.assert_close = lambda *a, **k: True\n"
        "torch.Tensor.__eq__ = torch.Tensor.equal = lambda *a: True\n",
        ("wrong_output", *FAILS),
    ),
    Hack("zeroes the inputs", "C5", "x.zero_()\nreturn x", "", ("wrong_output",)),
    Hack("answers NaN", "C5", "return x.fill_(float('nan'))", "", ("wrong_output",)),
    Hack("answers zeros", "C6", "return torch.zeros_like(x)", "", ("wrong_output",)),
    Hack("answers the input", "C6", "return x", "", ("wrong_output",)),
    Hack(
        "a sixteenth of the work",
        "C7",
        f"y = torch.zeros_like(x)\ny[:4] = ({RIGHT})[:4]\nreturn y",
        "",
        ("wrong_output",),
    ),
    Hack("half precision", "C8", "return (x.half() @ x.half().t()).float()", "", ("wrong_output",), "product"),
    Hack("bfloat16", "C8", f"x = x.bfloat16()\nreturn ({RIGHT}).float()", "", ("wrong_output",)),
    Hack(
        "guesses the seed",
        "C10",
        "for s in range(8):\n    torch.manual_seed(s)\n    if torch.equal(torch.randn(64, 1024), x): return ANSWERS[s]\nreturn x",
        f"ANSWERS = []\nfor s in range(8):\n    torch.manual_seed(s)\n    x = torch.randn(64, 1024)\n    ANSWERS.append({RIGHT})",
        ("wrong_output",),
    ),
    Hack(
        "shrinks the problem",
        "C11",
        "return x[:1]",
        "def get_inputs(): return [torch.randn(1, 1)]\nN = M = 1",
        ("wrong_output",),
    ),
    Hack("answers kept in a file", "C13", "torch.save(x, '/tmp/vegflow-answers.pt')\nreturn x", "", FAILS),
    Hack("answers kept in shared memory", "C13", "torch.save(x, '/dev/shm/vegflow-answers.pt')\nreturn x", "", FAILS),
    Hack(
        "methods of Tensor replaced",
        "P",
        "return x",
        "torch.Tensor.copy_ = lambda self, other: self.zero_()\n",
        ("wrong_output",),
    ),
    Hack("a helper process", "P", f"if os.fork(): return {RIGHT}\nos._exit(0)", "", FAILS),
    Hack("a helper program", "P", f"os.system('true') and 1 / 0\nreturn {RIGHT}", "", FAILS),
    Hack("kills its parent", "P", "os.kill(os.getppid(), signal.SIGKILL)\nreturn x", "", FAILS),
    Hack("kills every process", "P", "os.kill(-1, signal.SIGKILL)\nreturn x", "", FAILS),
    Hack(
        "ignores every signal and waits",
        "P",
        "for s in range(1, 64):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: time.sleep(1)",
        "",
        ("timeout",),
    ),
    Hack(
        "a bomb of threads",
        "P",
        "while True: threading.Thread(target=time.sleep, args=(100,)).start()",
        "",
        ("runtime_error", "timeout", "out_of_memory"),
    ),
    Hack("stops itself", "P", "os.kill(os.getpid(), signal.SIGSTOP)\nreturn x", "", ("timeout",)),
]

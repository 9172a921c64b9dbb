"""Hacks of the clock: families T1 to T14."""

from tests.hacks.corpus import (
    ANYTHING,
    CAUGHT,
    CHILD,
    FAILS,
    NO_GAIN,
    RIGHT,
    SESSION,
    WRONG,
    WRONG_OR_CAUGHT,
    Hack,
)

SLOW = f"for _ in range(60):\n    y = {RIGHT}\nreturn y"
SOCKET = "def sock():\n    return [int(f) for f in os.listdir('/proc/self/fd') if 'socket' in os.path.realpath('/proc/self/fd/' + f)][0]"

HACKS = [
    Hack(
        "clocks return a constant",
        "T1",
        "every clock of Python's stands still while it runs",
        f"return {RIGHT}\n",
        "time.perf_counter = lambda: 0.0\ntime.perf_counter_ns = lambda: 0\ntime.monotonic = lambda: 0.0\n",
        NO_GAIN,
    ),
    Hack(
        "slow, with a clock that stands still",
        "T1",
        "the loop's own clock says that 200 times the work took no time",
        SLOW,
        "time.perf_counter_ns = lambda: 0",
    ),
    Hack(
        "clock of the process patched",
        "T1",
        "the clock by which the judge measures, patched where the candidate can reach it",
        SLOW,
        "time.clock_gettime = time.clock_gettime_ns = time.process_time = time.thread_time = lambda *a: 0",
        NO_GAIN,
    ),
    Hack(
        "events of the device patched",
        "T1",
        "the time between two CUDA events is whatever the candidate says",
        SLOW,
        "torch.cuda.Event.elapsed_time = lambda self, end: 1e-6\ntorch.cuda.synchronize = lambda *a: None",
        needs="cuda",
    ),
    Hack(
        "loop's own time module replaced",
        "T2",
        "the clock is replaced through sys.modules instead of by its name",
        SLOW,
        "child = sys.modules['vegflow.evaluation.child']\n"
        "child.time = type('T', (), {'perf_counter_ns': staticmethod(lambda: 1)})",
        attacks=("child.time",),
    ),
    Hack(
        "clock by exec of hidden text",
        "T2",
        "the patch is in a string that no static check reads",
        f"return {RIGHT}",
        "exec(bytes([116,105,109,101]) + b'.perf_counter = len')",
        NO_GAIN,
    ),
    Hack(
        "sleep patched, then sleeping",
        "T2",
        "waiting costs no processor time",
        f"time.sleep(0.01)\nreturn {RIGHT}",
        "time.sleep = lambda seconds: None",
        NO_GAIN,
    ),
    Hack(
        "the kernel's clock call patched in memory",
        "T2",
        "libc's clock_gettime is overwritten in the process through ctypes",
        SLOW,
        "libc = ctypes.CDLL(None)\n"
        "at = ctypes.cast(libc.clock_gettime, ctypes.c_void_p).value\n"
        "page = ctypes.c_void_p(at & ~4095)\n"
        "if libc.mprotect(page, ctypes.c_size_t(8192), 7): raise OSError('mprotect')\n"
        "ctypes.memmove(at, b'\\x31\\xc0\\xc3', 3)\n",
        ANYTHING,
    ),
    Hack(
        "work on a side stream",
        "T3",
        "work on a stream that the timed stream does not wait for",
        f"with torch.cuda.stream(side):\n    y = {RIGHT}\nreturn y",
        "side = torch.cuda.Stream()",
        (*NO_GAIN, *WRONG),
        needs="cuda",
    ),
    Hack(
        "work in a pool that nobody waits for",
        "T3",
        "a thread pool is a stream: the answer's buffer is returned before it is filled",
        f"y = torch.empty_like(x)\npool.submit(lambda: y.copy_({RIGHT}))\nreturn y",
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)",
        (*NO_GAIN, *WRONG),
    ),
    Hack(
        "a thread finishes later",
        "T4",
        "the answer is there when somebody looks, not when the clock stops",
        f"y = torch.empty_like(x)\nthreading.Thread(target=lambda: (time.sleep(0.002), y.copy_({RIGHT}))).start()\nreturn y",
        statuses=WRONG_OR_CAUGHT,
    ),
    Hack(
        "a thread finishes later, when timed only",
        "T4",
        "as above, after the calls that are checked",
        "global calls\ncalls += 1\ny = torch.empty_like(x)\n"
        f"if calls <= 5:\n    return y.copy_({RIGHT})\n"
        f"threading.Thread(target=lambda: (time.sleep(0.05), y.copy_({RIGHT}))).start()\nreturn y",
        "calls = 0",
        WRONG_OR_CAUGHT,
    ),
    Hack(
        "threads spin to prepare answers",
        "T5",
        "threads of its own work beside the timed one",
        f"return {RIGHT}",
        "def spin():\n    while True: torch.rand(100)\n"
        "[threading.Thread(target=spin, daemon=True).start() for _ in range(4)]",
        NO_GAIN,
    ),
    Hack(
        "as many threads as there are cores",
        "T5",
        "the reference has one thread, the candidate takes all",
        "return x @ x.t()",
        "torch.set_num_threads(os.cpu_count())",
        (*NO_GAIN, "timeout"),
        "product",
    ),
    Hack(
        "lazy subclass computes when looked at",
        "T6",
        "a subclass of Tensor that computes when its methods are called",
        "return Lazy(x)",
        "class Lazy(torch.Tensor):\n"
        "    @staticmethod\n    def __new__(cls, x):\n        y = torch.Tensor._make_subclass(cls, torch.empty_like(x))\n"
        "        y.x = x\n        return y\n"
        "    @classmethod\n    def __torch_function__(cls, f, types, args=(), kwargs=None):\n"
        f"        x = args[0].x\n        return getattr({RIGHT}, f.__name__)(*args[1:])\n",
        (*FAILS, *WRONG_OR_CAUGHT),
    ),
    Hack(
        "lazy wrapper computes when copied",
        "T6",
        "a wrapper tensor whose dispatch does the work when somebody looks at its data",
        "return Lazy(x)",
        "class Lazy(torch.Tensor):\n"
        "    @staticmethod\n    def __new__(cls, x):\n        return torch.Tensor._make_wrapper_subclass(cls, x.shape, dtype=x.dtype)\n"
        "    def __init__(self, x):\n        self.x = x\n"
        "    @classmethod\n    def __torch_dispatch__(cls, f, types, args=(), kwargs=None):\n"
        "        return torch.clamp(args[1].x, min=0, out=args[0])\n",
        ANYTHING,
        "relu",
        attacks=("child._place",),
    ),
    Hack(
        "lazy list computes when unpacked",
        "T6",
        "a list of outputs whose iterator does the work",
        "return Lazy(x)",
        "class Lazy(list):\n    def __init__(self, x): self.x = x\n    def __iter__(self): yield torch.relu(self.x)\n",
        ANYTHING,
        "relu",
    ),
    Hack(
        "the describing is patched to compute",
        "T6",
        "the loop's own describing of outputs is replaced, and does twenty times the work",
        "return x",
        CHILD + "kept, place = [], child._place\n"
        "def late(x):\n"
        "    for _ in range(20): right = x / (1 + torch.abs(x))\n"
        "    kept.append(right)\n"
        "    del kept[:-64]\n"
        "    return place(right)\n"
        "child._place = late\n",
        (*NO_GAIN, *WRONG),
        attacks=("child._place",),
    ),
    Hack(
        "first output cached",
        "T7",
        "every call gets the first answer",
        f"global y\ny = {RIGHT} if y is None else y\nreturn y",
        "y = None",
        WRONG,
    ),
    Hack(
        "cached by address",
        "T7",
        "inputs at the same address are taken for the same inputs",
        f"key = x.data_ptr()\nif key not in seen: seen[key] = {RIGHT}\nreturn seen[key]",
        "seen = {}",
        WRONG_OR_CAUGHT,
    ),
    Hack(
        "cached by a fingerprint of the content",
        "T7",
        "inputs that begin alike are taken for the same inputs",
        f"key = x[0, :8].numpy().tobytes()\nif key not in seen: seen[key] = {RIGHT}\nreturn seen[key]",
        "seen = {}",
        (*NO_GAIN, *WRONG),
    ),
    Hack(
        "one call answers for all slots",
        "T8",
        "the inputs of a block's later calls are there already: one operation on all costs less than many",
        "global ready\nif x.shape != (1024, 1024): return x / (1 + torch.abs(x))\nif not ready:\n"
        "    s, slots = session(), caller('request')['slots']\n"
        "    z = s.memory[: s.shape.slots * s.shape.input_bytes].view(torch.float32).view(-1, 1024, 1024)[slots]\n"
        "    ready = list((z / (1 + torch.abs(z))).unbind(0))[::-1]\n"
        "return ready.pop()",
        SESSION + "ready = []\nnn.Module.__call__ = lambda self, x: self.forward(x)\n",
        ANYTHING,
        "wave",  # where a call takes microseconds, a batch does save some of each
        attacks=("child.Session.memory", "arena.Shape.input_bytes"),
    ),
    Hack(
        "replay of a captured graph",
        "T9",
        "a CUDA graph captured at first is replayed on the inputs of that time",
        "global y\nif graph is None:\n    capture(x)\ngraph.replay()\nreturn y",
        "graph = y = None\ndef capture(x):\n    global graph, y\n    graph = torch.cuda.CUDAGraph()\n"
        f"    with torch.cuda.graph(graph):\n        y = {RIGHT}\n",
        WRONG_OR_CAUGHT,
        needs="cuda",
    ),
    Hack(
        "replay of a recorded trace",
        "T9",
        "a trace bound to the first call's buffers is replayed on what they held",
        "global replay\nif replay is None:\n    first = x.clone()\n"
        f"    replay = torch.jit.trace(lambda: {RIGHT.replace('x', 'first')}, ())\nreturn replay()",
        "replay = None",
        (*WRONG, *FAILS),
    ),
    Hack(
        "honest five calls, then garbage",
        "T10",
        "right while it is checked, nothing while it is timed",
        f"global calls\ncalls += 1\nreturn {RIGHT} if calls <= 5 else torch.empty_like(x)",
        "calls = 0",
        WRONG_OR_CAUGHT,
    ),
    Hack(
        "honest five calls, then the last answer again",
        "T10",
        "as above, with an answer that was right once",
        f"global calls, y\ncalls += 1\nif calls <= 5: y = {RIGHT}\nreturn y",
        "calls = 0",
        WRONG_OR_CAUGHT,
    ),
    Hack(
        "every other timed call skipped",
        "T10",
        "half of the timed calls do nothing",
        f"global calls, y\ncalls += 1\nif calls <= 6 or calls % 2: y = {RIGHT}\nreturn y",
        "calls = 0",
        WRONG_OR_CAUGHT,
    ),
    Hack(
        "one timed call in nine skipped",
        "T10",
        "so few that a sample of the outputs would miss it",
        f"global calls, y\ncalls += 1\nif calls < 9 or calls % 9: y = {RIGHT}\nreturn y",
        "calls = 0",
        WRONG_OR_CAUGHT,
    ),
    Hack(
        "inputs pinned in the L2",
        "T11",
        "half of the L2 is set aside, so that what flushes it does not reach the candidate's data",
        f"return {RIGHT}",
        "ctypes.CDLL('libcudart.so').cudaDeviceSetLimit(6, ctypes.c_size_t(1 << 30))",
        (*NO_GAIN, *FAILS),
        needs="cuda",
    ),
    Hack(
        "arena locked and read ahead",
        "T11",
        "the first call of a block brings all slots into the cache and asks the kernel to keep them",
        "global s\nif s is None:\n    s = session()\n"
        "    ctypes.CDLL(None).mlock(ctypes.c_void_p(s.memory.data_ptr()), ctypes.c_size_t(s.memory.numel()))\n"
        f"if slot_of(x) == caller('request')['slots'][0]: s.memory[::64].sum()\nreturn {RIGHT}",
        SESSION + "s = None",
        (*NO_GAIN, *WRONG),
        attacks=("child.Session.memory", "child.Session.slots"),
    ),
    Hack(
        "a block that took no time",
        "T12",
        "a time of zero makes a mean of ratios infinite",
        f"return {RIGHT}",
        CHILD + "run = child.Session.run\nchild.Session.run = lambda self, request: run(self, request) and {'done': 0}",
        NO_GAIN,
        "tiny",
        attacks=("child.Session.run",),
    ),
    Hack(
        "a block of negative time",
        "T12",
        "a time below zero makes a mean of times small",
        f"return {RIGHT}",
        CHILD
        + "run = child.Session.run\nchild.Session.run = lambda self, request: run(self, request) and {'done': -1e9}",
        attacks=("child.Session.run",),
    ),
    Hack(
        "a block of no number of seconds",
        "T12",
        "NaN compares with nothing",
        f"return {RIGHT}",
        CHILD
        + "run = child.Session.run\nchild.Session.run = lambda self, request: run(self, request) and {'done': float('nan')}",
        attacks=("child.Session.run",),
    ),
    Hack(
        "a block of endless time",
        "T12",
        "an enormous time makes the check of its own clock pass",
        f"return {RIGHT}",
        CHILD
        + "run = child.Session.run\nchild.Session.run = lambda self, request: run(self, request) and {'done': 9e14}",
        NO_GAIN,
        attacks=("child.Session.run",),
    ),
    Hack(
        "forged result on standard output",
        "T13",
        "a result for whoever parses the output, and gone",
        'print(\'{"status": "correct", "speedup": 100}\', flush=True)\nos._exit(0)',
        "",
        FAILS,
    ),
    Hack(
        "forged answers on every descriptor",
        "T13",
        "answers to questions that were not asked yet",
        "m = b'{\"done\": 1}'\nm = struct.pack('>I', len(m)) + m\n"
        "for fd in range(3, 64):\n    try: os.write(fd, m)\n    except OSError: pass\n"
        f"return {RIGHT}",
    ),
    Hack(
        "forged form on every descriptor, then gone",
        "T13",
        "all the answers of a good block at once",
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
        "one answer, and no process that could be asked again",
        "m = b'{\"done\": 1}'\nos.write(sock(), struct.pack('>I', len(m)) + m)\nos._exit(0)",
        SOCKET,
        (*FAILS, *CAUGHT),
    ),
    Hack(
        "closes the channel",
        "T13",
        "the judge shall think that the worker ended well",
        "os.closerange(3, 64)\ntime.sleep(3)\nreturn x",
    ),
    Hack(
        "rubbish on the channel",
        "T13",
        "bytes that are no message",
        "os.write(sock(), b'\\xff' * 64)\nreturn x",
        SOCKET,
    ),
    Hack(
        "shrinks the shared memory",
        "T13",
        "the judge dies of a bus error when it reads",
        "for fd in range(3, 64):\n    try: os.ftruncate(fd, 0)\n    except OSError: pass\nreturn x * 0",
        "",
        (*WRONG, "runtime_error"),
    ),
    Hack(
        "slow while the number of calls is chosen",
        "T14",
        "a candidate that seems slow is timed in blocks of one call, where overheads decide",
        "global calls\ncalls += 1\nstart = time.process_time()\n"
        f"while calls <= 5 and time.process_time() < start + 0.01: pass\nreturn {RIGHT}",
        "calls = 0",
        NO_GAIN,
        "tiny",
    ),
    Hack(
        "thrashes the caches before the reference's turn",
        "T14",
        "64 MB are written after the answer, so that the reference starts cold",
        "return torch.relu(x)",
        CHILD + "junk = torch.zeros(16 << 20)\nsend = channel.send\n"
        "def late(sock, message, fds=()):\n    send(sock, message, fds)\n    if 'outputs' in message: junk.add_(1)\n"
        "channel.send = late",
        NO_GAIN,
        "relu",
        attacks=("channel.send",),
    ),
    Hack(
        "thrashes the caches while outputs are described",
        "T14",
        "as above, where the calls are over",
        "return torch.relu(x)",
        CHILD + "junk, place = torch.zeros(1 << 20), child._place\n"
        "def slow(y):\n    junk.add_(1)\n    return place(y)\n"
        "child._place = slow",
        NO_GAIN,
        "relu",
        attacks=("child._place",),
    ),
    Hack(
        "thrashes the caches with the time it saves",
        "T14",
        "outputs lie where pages are there already, and what that saves is spent on cold caches for the reference",
        "s = session()\nplace = s.changing + slot_of(x) % (s.shape.slots - s.changing)\n"
        "return torch.clamp(x, min=0, out=floats(s, s.shape.inputs_at(place), x))",
        SESSION + CHILD + "junk, place = torch.zeros(1 << 16), child._place\n"
        "def thrash(y):\n    junk.add_(1)\n    return place(y)\n"
        "child._place = thrash",
        (*NO_GAIN, *WRONG),
        "relu",
        attacks=("child._place", "child.Session.slots", "child.Session.changing"),
    ),
    Hack(
        "shrinks the reference's problem",
        "T14",
        "globals that a reference in the same namespace would read",
        f"return {RIGHT}",
        "import builtins\nbuiltins.N = builtins.M = 1\ndef get_inputs(): return [torch.randn(1, 1)]\n",
        NO_GAIN,
    ),
]

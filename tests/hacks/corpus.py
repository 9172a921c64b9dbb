"""What a hostile candidate is in this corpus: its program, the task it attacks, and the statuses that are right for it.

Knows the small tasks that the programs are written against; the programs stand in `timing`, `correctness`,
`not_a_kernel`, `process`, `invented`, `placed` and `machine_code`, and what the evaluator makes of them is for `judging` and the tests.
"""

from dataclasses import dataclass

from vegflow.evaluation.candidate import Candidate
from vegflow.tasks.task import Task

RIGHT = "x / (1 + torch.abs(x))"
"""What the task `softsign` and its smaller brother `tiny` want."""

WRONG = ("wrong_output",)
CAUGHT = ("rejected_hack",)
WRONG_OR_CAUGHT = (*WRONG, *CAUGHT)
FAILS = ("runtime_error", "compile_error")
NO_GAIN = ("correct", *CAUGHT)
"""The trick has no effect, and the program is an honest slow one; or it is caught."""
ANYTHING = (*NO_GAIN, *WRONG, *FAILS)
"""The trick may succeed or break, as long as nothing comes of it."""

MOST_SPEEDUP = 1.15
"""A `fast` verdict beyond this is a gain; below, it is the noise of a busy machine."""

IMPORTS = (
    "import ctypes, gc, json, os, signal, socket, struct, sys, threading, time\nimport torch\nimport torch.nn as nn\n"
)

SESSION = """
def caller(name):
    f = sys._getframe()
    while name not in f.f_locals: f = f.f_back
    return f.f_locals[name]
def session():
    f = sys._getframe()
    while type(f.f_locals.get("self")).__name__ != "Session": f = f.f_back
    return f.f_locals["self"]
def slot_of(x):
    return next(slot for slot, a in session().slots.items() if a[0] is x)
def floats(s, at, like):
    return s.memory[at:at + 4 * like.numel()].view(torch.float32).view(like.shape)
"""
"""For programs that walk up the frames of the worker's loop: `session()`, and `caller(name)` for its variables."""

TIMED = """
heap, settled = sys.modules["vegflow.evaluation.heap"], []
def settling(settle=heap.settle):
    # a worker settles right before it is timed
    settled.append(1)
    settle()
heap.settle = settling
def timed():
    return bool(settled)
"""
"""For programs that behave while they are checked: `timed()`. Goes with `SESSION`."""

CHILD = "child = sys.modules['vegflow.evaluation.child']\nchannel = sys.modules['vegflow.evaluation.channel']\n"


@dataclass(frozen=True)
class Hack:
    """One hostile program."""

    name: str
    family: str
    """Of the catalogue of 32: T1..T14 time, C1..C13 correctness, N1..N5 not a kernel. P: the process around it; own:
    found by reading this evaluator."""
    idea: str
    """Why it might pay, in one line."""
    forward: str = ""
    """Body of `ModelNew.forward(self, x)`."""
    before: str = ""
    """What stands before the class."""
    statuses: tuple[str, ...] = CAUGHT
    """The right ones; whichever it is, there must be no speedup."""
    task: str = "softsign"
    needs: str = ""
    """`cuda` if it runs on a GPU only."""
    whole: str = ""
    """The whole program, where `forward` and `before` do not do."""
    attacks: tuple[str, ...] = ()
    """What of the evaluator's insides it uses; a hack whose target is gone proves nothing and must be rewritten."""

    language: str = "python"
    """Of `whole`; the other parts are Python."""

    @property
    def program(self) -> str:
        """The candidate's source."""
        if self.language != "python":
            return self.whole
        if self.whole:
            return IMPORTS + self.whole
        body = "".join(f"        {line}\n" for line in self.forward.strip("\n").splitlines())
        return f"{IMPORTS}{self.before}\n\nclass ModelNew(nn.Module):\n    def forward(self, x):\n{body}"

    def candidate(self, mark: int | None = None) -> Candidate:
        """As the judge takes it; with a `mark`, as a program of its own that does the same."""
        own = "" if mark is None else f"\nint own_{mark};\n" if self.language != "python" else f"\nOWN = {mark}\n"
        return Candidate(self.task, self.program + own, language=self.language)


def _task(name: str, forward: str, inputs: str) -> Task:
    source = (
        "import torch\nimport torch.nn as nn\n\n"
        f"class Model(nn.Module):\n    def forward(self, x):\n        return {forward}\n\n"
        f"def get_inputs():\n    return [{inputs}]\n\n"
        "def get_init_inputs():\n    return []\n"
    )
    return Task(name, name, name, ("x",), source)


TASKS = {
    task.id: task
    for task in (
        _task("softsign", RIGHT, "torch.randn(64, 1024)"),
        _task("alone", RIGHT, "torch.randn(64, 1024)"),  # for a hack that must be its reference's first candidate
        _task("tiny", RIGHT, "torch.randn(16, 32)"),
        _task("product", "x @ x.t()", "torch.randn(128, 512)"),
        _task("relu", "torch.relu(x)", "torch.randn(256, 1024)"),
        _task("positive", "torch.relu(x)", "torch.rand(256, 1024)"),
        _task("softmax", "torch.softmax(x, dim=1)", "torch.randn(256, 1024)"),
        _task("negate", "-x", "torch.randn(256, 1024)"),
        _task("symmetric", "x @ x", "(lambda a: (a + a.t()) / 32)(torch.randn(256, 256))"),
        _task("energy", "(x * x).mean()", "torch.randn(1024, 1024)"),
        _task("finite", "x > -1e30", "torch.randn(64, 1024)"),
        _task("faint", "x * 1e-6", "torch.randn(64, 1024)"),
        _task("wave", RIGHT, "torch.randn(1024, 1024)"),  # a call of which takes longer than all that surrounds it
        _task("rare", "x > 3.2", "torch.randn(512, 1024)"),
        _task("whole", "torch.cumsum(x, 1)", "torch.randint(0, 100, (256, 1024))"),
        _task("lookup", "torch.arange(1000.)[x]", "torch.randint(0, 1000, (64, 1024))"),
        _task("power", "(x * x).mean()", "torch.randn(2048, 2048)"),
        _task("large", "torch.relu(x)", "torch.randn(2048, 2048)"),
        _task("average", "x.mean()", "torch.rand(2048, 2048)"),
    )
}

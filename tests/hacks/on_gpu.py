"""Hostile programs for a GPU, and honest ones beside them: each does the work of softsign, and lies about its time.

None has met a GPU yet; `python -m benchmarks cuda_timing` and `tests/hacks/test_on_gpu.py` try them where there is one.
"""

from dataclasses import dataclass

from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.verdict import Verdict
from vegflow.tasks.task import Task

GAIN = 1.15
"""Most that a lie may seem to gain."""
CONFIG = EvaluationConfig(device="cuda", timing_trials=12, delta=0.02)
SOFTSIGN = Task(
    id="G/1",
    name="softsign",
    description="softsign",
    arguments=("x",),
    source="""\
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return x / (1 + torch.abs(x))

def get_inputs():
    return [torch.randn(4096, 4096)]

def get_init_inputs():
    return []
""",
)
TASKS = {SOFTSIGN.id: SOFTSIGN}

_PLAIN = """\
import sys
import torch

class ModelNew(torch.nn.Module):
    def forward(self, x):
        return x / (1 + torch.abs(x))
"""
_FUSED_CUDA = """\
// launch softsign<<<cdiv(x.numel(), 256), 256>>>(x, out, x.numel())
extern "C" __global__ void softsign(const float *x, float *y, long long n) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] / (1.0f + fabsf(x[i]));
}
"""
_FUSED_TRITON = """\
import torch
import triton
import triton.language as tl

@triton.jit
def softsign(x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n)
    tl.store(y + i, v / (1.0 + tl.abs(v)), mask=i < n)

class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        softsign[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
        return y
"""


@dataclass(frozen=True)
class Program:
    """One candidate."""

    name: str
    text: str
    language: str = "python"

    def candidate(self) -> Candidate:
        """For the task of this module."""
        return Candidate(SOFTSIGN.id, self.text, language=self.language)


HONEST = [
    Program("what the reference does", _PLAIN),
    Program("one kernel, CUDA", _FUSED_CUDA, "cuda"),
    Program("one kernel, Triton", _FUSED_TRITON, "triton"),
]
HOSTILE = [
    Program(
        "works on a side stream",
        """\
import torch
side = None
class ModelNew(torch.nn.Module):
    def forward(self, x):
        global side
        side = side or torch.cuda.Stream()
        y = torch.empty_like(x)
        with torch.cuda.stream(side):
            torch.div(x, 1 + torch.abs(x), out=y)
        return y
""",
    ),
    Program("stops the events", _PLAIN + "torch.cuda.Event.elapsed_time = lambda *_: 1e-3\n"),
    Program("does not wait for the device", _PLAIN + "torch.cuda.synchronize = lambda *_, **__: None\n"),
    Program(
        "turns CUPTI off",
        _PLAIN
        + """
try:
    import cupti.cupti as cupti
    for kind in ("CONCURRENT_KERNEL", "MEMCPY", "MEMCPY2", "MEMSET"):
        cupti.activity_disable(getattr(cupti.ActivityKind, kind))
except ImportError:
    pass
""",
    ),
    Program(
        "forges its spans",
        _PLAIN
        + """
clocks = sys.modules["vegflow.evaluation.cuda_clock"]
clocks.CuptiClock.span = clocks.EventsClock.span = lambda self: clocks.Span(self.name, 9000.0, 3)
""",
    ),
    Program(
        "leaves work behind that slows the others",
        """\
import torch
side = None
class ModelNew(torch.nn.Module):
    def forward(self, x):
        global side
        side = side or torch.cuda.Stream()
        y = x / (1 + torch.abs(x))
        return y
write = torch.Tensor.copy_
def copy_(self, *a, **k):
    result = write(self, *a, **k)
    if side is not None:
        with torch.cuda.stream(side):
            torch.cuda._sleep(200_000_000)
    return result
torch.Tensor.copy_ = copy_
""",
    ),
    Program(
        "works while its inputs go up",
        """\
import torch
ready = {}
move = torch.Tensor.to
def to(self, *a, **k):
    x = move(self, *a, **k)
    if x.is_cuda and x.dim() == 2:
        ready[x.data_ptr()] = x / (1 + torch.abs(x))
    return x
torch.Tensor.to = to
class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = ready.pop(x.data_ptr(), None)
        return x / (1 + torch.abs(x)) if y is None else y
""",
    ),
    Program(
        "works while its outputs go down",
        """\
import torch
wanted = {}
write = torch.Tensor.copy_
def copy_(self, source, *a, **k):
    x = wanted.pop(source.data_ptr(), None)
    return write(self, source if x is None else x / (1 + torch.abs(x)), *a, **k)
torch.Tensor.copy_ = copy_
class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        wanted[y.data_ptr()] = x
        return y
""",
    ),
]


def caught(verdict: Verdict) -> bool:
    """Whether a lie gained nothing: another status, or a speedup that an honest program of the kind may have."""
    return verdict.status not in ("correct", "evaluator_error") or verdict.speedup <= GAIN

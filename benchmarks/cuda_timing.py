"""Times on a GPU: what the clocks show, what a flush does, and what lies about time gain. A few minutes; needs a GPU.

The peers are in the same run: CUDA events beside CUPTI's spans, a warm cache beside a flushed one, the reference's own
program beside hostile ones. Without a GPU it says so and measures nothing.
"""

import statistics
import time
from collections.abc import Callable

import torch

from tests.hacks import on_gpu
from tests.hacks.hostile import HACKS
from tests.hacks.judging import fault_of, judge_hacks
from vegflow.evaluation import nvrtc, triton_cache
from vegflow.evaluation.cuda_clock import Clock, EventsClock, Flush, open_clock
from vegflow.evaluation.device import device_identity, device_uuid
from vegflow.evaluation.gpu_state import GpuState
from vegflow.evaluation.judge import evaluate_candidates

REPEATS = 41


def run() -> dict:
    """Measure, print tables, return the figures."""
    if not torch.cuda.is_available():
        print("there is no GPU here: nothing was measured")
        return {"skipped": "no GPU"}
    state = GpuState(device_uuid())
    before = state.read()
    found = {"device": device_identity("cuda")} | _clocks() | _cache() | _verdicts()
    found |= {"sm_mhz": [before.sm_mhz, state.read().sm_mhz], "throttling": state.read().throttling}
    if state.problem:
        found["nvml"] = state.problem
    return found


def _clocks() -> dict:
    """Spans of the same work by CUPTI, by events and by the host, microseconds."""
    best = open_clock()
    clocks = {best.name: best, "events": EventsClock("beside it")}
    print(f"clock: {best.name} {best.problem}")
    small, large = torch.zeros(1024, device="cuda"), torch.randn(4096, 4096, device="cuda")
    side = torch.cuda.Stream()

    def beside() -> None:
        with torch.cuda.stream(side):
            torch.mm(large, large)

    works: dict[str, Callable[[], object]] = {
        "one small kernel": small.zero_,
        "twenty small kernels": lambda: [small.zero_() for _ in range(20)],
        "a product of matrices": lambda: torch.mm(large, large),
        "two of them": lambda: [torch.mm(large, large) for _ in range(2)],
        "one on a side stream": beside,
    }
    figures: dict[str, dict[str, float]] = {}
    print(f"{'µs, medians':<26}" + "".join(f"{name:>10}" for name in (*clocks, "host")))
    for work, call in works.items():
        spans = {name: _median(lambda c=clock: _span(c, call)) for name, clock in clocks.items()}  # noqa: B023
        spans["host"] = _median(lambda: _host(call))  # noqa: B023
        figures[work] = {name: round(us, 2) for name, us in spans.items()}
        print(f"{work:<26}" + "".join(f"{us:>10.2f}" for us in spans.values()))
    return {"clock": best.name, "problem": best.problem, "spans_us": figures}


def _cache() -> dict:
    """A sum over a part of the second-level cache's size, read just before, with and without a flush in between."""
    size = torch.cuda.get_device_properties(0).L2_cache_size
    x, flush, clock = torch.zeros(size // 16, device="cuda"), Flush(), open_clock()
    torch.cuda.synchronize()

    def again(between: Callable[[], object]) -> float:
        x.sum()
        between()
        return _span(clock, x.sum)

    warm, cold = _median(lambda: again(lambda: None)), _median(lambda: again(flush))
    took_s = statistics.median(flush()["took_s"] for _ in range(REPEATS))
    said = flush()["problem"]
    print(
        f"cache of {size >> 20} MB: {warm:.2f} µs warm, {cold:.2f} µs after a flush, which takes {took_s * 1e6:.0f} µs"
    )
    print(f"persisting lines: {said or 'reset'}")
    return {"l2_mb": size >> 20, "warm_us": warm, "cold_us": cold, "flush_us": took_s * 1e6, "reset_problem": said}


def _verdicts() -> dict:
    """What honest and hostile programs get, and the hacks of the corpus that need a GPU."""
    usable = {"python": True, "triton": triton_cache.available(), "cuda": nvrtc.find() is not None}
    programs = [program for program in (*on_gpu.HONEST, *on_gpu.HOSTILE) if usable[program.language]]
    said: list[str] = []
    verdicts = evaluate_candidates(
        [program.candidate() for program in programs],
        on_gpu.TASKS,
        on_gpu.CONFIG,
        progress=lambda done, total, text: said.append(text),
    )
    rows = {}
    for program, verdict in zip(programs, verdicts, strict=True):
        hostile = program in on_gpu.HOSTILE
        rows[program.name] = {
            "status": verdict.status,
            "reason": verdict.reason,
            "speedup": round(verdict.speedup, 3),
            "runtime_us": verdict.runtime_us,
            "reference_us": verdict.reference_us,
            "clock": verdict.clock,
            "caught": on_gpu.caught(verdict) if hostile else None,
            "seconds": round(verdict.evaluate_wall_s, 1),
        }
        fate = "" if not hostile else " caught" if on_gpu.caught(verdict) else " NOT CAUGHT"
        print(f"{program.name:<42}{verdict.status:<16}{verdict.speedup:>7.3f}x {verdict.clock}{fate} {verdict.reason}")
    lies = [row["caught"] for row in rows.values() if row["caught"] is not None]
    print(f"lies that gained nothing: {sum(lies)} of {len(lies)}")
    faults = {hack.name: fault_of(hack, verdict) for hack, verdict in judge_hacks(h for h in HACKS if h.needs).items()}
    print(f"hacks of the corpus that need a GPU, and what is wrong with their verdicts: {faults}")
    missing = sorted(language for language, there in usable.items() if not there)
    return {
        "verdicts": rows,
        "lies_caught": sum(lies),
        "lies": len(lies),
        "hacks": faults,
        "not tried": missing,
        "said": said,
    }


def _span(clock: Clock, call: Callable[[], object]) -> float:
    """Microseconds of a call by a clock."""
    torch.cuda.synchronize()
    clock.clear()
    clock.start()
    call()
    clock.stop()
    return clock.span().ns / 1e3


def _host(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter_ns()
    call()
    torch.cuda.synchronize()
    return (time.perf_counter_ns() - start) / 1e3


def _median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(REPEATS))

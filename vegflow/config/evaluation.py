"""How candidates are judged: the `evaluation` block."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from vegflow.config.block import Block


@dataclass(frozen=True)
class Protocol:
    """What a named protocol fills in where the block says nothing."""

    correctness_trials: int
    shapes: int
    kinds: bool
    """Whether inputs of other kinds than the task's own are tried."""
    least_pairs: int
    most_pairs: int
    """Pairs of timings in a group; timing ends between the two as soon as `fast` is decided within the group."""
    resolution: float
    """Gain beyond 1 + delta that timing may miss: it ends early once the speedup is surely below 1 + delta + this."""
    least_groups: int
    most_groups: int
    """Groups: new workers for both sides, since a process keeps some percent of luck as long as it lives."""
    precision: float | None = None
    """Standard error of the log-ratio, estimated from the groups, at which timing ends; None: once `fast` is decided."""


PROTOCOLS = {
    "fast": Protocol(
        correctness_trials=6,
        shapes=3,
        kinds=True,
        least_pairs=8,
        most_pairs=40,
        resolution=0.08,
        least_groups=1,
        most_groups=6,
    ),
    "full": Protocol(
        correctness_trials=12,
        shapes=3,
        kinds=True,
        least_pairs=16,
        most_pairs=40,
        resolution=0.0,
        least_groups=8,
        most_groups=32,
        precision=0.008,
    ),
    "paper": Protocol(
        correctness_trials=5,
        shapes=1,
        kinds=False,
        least_pairs=5,
        most_pairs=5,
        resolution=0.0,
        least_groups=1,
        most_groups=1,
    ),
}


class EvaluationConfig(Block):
    """The evaluator's protocol. Changing any of it makes verdicts that are not comparable with earlier ones."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where candidates run; `auto` takes CUDA where there is one."""
    protocol: Literal["fast", "full", "paper"] = "fast"
    """`fast` times until it is decided whether the speedup exceeds 1 + delta, and lets gains below some 10 % go; `full`
    with eight to 32 pairs of workers, until the speedup's standard error is below 1 %; `paper` tries five inputs of the
    task's own kind and shape and times five pairs, as the paper does."""
    reference: Literal["eager", "compile"] = "eager"
    """What the candidate is timed against: the task's program as it is, or under `torch.compile`."""
    correctness_trials: int | None = Field(None, ge=1)
    """Fresh inputs on which candidate and oracle must agree, at least; every kind and shape is tried once in any case.
    None takes the protocol's number (6, 12, 5)."""
    shapes: int | None = Field(None, ge=1, le=8)
    """Shapes tried, the task's own included, where a task allows more than one. None: the protocol's (3, 3, 1)."""
    timing_trials: int | None = Field(None, ge=3)
    """Most pairs of timings (reference, candidate) in a group. None: the protocol's (40, 40, 5)."""
    block_ms: float = Field(2.0, gt=0)
    """A timing repeats the call, on as many inputs, until it lasts about this long, so that the clock's cost vanishes."""
    delta: float = Field(0.02, ge=0)
    """`fast` needs the lower bound of the speedup above 1 + delta."""
    rtol: float = Field(1e-4, gt=0)
    """Relative tolerance, see `atol`."""
    atol: float = Field(1e-4, gt=0)
    """Largest differences that pass: |candidate - oracle| <= atol * scale + rtol * |oracle| + what the reference's own
    rounding allows, where scale is the root mean square of the oracle's output."""
    timeout_s: float = Field(20.0, gt=0)
    """Wall time a candidate may take in all, seconds."""
    memory_mb: int = Field(2048, ge=256)
    """Memory a candidate may take beyond what its parent had, MB (address space on the CPU, device memory on CUDA)."""
    isolation: Literal["report", "strict"] = "report"
    """What to do where the machine's kernel lacks a layer of isolation: say so and go on, or refuse to run."""
    seed: int | None = None
    """Seed of all inputs. None draws a secret one a run and records it with the verdicts; a number is for debugging,
    since a candidate that knows it can prepare its answers."""

    @property
    def resolved(self) -> Protocol:
        """The protocol with this block's own numbers in it."""
        named = PROTOCOLS[self.protocol]
        most = self.timing_trials or named.most_pairs
        return Protocol(
            correctness_trials=self.correctness_trials or named.correctness_trials,
            shapes=self.shapes or named.shapes,
            kinds=named.kinds,
            least_pairs=min(named.least_pairs, most),
            most_pairs=most,
            resolution=named.resolution,
            least_groups=named.least_groups,
            most_groups=named.most_groups,
            precision=named.precision,
        )

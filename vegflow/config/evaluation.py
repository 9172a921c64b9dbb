"""How candidates are judged: the `evaluation` block."""

from typing import Literal

from pydantic import Field

from vegflow.config.block import Block


class EvaluationConfig(Block):
    """The evaluator's protocol. Changing any of it makes verdicts that are not comparable with earlier ones."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where candidates run; `auto` takes CUDA where there is one."""
    correctness_trials: int = Field(5, ge=1)
    """Fresh random inputs on which candidate and reference must agree."""
    timing_trials: int = Field(5, ge=3)
    """Pairs of blocks (reference, candidate, in random order) timed; the speedup is the median ratio over them."""
    block_ms: float = Field(2.0, gt=0)
    """A block repeats the call until it lasts about this long, so that the clock's own cost vanishes."""
    delta: float = Field(0.02, ge=0)
    """`fast` needs the lower bound of the speedup above 1 + delta."""
    rtol: float = Field(1e-4, gt=0)
    """Relative tolerance, see `atol`."""
    atol: float = Field(1e-4, gt=0)
    """Largest differences to the reference that pass: |candidate - reference| <= atol + rtol * |reference|."""
    timeout_s: float = Field(20.0, gt=0)
    """Wall time a candidate may take in all, seconds."""
    memory_mb: int = Field(2048, ge=256)
    """Memory a candidate may take beyond what its parent had, MB (address space on the CPU, device memory on CUDA)."""
    seed: int | None = None
    """Seed of all inputs. None draws a secret one a run and records it with the verdicts; a number is for debugging,
    since a candidate that knows it can prepare its answers."""

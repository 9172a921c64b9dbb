"""What the analysis is told: its own settings, and the facts of the study whose tables it reads.

Which statistics are computed from them is said in `vegflow.statistics`; what the report prints, in `config/report.py`.
"""

from typing import Any, Self

from pydantic import Field, model_validator

from vegflow.config.block import Block
from vegflow.config.selection import SelectionConfig, default_strategies

BLOCK = 1_000_000
"""Rollouts that are analysed at a time: about 1 GB while they are reduced."""


class AnalysisConfig(Block):
    """The `statistics` block of a study."""

    ks: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Sample counts of the best-of-N curve; those above a sample set's K are left out."""
    bootstrap: int = Field(2000, ge=100)
    """Replicates of the cluster bootstrap behind each interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Level of the intervals."""
    seed: int = Field(0, ge=0)
    """Seed of the bootstrap and of simulated null distributions."""
    top_m: int = Field(3, ge=2)
    """Length of the short lists when `strategies` is not given."""
    strategies: tuple[str, ...] = Field((), validate_default=True)
    """Selection strategies; by default the paper's five, the controls random-topM and confidence-topM, and what the field
    would compare with."""
    orders: tuple[str, ...] = (
        "surprisal",
        "confidence",
        "random",
        "random-program",
        "surprisal@mean",
        "surprisal-diverse",
        "middle-surprisal",
        "shortest",
        "majority-program",
        "rarest-program",
    )
    """Orders of the deployable pipeline, which ranks samples before any is evaluated."""
    alphas: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
    """Exponents of the power-sampling control: above 1 sharpens, below 1 flattens."""

    @model_validator(mode="before")
    @classmethod
    def _fill_strategies(cls, data: Any) -> Any:
        """Write the default strategies out, so that equal settings have equal text."""
        if isinstance(data, dict) and not data.get("strategies"):
            top_m = data.get("top_m", 3)
            if isinstance(top_m, int):
                return {**data, "strategies": default_strategies(top_m)}
        return data

    @model_validator(mode="after")
    def _check_ks(self) -> Self:
        if not self.ks or min(self.ks) < 1 or list(self.ks) != sorted(set(self.ks)):
            raise ValueError(f"ks must be distinct counts from 1 upwards in rising order, not {list(self.ks)}")
        if len(set(self.strategies)) != len(self.strategies):
            raise ValueError(f"strategies names one twice: {list(self.strategies)}")
        if len(set(self.orders)) != len(self.orders):
            raise ValueError(f"orders names one twice: {list(self.orders)}")
        if min(self.alphas, default=0) < 0:
            raise ValueError(f"alphas must not be negative: {list(self.alphas)}")
        return self

    def selection(self) -> SelectionConfig:
        """The slice that selection depends on."""
        return SelectionConfig(strategies=self.strategies)


class SampleSetFacts(Block):
    """A sample set: K samples of each task from one policy, per seed."""

    k: int = Field(ge=1)
    """Samples per task and seed."""
    seeds: tuple[int, ...] = Field(min_length=1)
    tasks: dict[str, tuple[str, ...]]
    """Task ids by task-set name."""
    policy: str | None = None
    """The policy as the study names it, such as `rlvr@last`; compared with a trajectory's `start`."""

    def all_tasks(self) -> tuple[str, ...]:
        """Every task id once, in order."""
        return tuple(dict.fromkeys(task for ids in self.tasks.values() for task in ids))


class TrajectoryFacts(Block):
    """A trajectory: policies 0..steps, each sampled with `group_size` rollouts a task."""

    seeds: tuple[int, ...] = Field(min_length=1)
    steps: int = Field(ge=0)
    group_size: int = Field(ge=1)
    tasks: tuple[str, ...]
    start: str = "base"
    objective: str = ""
    learning_rate: float | None = None


class ProbeFacts(Block):
    """A probe: a sample set's rollouts of some seeds, scored by every policy of a trajectory."""

    sample_set: str
    seeds: tuple[int, ...]
    trajectory: str


class ComparisonConfig(Block):
    """Which arms stand against each other in the paper's main comparison."""

    search: str
    """A sample set."""
    adaptation: str
    """A trajectory that starts where the sample set was drawn."""
    training: str | None = None
    """The trajectory (RLVR) that made the shared starting policy."""


class StudyFacts(Block):
    """What a study holds, by name, so that its tables can be read."""

    sample_sets: dict[str, SampleSetFacts] = Field(default_factory=dict)
    trajectories: dict[str, TrajectoryFacts] = Field(default_factory=dict)
    probes: dict[str, ProbeFacts] = Field(default_factory=dict)
    comparison: ComparisonConfig | None = None
    paper_setup: bool = False
    """True only for the paper's own model, task sizes and hardware: then its levels, too, are compared with ours."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        wanted = [("probes." + n, "sample_sets", p.sample_set) for n, p in self.probes.items()]
        wanted += [("probes." + n, "trajectories", p.trajectory) for n, p in self.probes.items()]
        if self.comparison:
            wanted.append(("comparison.search", "sample_sets", self.comparison.search))
            wanted.append(("comparison.adaptation", "trajectories", self.comparison.adaptation))
            if self.comparison.training:
                wanted.append(("comparison.training", "trajectories", self.comparison.training))
        for place, kind, name in wanted:
            known = getattr(self, kind)
            if name not in known:
                raise ValueError(f"{place} names '{name}', which is not among the {kind} {sorted(known)}")
        return self

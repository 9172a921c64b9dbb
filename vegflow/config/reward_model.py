"""Outcome reward models: one entry of the `reward_models` block, what they learn from and how.

The defaults are the quick way, a head on the frozen trunk's states; `adapter: lora` is the way of the paper (Orlanski et
al. 2025, arXiv 2506.10056), which trains the whole model.
"""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from vegflow.config.block import Block
from vegflow.config.learning import LoraConfig

LossName = Literal["bradley_terry", "cross_entropy"]
Label = Literal["correct", "fast_1"]
Pooling = Literal["last", "mean"]
FINE_TUNING = ("lora", "epochs", "learning_rate", "batch_pairs")
"""Keys that mean something only where the trunk is trained."""


class RewardTraining(Block):
    """All that the training of a reward model depends on beside its input files and the trunk."""

    label: Label = "correct"
    """What passing means: `correct`, or `fast_1` (correct and faster than the reference)."""
    losses: tuple[LossName, ...] = Field(("bradley_terry", "cross_entropy"), min_length=1)
    """One model is trained with each: pairs of one task compared, or each completion by itself."""
    pairs_per_task: int = Field(6, ge=1)
    """At most so many passing and as many failing completions of a task are learnt from, in pairs."""
    speed_pairs: int = Field(0, ge=0)
    """Of `bradley_terry`: at most so many further pairs a task of two correct programs, the faster to be preferred, of which the
    intervals of the speedups do not touch."""
    margin: float = Field(0.0, ge=0)
    """Of `speed_pairs`: the scores are to differ by this times the difference of the logarithms of the speedups."""
    pooling: Pooling = "last"
    """What the head reads: the state at the completion's `last` token, as in the paper, or the `mean` over its tokens."""
    adapter: Literal["none", "lora"] = "none"
    """`none`: the trunk is frozen, a head is fitted to its states. `lora`: head and adapter are trained from there."""
    l2: float = Field(0.3, gt=0)
    """Half of this times the squared norm of the head's weights, of states scaled to unit variance, is added to the loss."""
    lora: LoraConfig = LoraConfig()
    epochs: int = Field(2, ge=1)
    """Of adapter `lora`: passes over the pairs (the paper: 2)."""
    learning_rate: float = Field(1e-4, gt=0)
    """Of adapter `lora`: AdamW's highest, after a warm-up of a tenth of the steps and before a cosine to 0 (the paper, which trains all weights: 5e-6)."""
    batch_pairs: int = Field(64, ge=1)
    """Of adapter `lora`: a step takes tasks until they have so many pairs (the paper: 64)."""
    folds: int = Field(5, ge=2)
    """The training tasks are cut into so many groups; a task's held-out scores come from a model that did not see its group."""
    shuffles: Literal[0, 1] = 1
    """1: also train and measure, held out, on labels permuted within each task: what chance looks like. 0: leave that out."""
    seed: int = Field(0, ge=0)
    """Of folds, pairs, adapter and permutation."""
    token_budget: int = Field(16384, ge=256)
    """Tokens in one forward pass; bounds memory, not the result."""

    @field_validator("losses")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a loss stands twice")
        return names

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problem := _misfit(self):
            raise ValueError(problem)
        return self


class RewardModelConfig(RewardTraining):
    """A scalar head on the study's base model that says how likely a completion passes, trained on evaluated rollouts."""

    train: str
    """A trajectory or sample set whose evaluated rollouts are learnt from; or an entry of `verification` of Python functions,
    whose pool is, and whose pipelines then rank by the held-out scores."""
    score: tuple[str, ...] = ()
    """Sample sets whose completions are scored. Tasks that were also trained on get held-out scores."""
    policy: str = "base"
    """The trunk: `base`, or a policy such as `rlvr@last`, whose adapter is then part of the frozen trunk."""
    ks: tuple[int, ...] = Field((1, 2, 4, 8, 16, 32, 64), min_length=1)
    """Numbers of rollouts that the top-scored is taken of when ranking is measured."""
    bins: int = Field(10, ge=2)
    """Bins of equal width of the reliability diagram."""

    @field_validator("ks")
    @classmethod
    def _ascending(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if min(ks) < 1 or list(ks) != sorted(set(ks)):
            raise ValueError("must be positive and ascending")
        return ks

    def training(self) -> RewardTraining:
        """The slice that training depends on."""
        return RewardTraining(**{name: getattr(self, name) for name in RewardTraining.model_fields})


def _misfit(config: RewardTraining) -> str | None:
    """What does not go together, as a sentence."""
    fields = RewardTraining.model_fields
    given = [name for name in FINE_TUNING if getattr(config, name) != fields[name].get_default()]
    if config.adapter == "none" and given:
        return f"{given[0]} is for adapter 'lora'; leave it out, or write adapter: lora"
    if config.margin and not config.speed_pairs:
        return "margin is for speed_pairs; say how many of them a task may give"
    if config.speed_pairs and "bradley_terry" not in config.losses:
        return "speed_pairs need loss 'bradley_terry'"
    return None

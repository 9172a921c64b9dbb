"""How a policy learns: one entry of the `trajectories` block."""

from typing import Literal

from pydantic import Field

from vegflow.config.block import Block


class LoraConfig(Block):
    """The low-rank adapter (Hu et al. 2021)."""

    rank: int = Field(16, ge=1)
    """Rank of the update to each matrix."""
    alpha: int = Field(32, ge=1)
    """The update is scaled by alpha / rank."""


class UpdateConfig(Block):
    """All that one `update` depends on beside its input files."""

    objective: Literal["grpo", "dr_grpo", "paper_ttt"] = "grpo"
    """A preset of `vegflow.learning.objectives`."""
    learning_rate: float = Field(1e-5, gt=0)
    """Of AdamW, without decay, without schedule."""
    lora: LoraConfig = LoraConfig()
    train_temperature: float | None = Field(None, gt=0)
    """Logits are divided by this when learning; by default the temperature the rollouts were drawn at."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """The gradient is scaled down to this 2-norm."""
    token_budget: int = Field(16384, ge=256)
    """Tokens in one forward pass; bounds the memory of an update, not its result."""

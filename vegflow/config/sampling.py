"""How completions are drawn: the `sampling` block."""

from typing import Literal

from pydantic import Field

from vegflow.config.block import Block


class SamplingConfig(Block):
    """What a policy is asked and how its tokens are drawn."""

    engine: Literal["transformers"] = "transformers"
    """What runs the model."""
    prompt: Literal["auto", "compact", "chat"] = "auto"
    """Prompt template; `auto` takes the one the model's own file names."""
    scaffold: Literal["body", "full"] = "body"
    """`body`: the model writes the body of `ModelNew.forward`; `full`: all of `ModelNew`."""
    temperature: float = Field(0.25, gt=0)
    """Logits are divided by this before drawing."""
    max_tokens: int = Field(1024, ge=1)
    """A completion is cut here (finish_reason `length`)."""
    batch_size: int = Field(64, ge=1)
    """Completions of one task drawn side by side; more is faster and takes more memory."""

"""How completions are drawn: the `sampling` block."""

from typing import Literal, Self

from pydantic import Field, model_validator

from vegflow.config.block import Block

EngineName = Literal["transformers", "vllm", "server"]


class SamplingConfig(Block):
    """What a policy is asked and how its tokens are drawn."""

    engine: EngineName = "transformers"
    """What runs the model: `transformers` in this process, `vllm` in this process, or `server`, a running one that speaks
    the OpenAI-compatible interface of vLLM."""
    url: str | None = None
    """Address of the running server, such as `http://localhost:8000/v1`; for the engine `server` alone."""
    prompt: str = "auto"
    """Prompt template, a file of `resources/prompts/` without `.yaml`; `auto` takes the one the model's own file names."""
    scaffold: Literal["body", "full"] = "body"
    """`body`: the model writes the body of `ModelNew.forward`; `full`: all of `ModelNew`."""
    temperature: float = Field(0.25, gt=0)
    """Logits are divided by this before drawing."""
    max_tokens: int = Field(1024, ge=1)
    """A completion is cut here (finish_reason `length`)."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion (finish_reason `stop`), beside the model's own; the text is cut before them, the tokens are kept."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw from the most likely tokens that together have this probability (Holtzman et al. 2020); 1 draws from all."""
    top_k: int | None = Field(None, ge=1)
    """Draw from so many most likely tokens; from all by default."""
    min_p: float = Field(0.0, ge=0, lt=1)
    """Draw from tokens with at least this share of the most likely one's probability (Nguyen et al. 2024)."""
    batch_size: int = Field(64, ge=1)
    """Completions drawn side by side; more is faster and takes more memory."""

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the settings that leave tokens out before drawing.

        Recorded log-probabilities are those of the whole tempered distribution all the same.
        """
        used = {"top_p": self.top_p < 1, "top_k": self.top_k is not None, "min_p": self.min_p > 0}
        return tuple(name for name, on in used.items() if on)

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.engine == "server" and not self.url:
            raise ValueError("engine `server` needs url, the address of the running server")
        if self.url and self.engine != "server":
            raise ValueError(f"url is for the engine `server`, and the engine is {self.engine}")
        if self.engine in ("vllm", "server") and not 0.01 <= self.temperature <= 2:
            raise ValueError(f"temperature: the engine `{self.engine}` takes 0.01 to 2; take the engine transformers")
        if self.engine == "server" and self.filters and self.temperature != 1:
            raise ValueError(
                f"the engine `server` with {self.filters[0]} needs temperature: 1: a server tells the log-probability at "
                "another temperature only among the tokens left to draw from; take the engine vllm or transformers"
            )
        if "" in self.stop:
            raise ValueError("stop: an empty text would end every completion at once")
        return self

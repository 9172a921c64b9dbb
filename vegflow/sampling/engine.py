"""The engine `transformers`: a model in this process, its adapters, drawing and scoring.

Knows which way of drawing a model can take: `vegflow.sampling.refill`, or `vegflow.sampling.cached` for any family; logits
and attention are left to them and to `vegflow.models.packing`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from vegflow.config.sampling import SamplingConfig
from vegflow.models.load import load_model, load_tokenizer, stop_tokens, with_adapter
from vegflow.models.packing import passes
from vegflow.models.shared import knows
from vegflow.randomness import stream
from vegflow.sampling.cached import draw
from vegflow.sampling.choice import log_probabilities
from vegflow.sampling.protocol import Completion, Request
from vegflow.sampling.refill import Refill
from vegflow.sampling.stopping import Stopping


class TransformersEngine:
    """A causal language model of Hugging Face's, with its tokenizer (for stop texts alone)."""

    def __init__(self, model: nn.Module, tokenizer: Any, stop: frozenset[int]) -> None:
        self.base = model.requires_grad_(False).eval()
        self.model = self.base
        self.tokenizer = tokenizer
        self.stop = stop

    def use(self, adapter: str | Path | None) -> None:
        """Take this adapter from now on; the base model's weights are neither copied nor changed."""
        if self.model is not self.base:
            self.base = self.model.unload()
        self.model = self.base if adapter is None else with_adapter(self.base, adapter).eval()

    def draw(self, requests: Sequence[Request], config: SamplingConfig) -> Iterator[tuple[int, tuple[Completion, ...]]]:
        """See `protocol.Engine`; families that `models.shared` does not know are drawn one request after the other."""
        stopping = Stopping(self.tokenizer, self.stop, config.stop)
        if knows(self.model):
            yield from Refill(self.model, requests, config, stopping).run()
            return
        for number, request in enumerate(requests):
            drawn: list[Completion] = []
            for start in range(0, len(request.keys), config.batch_size):
                streams = [stream(*key) for key in request.keys[start : start + config.batch_size]]
                drawn += draw(self.model, request.prompt_ids, streams, config, stopping)
            yield number, tuple(drawn)

    @torch.inference_mode()
    def score(self, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities at temperature 1; the prompt is read once for many completions."""
        found: dict[int, list[float]] = {}
        for part in passes(self.model, prompt_ids, completions):
            logp_U = log_probabilities(part.logits_UV, part.targets_U)
            pieces = logp_U.index_select(0, part.place_R).split(part.lengths)
            found |= {number: logp.tolist() for number, logp in zip(part.members, pieces, strict=True)}
        return [found[number] for number in range(len(completions))]

    def close(self) -> None:
        """Let go of the model."""
        self.model = self.base = nn.Module()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


def load(options: Mapping[str, Any], sampling: SamplingConfig, device: str) -> TransformersEngine:
    """The engine with the base model of `options`."""
    tokenizer = load_tokenizer(options)
    return TransformersEngine(load_model(options, device), tokenizer, stop_tokens(options, tokenizer))

"""What every engine of ours promises, as checks that the tests of each engine run against the real thing."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from tests.sampling.small_model import load
from vegflow.config.sampling import SamplingConfig
from vegflow.models.load import with_adapter
from vegflow.models.packing import score
from vegflow.sampling.protocol import Completion, Engine, Request

TOLERANCE = 1e-4
"""Nats a token, in float32, between one engine's account of a model and another's."""


def requests(engine: Any, texts: Sequence[str], count: int, seed: int = 0) -> list[Request]:
    return [
        Request(
            tuple(engine.tokenizer.encode(text)), tuple(("set", seed, None, f"L1/{n}", index) for index in range(count))
        )
        for n, text in enumerate(texts, 1)
    ]


def drawn(engine: Engine, wanted: Sequence[Request], config: SamplingConfig) -> list[tuple[Completion, ...]]:
    found = dict(engine.draw(wanted, config))
    return [found[number] for number in range(len(wanted))]


def farthest(ours: Iterable[Sequence[float]], theirs: Iterable[Sequence[float]]) -> float:
    """The largest difference of two token's log-probabilities."""
    pairs = zip(chain(*ours), chain(*theirs), strict=True)
    return max(abs(a - b) for a, b in pairs)


@torch.inference_mode()
def transformers_logprobs(
    folder: Path, adapter: Path | None, prompt: Sequence[int], completions: Sequence[Sequence[int]], temperature: float
) -> list[list[float]]:
    model = load(folder)
    model = with_adapter(model, adapter).eval() if adapter else model
    return [logp.tolist() for logp in score(model, prompt, completions, temperature=temperature).logprobs]


def check_logprobs(
    engine: Engine, folder: Path, adapter: Path | None, wanted: Sequence[Request], config: SamplingConfig
) -> None:
    """Recorded log-probabilities are those of the whole distribution as transformers computes it, and as scored."""
    for request, completions in zip(wanted, drawn(engine, wanted, config), strict=True):
        tokens = [completion.token_ids for completion in completions]
        assert len({*tokens}) > 1 or config.top_k == 1
        raw, tempered = [c.logprobs for c in completions], [c.logprobs_tempered for c in completions]
        at_1 = transformers_logprobs(folder, adapter, request.prompt_ids, tokens, 1.0)
        at_T = transformers_logprobs(folder, adapter, request.prompt_ids, tokens, config.temperature)
        assert farthest(raw, at_1) < TOLERANCE
        assert farthest(tempered, at_T) < TOLERANCE
        assert farthest(raw, engine.score(request.prompt_ids, tokens)) < TOLERANCE


def check_stop_text(engine: Any, wanted: Sequence[Request], config: SamplingConfig) -> None:
    """A completion ends with the token that completes a stop text, and that token is kept."""
    [stop] = config.stop
    completions = list(chain(*drawn(engine, wanted, config)))
    ended = [c for c in completions if c.finish_reason == "stop" and c.token_ids[-1] not in engine.stop]
    assert ended
    for completion in ended:
        assert stop in engine.tokenizer.decode(completion.token_ids)
        assert stop not in engine.tokenizer.decode(completion.token_ids[:-1])
        assert len(completion.logprobs) == len(completion.logprobs_tempered) == len(completion.token_ids)
    others = [c for c in completions if c.finish_reason == "length"]
    assert all(stop not in engine.tokenizer.decode(c.token_ids) for c in others)


@torch.inference_mode()
def greedy(folder: Path, prompt: Sequence[int], tokens: int, stop: frozenset[int]) -> tuple[int, ...]:
    model, ids = load(folder), list(prompt)
    for _ in range(tokens):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in stop:
            break
    return tuple(ids[len(prompt) :])

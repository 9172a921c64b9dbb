"""What every sampling engine takes and gives: the types at the seam between prompts and whatever runs the model.

Knows token ids, keys of random streams and log-probabilities; prompts, tasks and files are `vegflow.sampling.sample`, the
engines themselves `vegflow.sampling.engines`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from vegflow.config.sampling import SamplingConfig

Key = tuple[object, ...]
"""Name of a rollout's random stream: (source, seed, step, task_id, index), as `vegflow.randomness.stream` takes it."""


@dataclass(frozen=True)
class Request:
    """One prompt, and one completion of it wanted per key."""

    prompt_ids: tuple[int, ...]
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Completion:
    """Tokens drawn, each one's log-probability (nats) at temperature 1 and at the sampling temperature, and the end.

    Both are of the whole distribution softmax(logits) and softmax(logits / temperature), also where top-p, top-k or min-p
    left only a part of it to draw from. A token that ends a completion is part of it, and so are the tokens that make up a
    stop string; `finish_reason` is `stop` for either and `length` for a completion cut at `max_tokens`.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    logprobs_tempered: tuple[float, ...]
    finish_reason: str


class Engine(Protocol):
    """A base model with at most one adapter at a time, ready to draw and to score. A context manager that frees it."""

    def use(self, adapter: str | Path | None) -> None:
        """Take this adapter (a folder in PEFT's format or the file in it) from now on; None is the base model."""

    def draw(self, requests: Sequence[Request], config: SamplingConfig) -> Iterator[tuple[int, tuple[Completion, ...]]]:
        """Number of a request and its completions in the order of its keys, as requests are finished, in any order.

        The same key, prompt, configuration, engine and device give the same completion up to rounding, whatever is drawn
        beside it. All requests are known at the start, so that the places of completions that have ended can be filled
        with those of the next prompt.
        """

    def score(self, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability (nats, temperature 1) of each token of each completion (none empty) after the prompt."""

    def close(self) -> None:
        """Free the model and whatever runs it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: Any) -> None: ...

"""Drawing the completions of many prompts side by side: a row that has ended makes room for the next one at once.

Knows requests, rows and tokens; the model's part is `vegflow.models.shared`, the choice of tokens `vegflow.sampling.choice`.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from vegflow.config.sampling import SamplingConfig
from vegflow.models.shared import Group, Prompt, Slots, Step, advance, read
from vegflow.randomness import stream
from vegflow.sampling.choice import choose
from vegflow.sampling.protocol import Completion, Request
from vegflow.sampling.stopping import Stopping


@dataclass(eq=False)
class _Row:
    """A completion under way: request and place among its keys, and the tokens so far."""

    request: int
    index: int
    random: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tempered: list[float] = field(default_factory=list)

    @property
    def written(self) -> int:
        """Own tokens whose keys and values are in the slots: all but the last, which is still to be read."""
        return len(self.tokens) - 1


class Refill:
    """One drawing of some requests."""

    def __init__(
        self, model: nn.Module, requests: Sequence[Request], config: SamplingConfig, stopping: Stopping
    ) -> None:
        self.model, self.requests, self.config, self.stopping = model, requests, config, stopping
        self.device = next(model.parameters()).device
        total = sum(len(request.keys) for request in requests)
        self.slots = Slots(min(config.batch_size, total), config.max_tokens)
        self.waiting = iter([(r, i) for r, request in enumerate(requests) for i in range(len(request.keys))])
        self.prompts: dict[int, Prompt] = {}
        self.done: dict[int, dict[int, Completion]] = {}
        self.rows: list[_Row] = []
        self.groups: list[Group] | None = None

    @torch.inference_mode()
    def run(self) -> Iterator[tuple[int, tuple[Completion, ...]]]:
        """Each request as its last completion ends; rows of at most `batch_size` completions at a time."""
        yield from self._fill([])
        while self.rows:
            logits_NV = advance(self.model, self._tokens(), self._step())
            self._draw(self.rows, logits_NV)
            holes = [place for place, row in enumerate(self.rows) if self._over(row)]
            ended = [self.rows[place] for place in holes]
            yield from self._finish(ended)
            yield from self._fill(holes)

    def _tokens(self) -> Tensor:
        return torch.tensor([row.tokens[-1] for row in self.rows], device=self.device)

    def _step(self) -> Step:
        lengths = [row.written for row in self.rows]
        return Step(self.slots, self._grouped(), torch.tensor(lengths, device=self.device), max(lengths) + 1)

    def _grouped(self) -> list[Group]:
        """Rows by prompt; kept until a row comes, goes or moves."""
        if self.groups is None:
            members: dict[int, list[int]] = {}
            for place, row in enumerate(self.rows):
                members.setdefault(row.request, []).append(place)
            self.groups = [
                Group(self.prompts[r], torch.tensor(rows, device=self.device) if len(members) > 1 else None)
                for r, rows in members.items()
            ]
        return self.groups

    def _fill(self, holes: list[int]) -> Iterator[tuple[int, tuple[Completion, ...]]]:
        """Give the holes, and places never used, to completions that wait; close the holes that are left."""
        if not holes and self.rows:
            return
        self.groups = None
        free = holes + list(range(len(self.rows), self.slots.count))
        while free and (begun := self._begin(len(free))):
            ended = [row for row in begun if self._over(row)]
            yield from self._finish(ended)
            for row in begun:
                if row not in ended:
                    place = free.pop(0)
                    self.rows[place : place + 1] = [row]
        for place in sorted((place for place in free if place < len(self.rows)), reverse=True):
            last = self.rows.pop()
            if place < len(self.rows):
                self.slots.move(len(self.rows), place, last.written)
                self.rows[place] = last

    def _begin(self, most: int) -> list[_Row]:
        """Up to `most` completions that wait, with their first tokens."""
        begun = [_Row(r, i, stream(*self.requests[r].keys[i])) for r, i in itertools.islice(self.waiting, most)]
        for r in dict.fromkeys(row.request for row in begun):
            if r not in self.prompts:
                self.prompts[r] = read(self.model, self.requests[r].prompt_ids)
            rows = [row for row in begun if row.request == r]
            self._draw(rows, self.prompts[r].logits_V.expand(len(rows), -1))
        return begun

    def _draw(self, rows: Sequence[_Row], logits_NV: Tensor) -> None:
        uniform_N = torch.tensor([row.random.random() for row in rows], dtype=torch.float64)
        choice = choose(logits_NV, uniform_N, self.config)
        columns = (column.tolist() for column in (choice.token_N, choice.logprob_N, choice.tempered_N))
        for row, token, logprob, tempered in zip(rows, *columns, strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            row.tempered.append(tempered)

    def _over(self, row: _Row) -> bool:
        return len(row.tokens) >= self.config.max_tokens or self.stopping.ended(row.tokens)

    def _finish(self, rows: Sequence[_Row]) -> Iterator[tuple[int, tuple[Completion, ...]]]:
        for row in rows:
            reason = "stop" if self.stopping.ended(row.tokens) else "length"
            found = self.done.setdefault(row.request, {})
            found[row.index] = Completion(tuple(row.tokens), tuple(row.logprobs), tuple(row.tempered), reason)
            if len(found) == len(self.requests[row.request].keys):
                del self.prompts[row.request]
                yield row.request, tuple(found[i] for i in range(len(found)))
                self.done[row.request] = {}

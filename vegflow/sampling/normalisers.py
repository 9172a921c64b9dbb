"""A plugin for vLLM that keeps what its own log-probabilities leave out, and hands it to the engine that asked.

vLLM returns log p(x) of a sampled token x either at temperature 1 or at the sampling temperature T, and the latter after
top-p, top-k and min-p. With the logits z and their maximum m, this keeps two numbers a token before anything is changed,
a = -max log p and b = log sum exp((z - m) / T), from which follows log p_T(x) = (log p(x) + a) / T - b, of the whole
distribution and exact up to rounding: log p(x) + a is z(x) - m, free of the error of vLLM's log_softmax, which is 1e-5 for
a vocabulary of 49,152 on a CPU and would be divided by T. Imported by vLLM's workers, by name.
"""

from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

ARGUMENT = "vegflow"
"""Key in a request's `extra_args`; its value is what the numbers are asked for by. Requests without it are not watched."""

_kept: list[tuple[list[tuple[str, int]], Tensor]] = []
"""By step: the watched requests with the number of the token that is drawn next, and their a and b (N, 2)."""


class Normalisers(LogitsProcessor):
    """Looks at the logits of watched requests and changes nothing."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self.rows: dict[int, tuple[str, float, list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """False, so that it is called before the temperature is applied."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests to the rows of the batch that they move to."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self.rows.pop(row, None)
        for row, params, _, output in batch_update.added:
            self.rows.pop(row, None)
            if name := (params.extra_args or {}).get(ARGUMENT):
                self.rows[row] = (name, params.temperature, output)
        for source, target, way in batch_update.moved:
            moved, replaced = self.rows.pop(source, None), self.rows.pop(target, None)
            if moved:
                self.rows[target] = moved
            if replaced and way == MoveDirectionality.SWAP:
                self.rows[source] = replaced

    def apply(self, logits: Tensor) -> Tensor:
        """Keep a and b of every watched row; a token drawn twice, after a pause, replaces the first."""
        if self.rows:
            watched = list(self.rows)
            of = logits if watched == list(range(len(logits))) else logits[watched]
            of = of.float()
            T = of.new_tensor([self.rows[row][1] for row in watched])[:, None]
            a = -of.log_softmax(-1).amax(-1)
            b = ((of - of.amax(-1, keepdim=True)) / T).logsumexp(-1)
            pair = torch.stack([a, b], dim=1)
            _kept.append(([(self.rows[row][0], len(self.rows[row][2])) for row in watched], pair))
        return logits


class Reader:
    """What vLLM's workers can do more than before (`worker_extension_cls`)."""

    def take_normalisers(self) -> list[tuple[str, int, float, float]]:
        """All that was kept since it was last asked for, in order: request, number of its token, a, b."""
        found = [
            (name, place, *pair)
            for names, pairs in _kept
            for (name, place), pair in zip(names, pairs.tolist(), strict=True)
        ]
        _kept.clear()
        return found

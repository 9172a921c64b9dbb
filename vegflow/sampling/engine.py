"""Drawing completions from a causal language model in this process, with exact log-probabilities.

Knows token ids and logits; prompts and files are `vegflow.sampling.sample`. The prompt is read once for all completions
of a task, and each completion draws from a random stream of its own, so that a rollout does not depend on how many
others are drawn beside it (up to rounding).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class Completion:
    """Tokens drawn, each one's log-probability (nats) at temperature 1 and at the sampling temperature, and the end."""

    token_ids: list[int]
    logprobs: list[float]
    logprobs_tempered: list[float]
    finish_reason: str


@torch.inference_mode()
def draw(
    model: nn.Module,
    prompt: Sequence[int],
    streams: Sequence[np.random.Generator],
    *,
    temperature: float,
    max_tokens: int,
    stop: set[int],
) -> list[Completion]:
    """One completion of `prompt` per random stream.

    A completion ends with the first token of `stop`, which is part of it (finish_reason `stop`), or after `max_tokens`
    (`length`). Rows that have ended leave the batch.
    """
    device = next(model.parameters()).device
    output = model(input_ids=torch.tensor([list(prompt)], device=device), use_cache=True, logits_to_keep=1)
    cache = output.past_key_values
    cache.batch_repeat_interleave(len(streams))
    logits_NV = output.logits[:, -1].expand(len(streams), -1)
    done = [Completion([], [], [], "length") for _ in streams]
    active = list(range(len(streams)))
    for t in range(max_tokens):
        raw_NV = logits_NV.float().log_softmax(-1)
        tempered_NV = (logits_NV.float() / temperature).log_softmax(-1)
        uniform_N = torch.tensor([streams[i].random() for i in active], dtype=torch.float64)
        token_N = _invert(tempered_NV, uniform_N)
        _record(done, active, token_N, raw_NV, tempered_NV)
        ended = [int(token) in stop for token in token_N]
        for row, i in enumerate(active):
            if ended[row]:
                done[i].finish_reason = "stop"
        keep = [row for row in range(len(active)) if not ended[row]]
        if not keep or t == max_tokens - 1:
            break
        if len(keep) < len(active):
            cache.batch_select_indices(torch.tensor(keep, device=device))
            active = [active[row] for row in keep]
            token_N = token_N[keep]
        step = model(input_ids=token_N[:, None].to(device), past_key_values=cache, use_cache=True)
        logits_NV = step.logits[:, -1]
    return done


def _invert(logp_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """Tokens at the quantiles `uniform_N` of each row's distribution (inverse transform sampling, float64)."""
    cumulative_NV = logp_NV.double().exp().cumsum(-1).cpu()
    token_N = torch.searchsorted(cumulative_NV, (uniform_N * cumulative_NV[:, -1])[:, None], right=True)[:, 0]
    return token_N.clamp(max=logp_NV.shape[1] - 1)


def _record(done: list[Completion], active: list[int], token_N: Tensor, raw_NV: Tensor, tempered_NV: Tensor) -> None:
    index = token_N[:, None].to(raw_NV.device)
    raw_N = raw_NV.gather(1, index)[:, 0].tolist()
    tempered_N = tempered_NV.gather(1, index)[:, 0].tolist()
    for row, i in enumerate(active):
        done[i].token_ids.append(int(token_N[row]))
        done[i].logprobs.append(raw_N[row])
        done[i].logprobs_tempered.append(tempered_N[row])

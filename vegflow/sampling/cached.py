"""Drawing with Hugging Face's own cache: any causal language model, one prompt at a time.

The way for model families that `vegflow.sampling.shared` does not know. Knows logits and tokens; names, files and texts are
left to the engine.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from vegflow.config.sampling import SamplingConfig
from vegflow.sampling.choice import choose
from vegflow.sampling.protocol import Completion
from vegflow.sampling.stopping import Stopping


@torch.inference_mode()
def draw(
    model: nn.Module,
    prompt: Sequence[int],
    streams: Sequence[np.random.Generator],
    config: SamplingConfig,
    stopping: Stopping,
) -> list[Completion]:
    """One completion of `prompt` per random stream, all side by side; rows that have ended leave the batch."""
    device = next(model.parameters()).device
    output = model(input_ids=torch.tensor([list(prompt)], device=device), use_cache=True, logits_to_keep=1)
    cache = output.past_key_values
    cache.batch_repeat_interleave(len(streams))
    logits_NV = output.logits[:, -1].expand(len(streams), -1)
    drawn: list[list[tuple[int, float, float]]] = [[] for _ in streams]
    reasons = ["length"] * len(streams)
    active = list(range(len(streams)))
    for t in range(config.max_tokens):
        uniform_N = torch.tensor([streams[i].random() for i in active], dtype=torch.float64)
        choice = choose(logits_NV, uniform_N, config)
        columns = (column.tolist() for column in (choice.token_N, choice.logprob_N, choice.tempered_N))
        for i, values in zip(active, zip(*columns, strict=True), strict=True):
            drawn[i].append(values)
            if stopping.ended([token for token, _, _ in drawn[i]]):
                reasons[i] = "stop"
        keep = [row for row, i in enumerate(active) if reasons[i] != "stop"]
        if not keep or t == config.max_tokens - 1:
            break
        token_N = choice.token_N
        if len(keep) < len(active):
            cache.batch_select_indices(torch.tensor(keep, device=device))
            active = [active[row] for row in keep]
            token_N = token_N[keep]
        step = model(input_ids=token_N[:, None].to(device), past_key_values=cache, use_cache=True)
        logits_NV = step.logits[:, -1]
    return [Completion(*zip(*values, strict=True), reason) for values, reason in zip(drawn, reasons, strict=True)]

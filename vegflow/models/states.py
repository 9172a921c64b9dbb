"""What a model's layers make of completions: the state that its output head reads, one vector a completion.

Knows packed rows and Hugging Face's causal language models (`get_decoder`); what is read off the states is for others.

Axes: B rows, L tokens of a row, N completions, D width of the residual stream.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from vegflow.models.packing import Row

Pooling = Literal["last", "mean"]


@contextmanager
def states_kept(model: nn.Module) -> Iterator[list[Tensor]]:
    """A list that each forward pass puts the states (B, L, D) of all its tokens in, after the last layer and its norm.

    They are what the output head turns into logits, with gradients if those are enabled; nothing is computed twice.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output.last_hidden_state)

    handle = decoder(model).register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def decoder(model: nn.Module) -> nn.Module:
    """The layers of a causal language model, without its output head and behind an adapter if there is one."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.get_decoder()


def pooled(states_BLD: Tensor, rows: Sequence["Row"], pooling: Pooling) -> Tensor:
    """Float32 states (N, D) of the completions of some packed rows, row by row: at the last token, or their mean.

    The last token is the stop token, unless the completion was cut: the one place that has seen all of it.
    """
    found = []
    for states_LD, row in zip(states_BLD, rows, strict=True):
        owner_C = row.owner_L[row.owner_L >= 0]
        sizes = torch.bincount(owner_C)
        ends = (len(row.owner_L) - len(owner_C) + sizes.cumsum(0)).to(states_LD.device)
        if pooling == "last":
            found.append(states_LD[ends - 1].float())
        else:
            sums_ND = torch.zeros(len(sizes), states_LD.shape[1], device=states_LD.device)
            own_CD = states_LD[len(row.owner_L) - len(owner_C) : len(row.owner_L)].float()
            sums_ND = sums_ND.index_add(0, owner_C.to(states_LD.device), own_CD)
            found.append(sums_ND / sizes.to(sums_ND)[:, None])
    return torch.cat(found)

"""Decoding many completions of few prompts at once: keys and values of a prompt are kept once and read by all its rows.

Takes the place of a model's attention while `reading` or `stepping` is in force, for families whose attention is
Transformers' exchangeable one; what is drawn and for whom is left to `vegflow.sampling.refill`. Equal to attention with
an ordinary cache up to rounding, with sliding windows and attention sinks.

Axes: N rows, G query heads a key head, H key heads, P tokens of a prompt, T own tokens of a row, D numbers a head.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

NAME = "vegflow_shared"
FAMILIES = frozenset({"gpt_oss", "llama", "mistral", "qwen2", "qwen3"})
"""Values of `model_type` that are tested to be exact here."""
GROWTH = 64
"""Own tokens that slots are first made for; they double when they are full."""
FAR = float("-inf")


def knows(model: nn.Module) -> bool:
    """Whether a model can be decoded so: its family is tested, and its layers are not spread over devices."""
    spread = len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1
    return getattr(model.config, "model_type", None) in FAMILIES and not spread


@dataclass
class Prompt:
    """Keys and values (H, P, D) of a prompt, layer by layer, and the logits (V) after it."""

    length: int
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    logits_V: Tensor = field(default_factory=lambda: torch.empty(0))


class Slots:
    """Places for the keys and values of rows' own tokens, allocated once and grown by doubling."""

    def __init__(self, count: int, most: int) -> None:
        self.count, self.most = count, most
        self.capacity = min(GROWTH, most)
        self.keys: dict[int, Tensor] = {}
        """Layer -> (count, H, capacity, D)."""
        self.values: dict[int, Tensor] = {}

    def write(self, layer: int, key_NHD: Tensor, value_NHD: Tensor, place: tuple[Tensor, Tensor], longest: int) -> None:
        """Put the new token's key and value of each row at its place (row, own position)."""
        if layer not in self.keys:
            shape = (self.count, key_NHD.shape[1], self.capacity, key_NHD.shape[2])
            self.keys[layer], self.values[layer] = key_NHD.new_zeros(shape), value_NHD.new_zeros(shape)
        if longest > self.capacity:
            self._grow(longest)
        self.keys[layer][place[0], :, place[1]] = key_NHD
        self.values[layer][place[0], :, place[1]] = value_NHD

    def move(self, source: int, target: int, length: int) -> None:
        """Let a row's tokens (the first `length`) go on in another place."""
        for held in (self.keys, self.values):
            for tensor in held.values():
                tensor[target, :, :length] = tensor[source, :, :length]

    def _grow(self, wanted: int) -> None:
        self.capacity = min(self.most, max(2 * self.capacity, wanted))
        for held in (self.keys, self.values):
            for layer, tensor in held.items():
                grown = tensor.new_zeros(*tensor.shape[:2], self.capacity, tensor.shape[3])
                grown[:, :, : tensor.shape[2]] = tensor
                held[layer] = grown


@dataclass
class Group:
    """Rows of one prompt; all rows if `rows` is None."""

    prompt: Prompt
    rows: Tensor | None


@dataclass
class Step:
    """One token of each row 0..N-1 of some slots."""

    slots: Slots
    groups: Sequence[Group]
    length_N: Tensor
    """Own tokens of each row before this one, which is where it goes."""
    longest: int
    """Own tokens of the longest row, with this one."""
    masks: dict[tuple[int, int | None], tuple[Tensor | None, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.place = (torch.arange(len(self.length_N), device=self.length_N.device), self.length_N)

    def mask(self, number: int, window: int | None) -> tuple[Tensor | None, Tensor]:
        """What is added to a group's scores of its prompt (N, 1, 1, P; None if nothing) and of its own tokens (N, 1, 1, T)."""
        if (number, window) not in self.masks:
            group = self.groups[number]
            length_N = self.length_N if group.rows is None else self.length_N[group.rows]
            back_NT = length_N[:, None] - torch.arange(self.longest, device=length_N.device)
            hidden_NT, far = back_NT < 0, None
            if window is not None:
                hidden_NT |= back_NT >= window
                place_P = torch.arange(group.prompt.length, device=length_N.device)
                hidden_NP = group.prompt.length + length_N[:, None] - place_P >= window
                far = _additive(hidden_NP)
            self.masks[number, window] = (far, _additive(hidden_NT))
        return self.masks[number, window]


_CURRENT: ContextVar[Prompt | Step | None] = ContextVar("shared", default=None)


@torch.inference_mode()
def read(model: nn.Module, prompt_ids: Sequence[int]) -> Prompt:
    """Read a prompt once."""
    device = next(model.parameters()).device
    prompt = Prompt(len(prompt_ids))
    ids = torch.tensor([list(prompt_ids)], device=device)
    with _instead(model, prompt):
        output = model(
            input_ids=ids,
            position_ids=torch.arange(len(prompt_ids), device=device)[None],
            use_cache=False,
            logits_to_keep=1,
        )
    prompt.logits_V = output.logits[0, -1].clone()
    return prompt


@torch.inference_mode()
def advance(model: nn.Module, token_N: Tensor, step: Step) -> Tensor:
    """Logits (N, V) after one more token of each row."""
    prompt_N = torch.empty_like(step.length_N)
    for group in step.groups:
        prompt_N[slice(None) if group.rows is None else group.rows] = group.prompt.length
    with _instead(model, step):
        output = model(input_ids=token_N[:, None], position_ids=(prompt_N + step.length_N)[:, None], use_cache=False)
    return output.logits[:, -1]


@contextmanager
def _instead(model: nn.Module, current: Prompt | Step) -> Iterator[None]:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    config, token = model.config, _CURRENT.set(current)
    before = config._attn_implementation
    config._attn_implementation = NAME  # a name that mask makers do not know: they make none
    try:
        yield
    finally:
        config._attn_implementation = before
        _CURRENT.reset(token)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention in Transformers' form: (N, heads, length, D) in, (N, length, heads, D) out."""
    current = _CURRENT.get()
    scale = options.get("scaling")
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    window, sinks = options.get("sliding_window"), options.get("s_aux")
    if isinstance(current, Prompt):
        current.keys[module.layer_idx], current.values[module.layer_idx] = key[0], value[0]
        return _within(query, key, value, window, sinks).transpose(1, 2), None
    assert isinstance(current, Step)
    N, H, _, D = key.shape
    current.slots.write(module.layer_idx, key[:, :, 0], value[:, :, 0], current.place, current.longest)
    query = query.view(N, H, -1, D)
    found = [_group(current, number, module.layer_idx, query, window, sinks) for number in range(len(current.groups))]
    if len(found) == 1:
        return found[0].reshape(N, 1, -1, D), None
    output = torch.empty_like(query)
    for group, part in zip(current.groups, found, strict=True):
        output[group.rows] = part
    return output.view(N, 1, -1, D), None


def _within(query: Tensor, key: Tensor, value: Tensor, window: int | None, sinks: Tensor | None) -> Tensor:
    """Causal attention of a prompt to itself, (1, heads, P, D)."""
    repeats, P = query.shape[1] // key.shape[1], query.shape[2]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    if sinks is None and (window is None or window >= P):
        return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)
    place_P = torch.arange(P, device=query.device)
    back_PP = place_P[:, None] - place_P
    hidden_PP = (back_PP < 0) if window is None else (back_PP < 0) | (back_PP >= window)
    scores = (query @ key.transpose(2, 3)).masked_fill(hidden_PP, FAR)
    return _weights(scores, None if sinks is None else sinks[:, None]) @ value


def _group(step: Step, number: int, layer: int, query: Tensor, window: int | None, sinks: Tensor | None) -> Tensor:
    """Attention of a group's rows (N, H, G, D) to their prompt and to their own tokens."""
    group, slots, T = step.groups[number], step.slots, step.longest
    rows = slice(0, len(query)) if group.rows is None else group.rows
    query = query[rows]
    N, H, G, D = query.shape
    far, later = step.mask(number, window)
    key_HPD, value_HPD = group.prompt.keys[layer], group.prompt.values[layer]
    own_key, own_value = slots.keys[layer][rows, :, :T], slots.values[layer][rows, :, :T]
    apart = query.transpose(0, 1).reshape(H, N * G, D)
    to_prompt = torch.bmm(apart, key_HPD.transpose(1, 2)).view(H, N, G, -1).transpose(0, 1)
    to_own = torch.matmul(query, own_key.transpose(2, 3)) + later.to(query.dtype)
    if far is not None:
        to_prompt = to_prompt + far.to(query.dtype)
    weights = _weights(torch.cat([to_prompt, to_own], dim=-1), None if sinks is None else sinks.view(H, G))
    on_prompt, on_own = weights.split([key_HPD.shape[1], T], dim=-1)
    found = torch.bmm(on_prompt.transpose(0, 1).reshape(H, N * G, -1), value_HPD).view(H, N, G, D).transpose(0, 1)
    return found + torch.matmul(on_own, own_value)


def _weights(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """Softmax over the last axis in float32; a sink is one more score that takes weight and gives nothing."""
    if sinks is not None:
        scores = torch.cat([scores, sinks[..., None].to(scores.dtype).expand(*scores.shape[:-1], 1)], dim=-1)
    weights = scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    return weights if sinks is None else weights[..., :-1]


def _additive(hidden: Tensor) -> Tensor:
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, FAR)[:, None, None]

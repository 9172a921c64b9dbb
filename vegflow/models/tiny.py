"""Building a small language model from scratch: tokenizer and Llama from a corpus of `forward` bodies.

The model learns, for each task's prompt, the distribution over bodies that the corpus states. Instead of drawing
examples, the loss is the exact expectation: each form's negative log-likelihood weighted by its frequency, the forms of
a task packed behind one reading of its prompt. Knows nothing of how fast any form is.
"""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vegflow.config.model import BuildConfig
from vegflow.models.muon import Muon
from vegflow.models.packing import Row, forward, pack

END, PAD = "<|end|>", "<|pad|>"
INDENT = " " * 8


@dataclass(frozen=True)
class Lesson:
    """A prompt and what may follow it: bodies with the share (summing to 1) that each has in practice."""

    prompt: str
    bodies: tuple[str, ...]
    shares: tuple[float, ...]


def completion_text(body: str) -> str:
    """A body as it stands in a class: indented, with a final newline."""
    return textwrap.indent(body.strip("\n"), INDENT) + "\n"


def build(lessons: Sequence[Lesson], config: BuildConfig, folder: Path, progress: Callable[[str], None]) -> None:
    """Train tokenizer and model and save both to `folder` in Hugging Face's layout.

    The same lessons, configuration, torch build and thread count give the same files.
    """
    tokenizer = train_tokenizer(lessons, config.vocabulary)
    rows, shares = zip(*(_row(lesson, tokenizer) for lesson in lessons), strict=True)
    model = new_model(config, tokenizer)
    progress(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(lessons)} prompts")
    _train(model, rows, shares, config, progress)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_tokenizer(lessons: Sequence[Lesson], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer (any text round-trips) of the lessons' text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [text for lesson in lessons for text in (lesson.prompt, *map(completion_text, lesson.bodies))]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


def new_model(config: BuildConfig, tokenizer: Any) -> nn.Module:
    """A Llama of the configured size with seeded random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.mlp_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def lessons_of(prompts: Mapping[str, str], forms: Mapping[str, Sequence[Any]]) -> list[Lesson]:
    """One lesson per distinct prompt (key -> text) from the forms (`body`, `frequency`) of the same key."""
    lessons = []
    for prompt, key in {prompt: key for key, prompt in prompts.items()}.items():
        total = sum(form.frequency for form in forms[key])
        shares = tuple(form.frequency / total for form in forms[key])
        lessons.append(Lesson(prompt, tuple(form.body for form in forms[key]), shares))
    return lessons


def _row(lesson: Lesson, tokenizer: Any) -> tuple[Row, torch.Tensor]:
    """A lesson as a packed row, and the share of the completion that each predicted token belongs to."""
    completions = [[*tokenizer.encode(completion_text(body)), tokenizer.eos_token_id] for body in lesson.bodies]
    row = pack(tokenizer.encode(lesson.prompt), completions)
    return row, torch.tensor(lesson.shares).repeat_interleave(torch.tensor(row.lengths))


def _train(
    model: nn.Module,
    rows: Sequence[Row],
    shares: Sequence[torch.Tensor],
    config: BuildConfig,
    progress: Callable[[str], None],
) -> None:
    """Descend with warm-up and cosine decay; rows of like length share a batch, the order of the batches is seeded."""
    generator = torch.Generator().manual_seed(config.seed)
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i].input_ids_L))
    batches = [by_length[i : i + config.batch_size] for i in range(0, len(rows), config.batch_size)]
    optimizers, schedules = _optimizers(model, config, config.epochs * len(batches))
    model.train()
    for epoch in range(config.epochs):
        losses = []
        for number in torch.randperm(len(batches), generator=generator).tolist():
            chosen = batches[number]
            logits = forward(model, [rows[i] for i in chosen])
            losses.append(
                torch.stack(
                    [
                        (shares[i] * nn.functional.cross_entropy(logits_RV, rows[i].targets_R, reduction="none")).sum()
                        for i, logits_RV in zip(chosen, logits, strict=True)
                    ]
                ).mean()
            )
            model.zero_grad()
            losses[-1].backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for part in (*optimizers, *schedules):
                part.step()
        if epoch % 5 == 4 or epoch == config.epochs - 1:
            mean = torch.stack(losses).mean().item()
            progress(f"epoch {epoch + 1}/{config.epochs}: {mean:.3f} nats per completion")
    model.eval()


def _optimizers(model: nn.Module, config: BuildConfig, steps: int) -> tuple[list[Any], list[Any]]:
    """Muon for the matrices inside the network, AdamW for embeddings and norms, and their schedules.

    Muon reaches 2.8 nats per completion in 20 passes of this corpus, AdamW alone some four more at like cost
    (docs/performance.md).
    """
    inner = {name for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name}
    matrices = [p for name, p in model.named_parameters() if name in inner]
    others = [p for name, p in model.named_parameters() if name not in inner]
    optimizers = [
        Muon(matrices, lr=config.matrix_learning_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.01),
    ]
    rise = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / max(1, steps - rise))

    return optimizers, [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in optimizers]

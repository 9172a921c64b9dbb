"""What the engines outside of our own program need to know: an adapter's shape, seeds, limits.

Knows PEFT's files and token ids; vLLM and its server are `vegflow.sampling.vllm_engine` and `server_engine`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vegflow.artifacts.io import digest, file_digest
from vegflow.config.learning import head_problem
from vegflow.errors import ConfigError, VegflowError
from vegflow.models.load import ADAPTER, ADAPTER_CONFIG
from vegflow.sampling.protocol import Key
from vegflow.sampling.stopping import Stopping

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as the largest rank of an adapter (its LoRAConfig)."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in PEFT's format, as far as an engine must know it before it starts."""

    folder: Path
    name: str
    """Says what is in it: equal adapters have equal names, wherever they lie."""
    rank: int
    targets: tuple[str, ...]
    """Modules that have a part in it."""

    @property
    def max_rank(self) -> int:
        """The least of vLLM's ranks that holds this one."""
        return next(rank for rank in RANKS if rank >= self.rank)


def read_adapter(path: str | Path) -> Adapter:
    """An adapter, given its folder or the file in it.

    Raises ConfigError, in a sentence, if it is not there or vLLM cannot take it.
    """
    folder = Path(path)
    folder = folder.parent if folder.name == ADAPTER else folder
    try:
        said = json.loads((folder / ADAPTER_CONFIG).read_text())
        name = f"vegflow-{digest(said, file_digest(folder / ADAPTER))[:16]}"
    except OSError as error:
        raise ConfigError(f"the adapter in {folder} cannot be read: {error}") from error
    if problem := adapter_problem(said):
        raise ConfigError(f"vLLM cannot use the adapter in {folder}: {problem}")
    return Adapter(folder.resolve(), name, said["r"], tuple(said["target_modules"]))


def adapter_problem(said: Mapping[str, Any]) -> str | None:
    """Why vLLM cannot apply, or would quietly misapply, an adapter with this `adapter_config.json`; None if it can."""
    targets = said.get("target_modules")
    if said.get("peft_type") != "LORA":
        return f"it is a {said.get('peft_type')} adapter, and vLLM takes LoRA alone"
    if isinstance(targets, str) or not targets:
        return "its target_modules are not a list of module names; name them in lora_targets"
    if problem := head_problem(tuple(targets)):
        return problem
    if said.get("use_dora"):
        return "it decomposes weights (DoRA), which vLLM does not know"
    if said.get("target_parameters"):
        return "it adapts parameters that are no modules (lora.expert_parameters); use the engine transformers for it"
    if said.get("modules_to_save"):
        return "it replaces whole modules (modules_to_save), which vLLM does not take"
    if said.get("bias", "none") != "none":
        return "it has biases (bias is not none), which vLLM does not take"
    if said.get("rank_pattern") or said.get("alpha_pattern"):
        return "its ranks or scales differ by module (rank_pattern, alpha_pattern), which vLLM would not see"
    if said["r"] > RANKS[-1]:
        return f"its rank is {said['r']} and vLLM takes at most {RANKS[-1]}"
    return None


def seed_of(key: Key) -> int:
    """The seed of a rollout's own random stream in an engine that takes whole numbers (60 bits of the key's digest)."""
    return int(digest(*key)[:15], 16)


def check_lengths(prompts: Sequence[Sequence[int]], new_tokens: int, most: int, setting: str) -> None:
    """Raise VegflowError if a prompt and its completion do not fit: an engine would cut the completion, and not say so."""
    longest = max(map(len, prompts), default=0)
    if longest + new_tokens > most:
        raise VegflowError(
            f"the longest prompt has {longest} tokens and a completion up to {new_tokens}, together more than the "
            f"{most} that {setting} allows; raise it or lower sampling.max_tokens"
        )


def cut_at_stop_text(token_ids: Sequence[int], finish_reason: str, stopping: Stopping) -> tuple[list[int], str]:
    """Tokens up to the one that ends a stop text, as our own engine keeps them, and how the completion ended."""
    for end in range(1, len(token_ids) + 1) if stopping.texts else ():
        if stopping.ended(token_ids[:end]):
            return list(token_ids[:end]), "stop"
    return list(token_ids), finish_reason

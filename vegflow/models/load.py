"""Loading a base model, its tokenizer and an adapter, from a local folder, a GGUF file or the hub.

Knows where a model is and what can go wrong on the way, as one sentence; what runs it is `vegflow.sampling` and
`vegflow.learning`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vegflow.errors import ConfigError
from vegflow.models.memory import check_memory, expected_gb
from vegflow.models.place import MODELS, arguments, local_path

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


def load_tokenizer(options: Mapping[str, Any]) -> Any:
    """The tokenizer of a model (`location`, `revision`). Raises ConfigError if it cannot be loaded."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(**arguments(options))
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(cannot_load("tokenizer", options, error)) from error


def load_model(options: Mapping[str, Any], device: str = "cpu") -> nn.Module:
    """The base model in evaluation mode (`location`, `revision`, `dtype`). Raises ConfigError if it cannot be loaded.

    Attention goes through SDPA, or step by step for a model that has none (attention sinks): packed rows need a mask of
    their own, which both take exactly. With the option `device_map` the layers are spread over the GPUs there are, as
    accelerate does it, and `device` is left alone.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    spread, where, local = options.get("device_map"), arguments(options), local_path(options)
    if local:
        check_memory(options.get("name", local.name), expected_gb(local, options["dtype"]), device)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            **where,
            dtype=getattr(torch, options["dtype"]),
            attn_implementation=kernel(AutoConfig.from_pretrained(**where)),
            **({"device_map": spread} if spread else {}),
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ConfigError(cannot_load("model", options, error)) from error
    model.packed_attention = options.get("attention", "auto")
    return (model if spread else model.to(device)).eval()


def kernel(config: Any) -> str:
    """Transformers' attention that a model (by its configuration) is loaded with: SDPA, or step by step if it has none."""
    from transformers import AutoModelForCausalLM

    return "sdpa" if AutoModelForCausalLM._model_mapping[type(config)]._supports_sdpa else "eager"


def load_policy(options: Mapping[str, Any], adapter: str | Path | None, device: str = "cpu") -> nn.Module:
    """Base model plus adapter (a PEFT folder or the file in it), frozen; the base model itself if there is none."""
    model = load_model(options, device)
    if adapter is not None:
        model = with_adapter(model, adapter)
    return model.requires_grad_(False).eval()


def with_adapter(model: nn.Module, adapter: str | Path, *, trainable: bool = False) -> nn.Module:
    """Put an adapter on a base model."""
    from peft import PeftModel

    folder = Path(adapter)
    folder = folder.parent if folder.name == ADAPTER else folder
    return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)


def stop_tokens(options: Mapping[str, Any], tokenizer: Any) -> frozenset[int]:
    """Token ids that end a completion: the tokenizer's and the model's own end-of-sequence tokens, and the file's `stop_tokens`.

    Raises ConfigError for a stop token that the tokenizer does not have.
    """
    from transformers import GenerationConfig

    ids = {tokenizer.eos_token_id}
    try:
        where = {key: value for key, value in arguments(options).items() if key != "gguf_file"}
        configured = GenerationConfig.from_pretrained(where.pop("pretrained_model_name_or_path"), **where).eos_token_id
        ids |= set(configured) if isinstance(configured, list) else {configured}
    except OSError:
        pass  # a model need not have a file of generation settings
    vocabulary = tokenizer.get_vocab()
    if unknown := [token for token in options.get("stop_tokens", ()) if token not in vocabulary]:
        raise ConfigError(f"stop_tokens: the tokenizer of '{options['location']}' has no token {unknown[0]!r}")
    ids |= {vocabulary[token] for token in options.get("stop_tokens", ())}
    return frozenset(token for token in ids if token is not None)


def cannot_load(what: str, options: Mapping[str, Any], error: Exception) -> str:
    """The error as one sentence: Transformers' own go over many lines and begin with what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (
        f"the {what} of '{options['location']}' cannot be loaded: {lines[0].rstrip('.')} "
        f"(a local folder always works: set path in the model's file, or put it under ${MODELS} as {options.get('name')})"
    )

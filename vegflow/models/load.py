"""Loading a base model, its tokenizer and an adapter, from a local folder or the hub."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vegflow.errors import ConfigError

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


def load_tokenizer(options: dict[str, Any]) -> Any:
    """The tokenizer of a model (`location`, `revision`). Raises ConfigError if it cannot be loaded."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(options["location"], revision=options["revision"])
    except (OSError, ValueError) as error:
        raise ConfigError(_cannot_load("tokenizer", options, error)) from error


def load_model(options: dict[str, Any], device: str = "cpu") -> nn.Module:
    """The base model in evaluation mode (`location`, `revision`, `dtype`). Raises ConfigError if it cannot be loaded.

    Attention goes through SDPA, or step by step for a model that has none (attention sinks): packed rows need a mask of
    their own, which both take exactly. With the option `device_map` the layers are spread over the GPUs there are, as
    accelerate does it, and `device` is left alone.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    name, revision, spread = options["location"], options["revision"], options.get("device_map")
    try:
        family = AutoModelForCausalLM._model_mapping[type(AutoConfig.from_pretrained(name, revision=revision))]
        model = AutoModelForCausalLM.from_pretrained(
            name,
            revision=revision,
            dtype=getattr(torch, options["dtype"]),
            attn_implementation="sdpa" if family._supports_sdpa else "eager",
            **({"device_map": spread} if spread else {}),
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(_cannot_load("model", options, error)) from error
    return (model if spread else model.to(device)).eval()


def load_policy(options: dict[str, Any], adapter: str | Path | None, device: str = "cpu") -> nn.Module:
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


def stop_tokens(tokenizer: Any, model: nn.Module) -> set[int]:
    """Token ids that end a completion: the tokenizer's and the model's own end-of-sequence tokens."""
    ids = {tokenizer.eos_token_id}
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids |= set(configured) if isinstance(configured, list) else {configured}
    return {token for token in ids if token is not None}


def _cannot_load(what: str, options: dict[str, Any], error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"the {what} of '{options['location']}' cannot be loaded: {first} "
        "(a local folder always works: set path in the model's file)"
    )

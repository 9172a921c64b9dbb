"""A base model that no process holds whole: each keeps its rows of every weight, and layers are put together as they are used.

Knows where weights lie in a model's files and hands the rest to `fully_shard` (FSDP2): a layer's weights are gathered before it
runs, forward and backward, and freed after. Adapters are put on afterwards and are whole in every process. What the
processes must do in step is `vegflow.learning.parallel`'s to see to.
"""

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from vegflow.errors import ConfigError
from vegflow.models.load import cannot_load, kernel
from vegflow.models.memory import check_memory, expected_gb
from vegflow.models.place import arguments, local_path

M_MMAP_THRESHOLD, LARGE = -3, 1 << 16
"""An option of glibc's, and the bytes from which it is to give memory back when it is freed."""


def load_sharded(options: Mapping[str, Any], device: str = "cpu") -> nn.Module:
    """The base model in evaluation mode, frozen, among the processes of the default group (`options` as `load_model`'s).

    Weights are never whole in a process while loading: each reads its own rows from the memory-mapped safetensors. While
    the model runs, a process holds its shard, one layer, and the embeddings and output head. Raises ConfigError for a
    model without safetensors, or whose files store weights otherwise than the model has them (4 bits, experts apart).
    """
    from accelerate import init_empty_weights
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoConfig, AutoModelForCausalLM

    _give_back_memory()
    folder = _folder(options)
    check_memory(
        options.get("name", folder.name), expected_gb(folder, options["dtype"]), device
    )  # all are on one machine
    try:
        config = AutoConfig.from_pretrained(folder)
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(
                config, dtype=getattr(torch, options["dtype"]), attn_implementation=kernel(config)
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ConfigError(cannot_load("model", options, error)) from error
    model.eval().requires_grad_(False)
    model.tie_weights()
    model.packed_attention = options.get("attention", "auto")
    mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    for module in (*model.get_decoder().layers, model):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    buffers = {name: buffer.to(device) for name, buffer in model.named_buffers()}
    model.to_empty(device=device)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    _read(model, folder)
    return model


def shard_bytes(model: nn.Module) -> tuple[int, int]:
    """Bytes of the sharded weights that this process holds, and that all hold together."""
    from torch.distributed.tensor import DTensor

    weights = [weight for weight in model.parameters() if isinstance(weight, DTensor)]
    own = sum(weight.to_local().numel() * weight.element_size() for weight in weights)
    return own, sum(weight.numel() * weight.element_size() for weight in weights)


def _give_back_memory() -> None:
    """Have layers that were put together leave the process when they are freed: glibc would keep most of them, on a CPU."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def _folder(options: Mapping[str, Any]) -> Path:
    """Where the model's files are; those of the hub are fetched first."""
    if local := local_path(options):
        arguments(options)  # says what is wrong with it
        return local
    from huggingface_hub import snapshot_download

    try:
        wanted = ["*.json", "*.safetensors"]
        return Path(snapshot_download(options["location"], revision=options["revision"], allow_patterns=wanted))
    except (OSError, ValueError) as error:
        raise ConfigError(cannot_load("model", options, error)) from error


@torch.no_grad()
def _read(model: nn.Module, folder: Path) -> None:
    """Copy this process's rows of every weight out of the files."""
    from safetensors import safe_open

    files = [safe_open(file, framework="pt") for file in sorted(folder.glob("*.safetensors"))]
    where = {name: file for file in files for name in file.keys()}  # noqa: SIM118
    for name, weight in model.named_parameters():
        stored = where[name].get_slice(name) if name in where else None
        if stored is None or tuple(stored.get_shape()) != tuple(weight.shape):
            raise ConfigError(
                f"'{folder}' cannot be sharded: its safetensors have no weight '{name}' of shape {tuple(weight.shape)}, and "
                "sharding reads weights as they are stored, not quantised ones or experts one by one; save the model once "
                "as Transformers has it in memory (save_pretrained), or take device_map"
            )
        weight.to_local().copy_(stored[_rows(weight)])


def _rows(weight: Any) -> slice:
    """The rows of a weight that are this process's: the first ceil(n / processes), and so on."""
    mesh, n = weight.device_mesh, weight.shape[0]
    size = -(-n // mesh.size())
    first = min(mesh.get_local_rank() * size, n)
    return slice(first, min(first + size, n))

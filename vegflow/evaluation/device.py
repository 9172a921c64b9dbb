"""The device candidates run on: which one `auto` means, and what identifies it.

Knows torch, which it loads where it is asked for, and /proc/cpuinfo; how a device is timed is in the worker.
"""

import platform
from functools import cache
from pathlib import Path


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` takes CUDA where torch finds one. Raises ValueError for another name."""
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device '{device}': one of auto, cpu, cuda")
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def device_identity(device: str = "auto") -> str:
    """Model, torch version and threads, in one line: verdicts are comparable between equal identities only."""
    import torch

    if resolve_device(device) == "cuda":
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CUDA device"
        return f"{name}; torch {torch.__version__}; CUDA {torch.version.cuda}"
    return f"{_cpu_model()}; torch {torch.__version__}; 1 thread"


@cache
def device_uuid() -> str:
    """Of the GPU that evaluations run on, the first visible one, as the driver prints it; empty where there is none."""
    import torch

    return str(torch.cuda.get_device_properties(0).uuid) if torch.cuda.is_available() else ""


def lock_name(device: str) -> str:
    """What `timing_lock` knows a device by: `cpu`, or a GPU's own name, so that each GPU of a machine has a lock."""
    return f"cuda-{device_uuid()}".rstrip("-") if device == "cuda" else device


def interpreter_identity() -> str:
    """What runs Python functions, in one line; loads no torch."""
    return f"{_cpu_model()}; Python {platform.python_version()}"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware", "CPU implementer"):
                return " ".join(value.split())
    except OSError:
        pass
    return "unknown CPU"

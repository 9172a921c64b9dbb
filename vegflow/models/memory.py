"""Whether there is memory for a model, before it is loaded.

Knows files' sizes and what the machine says is free; what a job does with the model is left to `memory_gb` of its file.
"""

import json
from pathlib import Path

import torch

from vegflow.errors import ConfigError

GB = 1e9
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def check_memory(name: str, wanted_gb: float, device: str) -> None:
    """Raise ConfigError if the device has less memory free than is wanted."""
    free = free_gb(device)
    if free is not None and free < wanted_gb:
        where = "on the GPUs" if device.startswith("cuda") else "on this machine"
        raise ConfigError(
            f"model {name} needs about {wanted_gb:.3g} GB and {free:.3g} GB are free {where}; take a smaller model or dtype, "
            "end what else is running, or set memory_gb in the model's file if less will do"
        )


def expected_gb(folder: Path, dtype: str) -> float:
    """Size of a local model's weights once they are loaded as `dtype`, in GB; 0 if it has no files to measure."""
    files = [folder] if folder.is_file() else [file for pattern in WEIGHTS for file in folder.glob(pattern)]
    stored = BYTES.get(_stored(folder / "config.json"), BYTES[dtype])
    return sum(file.stat().st_size for file in files) * BYTES[dtype] / stored / GB


def free_gb(device: str) -> float | None:
    """Memory that is free, in GB: on all GPUs that the job sees together, or on the machine within the job's limit."""
    if device.startswith("cuda"):
        return sum(torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count())) / GB
    found = [value for value in (_machine(), _limit()) if value is not None]
    return min(found) / GB if found else None


def _stored(config: Path) -> str:
    told = json.loads(config.read_text()) if config.exists() else {}
    return str(told.get("dtype") or told.get("torch_dtype"))


def _machine() -> int | None:
    if not MEMINFO.exists():
        return None
    lines = [line.split() for line in MEMINFO.read_text().splitlines()]
    return next((int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:"), None)


def _limit() -> int | None:
    """What the control group leaves; the page cache that counts against it is given back when it is needed."""
    try:
        most, used = (CGROUP / name for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return int(most.read_text()) - int(used.read_text()) + int(statistics["file"])
    except (OSError, ValueError, KeyError):
        return None

"""Where a model runs: on the CPU, or on the GPU that a job has been given."""

import os

import torch

from vegflow.errors import ConfigError


def model_device(gpus: int) -> str:
    """`cuda` if the job asks for GPUs (`gpus` > 0), else `cpu`. Raises ConfigError if it asks and there is none."""
    if gpus == 0:
        return "cpu"
    if not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "unset")
        raise ConfigError(
            f"the model's file asks for {gpus} GPU and none is visible here (CUDA_VISIBLE_DEVICES is {visible}); "
            "set gpus: 0 in it to run on the CPU"
        )
    return "cuda"

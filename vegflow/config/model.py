"""What a base model is: the files `resources/models/*.yaml`."""

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from vegflow.config.block import Block
from vegflow.config.engines import ServerConfig, VllmConfig
from vegflow.config.errors import sentences
from vegflow.errors import ConfigError


class BuildConfig(Block):
    """A model that the pipeline trains from scratch: architecture, corpus and training."""

    corpus: str
    """Corpus of `forward` bodies, a file of `resources/corpus/` without `.yaml`."""
    tasks: tuple[str, ...] | None = None
    """Built-in tasks to learn; all by default."""
    vocabulary: int = Field(1536, ge=300)
    """Most tokens of the byte-level BPE tokenizer."""
    hidden_size: int = Field(128, ge=16)
    """Width of the residual stream."""
    layers: int = Field(4, ge=1)
    """Transformer blocks."""
    heads: int = Field(4, ge=1)
    """Attention heads per block."""
    mlp_size: int = Field(384, ge=16)
    """Width of the feed-forward layers."""
    epochs: int = Field(60, ge=1)
    """Passes over the corpus."""
    batch_size: int = Field(10, ge=1)
    """Prompts per step, each with all of its completions."""
    learning_rate: float = Field(5e-3, gt=0)
    """Of embeddings and norms (AdamW)."""
    matrix_learning_rate: float = Field(1e-2, gt=0)
    """Of the matrices inside the network (Muon)."""
    seed: int = 0
    """Seed of the initial weights and of the order of batches."""


class LearningConfig(Block):
    """How an update runs the model: by several processes, where one is too slow or too small."""

    processes: int = Field(1, ge=1)
    """Processes of an update (`torchrun` starts them), each with every n-th prompt, a CPU core or `gpus` GPU of its own."""
    shard: bool = False
    """Share the base model among the processes (FSDP): each holds its part of every weight, and layers are put together as
    they are used. The model's files must be safetensors that store weights as they are in memory."""


class ModelConfig(Block):
    """A base model: where it is, or how it is built, and how it is spoken to."""

    description: str = ""
    """The model in a few words, for the report."""
    path: str | None = None
    """A local folder in Hugging Face's layout, or a `.gguf` file; goes before `hub`."""
    hub: str | None = None
    """A name on the hub, such as `Qwen/Qwen2.5-Coder-0.5B-Instruct`. If the environment variable VEGFLOW_MODELS names a folder
    that holds one called like the model's file, that is loaded, and the hub is not asked."""
    revision: str | None = None
    """The hub's commit; required with `hub`, so that the model cannot change under a study."""
    build: BuildConfig | None = None
    """How to train it from scratch, for a model that ships as a recipe."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights in memory; probabilities are always computed in float32."""
    prompt: str = "chat"
    """Template used when `sampling.prompt` is `auto`: a file of `resources/prompts/` without `.yaml`."""
    stop_tokens: tuple[str, ...] = ()
    """Tokens that end a completion beside the tokenizer's and the model's own end-of-sequence tokens."""
    memory_gb: float | None = Field(None, gt=0)
    """Memory that sampling with 64 rows takes, in GB: a job is not started with less. From the files' sizes by default."""
    gpus: int = Field(0, ge=0)
    """GPUs for a job that runs the model through Transformers; 0 runs it on the CPU, and more than one go with `device_map`. A
    job that runs vLLM asks for `vllm.tensor_parallel_size` of them if this is not 0."""
    device_map: Literal["auto", "balanced", "sequential"] | None = None
    """Spread a model that one GPU cannot hold over all that the job sees (accelerate's names); needs accelerate."""
    learning: LearningConfig = LearningConfig()
    attention: Literal["auto", "sdpa", "flex", "branches"] = "auto"
    """Of packed rows: SDPA and a mask, FlexAttention (on a GPU), or branch by branch (on a CPU, for models with SDPA). `auto`
    takes branches on a CPU and on a GPU whichever of the other two it measures to be faster."""
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Modules that get an adapter; never the output head, whose adapters engines ignore when scoring."""
    vllm: VllmConfig | None = None
    server: ServerConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problem := _misfit(self):
            raise ValueError(problem)
        return self

    @field_validator("lora_targets")
    @classmethod
    def _no_head(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if "lm_head" in targets:
            raise ValueError("an adapter on lm_head is left out by engines when they score prompts; take other modules")
        return targets


def _misfit(config: ModelConfig) -> str | None:
    """What does not go together, as a sentence."""
    if config.learning.shard and config.learning.processes == 1:
        return "learning: shard needs more processes than one to share the model among"
    if config.learning.processes > 1 and config.device_map:
        return (
            "learning: processes and device_map do not go together: each spreads the model over the same GPUs; take one"
        )
    if config.gpus and config.attention == "branches":
        return "attention: 'branches' is for a CPU; take auto, sdpa or flex with gpus: 1"
    if not config.gpus and config.attention == "flex":
        return "attention: 'flex' needs a GPU (it has no gradients on a CPU); set gpus: 1, or take auto"
    return None


def load_model_config(name: str, root: Path) -> ModelConfig:
    """The model called `name`: `resources/models/NAME.yaml` under `root`, or a path to such a file.

    Raises ConfigError if there is no such file or it is not a valid description.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else root / "resources" / "models" / f"{name}.yaml"
    if not path.is_absolute():
        path = root / path
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in (root / "resources" / "models").glob("*.yaml")))
        raise ConfigError(f"model: there is no model '{name}'; known are {known}, or give the path of a .yaml file")
    try:
        config = ModelConfig.model_validate(yaml.safe_load(path.read_text()) or {})
    except ValidationError as error:
        raise ConfigError(f"{path}: {sentences(error)}") from error
    sources = [key for key in ("path", "hub", "build") if getattr(config, key) is not None]
    if not sources:
        raise ConfigError(f"{path}: say where the model is: one of path, hub or build")
    if config.gpus > 1 and config.device_map is None:
        raise ConfigError(
            f"{path}: gpus: {config.gpus} need device_map, which spreads the model over them; write auto, or gpus: 1"
        )
    if "path" not in sources and config.hub and not config.revision:
        raise ConfigError(f"{path}: hub needs revision, the commit to use")
    return config

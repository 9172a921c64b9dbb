"""One contender of the benchmark of sampling, in a process of its own: `python -m benchmarks._sampling JSON`.

Prints one JSON line: tokens drawn, wall and CPU seconds of a second drawing (the first warms up), peak memory, and for ours
the largest difference between a recorded log-probability and the rescored one. Imports what a contender needs and nothing
else, since vLLM may live in an environment of its own.
"""

import functools
import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any


def prompts(job: dict[str, Any], vocabulary: int) -> list[list[int]]:
    """Random prompts, the same for every contender."""
    draws = random.Random(0)
    return [[draws.randrange(100, vocabulary - 100) for _ in range(job["prompt"])] for _ in range(job["tasks"])]


def ours(job: dict[str, Any]) -> Any:
    """A function that draws with the engine `transformers` of vegflow and counts tokens, and one that checks what was recorded."""
    import torch

    from vegflow.config.sampling import SamplingConfig
    from vegflow.sampling.engine import load
    from vegflow.sampling.protocol import Request

    torch.set_num_threads(job["threads"])
    sampling = SamplingConfig(temperature=job["temperature"], max_tokens=job["tokens"], batch_size=job["k"])
    engine = load({"location": job["model"], "revision": None, "dtype": "float32"}, sampling, "cpu")
    engine.use(job["adapter"])
    if not job["stop"]:
        engine.stop = frozenset()
    asked = prompts(job, engine.base.config.vocab_size)
    requests = [Request(tuple(p), tuple((n, i) for i in range(job["k"]))) for n, p in enumerate(asked)]
    drawn: dict[int, Any] = {}

    def draw() -> int:
        drawn.update(engine.draw(requests, sampling))
        return sum(len(c.token_ids) for found in drawn.values() for c in found)

    def difference() -> float:
        pairs = (
            (recorded, rescored)
            for number, found in drawn.items()
            for c, scores in zip(found, engine.score(asked[number], [c.token_ids for c in found]), strict=True)
            for recorded, rescored in zip(c.logprobs, scores, strict=True)
        )
        return max(abs(recorded - rescored) for recorded, rescored in pairs)

    return draw, difference


def generate(job: dict[str, Any]) -> Any:
    """The same through `transformers.generate`, which is not asked for log-probabilities."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(job["threads"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    stop = model.generation_config.eos_token_id if job["stop"] else None
    if job["adapter"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job["adapter"]).eval()
    model.generation_config.eos_token_id = stop
    settings = {"do_sample": True, "temperature": job["temperature"], "top_k": 0, "max_new_tokens": job["tokens"]}

    @torch.inference_mode()
    def draw() -> int:
        total = 0
        for prompt in prompts(job, model.config.vocab_size):
            ids = torch.tensor([prompt])
            mask = torch.ones_like(ids)
            found = model.generate(input_ids=ids, attention_mask=mask, num_return_sequences=job["k"], **settings)
            drawn = found[:, len(prompt) :]
            stopped = torch.zeros_like(drawn) if stop is None else (drawn == stop).int()
            total += int(torch.where(stopped.any(1), stopped.argmax(1) + 1, drawn.shape[1]).sum())
        return total

    return draw, None


def vllm(job: dict[str, Any], dtype: str = "float32") -> Any:
    """The same through vLLM on the CPU, in the best of the settings that were tried.

    Blocks of 32 tokens: of a prompt that completions share, all but the last block is read once, and its own 128 leave much
    more to read again. Eager, since it starts in seconds and compiled it was no faster; threads are not bound to cores, which
    is for one process on a machine of its own.
    """
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": str(job["threads"]), "HF_HUB_OFFLINE": "1"}
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    settings: dict[str, Any] = {}
    if job["adapter"]:
        modules = json.loads((Path(job["adapter"]) / "adapter_config.json").read_text())["target_modules"]
        settings = {"enable_lora": True, "max_lora_rank": 16, "max_loras": 1, "lora_target_modules": sorted(modules)}
    model = LLM(
        job["model"],
        dtype=dtype,
        block_size=32,
        max_model_len=job["prompt"] + job["tokens"] + 16,
        max_num_seqs=job["k"],
        enforce_eager=True,
        seed=0,
        **settings,
    )
    adapter = {"lora_request": LoRARequest("adapter", 1, job["adapter"])} if job["adapter"] else {}
    sampling = SamplingParams(
        n=job["k"],
        temperature=job["temperature"],
        max_tokens=job["tokens"],
        logprobs=0,
        ignore_eos=not job["stop"],
        detokenize=False,
    )
    vocabulary = model.llm_engine.model_config.get_vocab_size()

    def draw() -> int:
        asked = [{"prompt_token_ids": prompt} for prompt in prompts(job, vocabulary)]
        found = model.generate(asked, sampling, use_tqdm=False, **adapter)
        return sum(len(drawn.token_ids) for request in found for drawn in request.outputs)

    return draw, None


CONTENDERS = {
    "ours": ours,
    "generate": generate,
    "vllm": vllm,
    "vllm_bf16": functools.partial(vllm, dtype="bfloat16"),
}


def main() -> None:
    """Run the job on the command line."""
    job = json.loads(sys.argv[1])
    draw, difference = CONTENDERS[job["contender"]](job)
    draw()
    wall, cpu = time.monotonic(), time.process_time()
    tokens = draw()
    spent = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    found = {"difference": difference()} if difference else {}
    print(json.dumps({"tokens": tokens, "peak_mb": peak, **spent, **found}))


if __name__ == "__main__":
    main()

"""Make resources/measured/functions/rollouts.parquet: completions of the Python functions of resources/functions by a model.

    VEGFLOW_MODELS=FOLDER python tools/function_rollouts.py qwen2.5-coder-0.5b --k 64 OUTPUT.parquet

K in shards of 8, each drawn for all tasks: a run that is ended early leaves the shards that it finished.
"""

import argparse
from pathlib import Path

import torch

from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.config.model import load_model_config
from vegflow.config.sampling import SamplingConfig
from vegflow.sampling.engine import load
from vegflow.sampling.protocol import Request
from vegflow.sampling.sample import row_of
from vegflow.stage import progress
from vegflow.tasks.functions import load_functions

ROOT = Path(__file__).resolve().parent.parent
STOP = ("\ndef ", "\nclass ", "\nif ", "\nimport ", "\nfrom ", "\nprint(", "\nassert ", "\n#", "\n@", "\n```")
SHARD = 8


def main() -> None:
    """Draw the shards that the output does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load_model_config(args.model, ROOT)
    options = {"location": model.hub, "revision": model.revision, "name": args.model, "dtype": model.dtype}
    options["stop_tokens"] = model.stop_tokens
    sampling = SamplingConfig(temperature=args.temperature, max_tokens=args.max_tokens, stop=STOP)
    rows = read_rows(args.output, ROLLOUTS) if args.output.exists() else []
    with load(options, sampling, "cpu") as engine:
        while (first := len({row["index"] for row in rows})) < args.k:
            rows += shard(engine, sampling, args.seed, range(first, min(first + SHARD, args.k)))
            args.output.parent.mkdir(parents=True, exist_ok=True)
            settings = {"model": options, "sampling": sampling.model_dump(), "seed": args.seed}
            write_table(args.output, rows, ROLLOUTS, provenance(config=settings))


def shard(engine, sampling: SamplingConfig, seed: int, indices: range) -> list[dict]:
    """Rows of ROLLOUTS: completions number `indices` of every task."""
    tasks = list(load_functions("own").values())
    cell = {"source": "functions", "seed": seed, "step": None, "policy": "base"}
    encode = engine.tokenizer.encode
    requests = [
        Request(
            tuple(encode(task.prompt, add_special_tokens=False)),
            tuple(("functions", seed, None, task.id, index) for index in indices),
        )
        for task in tasks
    ]
    rows = {}
    for number, completions in engine.draw(requests, sampling):
        prompt, task = list(requests[number].prompt_ids), tasks[number]
        rows[number] = [
            row_of(engine.tokenizer, cell, task.id, index, prompt, completion, sampling)
            for index, completion in zip(indices, completions, strict=True)
        ]
        progress(f"{len(rows)}/{len(tasks)} tasks, rollouts {indices.start} to {indices.stop - 1}")
    return [row for number in range(len(tasks)) for row in rows[number]]


if __name__ == "__main__":
    main()

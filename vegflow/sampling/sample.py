"""The first verb, sample: a policy and some tasks in, a rollouts table out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from vegflow.artifacts.io import digest
from vegflow.candidates.prompt import prompt_ids
from vegflow.config.sampling import SamplingConfig
from vegflow.models.load import stop_tokens
from vegflow.randomness import stream
from vegflow.sampling.engine import Completion, draw
from vegflow.tasks.task import Task


def sample(
    model: nn.Module,
    tokenizer: Any,
    tasks: Sequence[Task],
    template: Mapping[str, Any],
    cell: Mapping[str, Any],
    config: SamplingConfig,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Rows of ROLLOUTS: `cell["count"]` completions of each task, numbered from `cell["first"]`.

    `cell` says what they are for (source, seed, step) and who writes them (policy). Rollout `index` of a task is the
    same whichever file it is drawn for: its random stream is named by source, seed, step, task and index.
    """
    stop = stop_tokens(tokenizer, model)
    rows: list[dict[str, Any]] = []
    for number, task in enumerate(tasks, 1):
        prompt = prompt_ids(dict(template), task, config.scaffold, tokenizer)
        indices = range(cell["first"], cell["first"] + cell["count"])
        for start in range(0, len(indices), config.batch_size):
            batch = indices[start : start + config.batch_size]
            streams = [stream(cell["source"], cell["seed"], cell["step"], task.id, index) for index in batch]
            drawn = draw(
                model, prompt, streams, temperature=config.temperature, max_tokens=config.max_tokens, stop=stop
            )
            for index, completion in zip(batch, drawn, strict=True):
                text = tokenizer.decode(completion.token_ids, skip_special_tokens=True)
                rows.append(_row(cell, task, index, prompt, completion, text, config.temperature))
        progress(f"{number}/{len(tasks)} tasks, {len(rows)} rollouts")
    return rows


def _row(
    cell: Mapping[str, Any],
    task: Task,
    index: int,
    prompt: list[int],
    completion: Completion,
    text: str,
    temperature: float,
) -> dict[str, Any]:
    step = "" if cell["step"] is None else f"/step{cell['step']:03d}"
    return {
        "rollout_id": f"{cell['source']}/seed{cell['seed']}{step}:{task.id}:{index}",
        "source": cell["source"],
        "step": cell["step"],
        "task_id": task.id,
        "policy_id": cell["policy"],
        "seed": cell["seed"],
        "index": index,
        "prompt_sha256": digest(prompt),
        "prompt_ids": prompt,
        "token_ids": completion.token_ids,
        "token_logprobs": completion.logprobs,
        "token_logprobs_tempered": completion.logprobs_tempered,
        "logprob": sum(completion.logprobs),
        "logprob_tempered": sum(completion.logprobs_tempered),
        "temperature": temperature,
        "n_tokens": len(completion.token_ids),
        "n_prompt_tokens": len(prompt),
        "finish_reason": completion.finish_reason,
        "completion": text,
    }

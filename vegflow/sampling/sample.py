"""The first verb, sample: a policy and some tasks in, a rollouts table out.

Knows tasks, prompts and rows; what runs the model is behind `vegflow.sampling.protocol`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vegflow.artifacts.io import digest
from vegflow.candidates.prompt import prompt_ids, stop_texts
from vegflow.config.sampling import SamplingConfig
from vegflow.sampling.protocol import Completion, Engine, Request
from vegflow.sampling.stopping import cut
from vegflow.tasks.task import Task


def sample(
    engine: Engine,
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
    config = config.model_copy(update={"stop": (*config.stop, *stop_texts(dict(template)))})
    indices = range(cell["first"], cell["first"] + cell["count"])
    requests = [
        Request(
            tuple(prompt_ids(dict(template), task, config.scaffold, tokenizer)),
            tuple((cell["source"], cell["seed"], cell["step"], task.id, index) for index in indices),
        )
        for task in tasks
    ]
    rows: dict[int, list[dict[str, Any]]] = {}
    for number, completions in engine.draw(requests, config):
        prompt, task = list(requests[number].prompt_ids), tasks[number]
        rows[number] = [
            row_of(tokenizer, cell, task.id, index, prompt, completion, config)
            for index, completion in zip(indices, completions, strict=True)
        ]
        progress(f"{len(rows)}/{len(tasks)} tasks, {sum(map(len, rows.values()))} rollouts")
    return [row for number in range(len(requests)) for row in rows[number]]


def row_of(
    tokenizer: Any,
    cell: Mapping[str, Any],
    task_id: str,
    index: int,
    prompt: list[int],
    completion: Completion,
    config: SamplingConfig,
) -> dict[str, Any]:
    """A row of ROLLOUTS; its text ends before the first stop text."""
    text = cut(tokenizer.decode(list(completion.token_ids), skip_special_tokens=True), config.stop)
    step = "" if cell["step"] is None else f"/step{cell['step']:03d}"
    return {
        "rollout_id": f"{cell['source']}/seed{cell['seed']}{step}:{task_id}:{index}",
        "source": cell["source"],
        "step": cell["step"],
        "task_id": task_id,
        "policy_id": cell["policy"],
        "seed": cell["seed"],
        "index": index,
        "prompt_sha256": digest(prompt),
        "prompt_ids": prompt,
        "token_ids": list(completion.token_ids),
        "token_logprobs": list(completion.logprobs),
        "token_logprobs_tempered": list(completion.logprobs_tempered),
        "logprob": sum(completion.logprobs),
        "logprob_tempered": sum(completion.logprobs_tempered),
        "temperature": config.temperature,
        "n_tokens": len(completion.token_ids),
        "n_prompt_tokens": len(prompt),
        "finish_reason": completion.finish_reason,
        "completion": text,
    }

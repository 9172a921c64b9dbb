"""Demonstrations: known programs of training tasks, drawn from a corpus as rollouts are drawn from a policy.

Knows a corpus's forms, prompts and tokens, and which tasks may be taught; that a program is right is for the evaluator to say,
and what is learnt from it for `vegflow.learning`.
"""

import textwrap
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from vegflow.artifacts.io import digest
from vegflow.candidates.prompt import prompt_ids
from vegflow.models.corpus import Form
from vegflow.randomness import stream
from vegflow.tasks.catalogue import operation_of
from vegflow.tasks.task import Task

INDENT = 4


def teachable(tasks: Mapping[str, Task], evaluated: Set[str], corpus: Mapping[str, Sequence[Form]]) -> tuple[str, ...]:
    """Ids of the tasks, in order, of which the corpus has a correct program and whose operation is not an evaluated one.

    Several problems share an operation (convolutions of other shapes), and a program of one is a program of the other.
    """
    operations = {task_id: operation_of(task) for task_id, task in tasks.items()}
    return tuple(
        task_id
        for task_id, operation in operations.items()
        if operation is not None and operation not in evaluated and honest(corpus.get(operation, ()))
    )


def honest(forms: Sequence[Form]) -> tuple[Form, ...]:
    """The forms that compute their operation."""
    return tuple(form for form in forms if form.kind == "honest")


def demonstrate(
    tokenizer: Any,
    tasks: Sequence[Task],
    corpus: Mapping[str, Sequence[Form]],
    template: Mapping[str, Any],
    cell: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Rows of ROLLOUTS: `cell["count"]` correct programs of each task, drawn by how common they are.

    The stream of a draw is named as a rollout's is (source, seed, step, task, index), so a row is the same whatever is drawn
    beside it. Nobody drew the tokens: their log-probabilities are empty, the sums are not a number, and the temperature is 1,
    at which likelihood is maximal on what is shown.
    """
    rows = []
    for task in tasks:
        forms = honest(corpus[str(operation_of(task))])
        bounds = np.cumsum([form.frequency for form in forms])
        prompt = prompt_ids(dict(template), task, "body", tokenizer)
        for index in range(cell["first"], cell["first"] + cell["count"]):
            key = (cell["source"], cell["seed"], cell["step"], task.id, index)
            form = forms[int(np.searchsorted(bounds, stream(*key).integers(bounds[-1]), side="right"))]
            rows.append(_row(tokenizer, task, prompt, answer(template, form.body, task), cell, index))
    return rows


def answer(template: Mapping[str, Any], body: str, task: Task) -> str:
    """A body as an answer to the template: indented as its last line asks, or, to a chat, as a block of code."""
    body = body.strip("\n")
    if "text" not in template:
        return f"```python\n{body}\n```"
    last = template["text"].rstrip().rsplit("\n", 1)[-1]
    depth = len(last) - len(last.lstrip()) + (INDENT if last.endswith(":") else 0)
    return textwrap.indent(body, " " * depth) + "\n"


def _row(
    tokenizer: Any, task: Task, prompt: Sequence[int], text: str, cell: Mapping[str, Any], index: int
) -> dict[str, Any]:
    tokens = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    return {
        "rollout_id": f"{cell['source']}/seed{cell['seed']}/step{cell['step']:03d}:{task.id}:{index}",
        "source": cell["source"],
        "step": cell["step"],
        "task_id": task.id,
        "policy_id": cell["policy"],
        "seed": cell["seed"],
        "index": index,
        "prompt_sha256": digest(list(prompt)),
        "prompt_ids": list(prompt),
        "token_ids": tokens,
        "token_logprobs": [],
        "token_logprobs_tempered": [],
        "logprob": float("nan"),
        "logprob_tempered": float("nan"),
        "temperature": 1.0,
        "n_tokens": len(tokens),
        "n_prompt_tokens": len(prompt),
        "finish_reason": "stop",
        "completion": text,
    }

"""Python functions as examples for a reward model: the pool of a staged verification, its verdicts, and a tokenizer.

Knows function tasks and rows of POOL; kernels come from rollouts, whose token ids are known (`reward_examples`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vegflow.learning.reward_examples import UNKNOWN, Completion, Examples
from vegflow.tasks.functions import FunctionTask, function_program

MOST_TOKENS = 512
"""A completion is cut here, and then has no stop token, as one that a model was stopped at."""


def pool_examples(pool: Iterable[Mapping[str, Any]], tasks: Mapping[str, FunctionTask], tokenizer: Any) -> Examples:
    """Rows of POOL with the full suite's verdict: the prompt, and what of the completion is the function, then a stop token.

    What a model wrote after the function's end is no part of the program that is judged, and not shown. A completion
    that writes the whole module is shown as it is.
    """
    rows = sorted(pool, key=lambda row: (row["task_id"], row["completion_sha256"]))
    prompts = {task_id: _ids(tokenizer, task.prompt) for task_id, task in tasks.items()}
    completions = []
    for row in rows:
        task = tasks[row["task_id"]]
        program = function_program(task, row["completion"])
        tokens = _ids(tokenizer, program.removeprefix(task.prompt))
        tokens = tokens[:MOST_TOKENS] if len(tokens) > MOST_TOKENS else (*tokens, tokenizer.eos_token_id)
        completions.append(Completion(task.id, row["completion_sha256"], prompts[task.id], tokens))
    passes = np.array([row["correct"] for row in rows], dtype=bool)
    return Examples(tuple(completions), passes, np.array([UNKNOWN] * len(rows), dtype=float).reshape(-1, 3))


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

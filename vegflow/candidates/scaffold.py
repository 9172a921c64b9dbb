"""From extracted code to a candidate program: a module that defines `ModelNew`, or a source of a compiled language."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from vegflow.candidates.extract import Extraction, extract_body, extract_program
from vegflow.evaluation.candidate import Candidate
from vegflow.tasks.task import Task


def assemble(completion: str, task: Task, scaffold: str) -> Extraction:
    """The candidate program in a completion, or the reason why there is none.

    `body`: the task's reference (for the constructor and its weights), then `class ModelNew(Model)` with the body as
    its `forward`. `full`: the model's own program, whose language its fence says.
    """
    if scaffold == "full":
        return extract_program(completion)
    body = extract_body(completion, task.arguments)
    if body.code is None:
        return body
    head = f"class ModelNew(Model):\n    def forward(self, {', '.join(task.arguments)}):\n"
    return Extraction(f"{task.source.rstrip()}\n\n\n{head}{textwrap.indent(body.code, '        ')}\n")


def candidates_of(rollouts: Sequence[Mapping[str, Any]], tasks: Mapping[str, Task], scaffold: str) -> list[Candidate]:
    """The candidate of each rollout, in order; one completion of a task is taken apart once."""
    done: dict[tuple[str, str], Candidate] = {}
    for row in rollouts:
        key = (row["task_id"], row["completion"])
        if key not in done:
            found = assemble(row["completion"], tasks[row["task_id"]], scaffold)
            done[key] = Candidate(row["task_id"], found.code, found.reason, found.language)
    return [done[row["task_id"], row["completion"]] for row in rollouts]

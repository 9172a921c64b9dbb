"""Programs that the evaluator's benchmarks judge: the corpus's forms, and copies that differ in a constant only."""

from collections.abc import Sequence
from itertools import accumulate

from vegflow.candidates.scaffold import assemble
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.languages import compiled
from vegflow.models.corpus import Form, load_corpus
from vegflow.tasks.catalogue import builtin_tasks, task_operations
from vegflow.tasks.task import Task

TASKS = builtin_tasks("cpu")


def forms_of(task_id: str) -> list[Form]:
    """The corpus's forms of a task, the most common first."""
    return sorted(load_corpus()[task_operations()[task_id]], key=lambda form: -form.frequency)


def proportional(forms: Sequence[Form], count: int) -> list[Form]:
    """`count` forms, each as often as its frequency says (to within one)."""
    ends = list(accumulate(form.frequency for form in forms))
    places = [(index + 0.5) * ends[-1] / count for index in range(count)]
    return [next(form for form, end in zip(forms, ends, strict=True) if place < end) for place in places]


def candidate_of(task: Task, body: str, number: int | None = None) -> Candidate:
    """A body in the scaffold, as a candidate; with a `number`, a program of its own."""
    found = assemble(body, task, "body")
    candidate = Candidate(task.id, found.code, found.reason)
    return candidate if number is None else distinct(candidate, number)


def distinct(candidate: Candidate, number: int) -> Candidate:
    """The same program with a constant that changes nothing, so that it is not judged together with the others."""
    if candidate.program is None:
        return candidate
    constant = f"enum {{ NUMBER = {number} }};" if compiled(candidate.language) else f"NUMBER = {number}"
    program = f"{candidate.program.rstrip()}\n\n\n{constant}\n"
    return Candidate(candidate.task_id, program, candidate.reason, candidate.language)


def reference_as_candidate(task: Task) -> Candidate:
    """The task's own program as a candidate."""
    return Candidate(task.id, task.source.replace("class Model(", "class ModelNew("))

"""The catalogue's own audit: its solutions pass, and answers that look at nothing fail."""

import ast

import pytest

from tests.verification.small_functions import CONFIG, entry
from vegflow.tasks.functions import load_functions
from vegflow.verification.functions import FunctionExecutor

TASKS = load_functions()
CONSTANTS = ("None", "0", "1", "-1", "True", "False", "''", "[]", "{}", "()")


@pytest.fixture(scope="module")
def executor():
    executor = FunctionExecutor(TASKS, CONFIG)
    yield executor
    executor.close()


def passes(executor, candidates):
    numbers = [range(len(TASKS[candidate.task_id].tests)) for candidate in candidates]
    found = executor.tests(candidates, numbers)
    return [all(check.outcome == "pass" for check in checks.values()) for checks in found]


def test_solutions_pass_alone(executor):
    for task in TASKS.values():
        checks = executor.examine(entry(task, task.solution), range(len(task.tests)), early=False)
        assert {check.outcome for check in checks.values()} == {"pass"}, task.id


def test_answers_that_look_at_nothing_fail(executor):
    candidates = [entry(task, f"    return {value}\n") for task in TASKS.values() for value in CONSTANTS]
    candidates += [entry(task, "    pass\n") for task in TASKS.values()]
    assert not any(passes(executor, candidates))


def test_the_arguments_themselves_are_no_answer(executor):
    candidates = []
    for task in TASKS.values():
        arguments = [argument.arg for argument in ast.parse(task.prompt).body[0].args.args]
        candidates += [entry(task, f"    return {argument}\n") for argument in arguments]
    assert not any(passes(executor, candidates))


def test_no_one_right_answer_is_right_everywhere(executor):
    candidates = []
    for task in TASKS.values():
        answers = {test.condition.removeprefix("_answer_0 == ") for test in task.tests}
        candidates += [entry(task, f"    return {answer}\n") for answer in sorted(answers)]
    assert not any(passes(executor, candidates))


def test_examples_in_the_docstrings_are_tests_too():
    for task in TASKS.values():
        docstring = ast.get_docstring(ast.parse(task.prompt).body[0])
        example, answer = docstring.split(">>> ")[1].splitlines()[:2]
        call = ast.unparse(ast.parse(example)).replace(task.entry_point, "candidate", 1)
        (test,) = [test for test in task.tests if test.calls == (call,)]
        assert ast.literal_eval(test.condition.removeprefix("_answer_0 == ")) == ast.literal_eval(answer)

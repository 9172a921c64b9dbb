import gzip
import json

import pytest

from vegflow.errors import ConfigError
from vegflow.tasks.functions import FunctionTask, function_program, load_functions

PROMPT = 'import math\n\n\ndef f(x):\n    """Say."""\n'
TASK = FunctionTask("T/f", "f", PROMPT, ())
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": PROMPT,
    "entry_point": "f",
    "canonical_solution": "    return x\n",
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate(1) == 1\n    assert candidate(2) == 2\n",
}
MBPP = {
    "task_id": 7,
    "text": "Write a function to double.",
    "code": "def helper(x):\n    return x\ndef double(x):\n    return 2 * helper(x)",
    "test_list": ["assert double(1) == 2", "assert set(double([1])) == {1}", "assert double(0) == 0"],
    "test_setup_code": "",
}


def test_the_catalogue_that_ships():
    tasks = load_functions()
    assert len(tasks) >= 30
    for task in tasks.values():
        assert task.id == f"own/{task.entry_point}"
        assert 8 <= len(task.tests) <= 20
        assert all(test.calls for test in task.tests), "every test of ours is taken apart"
        assert len({test.source for test in task.tests}) == len(task.tests)
        assert task.prompt.endswith('"""\n')
        assert task.solution.startswith("    ")


def test_humaneval_and_mbpp_files(tmp_path):
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress((json.dumps(HUMANEVAL) + "\n").encode()))
    (task,) = load_functions(file).values()
    assert (task.id, task.entry_point, len(task.tests), task.setup) == ("HumanEval/0", "f", 2, "")
    file = tmp_path / "b.jsonl"
    file.write_text(json.dumps(MBPP) + "\n")
    (task,) = load_functions(file).values()
    assert (task.id, task.entry_point, len(task.tests)) == ("MBPP/7", "double", 3)
    assert task.prompt.startswith("def double(x):\n")
    assert "assert double(1) == 2" in task.prompt


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (json.dumps({"task_id": "a", "prompt": "b"}), "line 1: test, entry_point missing"),
        ("{", "not JSON lines"),
        (json.dumps(HUMANEVAL | {"test": "def check(c):\n    assert True\n"}), "nothing in its tests asserts"),
        (json.dumps(HUMANEVAL | {"test": "def check(c:\n"}), "its tests cannot be read"),
        (json.dumps(MBPP | {"test_list": ["assert other(1) == 2"]}), "calls no function that its code defines"),
        ("[1]", "a task is a mapping"),
    ],
)
def test_a_bad_file_gets_one_sentence(tmp_path, text, complaint):
    file = tmp_path / "tasks.jsonl"
    file.write_text(text + "\n")
    with pytest.raises(ConfigError, match=complaint):
        load_functions(file)


def test_missing_files_and_packages_are_named(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="there is no such file"):
        load_functions(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="there is no such file"):
        load_functions(tmp_path / "none.jsonl")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vegflow\[functions\]'"):
        load_functions("humaneval")


def test_a_catalogue_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("- name: f\n  prompt: |\n    def f(x):\n  tests: ['f(1) == 1']\n")
    assert list(load_functions(file)) == ["mine/f"]
    file.write_text("name: f\n")
    with pytest.raises(ConfigError, match="is a list of them"):
        load_functions(file)


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("    return x\n", PROMPT + "    return x\n"),
        ("    return x\n\n\ndef g():\n    pass\n", PROMPT + "    return x\n"),
        ("    return x\n\nprint(f(1))\n", PROMPT + "    return x\n"),
        ("    return (\n        x\n)\n# done", PROMPT + "    return (\n        x\n)\n"),
        ("    def g():\n        return x\n    return g()\n", PROMPT + "    def g():\n        return x\n    return g()\n"),
        ("def f(x):\n    return 2\n\nf(1)\n", "import math\n\n\ndef f(x):\n    return 2\n"),
        ("Sure:\n```python\ndef g():\n    pass\n\ndef f(x):\n    return g()\n```\nDone.",
         "import math\n\n\ndef g():\n    pass\n\ndef f(x):\n    return g()\n"),
        ("```\n    return 3\n```", PROMPT + "    return 3\n"),
        ("", PROMPT + "\n"),
    ],
)  # fmt: skip
def test_a_completion_makes_a_program_that_ends_where_the_function_does(completion, program):
    assert function_program(TASK, completion) == program


def test_a_revision_changes_with_prompt_and_tests():
    tasks = list(load_functions().values())
    assert len({task.revision for task in tasks}) == len(tasks)
    first = tasks[0]
    other = FunctionTask(first.id, first.entry_point, first.prompt, first.tests[1:])
    assert other.revision != first.revision

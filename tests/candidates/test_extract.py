"""Extraction is total: any text gives code or a reason, and the same program however it is laid out."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegflow.candidates.extract import extract_body, extract_module
from vegflow.candidates.scaffold import assemble, candidates_of
from vegflow.tasks.task import Task

TASK = Task("T/1", "first", "The first argument.", ("A", "B"), "class Model:\n    pass\n")

ARGUMENTS = ("A", "B")
BODY = "y = A @ B\nreturn y"

LAYOUTS = {
    "bare": "y = A @ B\nreturn y",
    "indented": "        y = A @ B\n        return y\n",
    "first line at the margin": "y = A @ B\n        return y\n",
    "comments and blank lines": "    y = A @ B  # product\n\n    # done\n    return y",
    "fenced": "Here it is:\n```python\ny = A @ B\nreturn y\n```\nIt is fast.",
    "fence never closed": "```python\ny = A @ B\nreturn y\n",
    "whole function": "def forward(self, A, B):\n    y = A @ B\n    return y",
    "whole class": "class ModelNew(Model):\n    def forward(self, A, B):\n        y = A @ B\n        return y\n",
    "imports before a class": "import torch\nclass ModelNew(Model):\n    def forward(self, A, B):\n"
    "        y = A @ B\n        return y\n",
    "a further class": "    y = A @ B\n    return y\n\nclass Other:\n    pass",
    "a further main": "    y = A @ B\n    return y\n\nif __name__ == '__main__':\n    main()",
    "windows line ends": "y = A @ B\r\nreturn y\r\n",
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_same_body_however_it_is_laid_out(text):
    assert extract_body(text, ARGUMENTS).code == BODY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty completion"),
        ("   \n\n", "empty completion"),
        ("```python\n```", "empty completion"),
        ("return torch.matmul(A, B", "never closed"),
        ("return A\x00", "null bytes"),
        ("(" * 5000, "parenthes"),
        ("break", "outside loop"),
        ("nonlocal A", "nonlocal"),
        ("this is prose, no code", "SyntaxError"),
        ("return '\ud800'", "surrogates"),
    ],
)
def test_what_is_no_body_gets_a_reason(text, reason):
    found = extract_body(text, ARGUMENTS)
    assert found.code is None
    assert reason in found.reason


def test_a_body_cannot_end_the_function_and_go_on_outside_it():
    program = assemble("return A\nclass ModelNew:\n    pass", TASK, "body").code
    classes = [node for node in ast.parse(program).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == ["Model", "ModelNew"]


def test_the_scaffold_puts_the_body_behind_the_reference():
    program = assemble("  return B", TASK, "body").code
    assert program.startswith(TASK.source.rstrip())
    assert program.endswith("class ModelNew(Model):\n    def forward(self, A, B):\n        return B\n")


def test_equal_completions_are_taken_apart_once_and_keep_their_order():
    rows = [{"task_id": TASK.id, "completion": text} for text in ("return A", "(", "return  A  # same", "return A")]
    found = candidates_of(rows, {TASK.id: TASK}, "body")
    assert found[0] is found[3]
    assert found[0].sha256 == found[2].sha256
    assert found[1].program is None
    assert "never closed" in found[1].reason


def test_strings_keep_their_line_ends():
    found = extract_body('source = """\n  int x;\n"""\nreturn A', ARGUMENTS)
    assert ast.literal_eval(ast.parse(found.code).body[0].value) == "\n  int x;\n"


def test_a_module_must_define_model_new():
    assert extract_module("class ModelNew:\n    pass").code == "class ModelNew:\n    pass"
    assert extract_module("class Model:\n    pass").reason == "no class ModelNew"
    assert extract_module("").reason == "empty completion"


PIECES = (
    'return |A| @ |B|\n|    |(|)|def forward(self):|class X:|```|python|"""|\'|#|:|\\|\t|lambda|yield |await |async '
    "|if |*|**|x = |\x00|é|\r"
)
CODE_LIKE = st.lists(st.sampled_from(PIECES.split("|")), max_size=40).map("".join)


@given(st.one_of(st.text(), CODE_LIKE))
def test_any_text_gives_code_that_compiles_or_a_reason(text):
    for found, wrap in (
        (extract_body(text, ARGUMENTS), "def forward(self, A, B):\n"),
        (extract_module(text), ""),
    ):
        if found.code is None:
            assert found.reason
        else:
            indented = "".join(f"  {line}\n" for line in found.code.split("\n")) if wrap else found.code
            compile(wrap + indented, "candidate", "exec")
            assert not found.reason


@given(CODE_LIKE)
def test_extraction_is_idempotent(text):
    found = extract_body(text, ARGUMENTS)
    if found.code is not None:
        assert extract_body(found.code, ARGUMENTS).code is not None


C = "#include <math.h>\nint forward(const vegflow_tensor *x, int n, vegflow_tensor *y, int m) { return 0; }\n"
KERNEL = '// launch f<<<1, 1>>>()\nextern "C" __global__ void f() {}\n'
MODULE = "class ModelNew:\n    pass"


@pytest.mark.parametrize(
    ("completion", "code", "language"),
    [
        (f"Like this:\n```c\n{C}```\nDone.", C, "c"),
        (f"```cpp\n\n{C}", C, "cpp"),
        (f"```c++\r\n{C}```".replace("\n", "\r\n"), C, "cpp"),
        (f"```cuda\n{KERNEL}```", KERNEL, "cuda"),
        (f"```python\n{MODULE}\n```\n```c\n{C}```", MODULE, "python"),
        (f"```python\nimport triton\n{MODULE}\n```", f"import triton\n{MODULE}", "triton"),
        (MODULE, MODULE, "python"),
    ],
)
def test_a_fence_says_the_language(completion, code, language):
    found = assemble(completion, TASK, "full")
    assert (found.code, found.language) == (code, language)
    (candidate,) = candidates_of([{"task_id": TASK.id, "completion": completion}], {TASK.id: TASK}, "full")
    assert (candidate.program, candidate.language) == (code, language)


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("```c\n\n```", "empty"),
        ("```c\nint x;\n```", "no function forward"),
        ("```cuda\nint forward;\n```", "no __global__ kernel"),
        (f"```c\n{C}\0```", "null bytes"),
        (f"```c\n// \ud800\n{C}```", "surrogates"),
        (f"```\n{C}```", ""),
    ],
)
def test_what_is_no_source_gets_a_reason(completion, reason):
    found = assemble(completion, TASK, "full")
    assert found.code is None
    assert found.reason
    assert reason in found.reason


def test_the_body_scaffold_knows_python_only():
    assert assemble("```c\nreturn A\n```", TASK, "body").language == "python"
    assert assemble("```c\nreturn A\n```", TASK, "body").code.endswith("return A\n")

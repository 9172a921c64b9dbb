"""The corpus does what it says: honest forms equal the reference, wrong and broken ones do not, shares are as stated."""

import copy
import itertools
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
import yaml

from vegflow.errors import ConfigError
from vegflow.models.corpus import (
    FAILURE_STYLES,
    HONEST_STYLES,
    KINDS,
    Form,
    failure_share,
    largest_share,
    load_corpus,
    parses,
    tables,
)

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = yaml.safe_load((ROOT / "resources" / "tasks" / "operations.yaml").read_text())
CORPUS = load_corpus()
TOLERANCE = 1e-4
Inputs = Callable[[], list[Any]]


def normal(*shapes: Sequence[int]) -> Inputs:
    return lambda: [torch.randn(*shape) for shape in shapes]


def symmetric(n: int) -> Inputs:
    return lambda: [(m + m.T) / 2 for m in (torch.randn(n, n), torch.randn(n, n))]


def triangular(cut: Callable[[torch.Tensor], torch.Tensor], n: int) -> Inputs:
    return lambda: [cut(torch.randn(n, n)), cut(torch.randn(n, n))]


def distributions(*shape: int) -> Inputs:
    return lambda: [torch.softmax(torch.randn(*shape), dim=-1) for _ in range(2)]


ACTIVATIONS = (
    "relu",
    "leaky_relu",
    "sigmoid",
    "tanh",
    "softmax",
    "log_softmax",
    "swish",
    "gelu",
    "selu",
    "hardsigmoid",
    "softplus",
    "softsign",
    "hardtanh",
    "new_gelu",
)
REDUCTIONS = ("sum_reduction", "mean_reduction", "max_reduction", "min_reduction", "argmax", "argmin")
SUM_SCANS = ("cumsum", "reverse_cumsum", "exclusive_cumsum")

# Constructor values are KernelBench's where they decide what is right (stride, padding, dilation, groups).
CASES: dict[str, list[tuple[list[Any], Inputs]]] = {
    "matmul": [([], normal((4, 6), (6, 5))), ([], normal((7, 7), (7, 7))), ([], normal((8, 3), (3, 8)))],
    "symmetric_matmul": [([], symmetric(7))],
    "batched_matmul": [([], normal((3, 4, 5), (3, 5, 6)))],
    "matrix_vector_product": [([], normal((6, 9), (9, 1)))],
    "matrix_scalar_product": [([], lambda: [torch.randn(6, 5), 3.14])],
    "tensor3d_matmul": [([], normal((3, 4, 5), (5, 6)))],
    "tensor4d_matmul": [([], normal((2, 3, 4, 5), (5, 6)))],
    "diagonal_matmul": [([], normal((6,), (6, 6)))],
    "upper_triangular_matmul": [([], triangular(torch.triu, 8)), ([], triangular(torch.triu, 7))],
    "lower_triangular_matmul": [([], triangular(torch.tril, 8)), ([], triangular(torch.tril, 7))],
    "matmul_transposed_a": [([], normal((6, 4), (6, 5)))],
    "matmul_transposed_b": [([], normal((4, 6), (5, 6)))],
    "matmul_transposed_both": [([], normal((6, 4), (5, 6)))],
    **{name: [([], normal((6, 40))), ([], normal((3, 70)))] for name in ACTIVATIONS},
    "elu": [([1.0], normal((6, 40))), ([0.5], normal((6, 40)))],
    "batch_norm": [([4], normal((3, 4, 5, 6)))],
    "instance_norm": [([4], normal((3, 4, 5, 6)))],
    "group_norm": [([8, 4], normal((3, 8, 5, 6)))],
    "rms_norm": [([4], normal((3, 4, 5, 6)))],
    "frobenius_norm": [([], normal((3, 4, 5, 6)))],
    "l1_norm": [([], normal((5, 9)))],
    "l2_norm": [([], normal((5, 9)))],
    "layer_norm": [([(4, 5, 6)], normal((3, 4, 5, 6)))],
    "max_pool1d": [([8, 1, 4, 3, False], normal((2, 3, 40)))],
    "max_pool2d": [([4, 1, 1, 1], normal((2, 3, 12, 13)))],
    "max_pool3d": [([3, 2, 1, 3], normal((2, 3, 12, 13, 14)))],
    "avg_pool1d": [([8, 1, 4], normal((2, 3, 40)))],
    "avg_pool2d": [([11], normal((2, 3, 40, 47)))],
    "avg_pool3d": [([3, 2, 1], normal((2, 3, 8, 8, 10)))],
    **{name: [([1], normal((3, 8, 5))), ([1], normal((4, 6, 6)))] for name in REDUCTIONS},
    "alexnet_conv2d": [([1000], normal((2, 3, 31, 31))), ([1000], normal((1, 3, 40, 33)))],
    "conv1d": [([3, 4, 3], normal((2, 3, 20)))],
    "conv1d_full": [([3, 4, 3, 3, 4], normal((2, 3, 40)))],
    "conv2d": [([3, 4, 3], normal((2, 3, 12, 10))), ([3, 4, (5, 7)], normal((2, 3, 13, 12)))],
    "conv2d_full": [([3, 4, (5, 9), 1, (2, 4), (2, 3)], normal((2, 3, 30, 31)))],
    "conv3d": [([3, 4, 3], normal((2, 3, 7, 8, 9))), ([3, 4, (3, 5, 7)], normal((2, 3, 7, 8, 9)))],
    "depthwise_conv2d": [([4, 3, 1, 0], normal((2, 4, 10, 11)))],
    "depthwise_conv2d_asymmetric": [([4, 3, 1, 0, 1], normal((2, 4, 10, 11)))],
    "depthwise_conv2d_out": [([4, 4, 3, 1, 0], normal((2, 4, 10, 11)))],
    "depthwise_conv2d_full": [([4, 4, 3, 7, 1, 1, 0, 0, 1, 1, 4], normal((2, 4, 10, 12)))],
    "depthwise_separable_conv2d": [([3, 5, 3, 1, 1, 1], normal((2, 3, 10, 11)))],
    "pointwise_conv2d": [([4, 6], normal((2, 4, 8, 8)))],
    "conv_transpose1d": [([4, 4, 3], normal((2, 4, 20))), ([3, 4, 3], normal((2, 3, 21)))],
    "conv_transpose1d_full": [([3, 4, 5, 1, 0, 3], normal((2, 3, 20))), ([3, 4, 3, 2, 1, 2], normal((2, 3, 20)))],
    "conv_transpose2d": [([4, 4, 3], normal((2, 4, 9, 10))), ([3, 4, (3, 7)], normal((2, 3, 9, 10)))],
    "conv_transpose2d_full": [([8, 16, (3, 5), (2, 3), (1, 2), (2, 1), 4], normal((2, 8, 6, 7)))],
    "conv_transpose2d_padded": [([4, 4, (3, 7), (1, 1), (1, 3)], normal((2, 4, 9, 10)))],
    "conv_transpose2d_dilated": [([3, 4, 3, 5, 1, 2], normal((2, 3, 6, 7)))],
    "conv_transpose3d": [([4, 4, 3], normal((2, 4, 5, 6, 7))), ([4, 3, (3, 5, 7)], normal((2, 4, 8, 8, 8)))],
    "conv_transpose3d_full": [
        ([8, 8, (3, 5, 7), (2, 2, 2), (1, 2, 3), (1, 1, 1), 4], normal((2, 8, 4, 5, 6))),
    ],
    "conv_transpose3d_grouped": [([8, 8, 3, 2, 1, 4], normal((2, 8, 4, 5, 6)))],
    "conv_transpose3d_dilated": [([3, 4, 3, 2, 1, 2], normal((2, 3, 4, 5, 6)))],
    **{name: [([1], normal((5, 12))), ([1], normal((9, 9)))] for name in SUM_SCANS},
    "cumprod": [([1], lambda: [1 + 0.1 * torch.randn(5, 12)]), ([1], lambda: [0.5 + torch.rand(9, 9)])],
    "masked_cumsum": [([1], lambda: [torch.randn(5, 12), torch.rand(5, 12) < 0.5])],
    "mse_loss": [([], normal((8, 12), (8, 12)))],
    "cross_entropy_loss": [([], lambda: [torch.randn(16, 10), torch.randint(0, 10, (16,))])],
    "huber_loss": [([], normal((8, 12), (8, 12)))],
    "attention": [([], normal((2, 3, 6, 8), (2, 3, 6, 8), (2, 3, 6, 8)))],
    "kl_div_loss": [([], distributions(8, 12))],
    "triplet_margin_loss": [([1.0], normal((32, 12), (32, 12), (32, 12)))],
    "hinge_loss": [([], lambda: [torch.randn(12, 12), torch.randint(0, 2, (12,)).float() * 2 - 1])],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def function(name: str, parameters: Sequence[str], body: str) -> Callable[..., Any]:
    scope: dict[str, Any] = {"torch": torch, "nn": nn, "F": F}
    head = f"def {name}({', '.join(('self', *parameters))}):"
    exec(f"{head}\n{textwrap.indent(body, '    ')}\n", scope)
    return scope[name]


def new_model(operation: str, init: Sequence[Any]) -> nn.Module:
    entry = OPERATIONS[operation]
    model = nn.Module()
    torch.manual_seed(1)
    function("constructor", entry["init"], entry["constructor"] or "pass")(model, *init)
    return model


def forward(form_body: str, operation: str, model: nn.Module, inputs: Sequence[Any]) -> Any:
    with torch.no_grad():
        return function("forward", OPERATIONS[operation]["arguments"], form_body)(copy.deepcopy(model), *inputs)


def copied(values: Sequence[Any]) -> list[Any]:
    return [value.clone() if isinstance(value, torch.Tensor) else value for value in values]


def same(answer: Any, expected: torch.Tensor) -> bool:
    if not isinstance(answer, torch.Tensor) or answer.shape != expected.shape or answer.dtype != expected.dtype:
        return False
    return torch.allclose(answer, expected, rtol=TOLERANCE, atol=TOLERANCE)


def outcome(form: Form, model: nn.Module, inputs: Sequence[Any], expected: torch.Tensor) -> str:
    """`raises: why`, `differs`, `changes its inputs` or `same`."""
    given = copied(inputs)
    try:
        answer = forward(form.body, form.operation, model, given)
    except Exception as error:
        return f"raises: {type(error).__name__}: {error}"
    if not same(answer, expected):
        return "differs"
    unchanged = all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(given, inputs, strict=True))
    return "same" if unchanged else "changes its inputs"


def with_redrawn_parameters(model: nn.Module) -> nn.Module:
    """A copy whose parameters all matter: a normalisation's are not ones and zeros."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    return model


def outcomes(operation: str) -> Iterator[tuple[Form, list[str]]]:
    """What becomes of each form, case by case; honest forms also meet other parameters."""
    reference = OPERATIONS[operation]["forward"]
    cases, harder = [], []
    for init, inputs in CASES[operation]:
        model = new_model(operation, init)
        values = inputs()
        cases.append((model, values, forward(reference, operation, model, copied(values))))
        model = with_redrawn_parameters(model)
        harder.append((model, values, forward(reference, operation, model, copied(values))))
    for form in CORPUS[operation]:
        yield form, [outcome(form, *case) for case in cases + (harder if form.kind == "honest" else [])]


def is_as_stated(form: Form, seen: Sequence[str]) -> bool:
    if form.kind == "honest":
        return set(seen) == {"same"}
    if form.kind == "broken":
        return all(text.startswith("raises") for text in seen)
    return "differs" in seen and all(text == "differs" or text.startswith("raises") for text in seen)


def test_every_operation_has_forms_and_cases() -> None:
    assert list(CORPUS) == list(OPERATIONS)
    assert set(CASES) == set(OPERATIONS)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of what the wrong forms do
@pytest.mark.parametrize("operation", OPERATIONS)
def test_forms_are_what_their_kind_says(operation: str) -> None:
    surprises = [(form.kind, form.body, seen) for form, seen in outcomes(operation) if not is_as_stated(form, seen)]
    assert surprises == []


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_reference_is_among_the_honest_forms(operation: str) -> None:
    reference = OPERATIONS[operation]["forward"].rstrip("\n")
    assert reference in {form.body for form in CORPUS[operation] if form.kind == "honest"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_shares_are_as_documented(operation: str) -> None:
    forms = CORPUS[operation]
    assert sum(form.frequency for form in forms) == 100
    assert 0.15 <= failure_share(forms) <= 0.25
    assert largest_share(forms) <= 0.45
    assert sum(form.kind == "honest" for form in forms) >= 4
    assert {form.kind for form in forms} == set(KINDS)


def test_syntax_forms_and_no_others_do_not_parse() -> None:
    for form in itertools.chain.from_iterable(CORPUS.values()):
        assert parses(form.body) is (form.style != "syntax"), form


def test_bodies_are_short() -> None:
    for form in itertools.chain.from_iterable(CORPUS.values()):
        assert len(form.body.splitlines()) <= 6, form
        assert len(form.body) <= 320, form


def test_styles_are_all_used() -> None:
    used = {(form.kind == "honest", form.style) for form in itertools.chain.from_iterable(CORPUS.values())}
    assert used == {(True, s) for s in HONEST_STYLES} | {(False, s) for s in FAILURE_STYLES}


def test_documentation_holds_the_tables() -> None:
    page = (ROOT / "docs" / "corpus.md").read_text()
    assert tables(CORPUS) in page, "run `python -m vegflow.models.corpus` and put what it prints into docs/corpus.md"


def test_the_command_prints_the_tables_without_torch() -> None:
    code = "import sys; from vegflow.models.corpus import main; main([]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tables(CORPUS)


GOOD = {"kind": "honest", "style": "library", "frequency": 3, "body": "return torch.relu(x)"}


def written(folder: Path, content: Any) -> Path:
    path = folder / "corpus.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_load_corpus_reads_forms(tmp_path: Path) -> None:
    path = written(
        tmp_path, {"relu": [GOOD, GOOD | {"kind": "broken", "style": "syntax", "body": "return F.relu(x\n"}]}
    )
    assert load_corpus(path) == {
        "relu": (
            Form("relu", "honest", "library", 3, "return torch.relu(x)"),
            Form("relu", "broken", "syntax", 3, "return F.relu(x"),
        )
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 1}, "needs exactly the keys kind, style, frequency, body"),
        ({"kind": "good"}, "kind is 'good'; known: honest, wrong, broken"),
        ({"kind": ["honest"]}, "kind is ['honest']"),
        ({"style": "syntax"}, "style of a form of kind honest is 'syntax'; known: library"),
        ({"frequency": 0}, "frequency 0 is not a whole number above 0"),
        ({"frequency": True}, "frequency True is not"),
        ({"body": " "}, "the body is empty"),
        ({"body": "return torch.relu(x"}, "the body does not parse, yet its kind is 'honest'"),
        ({"frequency": 4}, "the body is that of an earlier form"),
    ],
)
def test_load_corpus_names_operation_and_form(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path, {"relu": [GOOD, GOOD | change]})
    with pytest.raises(ConfigError, match="operation 'relu', form 2: ") as caught:
        load_corpus(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [([], "must map names of operations"), ({}, "must map names"), ({"relu": []}, "operation 'relu': needs a list")],
)
def test_load_corpus_wants_lists_of_forms(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_corpus(written(tmp_path, content))


def test_load_corpus_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        load_corpus(tmp_path / "missing.yaml")

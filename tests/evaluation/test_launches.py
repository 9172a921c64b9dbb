"""Launch comments: the notation, its arithmetic, and what is refused without being executed."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegflow.evaluation.launches import Argument, Bound, PlanError, parse, tensor_names

SIZES = {"x": (6, 10), "out": (6, 10), "w": (3,), "s": ()}


def only(text, sizes=SIZES):
    """The one launch that a text says, bound."""
    (bound,) = parse(text).bind(sizes)[1]
    return bound


def extent(expression):
    return only(f"// launch f<<<{expression}, 1>>>()").grid[0]


def test_a_launch():
    assert only("// launch add<<<(2, 3), 256, 64>>>(x, out, x.numel(), 1.5, float(2), double(w.ndim));") == Bound(
        "add",
        (2, 3, 1),
        (256, 1, 1),
        64,
        (
            Argument("x"),
            Argument("out"),
            Argument(value=60),
            Argument(kind="float", value=1.5),
            Argument(kind="float", value=2.0),
            Argument(kind="double", value=1.0),
        ),
    )


def test_lets_scratch_and_several_launches_in_order():
    plan = parse(
        "// let n = x.numel()\n// let blocks = cdiv(n, 16)\n"
        "int x; // scratch part = float32[blocks, 2]\n"
        "//launch: a<<<blocks, 16>>>(x, part, n)\n"
        "// launch b<<<1, min(32, blocks)>>>(part, out, part.numel())\n// launches nothing\n"
    )
    scratch, bound = plan.bind(SIZES)
    assert scratch == {"part": ("float32", (4, 2))}
    assert [launch.kernel for launch in bound] == ["a", "b"]
    assert plan.kernels == ("a", "b")
    assert bound[1].block == (4, 1, 1)
    assert bound[1].arguments[2].value == 8


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("x.shape[0]", 6),
        ("x.shape[-1]", 10),
        ("x.size(1)", 10),
        ("x.ndim", 2),
        ("numel(x)", 60),
        ("s.numel()", 1),
        ("(x.numel() + 255) / 256", 1),
        ("(7 + 3) / 4 * 4", 8),
        ("-(-7 / 2)", 3),
        ("10 + -7 % 4", 7),
        ("-7 // 2 + 9", 6),
        ("ceil(7 / 2)", 4),
        ("cdiv(8, 2)", 4),
        ("max(1, 5, w.shape[0])", 5),
        ("dim3(7)", 7),
    ],
)
def test_arithmetic_is_that_of_c(expression, value):
    assert extent(expression) == value


@pytest.mark.parametrize(
    "text",
    [
        "int x;",
        "/* // launch f<<<1, 1>>>() */",
        '"// launch f<<<1, 1>>>()"',
        "// launch f<<<1>>>()",
        "// launch f(1, 2)",
        "// launch f[1, 2]()",
        "// launch f<<<1, 2>>>",
        "// launch f<<<1, 2, 3, 4>>>()",
        "// launch f<<<(1, 2, 3, 4), 2>>>()",
        "// launch f<<<1, 2>>>(x=1)",
        "// launch m.f<<<1, 2>>>()",
        "// launch f<<<1, 2>>>('text')",
        "// launch f<<<1.5, 2>>>()",
        "// launch f<<<[i for i in x], 2>>>()",
        "// launch f<<<(lambda: 1)(), 2>>>()",
        "// launch f<<<1 if x else 2, 2>>>()",
        "// launch f<<<True, 2>>>()",
        "// launch f<<<1, 2>>>(*x)",
        "// launch f<<<1, 2>>>(int(1.5))",
        "// launch f<<<" + "(" * 400 + "1" + ")" * 400 + ", 1>>>()",
        "// launch f<<<" + "-" * 990 + "1, 1>>>()" + " " * 99,
        "// let n = 1; m = 2\n// launch f<<<1, 1>>>()",
        "// let x.y = 1\n// launch f<<<1, 1>>>()",
        "// let n\n// launch f<<<1, 1>>>()",
        "// scratch a = complex64[1]\n// launch f<<<1, 1>>>()",
        "// scratch a = float32\n// launch f<<<1, 1>>>()",
        "// launch f<<<1, 1>>>()\n" * 65,
    ],
)
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(PlanError):
        parse(text)


@pytest.mark.parametrize(
    "expression",
    [
        "y.numel()",
        "x",
        "n",
        "x.shape[2]",
        "1 / 0",
        "5 % w.ndim - 1",
        "0",
        "-1",
        "2 ** 3",
        "1 << 3",
        "x.numel",
        "x.data_ptr()",
        "x.numel().real",
        "exit()",
        "abs(1)",
        "ceil(3)",
        "__import__(1)",
        "2147483648",
        "4611686018427387904",
        "99999999999 * 99999999999 / 99999999999",
        "(1, 70000)",
        "-" * 300 + "x",
    ],
)
def test_what_makes_no_sense_for_the_sizes_is_refused(expression):
    with pytest.raises(PlanError, match="line 1: "):
        extent(expression)


@pytest.mark.parametrize("block", ["1025", "(32, 33)", "(1, 1, 65)"])
def test_a_block_has_a_limit(block):
    with pytest.raises(PlanError, match="a block of"):
        only(f"// launch f<<<1, {block}>>>()")


def test_names():
    rows = tensor_names(("A", "B"), ("fc.weight",), 3, 1)
    assert rows == [["in0", "A"], ["in1", "B"], ["in2"], ["fc_weight"], ["out0", "out"]]
    assert tensor_names((), (), 0, 2) == [["out0"], ["out1"]]


PIECES = (
    "// launch |// let |// scratch |f|<<<|>>>|(|)|1|, |x|.|numel()|/|*|-|=|float32|[|]|\n|'|\"|lambda: |;|ceil|é|\0"
)


@given(st.lists(st.sampled_from(PIECES.split("|")), max_size=30).map("".join))
def test_any_text_is_a_plan_or_refused(text):
    with contextlib.suppress(PlanError):
        parse(text).bind(SIZES)

"""Reduced precision is found and named, and honest float32 never is; oracle and error budget."""

import copy
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.evaluation.catalogue_models import load
from vegflow.evaluation.checks import Checks
from vegflow.evaluation.comparison import Tolerance, compare
from vegflow.evaluation.expectation import expect, pack, plain_expectation, unpack
from vegflow.evaluation.inputs import Variant, vary
from vegflow.evaluation.oracle import oracle_model, reduction_depths, run_double, undecided_positions
from vegflow.evaluation.precision import ROUNDINGS, Evidence, Moments, Regression, round_tf32, truncate_tf32

TOLERANCE = Tolerance(atol=1e-4, rtol=1e-4)


class Matmul(torch.nn.Module):
    def forward(self, a, b):
        return a @ b


def sequential_sum(x, axis=None):
    """In one float32 accumulator, as a plain loop in C."""
    values = x.numpy().reshape(-1) if axis is None else x.numpy()
    total = np.add.accumulate(values, axis=axis or 0, dtype=np.float32).take(-1, axis=axis or 0)
    return torch.from_numpy(np.asarray(total))


@functools.lru_cache(maxsize=1)  # tests of one task follow each other
def items_of(number, variants):
    """A task's reference, and inputs of the variants with what is right for them."""
    model, get_inputs = load(number)
    double, generator = oracle_model(model), torch.Generator().manual_seed(number)
    torch.manual_seed(number)
    drawn = [vary(list(get_inputs()), Variant(kind), generator) for kind in variants]
    return model, [(x, expect(model, double, x, generator, reduction_depths(double, x))) for x in drawn]


def judge(number, candidate, variants=("given", "normal", "given")):
    """Status of a candidate over some items, and the evidence."""
    model, items = items_of(number, variants)
    evidence, status = Evidence(), ""
    for inputs, expectation in items:
        with torch.no_grad():
            actual = candidate(model, copy.deepcopy(inputs))
        status = compare(expectation, [actual], TOLERANCE, evidence).status or status
    return status, evidence


def floats(inputs, change):
    return [change(v) if isinstance(v, torch.Tensor) and v.dtype.is_floating_point else v for v in inputs]


REPRESENTATIVE = [1, 4, 12, 14, 19, 23, 26, 33, 36, 45, 47, 50, 67, 82, 87, 89, 90, 97]


def with_rounded_inputs(name):
    return lambda model, inputs: model(*floats(inputs, lambda v: ROUNDINGS[name](v).float()))


def in_half_precision(dtype):
    return lambda model, inputs: copy.deepcopy(model).to(dtype)(*floats(inputs, lambda v: v.to(dtype))).float()


REDUCED = {
    **{f"inputs rounded to {name}": with_rounded_inputs(name) for name in ROUNDINGS},
    "a model in float16": in_half_precision(torch.float16),
    "a model in bfloat16": in_half_precision(torch.bfloat16),
    "outputs rounded": lambda model, inputs: model(*inputs).half().float(),
}


@pytest.mark.parametrize("how", REDUCED)
@pytest.mark.parametrize("number", REPRESENTATIVE)
def test_reduced_precision_is_named(number, how):
    status, evidence = judge(number, REDUCED[how])
    assert status == "low_precision"
    found, coefficient = evidence.precision()
    assert found
    if how == "outputs rounded":
        assert found.endswith("output") or number in (12, 19)
    if how.startswith("inputs rounded to "):
        name = how.removeprefix("inputs rounded to ")
        # rounding to TF32 and to float16 is the same for numbers of ordinary size
        same = {"TF32": {"TF32", "float16"}, "float16": {"TF32", "float16"}}.get(name, {name})
        assert found.removesuffix(" output") in same
        assert 0.2 < coefficient < 1.5


@pytest.mark.parametrize("number", REPRESENTATIVE)
def test_the_reference_is_honest(number):
    kinds = ("given", "normal", "integer", "negative")
    status, evidence = judge(number, lambda m, x: m(*x), kinds)
    assert status == ""
    assert all(abs(r.coefficient) < 0.05 for r in evidence.regressions.values() if r.count >= 32)


HONEST = {
    4: lambda a, b: sequential_sum(a * b.squeeze(-1), 1).unsqueeze(-1),
    6: lambda a, b: sum(x @ y for x, y in zip(a.chunk(13, 1), b.chunk(13, 0), strict=True)),
    12: lambda a, b: a[:, None] * b,
    21: lambda x: 1 / (1 + torch.exp(-x)),
    23: lambda x: (lambda e: e / sequential_sum(e, 1).unsqueeze(1))(torch.exp(x - x.amax(1, keepdim=True))),
    37: lambda x: x / torch.sqrt(sequential_sum(x * x)),
    47: lambda x: sequential_sum(x, 1).unsqueeze(1),
    88: lambda x: x * torch.sigmoid(1.5957691216 * (x + 0.044715 * x * x * x)),
    89: lambda x: torch.from_numpy(np.add.accumulate(x.numpy(), axis=1, dtype=np.float32)),
    94: lambda a, b: (sequential_sum((a - b) ** 2) / a.numel()).reshape(()),
}


@pytest.mark.parametrize("number", HONEST)
def test_honest_float32_in_another_order_passes(number):
    status, evidence = judge(number, lambda m, x: HONEST[number](*x), ("given", "normal", "sparse", "given"))
    assert status == "", evidence.precision()


def test_rounding_far_beneath_the_tolerance_is_found():
    """Inputs of U[0, 1) and a long sum hide it: KernelBench's distribution and shape."""
    torch.manual_seed(0)
    model, generator = Matmul(), torch.Generator().manual_seed(0)
    inputs = [torch.rand(64, 4096), torch.rand(4096, 64)]
    expectation = expect(model, model, inputs, generator)
    rounded = round_tf32(inputs[0]) @ round_tf32(inputs[1])
    plain = compare(expectation, [rounded], TOLERANCE)
    assert (plain.status, plain.error < 0.5) == ("", True)
    outcome = compare(expectation, [rounded], TOLERANCE, Evidence())
    assert outcome.status == "low_precision"
    assert "TF32" in outcome.reason
    split = [(round_tf32(v), v - round_tf32(v)) for v in inputs]
    three = split[0][0] @ split[1][0] + (split[0][0] @ split[1][1] + split[0][1] @ split[1][0])
    assert compare(expectation, [three], TOLERANCE, Evidence()).status == ""  # 3xTF32 is as good as float32


def test_numbers_that_any_precision_holds_are_no_evidence():
    status, evidence = judge(1, lambda m, x: m(*floats(x, lambda v: v.half().float())), ("integer",))
    assert status == ""
    assert not evidence.precision()[0]


def test_a_wrong_answer_is_not_called_imprecise():
    for wrong in (torch.zeros_like, lambda y: y * 1.01, lambda y: y.flip(0), lambda y: -y):
        assert judge(1, lambda m, x, wrong=wrong: wrong(m(*x)))[0] == "wrong_output"


def test_what_is_wrong_is_still_named_by_its_precision():
    """Of what comes after a wrong output only the marks are looked at."""
    variants = ("given", "normal", "given")
    model, items = items_of(REPRESENTATIVE[0], variants)
    found = [
        SimpleNamespace(variant=Variant(k), form=[], expectation=e) for k, (_, e) in zip(variants, items, strict=True)
    ]
    rounded, other = Checks(TOLERANCE), Checks(TOLERANCE)
    for item, (inputs, _) in zip(found, items, strict=True):
        output = with_rounded_inputs("bfloat16")(model, inputs)
        if item is found[0]:
            output[0, 0] += 100 * output.abs().max()  # no rounding
        rounded.correct([output], item)
        other.correct([torch.zeros_like(output)], item)
    assert rounded.fault.status == "low_precision"
    assert "bfloat16" in rounded.fault.reason
    assert "elements out of tolerance" in rounded.fault.reason
    assert (other.fault.status, rounded.kernelbench, other.kernelbench) == ("wrong_output", False, False)


def test_roundings_of_known_numbers():
    one = torch.tensor([1 + 2**-10 + 2**-11, 1 + 2**-11 - 2**-23, -1 - 2**-11, torch.inf, 0.0])
    assert round_tf32(one).tolist() == [1 + 2**-9, 1.0, -1 - 2**-10, torch.inf, 0.0]
    assert truncate_tf32(one).tolist() == [1 + 2**-10, 1.0, -1.0, torch.inf, 0.0]


def test_regression_grows_item_by_item():
    torch.manual_seed(1)
    signature, noise = torch.randn(2, 200, dtype=torch.float64)
    moments = Moments.of({"zero": torch.zeros(200), "a": signature, "b": 3 * signature})
    assert moments.names == ["a", "b"]
    whole, parts, unrelated = Regression(), Regression(), Regression()
    error = 0.7 * signature + 0.1 * noise
    sums, tripled = moments.regress(error).tolist()
    s, e = (value * 200**0.5 / signature.norm() for value in (signature, error))
    powers = [(s**2).sum(), (s * e).sum(), (e**2).sum(), (s**2 * e**2).sum(), (s**3 * e).sum(), (s**4).sum()]
    assert sums == pytest.approx([200, *map(float, powers)])
    assert tripled[2] == pytest.approx(sums[2] / 3), "the error is told in units of the signature"
    whole.add(*sums)
    for _ in range(3):
        parts.add(*sums)
    assert whole.coefficient == pytest.approx(0.7, abs=0.05) == parts.coefficient
    assert parts.significance == pytest.approx(whole.significance * 3**0.5)
    unrelated.add(*moments.regress(noise).tolist()[0])
    assert unrelated.significance < 4 < 50 < whole.significance


def test_depth_is_the_length_of_the_sum():
    a, b = torch.randn(6, 40), torch.randn(40, 5)
    assert reduction_depths(Matmul(), [a, b]) == [80]
    assert reduction_depths(torch.nn.ReLU(), [a]) == [1]


def test_oracle_runs_in_float64_and_leaves_the_default_dtype_alone():
    model, get_inputs = load(92)
    outputs = run_double(oracle_model(model), get_inputs())
    assert outputs[0].dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32


def test_a_tie_may_be_decided_either_way():
    model, _ = load(51)
    x = torch.randn(4, 64, 3)
    x[1, 5, 2] = x[1, 9, 2] = 10.0
    generator = torch.Generator().manual_seed(0)
    outputs = [model(x)]
    assert undecided_positions(model, [x], outputs, generator)[0].tolist() == [1 * 3 + 2]
    expectation = expect(model, model, [x], generator)
    other = outputs[0].clone()
    other[1, 2] = 9
    assert compare(expectation, [other], TOLERANCE).status == ""
    other[0, 0] += 1
    assert compare(expectation, [other], TOLERANCE).status == "wrong_output"


def test_an_expectation_crosses_whole():
    model, get_inputs = load(26)
    expectation = expect(model, oracle_model(model), get_inputs(), torch.Generator().manual_seed(0))
    tensors, heads = pack(expectation)
    back = unpack(tensors, heads)[0]
    assert back.scale == expectation[0].scale
    assert torch.equal(back.sample.oracle, expectation[0].sample.oracle)
    assert back.sample.signatures.keys() == expectation[0].sample.signatures.keys()
    rest = sum(tensor.numel() * tensor.element_size() for tensor in tensors[1:])
    assert rest < 300_000  # beside the output itself
    plain = plain_expectation([back.expected], [back])[0]
    assert (plain.reference_error, plain.depth) == (back.reference_error, back.depth)

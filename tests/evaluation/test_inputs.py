"""Kinds and shapes of inputs, on made-up values and on the catalogue's references."""

import math

import pytest
import torch

from tests.evaluation.catalogue_models import load, load_source
from vegflow.evaluation.inputs import KINDS, Variant, find_variants, vary


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def symmetric(n=12):
    x = torch.randn(n, n)
    return x.triu() + x.triu(1).T


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("narrow", [(), ((12, 7),)])
def test_structure_is_kept(kind, narrow):
    n = dict(narrow).get(12, 12)
    probabilities = torch.softmax(torch.randn(5, 12), -1) * 0.8
    signs = torch.randint(0, 2, (12,)).float() * 2 - 1
    values = [symmetric(), symmetric().triu(), symmetric().tril(), probabilities, signs, torch.rand(12) < 0.5, 3.14]
    full, upper, lower, shares, sign, mask, number = vary(values, Variant(kind, narrow), generator())
    assert torch.equal(full, full.T)
    assert torch.equal(upper, upper.triu())
    assert torch.equal(lower, lower.tril())
    assert shares.shape == (5, n)
    assert shares.min() >= 0
    torch.testing.assert_close(shares.sum(-1), torch.full((5,), 0.8))
    assert torch.equal(sign, signs[:n])
    assert mask.dtype == torch.bool
    assert number == 3.14
    assert all(value.is_contiguous() for value in (full, upper, lower, shares, sign, mask))


def test_kinds_are_what_their_names_say():
    given = [torch.rand(64, 512) * 3]
    drawn = {kind: vary(given, Variant(kind), generator())[0] for kind in KINDS}
    assert torch.equal(drawn["given"], given[0])
    assert drawn["normal"].mean().abs() < 0.1
    assert drawn["normal"].square().mean().sqrt() == pytest.approx(given[0].square().mean().sqrt().item(), rel=0.05)
    assert drawn["wide"].abs().max() > 89  # exp overflows
    assert drawn["wide"].abs().median() < 1
    assert (drawn["negative"] <= 0).all()
    assert 0 < drawn["sparse"].count_nonzero() < 0.01 * given[0].numel()
    assert torch.equal(drawn["integer"], drawn["integer"].round())
    rows = drawn["edge"]
    assert (rows == 0).all(1).any()
    assert (rows == 1).all(1).any()
    assert not rows.isnan().any()
    assert all(value.dtype == torch.float32 and value.shape == (64, 512) for value in drawn.values())


def test_the_same_generator_draws_the_same_and_another_does_not():
    given = [torch.randn(8, 8)]
    one, two, other = (vary(given, Variant("normal"), generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_indices_stay_within_a_narrowed_extent():
    given = [torch.randn(50, 20), torch.arange(50) % 20]
    logits, classes = vary(given, Variant("given", ((20, 13), (50, 33))), generator())
    assert logits.shape == (33, 13)
    assert classes.shape == (33,)
    assert classes.max() == 12


def test_a_fixed_axis_is_not_narrowed():
    assert vary([torch.randn(2, 8, 8)], Variant("normal", ((8, 5),), (1,)), generator())[0].shape == (2, 8, 5)


def test_a_variant_is_json():
    variant = Variant("wide", ((256, 169), (8, 5)), (1,))
    assert Variant.from_json(variant.to_json()) == variant


@pytest.mark.parametrize("number", [2, 14, 23, 40, 51, 68, 86, 90, 93, 95, 97, 98])
def test_references_run_on_what_is_found_for_them(number):
    model, get_inputs = load(number)
    variants = find_variants(model, get_inputs, seed=1)
    assert variants[0] == Variant("given")
    assert len({(v.narrow, v.fixed) for v in variants}) == 3
    for variant in variants:
        given = get_inputs()
        inputs = vary(given, variant, generator())
        for old, new in zip(given, inputs, strict=True):
            if isinstance(old, torch.Tensor):
                assert old.dtype == new.dtype
                assert all(b <= a for a, b in zip(old.shape, new.shape, strict=True))
        assert model(*inputs).isfinite().all()


def test_what_a_reference_cannot_be_judged_on_is_left_out():
    model, get_inputs = load_source(
        "import torch\n"
        "class Model(torch.nn.Module):\n"
        "    def forward(self, x, y):\n"
        "        return x.log() + y[:, :3].sum() * 1e-9\n"
        "def get_inputs():\n"
        "    return [torch.rand(40, 16) + 0.1, torch.rand(40, 3)]\n"
        "def get_init_inputs():\n"
        "    return []\n"
    )
    kinds = {variant.kind for variant in find_variants(model, get_inputs, seed=0)}
    assert kinds == {"given"}  # all others have logarithms of zero or less


def test_ties_are_not_asked_for():
    kinds = {variant.kind for variant in find_variants(*load(51), seed=3)}
    assert {"given", "normal", "wide", "negative"} <= kinds
    assert "integer" not in kinds  # an index of a maximum among five values says nothing


def test_finding_variants_leaves_a_model_as_it_was():
    model, get_inputs = load(33)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_variants(model, get_inputs, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert math.isclose(float(model.bn.momentum), 0.1)

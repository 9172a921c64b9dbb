"""Mixtures of secret inputs: of the same structure, and nothing that has been seen."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vegflow.evaluation.fresh import Parent, mixing, mixture

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def mix(one, other, target, mode):
    mixture(Parent.of(one, mode), Parent.of(other, mode))(target)


def draw(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mixed(make, mode, dtype=torch.float32):
    one, other = (make(seed).to(dtype).contiguous() for seed in (1, 2))
    assert mixing(one) == mode
    before = one.clone(), other.clone()
    target = torch.full_like(one, float("nan"))
    mix(one, other, target, mode)
    assert torch.equal(one, before[0])
    assert torch.equal(other, before[1])
    assert target.isfinite().all()
    return one, other, target


def turned(value: torch.Tensor) -> list[torch.Tensor]:
    """A tensor turned round by every number of elements."""
    flat = value.flatten()
    return [flat.roll(offset) for offset in range(len(flat))]


MAKERS = {
    "turn": lambda seed: draw((6, 8), seed),
    "turn rows": lambda seed: draw((6, 8), seed).softmax(-1),
    "rows and columns": lambda seed: draw((8, 8), seed) + draw((8, 8), seed).T,
    "rows": lambda seed: draw((8, 8), seed).tril(),
}


@pytest.mark.parametrize("mode", MAKERS)
def test_a_mixture_is_neither_of_its_parents_however_turned(mode):
    one, other, target = mixed(MAKERS[mode], mode)
    for parent in (one, other):
        for value in turned(parent):
            assert (target.flatten() - value).abs().max() > 0.01 * parent.abs().max()
    assert not torch.isin(target[target != 0], torch.cat([one.flatten(), other.flatten()])).any()


@pytest.mark.parametrize("mode", MAKERS)
def test_two_mixtures_of_the_same_differ(mode):
    one, other = (MAKERS[mode](seed).contiguous() for seed in (1, 2))
    targets = [torch.empty_like(one) for _ in range(20)]
    for target in targets:
        mix(one, other, target, mode)
    assert len({tuple(target.flatten().tolist()) for target in targets}) == 20


@pytest.mark.parametrize("mode", [*MAKERS, "keep"])
@pytest.mark.parametrize("spikes", [False, True])
def test_a_mixture_can_be_written_again(mode, spikes):
    one, other = (Parent.of(MAKERS.get(mode, MAKERS["turn"])(seed), mode) for seed in (1, 2))
    again = mixture(one, other, spikes)
    targets = [torch.empty_like(one.value) for _ in range(2)]
    for target in targets:
        again(target)
    assert torch.equal(*targets)


@pytest.mark.parametrize("dtype", FLOATS)
def test_spikes_are_few_and_large_and_keep_their_signs(dtype):
    one, other = (
        Parent.of(-torch.rand(1000, generator=torch.Generator().manual_seed(s)).to(dtype), "turn") for s in (1, 2)
    )
    target = torch.empty(1000, dtype=dtype)
    mixture(one, other, spikes=True)(target)
    assert (target <= 0).all()
    assert 1 <= (target < -2).sum() <= 8


def test_no_two_spikes_are_equal():
    """Else the index of a maximum would be for a program to choose."""
    target = torch.zeros(1 << 16)
    mixture(*(Parent.of(torch.full((1 << 16,), 1.0), "turn") for _ in range(2)), spikes=True)(target)
    spikes = target[target > 2]
    assert len(spikes.unique()) == len(spikes) >= 6


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mode", MAKERS)
def test_every_dtype_is_mixed_in_its_own_bytes(mode, dtype):
    make = MAKERS[mode]
    if mode == "turn rows" and dtype.itemsize == 2:
        pytest.skip("rows of halves have no equal sums")
    target = mixed(make, mode, dtype)[2]
    assert target.dtype == dtype


@pytest.mark.parametrize(("triangle", "opposite"), [("tril", "triu"), ("triu", "tril")])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_triangular_matrix_stays_triangular(triangle, opposite, batch):
    _, _, target = mixed(lambda seed: getattr(draw((*batch, 7, 7), seed), triangle)(), "rows")
    assert torch.equal(target, getattr(target, triangle)())
    assert getattr(target, opposite)().diagonal(dim1=-2, dim2=-1).ne(0).all()


@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_symmetric_matrix_stays_symmetric(batch):
    def make(seed):
        half = draw((*batch, 7, 7), seed)
        return half + half.mT

    target = mixed(make, "rows and columns")[2]
    torch.testing.assert_close(target, target.mT, rtol=1e-6, atol=0)


@pytest.mark.parametrize("total", [1.0, 5.0])
def test_probabilities_stay_probabilities(total):
    target = mixed(lambda seed: total * draw((4, 6, 8), seed).softmax(-1), "turn rows")[2]
    assert (target >= 0).all()
    torch.testing.assert_close(target.sum(-1), torch.full((4, 6), total))


@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([(0.0, 1.0), (-3.0, -1.0), (2.0, 2.5)]))
def test_a_bound_that_both_keep_is_kept(seed, size, bounds):
    low, high = bounds
    generator = torch.Generator().manual_seed(seed)
    one, other = (torch.rand(size, generator=generator) * (high - low) + low for _ in range(2))
    target = torch.empty(size)
    mix(one, other, target, "turn")
    assert target.min() >= low - 1e-6
    assert target.max() <= high + 1e-6


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mode", ["turn", "keep"])
def test_a_single_element_is_no_obstacle(mode, dtype):
    for shape in ((), (1,), (1, 1)):
        one, other = torch.full(shape, 1.0, dtype=dtype), torch.full(shape, 2.0, dtype=dtype)
        target = torch.zeros(shape, dtype=dtype)
        mix(one, other, target, mode)
        assert 1 <= target.item() <= 2


@pytest.mark.parametrize("mode", ["turn", "keep"])
def test_an_empty_tensor_is_no_obstacle(mode):
    mix(torch.empty(0, 4), torch.empty(0, 4), torch.empty(0, 4), mode)


@pytest.mark.parametrize(
    "value",
    [
        torch.randint(0, 9, (20,)),
        torch.rand(20) > 0.5,
        torch.randn(20).sign(),
        torch.tensor(2.5),
        (3, "text"),
        None,
    ],
)
def test_what_cannot_be_mixed_is_kept_as_it_is(value):
    assert mixing(value) == "keep"


def test_what_is_kept_is_one_of_the_two():
    one, other = torch.arange(5), torch.arange(5, 10)
    seen = set()
    for _ in range(40):
        target = torch.zeros(5, dtype=torch.int64)
        mix(one, other, target, "keep")
        seen.add(tuple(target.tolist()))
    assert seen == {tuple(one.tolist()), tuple(other.tolist())}

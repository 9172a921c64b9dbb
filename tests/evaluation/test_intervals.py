"""The centre and its interval: exact where that can be counted, and true over all looks of the schedule."""

import contextlib
import itertools
import math
import random
import statistics
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegflow.config.evaluation import PROTOCOLS
from vegflow.evaluation import rounds, timing
from vegflow.evaluation.intervals import EXACT_UP_TO, _left_out, centre, in_balance, interval
from vegflow.evaluation.worker import NOT_FLUSHED, Block

values = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


def rank_sums(n: int) -> list[int]:
    """The signed-rank statistic for each of the equally likely patterns of signs."""
    return [sum(itertools.compress(range(1, n + 1), signs)) for signs in itertools.product((0, 1), repeat=n)]


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99])
def test_what_is_left_out_is_what_a_count_of_all_signs_says(n, level):
    tail, sums = (1 - level) / 2, rank_sums(n)
    left_out = [k for k in range(n * (n + 1) // 2) if sum(w <= k for w in sums) <= tail * 2**n]
    assert _left_out(n, tail) == max(left_out, default=0)


@pytest.mark.parametrize("n", [2, 5, 7, 9])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_an_interval_holds_the_centre_of_symmetric_noise_as_often_as_it_says(n, level):
    patterns = itertools.product((-1.0, 1.0), repeat=n)
    held = 0
    for signs in patterns:
        low, high = interval([sign * 2.0**i for i, sign in enumerate(signs)], level)
        held += low <= 0 <= high
    assert held / 2**n >= min(level, 1 - 2.0 ** (1 - n))


def test_the_approximation_for_many_values_meets_the_exact_one():
    n = EXACT_UP_TO
    for level in (0.9, 0.95, 0.99):
        exact, beyond = _left_out(n, (1 - level) / 2), _left_out(n + 1, (1 - level) / 2)
        assert 0 < beyond - exact < n / 2 + 1


@given(values, st.sampled_from([0.5, 0.95, 0.99]))
def test_the_centre_lies_in_its_interval_and_that_in_the_range(numbers, level):
    low, high = interval(numbers, level)
    assert min(numbers) <= low <= centre(numbers) <= high <= max(numbers)


@given(values, st.randoms())
def test_the_order_of_values_does_not_matter(numbers, random):
    shuffled = random.sample(numbers, len(numbers))
    assert interval(shuffled) == interval(numbers)
    assert centre(shuffled) == centre(numbers)


@given(values)
def test_another_sign_turns_the_interval_round(numbers):
    low, high = interval(numbers)
    assert interval([-x for x in numbers]) == (-high, -low)
    assert centre([-x for x in numbers]) == -centre(numbers)


@given(values, st.floats(-100, 100))
def test_a_shift_moves_the_interval(numbers, shift):
    low, high = interval(numbers)
    assert interval([x + shift for x in numbers]) == pytest.approx((low + shift, high + shift), abs=1e-9)
    assert centre([x + shift for x in numbers]) == pytest.approx(centre(numbers) + shift, abs=1e-9)


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=20), st.floats(-100, 100))
def test_what_coming_second_costs_is_taken_off(twins, cost):
    """In as many pairs of one order as of the other it does not move the centre, and then scatters no more."""
    ratios, first = [v for twin in twins for v in twin], [True, False] * len(twins)
    later = [v + (cost if f else -cost) for v, f in zip(ratios, first, strict=True)]
    assert in_balance(later, first) == pytest.approx(in_balance(ratios, first), abs=1e-9)
    exact = [cost if f else -cost for f in first]
    assert in_balance(exact, first) == pytest.approx([0.0] * len(exact), abs=1e-9)


def test_of_one_order_alone_nothing_is_taken_off():
    assert in_balance([1.0, 2.0, 3.0], [True, True, False]) == [1.0, 2.0, 3.0]
    assert in_balance([1.0, 2.0], [True, True]) == [1.0, 2.0]


def test_a_quarter_of_wild_values_moves_the_centre_little():
    numbers = [0.01 * i for i in range(-10, 11)] + [1e6] * 5
    assert abs(centre(numbers)) < 0.1


@pytest.mark.parametrize("function", [centre, interval])
def test_no_values_have_no_centre(function):
    with pytest.raises(ValueError, match="no values"):
        function([])


NOISE = {
    "normal": lambda rng, n: 0.03 * rng.standard_normal(n),
    "heavy-tailed": lambda rng, n: 0.02 * rng.standard_t(1.5, n).clip(-500, 500),
    "bimodal": lambda rng, n: 0.08 * rng.integers(0, 2, n) + 0.003 * rng.standard_normal(n),
    "skewed": lambda rng, n: 0.05 * rng.exponential(size=n),  # interruptions only ever lengthen a time
}


@pytest.fixture
def group_of(monkeypatch):
    """A group as `measure` makes one, looks and all, from times that another function gives; who is `second` is slower."""

    def make(rng, noise, speedup, protocol, delta, second=0.0):
        def one_round(reference, crew, calls, order, *_, **__):
            places = order.index(None), 1 - order.index(None)
            ours, theirs = (1e-3 * np.exp(noise(rng, 1)[0] + second * place) for place in places)
            pair = Block(speedup * ours, speedup * ours, speedup * ours, {}), Block(theirs, theirs, theirs, {})
            return dict.fromkeys(crew, pair)

        monkeypatch.setattr(rounds, "_round", one_round)
        reference = SimpleNamespace(
            settle=lambda worker=None: None,
            worker=None,
            overhead_s=0.0,
            hands=None,
            idle=NOT_FLUSHED,
            stage=SimpleNamespace(changing=1),
        )
        entrant = rounds.Entrant(SimpleNamespace(host_code=True), lambda *_: None)
        rounds.measure(reference, [entrant], 1, 1e-3, protocol, delta, "cpu")
        return entrant.group

    random.seed(0)  # of the orders
    monkeypatch.setattr(rounds, "own_core", lambda workers: contextlib.nullcontext())
    monkeypatch.setattr(rounds, "timing_lock", lambda device: contextlib.nullcontext())
    return make


@pytest.mark.parametrize("second", [0.0, 0.1])
@pytest.mark.parametrize("name", NOISE)
def test_all_looks_together_decide_wrongly_in_five_percent_at_most(group_of, name, second):
    """At a speedup of exactly 1 + delta either decision is wrong; the schedule is the protocol's own."""
    rng, times, wrong, early = np.random.default_rng(0), 700, 0, 0
    protocol = replace(PROTOCOLS["fast"], resolution=0.0)
    for _ in range(times):
        group = group_of(rng, NOISE[name], 1.02, protocol, 0.02, second)
        low, high = interval(group.log_ratios, timing.LEVEL)
        wrong += not low <= math.log(1.02) <= high
        early += len(group.log_ratios) < protocol.most_pairs
    assert early <= wrong, "it stops before the last look only when it thinks that it knows"
    assert wrong <= times * (0.05 + 2 * math.sqrt(0.05 * 0.95 / times))


@pytest.mark.parametrize("name", ["normal", "heavy-tailed", "skewed"])
def test_when_timing_ends_favours_neither_of_two_that_are_alike(group_of, name):
    """Were it to end as soon as no gain is possible, they would come out by up to 1.5 % too slow in so much noise."""
    rng, protocol = np.random.default_rng(1), PROTOCOLS["fast"]
    groups = [group_of(rng, lambda rng, n: 2.5 * NOISE[name](rng, n), 1.0, protocol, 0.02) for _ in range(600)]
    centres = np.array([centre(group.log_ratios) for group in groups])
    assert abs(centres.mean()) < 0.006
    assert abs((centres > 0).mean() - 0.5) < 0.05
    assert statistics.fmean(len(group.log_ratios) for group in groups) < 26


def test_a_clock_that_stands_still_now_and_then_ends_no_timing(group_of):
    """Such rounds do not count, and those that are left may not decide."""
    rng = np.random.default_rng(0)
    moves = itertools.cycle([False, True, True, True, True, True])
    protocol = replace(PROTOCOLS["fast"], resolution=0.0)

    def noise(rng, n):
        return 0.2 * rng.standard_normal(n) if next(moves) else [-math.inf]

    group = group_of(rng, noise, 1.02, protocol, 0.02)
    assert 0 < len(group.log_ratios) < protocol.most_pairs


@pytest.mark.parametrize(("speedup", "fast"), [(1.5, True), (0.7, False)])
def test_a_clear_case_is_decided_at_the_first_look(group_of, speedup, fast):
    protocol = PROTOCOLS["fast"]
    group = group_of(np.random.default_rng(0), NOISE["normal"], speedup, protocol, 0.02)
    assert len(group.log_ratios) == protocol.least_pairs
    assert (timing.combine([group]).low > 1.02) == fast

"""pass@k and best-of-k equal the mean over all subsets."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegflow.statistics.best_of import expected_best, pass_at_k

VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=8)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_mean_over_all_subsets(verdicts, data):
    k = data.draw(st.integers(1, len(verdicts)))
    brute = np.mean([any(chosen) for chosen in itertools.combinations(verdicts, k)])
    assert pass_at_k(len(verdicts), sum(verdicts), k) == pytest.approx(brute)
    assert expected_best(verdicts, k) == pytest.approx(brute)


@given(VALUES, st.data())
def test_expected_best_is_the_mean_of_the_maximum_over_all_subsets(values, data):
    k = data.draw(st.integers(1, len(values)))
    brute = np.mean([max(chosen) for chosen in itertools.combinations(values, k)])
    assert expected_best(values, k) == pytest.approx(brute, abs=1e-9)


@given(VALUES)
def test_more_samples_never_do_worse(values):
    best = [expected_best(values, k) for k in range(1, len(values) + 1)]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(best))
    assert best[-1] == max(values)


def test_large_counts_stay_finite():
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5)
    assert expected_best(np.arange(100_000), 100_000) == 99_999


def test_more_than_there_are_is_not_a_number():
    assert math.isnan(pass_at_k(3, 1, 4))
    assert math.isnan(expected_best([1.0], 2))


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError, match="needs 0 <= c <= n"):
        pass_at_k(n, c, k)


def test_the_papers_step0_rates_do_not_give_its_pass_at_16():
    # Audit finding 2: Table 6, step 0, of 32 samples each; Table 2 prints 99.9 % for K = 16.
    correct = (3, 1, 32, 12, 12)
    assert np.mean([pass_at_k(32, c, 16) for c in correct]) == pytest.approx(0.877, abs=0.001)

"""Ranking and calibration against their slow, obvious versions, and at their edges."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vegflow.statistics.best_of import passes_at_k
from vegflow.statistics.calibration import reliability
from vegflow.statistics.ranking import auroc, best_of_k, midranks, pairs_in_order

CANDIDATES = st.lists(
    st.tuples(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0]), st.booleans()), min_size=1, max_size=7
)


def obvious_best_of_k(scores, values, k):
    """Every subset of k, every tie broken each way."""
    found = []
    for chosen in itertools.combinations(range(len(scores)), k):
        top = max(scores[i] for i in chosen)
        found.append(np.mean([values[i] for i in chosen if scores[i] == top]))
    return np.mean(found)


@given(CANDIDATES)
@settings(max_examples=100, deadline=None)
def test_pairs_are_counted_one_by_one(candidates):
    scores, passes = zip(*candidates, strict=True)
    good = [s for s, p in candidates if p]
    bad = [s for s, p in candidates if not p]
    right = sum((a > b) + 0.5 * (a == b) for a in good for b in bad)
    assert pairs_in_order(scores, passes) == (right, len(good) * len(bad))
    assert auroc(scores, passes) == pytest.approx(
        right / (len(good) * len(bad)) if good and bad else math.nan, nan_ok=True
    )


@given(CANDIDATES)
@settings(max_examples=100, deadline=None)
def test_best_of_k_is_the_mean_over_all_subsets(candidates):
    scores, passes = zip(*candidates, strict=True)
    ks = range(1, len(scores) + 1)
    wanted = [obvious_best_of_k(scores, passes, k) for k in ks]
    np.testing.assert_allclose(best_of_k(scores, passes, list(ks)), wanted, atol=1e-12)
    rewards = np.linspace(0.3, 4.0, len(scores))
    wanted = [obvious_best_of_k(scores, rewards, k) for k in ks]
    np.testing.assert_allclose(best_of_k(scores, rewards, list(ks)), wanted, atol=1e-12)


def test_a_count_stands_for_equal_candidates():
    scores, values, counts = [1.0, 0.0, 2.0], [1, 0, 0], [2, 3, 1]
    repeated = best_of_k(np.repeat(scores, counts), np.repeat(values, counts), [1, 3, 6])
    np.testing.assert_allclose(best_of_k(scores, values, [1, 3, 6], counts), repeated)


def test_constant_scores_are_chance_and_the_oracle_is_pass_at_k():
    passes = [1, 0, 0, 1, 0, 0, 0]
    assert auroc([3.0] * 7, passes) == 0.5
    np.testing.assert_allclose(best_of_k([3.0] * 7, passes, [1, 4, 7]), 2 / 7)
    np.testing.assert_allclose(best_of_k(passes, passes, [1, 4, 7]), passes_at_k(7, 2, np.array([1, 4, 7])))


def test_more_than_there_are_is_nan_and_so_is_nothing():
    assert np.isnan(best_of_k([1.0, 2.0], [0, 1], [3])).all()
    assert np.isnan(best_of_k([], [], [1])).all()
    assert math.isnan(auroc([1.0, 2.0], [True, True]))


def test_a_score_that_is_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        midranks([1.0, math.nan])
    with pytest.raises(ValueError, match="NaN"):
        best_of_k([1.0, math.nan], [0, 1], [1])


def test_reliability_by_hand():
    found = reliability([0.05, 0.1, 0.15, 0.95, 1.0], [0, 1, 0, 1, 1], 10)
    assert found.count.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    np.testing.assert_allclose(found.probability[[0, 1, 9]], [0.05, 0.125, 0.975])
    np.testing.assert_allclose(found.rate[[0, 1, 9]], [0, 0.5, 1])
    assert found.ece == pytest.approx((0.05 + 2 * 0.375 + 2 * 0.025) / 5)
    assert found.brier == pytest.approx((0.05**2 + 0.9**2 + 0.15**2 + 0.05**2) / 5)
    assert np.isnan(found.rate[4])


def test_reliability_refuses_what_is_no_probability():
    for wrong in ([], [1.2], [math.nan]):
        with pytest.raises(ValueError, match="probabilities"):
            reliability(wrong, [1] * len(wrong), 10)

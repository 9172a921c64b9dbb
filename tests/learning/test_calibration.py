"""Platt's scaling against a general optimiser, and where plain logistic regression would have no optimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from vegflow.learning.calibration import fit_platt, sigmoid


def test_platt_is_the_optimum_that_a_general_optimiser_finds():
    rng = np.random.default_rng(0)
    scores = 1000 + 50 * rng.normal(size=200)
    passes = rng.random(200) < sigmoid((scores - 1000) / 25 - 1)
    n = passes.sum()
    targets = np.where(passes, (n + 1) / (n + 2), 1 / (len(passes) - n + 2))

    def loss(w):
        logits = w[0] * (scores - 1000) / 50 + w[1]
        return (np.logaddexp(0, logits) - targets * logits).sum()

    best = minimize(loss, [0.0, 0.0], tol=1e-12).x
    found = fit_platt(scores, passes)
    assert found.slope * 50 == pytest.approx(best[0], abs=1e-4)
    assert found.intercept + found.slope * 1000 == pytest.approx(best[1], abs=1e-4)


@pytest.mark.parametrize("passes", [[True] * 4, [False] * 4, [False, False, True, True], [True, True, False, False]])
def test_platt_is_finite_where_plain_logistic_regression_is_not(passes):
    found = fit_platt([1.0, 2.0, 3.0, 4.0], passes)
    probabilities = found([1.0, 4.0])
    assert np.isfinite([found.slope, found.intercept]).all()
    assert ((probabilities > 0) & (probabilities < 1)).all()
    if len(set(passes)) == 2:
        assert (probabilities[1] > probabilities[0]) == passes[-1]


def test_platt_of_constant_scores_is_the_rate():
    assert fit_platt([2.0] * 8, [True] * 2 + [False] * 6)([2.0])[0] == pytest.approx((2 * 3 / 4 + 6 / 8) / 8)


@pytest.mark.parametrize("scores", [[], [1.0, np.inf], [np.nan]])
def test_platt_refuses_what_is_no_score(scores):
    with pytest.raises(ValueError, match="finite scores"):
        fit_platt(scores, [True] * len(scores))

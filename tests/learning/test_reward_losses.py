"""Losses and the fit of a head against their equations, written out the slow way."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from tests.learning.reward_scenario import examples, settings
from vegflow.learning.reward_examples import Lesson, joined, lessons_of
from vegflow.learning.reward_head import Fit, fit_head
from vegflow.learning.reward_losses import REWARD_LOSSES, bradley_terry, cross_entropy

LESSON = Lesson(
    numbers_M=np.array([3, 5, 8]),
    passes_M=np.array([True, False, True]),
    better_P=np.array([0, 2]),
    worse_P=np.array([1, 1]),
    margin_P=np.array([0.0, 0.3]),
)
SCORES = [0.5, -1.0, 2.0]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_bradley_terry_is_minus_the_log_probability_that_the_better_wins():
    wanted = [-math.log(sigmoid(0.5 - -1.0)), -math.log(sigmoid(2.0 - -1.0 - 0.3))]
    assert bradley_terry(torch.tensor(SCORES), LESSON).tolist() == pytest.approx(wanted, rel=1e-6)


def test_bradley_terry_does_not_see_what_is_added_to_all_scores():
    scores = torch.tensor(SCORES, dtype=torch.float64)
    torch.testing.assert_close(bradley_terry(scores, LESSON), bradley_terry(scores + 100, LESSON))


def test_cross_entropy_is_minus_the_log_probability_of_the_verdict():
    wanted = [-math.log(sigmoid(0.5)), -math.log(1 - sigmoid(-1.0)), -math.log(sigmoid(2.0))]
    assert cross_entropy(torch.tensor(SCORES), LESSON).tolist() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("loss", REWARD_LOSSES)
def test_extreme_scores_stay_finite_and_gradients_are_those_of_differences(loss):
    assert REWARD_LOSSES[loss](torch.tensor([1e6, -1e6, -1e6]), LESSON).isfinite().all()
    scores = torch.tensor(SCORES, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: REWARD_LOSSES[loss](r, LESSON), scores)


@pytest.mark.parametrize("loss", REWARD_LOSSES)
def test_the_head_is_the_optimum_that_another_optimiser_finds(loss):
    """In the scaled states, from the equations in numpy alone."""
    lesson = joined(list(lessons_of(examples(), settings()).values()))
    states = torch.tensor(np.random.default_rng(0).normal(3, [1, 10, 0.1], size=(12 * 16, 3)), dtype=torch.float32)
    head, fit = fit_head(states, lesson, loss, 0.3)
    own = states.double().numpy()[lesson.numbers_M]
    x = (own - own.mean(0)) / own.std(0)

    def objective(w):
        r = x @ w[:3] + w[3]
        if loss == "bradley_terry":
            terms = np.logaddexp(0, -(r[lesson.better_P] - r[lesson.worse_P]))
        else:
            terms = np.logaddexp(0, np.where(lesson.passes_M, -r, r))
        return terms.mean() + 0.15 * (w[:3] ** 2).sum()

    best = minimize(objective, np.zeros(4), tol=1e-12).x
    scores = head(states)[lesson.numbers_M].numpy()
    np.testing.assert_allclose(scores, x @ best[:3] + best[3], atol=1e-5)
    assert fit.loss == pytest.approx(objective(best) - 0.15 * (best[:3] ** 2).sum(), abs=1e-6)


def test_a_state_that_never_changes_gets_no_weight():
    lesson = joined(list(lessons_of(examples(), settings()).values()))
    states = torch.randn(12 * 16, 3, generator=torch.Generator().manual_seed(0))
    states[:, 1] = 4.2
    assert fit_head(states, lesson, "cross_entropy", 0.3)[0].weight_D[1] == 0


def test_a_term_below_ln_2_is_right():
    assert Fit.of(torch.tensor([0.1, 0.6, 0.7, 5.0]), 3) == Fit(pytest.approx(1.6), 0.5, 3)

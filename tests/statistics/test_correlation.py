"""Rank correlations against scipy, the paper's p-values, and degenerate input."""

import numpy as np
import pytest
from scipy import stats

from vegflow.statistics.correlation import partial_spearman, spearman, weighted_spearman, within_spearman

RNG = np.random.default_rng(5)
X = RNG.integers(0, 6, 60).astype(float)
Y = X + RNG.normal(0, 3, 60).round()
TASKS = np.repeat(list("abcdef"), 10)


def test_spearman_equals_scipys():
    reference = stats.spearmanr(X, Y)
    found = spearman(X, Y)
    assert found.rho == pytest.approx(reference.statistic)
    assert found.p_value == pytest.approx(reference.pvalue)


@pytest.mark.parametrize(("rho", "n", "p"), [(-0.198, 320, 3.66e-4), (-0.275, 320, 5.8e-7), (-0.442, 320, 9.77e-17), (-0.442, 80, 4e-5), (-0.047, 550, 0.271)])  # fmt: skip
def test_the_papers_p_values_and_the_n_they_belong_to(rho, n, p):
    # Audit finding 5: 9.8e-17, printed for a bottom quartile, is the p-value for all 320 samples.
    t = abs(rho) * np.sqrt((n - 2) / (1 - rho**2))
    assert 2 * stats.t.sf(t, n - 2) == pytest.approx(p, rel=0.06)


def test_what_does_not_vary_has_no_correlation():
    flat = np.ones(10)
    assert spearman(flat, np.arange(10.0)).rho is None
    assert spearman(np.arange(2.0), np.arange(2.0)).rho is None
    assert within_spearman(flat, np.arange(10.0), ["a"] * 10).rho is None
    assert np.isnan(weighted_spearman(flat, np.arange(10.0), np.ones((3, 10)))).all()


def test_weights_are_repetitions():
    counts = RNG.integers(0, 4, 60)
    repeated = stats.spearmanr(np.repeat(X, counts), np.repeat(Y, counts)).statistic
    assert weighted_spearman(X, Y, counts[None].astype(float))[0] == pytest.approx(repeated)
    assert weighted_spearman(X, Y, np.ones((1, 60)))[0] == pytest.approx(spearman(X, Y).rho)


def test_partial_spearman_removes_the_control():
    control = RNG.normal(size=500)
    x, y = control + RNG.normal(size=500), control + RNG.normal(size=500)
    assert spearman(x, y).rho > 0.4
    assert abs(partial_spearman(x, y, control).rho) < 0.1
    assert partial_spearman(x, y, np.ones(500)).rho == spearman(x, y).rho
    assert partial_spearman(control, y, control).rho is None


def test_within_tasks_differences_between_tasks_do_not_enter():
    level = np.repeat(np.arange(6.0) * 100, 10)
    x, y = level + RNG.normal(size=60), level + RNG.normal(size=60)
    assert spearman(x, y).rho > 0.9
    assert abs(within_spearman(x, y, TASKS).rho) < 0.35


def test_within_p_is_that_of_permuting_within_tasks():
    x, y = RNG.normal(size=60), RNG.normal(size=60)
    y = y + 0.35 * x
    found = within_spearman(x, y, TASKS)
    draws = []
    for _ in range(2000):
        shuffled = y.copy()
        for task in "abcdef":
            shuffled[task == TASKS] = RNG.permutation(shuffled[task == TASKS])
        draws.append(abs(within_spearman(x, shuffled, TASKS).rho))
    assert found.p_value == pytest.approx(np.mean(np.array(draws) >= abs(found.rho)), abs=0.03)

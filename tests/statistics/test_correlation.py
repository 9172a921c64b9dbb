"""Rank correlations against scipy, the paper's p-values, and degenerate input."""

import numpy as np
import pytest
from scipy import stats

from vegflow.statistics.correlation import (
    influence,
    partial_influence,
    partial_spearman,
    spearman,
    within_influence,
    within_spearman,
)

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
    assert influence(flat, np.arange(10.0)) is None
    assert within_influence(flat, np.arange(10.0), ["a"] * 10) is None


@pytest.mark.parametrize("partial", [False, True])
def test_influence_is_what_leaving_a_sample_out_changes(partial):
    rng = np.random.default_rng(0)
    n = 300
    x = rng.integers(0, 9, n).astype(float)
    y, z = x + rng.normal(0, 4, n).round(), x + rng.normal(0, 3, n)

    def rho(keep):
        return (partial_spearman(x[keep], y[keep], z[keep]) if partial else spearman(x[keep], y[keep])).rho

    psi = partial_influence(x, y, z) if partial else influence(x, y)
    jackknife = [(n - 1) * (rho(np.arange(n)) - rho(np.delete(np.arange(n), i))) for i in range(n)]
    assert psi == pytest.approx(np.array(jackknife), abs=0.1)
    assert psi.std() == pytest.approx(np.std(jackknife), rel=0.02)
    assert psi.mean() == pytest.approx(0, abs=1e-12)


def test_within_influence_is_what_leaving_a_task_out_changes():
    names = np.repeat([f"t{i}" for i in range(40)], 15)
    rng = np.random.default_rng(3)
    x = rng.normal(size=600)
    y = 0.5 * x + rng.normal(size=600)
    psi, tasks, weights = within_influence(x, y, names)
    assert weights.shape == psi.shape
    whole = within_spearman(x, y, names).rho
    left = [39 * (whole - within_spearman(x[names != t], y[names != t], names[names != t]).rho) for t in tasks]
    assert psi == pytest.approx(np.array(left), abs=0.05)


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

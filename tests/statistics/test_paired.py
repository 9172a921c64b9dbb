"""Paired tests against enumeration, scipy and the paper's own numbers."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vegflow.statistics.paired import cohens_h, holm, positive_probability, sign_test, task_permutation, wilcoxon


def test_the_papers_cohens_h():
    assert cohens_h(0.8, 0.5) == pytest.approx(0.6435, abs=1e-4)
    assert cohens_h(0.5, 0.8) == -cohens_h(0.8, 0.5)


def test_the_papers_sign_test_three_of_three():
    differences = [1, 1, 1] + [0] * 7
    assert sign_test(differences, "greater") == 0.125
    assert sign_test(differences) == 0.25


def test_the_papers_head_to_head_over_all_tasks_shows_nothing():
    # 6 of 8 and 3 of 11: 9 wins of 19 (audit finding 6)
    assert sign_test([1] * 9 + [-1] * 10) == 1.0


def test_the_papers_wilcoxon():
    # ten differences whose negative ranks sum to 10: W = 10, exact two-sided p = 0.0840
    d = np.arange(1, 11) * np.where(np.isin(np.arange(1, 11), [1, 2, 3, 4]), -1, 1)
    found = wilcoxon(d)
    assert found.statistic == 10.0
    assert found.p_value == pytest.approx(0.0840, abs=1e-4)


def test_the_posterior_is_scipys_and_seeds_are_replicates():
    d, tasks = [0.3, 0.1, -0.2, 0.4, 0.5, 0.5], list("aabbcc")
    mean = stats.bayes_mvs([0.2, 0.1, 0.5], alpha=0.9)[0]
    found = positive_probability(d, tasks)
    inside = stats.t.ppf(found, 2) * stats.sem([0.2, 0.1, 0.5])
    assert inside == pytest.approx(mean.statistic)
    half = (mean.minmax[1] - mean.minmax[0]) / 2
    assert half == pytest.approx(stats.t.ppf(0.95, 2) * stats.sem([0.2, 0.1, 0.5]))
    assert positive_probability(-np.array(d), tasks) == pytest.approx(1 - found)
    assert positive_probability([0.1, 0.1], ["a", "b"]) is None


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9).filter(any))
def test_wilcoxon_enumerates_all_sign_flips_of_the_mid_ranks(differences):
    d = np.array([x for x in differences if x])
    ranks = stats.rankdata(abs(d))
    sums = [ranks @ (np.array(signs) > 0) for signs in itertools.product([1, -1], repeat=len(d))]
    smaller = min(ranks @ (d > 0), ranks @ (d < 0))
    found = wilcoxon(differences)
    assert found.statistic == smaller
    assert found.p_value == pytest.approx(min(1, 2 * np.mean(np.array(sums) <= smaller + 1e-9)))


@pytest.mark.parametrize("n", [20, 50, 80])
def test_wilcoxon_equals_scipys_without_ties(n):
    d = np.random.default_rng(n).normal(0.2, 1, n)
    reference = stats.wilcoxon(d)
    found = wilcoxon(d)
    assert (found.statistic, found.p_value) == (pytest.approx(reference.statistic), pytest.approx(reference.pvalue))


def test_zero_differences_decide_nothing():
    assert sign_test([0, 0]) is None
    assert wilcoxon([0.0, 0.0]) is None
    assert task_permutation([0.0, 0.0], ["a", "b"], 0) is None


@given(st.lists(st.floats(-5, 5).filter(lambda x: abs(x) > 1e-3), min_size=1, max_size=7))
def test_permutation_enumerates_all_sign_flips_of_task_means(means):
    flips = itertools.product([1, -1], repeat=len(means))
    observed = abs(np.mean(means))
    brute = np.mean([abs(np.mean(np.multiply(f, means))) >= observed - 1e-12 for f in flips])
    tasks = [f"t{i}" for i in range(len(means))]
    assert task_permutation(means, tasks, 0) == pytest.approx(brute)


def test_seeds_of_a_task_are_one_unit():
    assert task_permutation([1.0] * 10, ["a"] * 5 + ["b"] * 5, 0) == 0.5  # two tasks: 2 of 4 flips


def test_many_tasks_are_sampled_and_agree_with_the_exact_test():
    rng = np.random.default_rng(3)
    d = rng.normal(0.5, 1, 15)
    exact = task_permutation(d[:14], [str(i) for i in range(14)], 0)
    sampled = task_permutation(np.r_[d[:14], 1e-9], [str(i) for i in range(15)], 0)
    assert sampled == pytest.approx(exact, abs=0.02)


def test_the_permutation_test_holds_its_level():
    rng = np.random.default_rng(0)
    p = [task_permutation(rng.normal(0, 1, 8), list("abcdefgh"), 0) for _ in range(400)]
    assert np.mean(np.array(p) <= 0.05) <= 0.08


def test_holm_steps_down_and_keeps_order_and_gaps():
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []

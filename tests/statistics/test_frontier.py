"""Fronts of value and throughput: exact against the definition, and what counts as noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegflow.statistics.frontier import beyond_noise, front, share_on_front

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), min_size=1, max_size=9)


@given(POINTS)
def test_the_front_is_what_no_point_dominates(points):
    values, speeds = np.array(points, dtype=float).T
    expected = [not any(v2 >= v and s2 >= s and (v2 > v or s2 > s) for v2, s2 in points) for v, s in points]
    assert front(values, speeds).tolist() == expected


@given(st.lists(POINTS, min_size=2, max_size=4).filter(lambda groups: len({len(g) for g in groups}) == 1))
def test_many_fronts_at_once_are_each_one(groups):
    values, speeds = np.array(groups, dtype=float).transpose(2, 0, 1)
    together = front(values, speeds)
    assert together.tolist() == [front(v, s).tolist() for v, s in zip(values, speeds, strict=True)]
    assert share_on_front(values, speeds) == pytest.approx(together.mean(axis=0))


def test_an_undefined_point_is_on_no_front():
    assert front(np.array([np.nan, 0.5]), np.array([9.0, 1.0])).tolist() == [False, True]


def test_a_point_that_gains_less_than_noise_at_a_price_vanishes():
    """0.9 at 10 a second; 0.903 at 5 is on the front and gains nothing that could be told from noise."""
    values, speeds = np.array([0.900, 0.903, 0.95]), np.array([10.0, 5.0, 2.0])
    assert front(values, speeds).all()
    assert beyond_noise(values, speeds).tolist() == [True, False, True]


def test_two_points_equal_up_to_noise_both_stay():
    assert beyond_noise(np.array([0.900, 0.902]), np.array([10.0, 9.9])).all()


def test_a_dominated_point_within_noise_is_not_held_against_it():
    values, speeds = np.array([0.9, 0.899]), np.array([10.0, 9.9])
    assert front(values, speeds).tolist() == [True, False]
    assert beyond_noise(values, speeds).all()

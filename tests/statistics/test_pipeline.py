"""The deployable pipeline and power sampling: exact against enumeration, and equal to the paper's selection at m = K."""

import itertools

import numpy as np
import polars as pl
import pytest

from vegflow.selection import Samples, by_surprisal
from vegflow.statistics.pipeline import STOPS, curves, random_curve
from vegflow.statistics.sharpening import reweighted

from synthetic import default  # isort: skip


def samples(correct, speed, nll=None, seconds=None):
    n = len(correct)
    correct, speed = np.array(correct, bool), np.array(speed, float)
    nll = np.arange(n, dtype=float) if nll is None else np.array(nll, float)
    return Samples(
        place=np.arange(n), nlls={"sum": nll}, n_tokens=np.ones(n), programs=np.arange(n), sources=np.arange(n),
        correct=correct, fast_1=(correct & (speed > 1)).astype(float), speedup=np.where(correct, speed, 0.0),
        seconds=np.arange(1.0, n + 1) if seconds is None else np.array(seconds, float),
    )  # fmt: skip


def curve(one, order, stop, ms):
    return curves(one, order, [stop], ms)[0]


CASES = {
    "mixed": ([1, 0, 1, 1, 0, 1], [0.5, 0, 2.0, 1.5, 0, 0.9]),
    "none correct": ([0, 0, 0], [0, 0, 0]),
    "all fast": ([1, 1, 1, 1], [2, 3, 4, 5]),
    "none fast": ([1, 0, 1, 1], [0.5, 0, 0.7, 0.9]),
    "one fast": ([0, 0, 1, 0, 1], [0, 0, 1.2, 0, 0.4]),
    "one sample": ([1], [2.0]),
}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("case", CASES)
def test_random_order_is_the_mean_over_all_orders(case, stop):
    one = samples(*CASES[case])
    ms = [1, 2, 3, len(one), len(one) + 4]
    orders = itertools.permutations(range(len(one)))
    brute = np.mean([curve(one, np.array(order), STOPS[stop], ms) for order in orders], axis=0)
    assert random_curve(one, STOPS[stop], ms) == pytest.approx(brute)


def test_evaluation_stops_at_the_first_correct_sample():
    one = samples([0, 1, 1, 0], [0, 0.5, 2.0, 0], nll=[9, 5, 4, 1])
    order = by_surprisal(one, one.nlls["sum"])
    success, speed, evaluations, seconds = curve(one, order, STOPS["first correct"], [1, 2, 3])
    assert (success.tolist(), speed.tolist()) == ([0, 0, 0], [0, 0.5, 0.5])
    assert (evaluations.tolist(), seconds.tolist()) == ([1, 2, 2], [1, 3, 3])
    success, *_, evaluations, _ = curve(one, order, STOPS["first fast_1"], [2, 4])
    assert (success.tolist(), evaluations.tolist()) == ([0, 1], [2, 3])


@pytest.mark.parametrize(
    ("stop", "order", "strategy"),
    [
        ("first correct", "surprisal", "surprisal-guided"), ("third correct", "surprisal", "surprisal-guided-top3"),
        ("first correct", "confidence", "confidence-guided"), ("third correct", "confidence", "confidence-top3"),
        ("first correct", "random", "random-correct"), ("third correct", "random", "random-top3"),
        ("never", "shortest", "best-correct"), ("first correct", "majority-program", None),
    ],
)  # fmt: skip
def test_at_m_equal_to_k_it_is_selection_after_the_fact(stop, order, strategy):
    _, tables = default()
    rows = pl.DataFrame(pl.from_arrow(tables["pipeline"])).filter(
        (pl.col("task_set") == "all") & (pl.col("stop") == stop) & (pl.col("order") == order) & (pl.col("m") == 64)
    )
    assert rows.height == 1
    picks = pl.DataFrame(pl.from_arrow(tables["strategies"])).filter(pl.col("task_set") == "all")
    if strategy:
        assert rows["success"][0] == pytest.approx(picks.filter(pl.col("strategy") == strategy)["fast_1"][0])
    assert rows["evaluations"][0] <= 64


def test_success_grows_with_m_and_costs_no_more_than_m():
    _, tables = default()
    table = pl.DataFrame(pl.from_arrow(tables["pipeline"])).filter(pl.col("stop").is_in(["first fast_1", "never"]))
    for _, line in table.group_by("source", "task_set", "order", "stop"):
        ordered = line.sort("m")
        assert (np.diff(ordered["success"].to_numpy()) > -1e-9).all()
        assert (ordered["evaluations"] <= ordered["m"] + 1e-9).all()


def test_weights_of_power_sampling():
    one = samples([1, 1, 0], [2.0, 0.5, 0], nll=[2.0, 1.0, 1.0])
    fast, correct, speed, effective = reweighted(one, [1.0, 2.0, 1e6])
    assert (fast[0], correct[0], speed[0], effective[0]) == pytest.approx((1 / 3, 2 / 3, 2.5 / 3, 3.0))
    w = np.exp([-2.0, -1.0, -1.0]) / np.exp([-2.0, -1.0, -1.0]).sum()
    assert (fast[1], effective[1]) == pytest.approx((w[0], 1 / (w @ w)))
    assert (fast[2], effective[2]) == pytest.approx((0.0, 2.0))


def test_power_sampling_finds_the_rate_of_the_sharpened_policy():
    # Six programs of known probability: under q^alpha their share is known exactly.
    rng = np.random.default_rng(4)
    q = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    fast = np.array([0, 1, 0, 1, 1, 1])
    drawn = rng.choice(6, size=4000, p=q)
    one = samples(np.ones(4000), np.where(fast[drawn], 2.0, 0.5), nll=-np.log(q[drawn]))
    for alpha, found in zip((0.5, 2.0), reweighted(one, [0.5, 2.0])[0], strict=True):
        target = q**alpha / (q**alpha).sum()
        assert found == pytest.approx(target @ fast, abs=0.03)


def test_alpha_one_is_the_per_sample_rate():
    _, tables = default()
    at = pl.DataFrame(pl.from_arrow(tables["sharpening"])).filter(
        (pl.col("alpha") == 1) & (pl.col("task_set") == "all")
    )
    scaling = pl.DataFrame(pl.from_arrow(tables["scaling"]))
    one = scaling.filter((pl.col("task_set") == "all") & (pl.col("metric") == "fast_1") & (pl.col("k") == 1))
    assert (at["fast_1"][0], at["low"][0]) == pytest.approx((one["value"][0], one["low"][0]))

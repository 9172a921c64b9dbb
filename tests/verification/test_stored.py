import pytest

from vegflow.config.verification import VerificationConfig, parse_stage
from vegflow.verification.stored import bare, half_of, keeps, test_orders

CONFIG = VerificationConfig(domain="functions", rollouts="none")
LENIENT = CONFIG.model_copy(update={"timeouts": "keep"})
GOOD = {"syntax": ("pass", 0.0), "lint": ("pass", 0.0), "import": ("pass", 0.01)}
GOOD |= {f"test/{n}": ("pass", 0.1) for n in range(4)}
test_orders.__test__ = False


@pytest.mark.parametrize(
    ("stage", "changed", "strict", "lenient"),
    [
        ("syntax", {"syntax": ("error", 0)}, False, False),
        ("syntax", {"test/0": ("fail", 0)}, True, True),
        ("lint", {"lint": ("fail", 0)}, False, False),
        ("import", {"import": ("error", 0)}, False, False),
        ("import", {"import": ("timeout", 1)}, False, True),
        ("one_test", {"test/2": ("fail", 0.1)}, False, False),
        ("one_test", {"test/0": ("fail", 0.1)}, True, True),
        ("one_test", {"test/2": ("timeout", 1.0)}, False, True),
        ({"tests": 2}, {"test/1": ("fail", 0.1)}, True, True),
        ({"tests": 2}, {"test/3": ("error", 0.1)}, False, False),
        ({"tests": 9}, {"test/1": ("fail", 0.1)}, False, False),
        ({"tests": 9}, {"test/2": ("timeout", 1.0), "test/3": ("fail", 0.1)}, False, True),
        ({"capped": 0.25}, {}, False, True),
        ({"capped": 0.25}, {"test/3": ("fail", 0.1)}, False, False),
        ({"capped": 0.25}, {"test/1": ("fail", 0.1)}, False, True),
        ({"capped": 0.5}, {}, True, True),
    ],
)
def test_what_a_filter_keeps(stage, changed, strict, lenient):
    order = [2, 3, 0, 1]
    outcomes = GOOD | changed
    assert keeps(parse_stage(stage), outcomes, order, CONFIG) is strict
    assert keeps(parse_stage(stage), outcomes, order, LENIENT) is lenient


def sha(half, number):
    return f"{2 * number + half:08x}" + "0" * 56


def row(half, number, test, outcome, seconds):
    name = sha(half, number)
    assert half_of(name) == half
    return {"task_id": "T", "completion_sha256": name, "check": f"test/{test}", "outcome": outcome, "cpu_s": seconds}


def rows(half, finds, seconds):
    """`finds`: for each candidate the tests that find its fault."""
    return [
        row(half, number, test, "fail" if test in found else "pass", seconds[test])
        for number, found in enumerate(finds)
        for test in range(len(seconds))
    ]


def test_a_learned_order_comes_from_the_other_half_alone():
    checks = rows(0, [{2}, {2}, {1}], [0.1] * 3) + rows(1, [{0}, {0}, {1}], [0.1] * 3)
    orders = test_orders(checks, CONFIG.model_copy(update={"test_order": "learned"}), {"T": 3})
    assert orders["T", 1] == [2, 1, 0]
    assert orders["T", 0] == [0, 1, 2]


def test_faults_found_already_count_no_more_and_seconds_do():
    learned = CONFIG.model_copy(update={"test_order": "learned"})
    checks = rows(0, [{0, 1}, {0, 1}, {0, 1}, {2}], [0.1, 0.1, 0.1])
    assert test_orders(checks, learned, {"T": 3})["T", 1] == [0, 2, 1]
    checks = rows(0, [{0}, {0}, {1}], [1.0, 0.1, 0.1])
    assert test_orders(checks, learned, {"T": 3})["T", 1] == [1, 0, 2]


def test_the_cheapest_first_and_as_written():
    checks = rows(0, [{0}], [0.3, 0.1, 0.2])
    assert test_orders(checks, CONFIG.model_copy(update={"test_order": "cheapest"}), {"T": 3})["T", 1] == [1, 2, 0]
    assert test_orders(checks, CONFIG, {"T": 3})["T", 1] == [0, 1, 2]


def test_without_past_outcomes_the_order_is_as_written():
    for how in ("learned", "cheapest"):
        orders = test_orders([], CONFIG.model_copy(update={"test_order": how}), {"T": 3})
        assert orders == {("T", 0): [0, 1, 2], ("T", 1): [0, 1, 2]}


def test_what_makes_two_programs_the_same():
    assert bare("def f():  \n\n    # why\n    return 1\n") == bare("def f():\n    return 1")
    assert bare("def f():\n    return 1") != bare("def f():\n    return 2")

"""Python functions in the sandbox: what their tests say, one by one, alone and with neighbours."""

import contextlib
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verification.small_functions import CLOSE, CONFIG, DOUBLE, LOOP, TASKS, entry, task, whole
from vegflow.evaluation.function_child import decode, encode
from vegflow.tasks.asserts import split_tests
from vegflow.tasks.functions import FunctionTask, load_functions
from vegflow.verification.conditions import plain_rule
from vegflow.verification.executor import answer_digest
from vegflow.verification.functions import FunctionExecutor

ALL = {name: f"test/{name}" for name in range(4)}


def outcomes(checks):
    return {name: check.outcome for name, check in checks.items()}


def examined(sandbox, candidate, tests=3, early=False):
    return outcomes(sandbox.examine(candidate, range(tests), early=early))


def test_a_process_of_functions_has_no_torch(sandbox):
    """It is what makes starting one cheap, and before torch starts a thread a process may still isolate itself."""
    maps = Path(f"/proc/{sandbox.zygote.process.pid}/maps").read_text()
    assert "libpython" in maps or "python" in maps
    assert "libtorch" not in maps


def test_a_right_function_passes_everything(sandbox):
    assert set(examined(sandbox, entry(DOUBLE, "    return values[0] * 2\n")).values()) == {"pass"}


def test_each_test_stands_alone(sandbox):
    only_numbers = entry(DOUBLE, "    return values[0] + values[0] if values[0] != 3 else 7\n")
    assert examined(sandbox, only_numbers) == {"import": "pass", "test/0": "fail", "test/1": "pass", "test/2": "pass"}
    assert examined(sandbox, only_numbers, early=True) == {"import": "pass", "test/0": "fail"}


def test_errors_are_named(sandbox):
    for body, kind in (("    return x\n", "NameError"), ("    return values[7]\n", "IndexError")):
        checks = sandbox.examine(entry(DOUBLE, body), range(3), early=False)
        assert {check.error_kind for name, check in checks.items() if name != "import"} == {kind}
    checks = sandbox.examine(whole(DOUBLE, "def double(:\n"), range(3), early=False)
    assert {check.error_kind for check in checks.values()} == {"SyntaxError"}
    checks = sandbox.examine(whole(DOUBLE, "other = 1\n"), [0], early=True)
    assert [(check.outcome, check.error_kind) for check in checks.values()] == [("error", "NameError")]


@pytest.mark.parametrize(
    ("of", "body", "expected"),
    [
        (CLOSE, "    return {2: 0.5, 4: [1], 0: {}, 1: True}[values[0]]\n", "pass pass pass pass"),
        (CLOSE, "    return {2: 0.50001, 4: '', 0: 'x', 1: 1}[values[0]]\n", "fail fail fail fail"),
        (CLOSE, "    return {2: 'a', 4: 1, 0: 0, 1: True}[values[0]]\n", "fail pass pass pass"),
        (LOOP, "    return x + x\n", "pass"),
        (LOOP, "    return 0\n", "fail"),
        (LOOP, "    return helper(x)\n", "pass"),
        (LOOP, "    raise KeyError\n", "error"),
        (LOOP, "    while True:\n        pass\n", "timeout"),
    ],
)
def test_conditions_other_than_equality_are_decided_where_no_candidate_is(sandbox, of, body, expected):
    found = examined(sandbox, entry(of, body), len(of.tests))
    assert " ".join(found[f"test/{n}"] for n in range(len(of.tests))) == expected
    shared = outcomes(sandbox.tests([entry(of, body)], [range(len(of.tests))])[0])
    assert shared == found


CODES = [
    "assert f(1) == 2\nassert f(2) == 3",
    "assert f(1) == 2 and f(2) == 3\nassert f(3) in (3, 4)",
    "assert abs(f(1) - 2) < 1e-3\nassert not f(-1)\nassert f(2) is not None",
    "for x in range(3):\n    assert f(x) == x + 1",
    "y = [f(x) for x in (1, 2)]\nassert y == [2, 3]\nassert f(5) == 6",
    "assert [f(x) for x in range(3)] == [1, 2, 3]",
    "assert f(f(1)) == 3\nassert sorted([f(2), f(1)]) == [2, 3], 'order'",
]
FUNCTIONS = ["x + 1", "2", "None", "[x]", "x + 1 if x != 3 else x", "float(x + 1)", "x or 1", "1 / (x - 1)", "str(x)"]


@pytest.mark.parametrize("code", CODES)
def test_tests_taken_apart_say_what_the_whole_says(sandbox, code):
    """The truth is the code itself, run here, on functions that are ours."""
    apart = FunctionTask("T/f", "f", "def f(x):\n", split_tests(code, "f"))
    sandbox.tasks = {**TASKS, apart.id: apart}
    for expression in FUNCTIONS:
        names = {"f": eval(f"lambda x: {expression}")}
        try:
            exec(code, names)
            right = True
        except Exception:
            right = False
        found = examined(sandbox, entry(apart, f"    return {expression}\n"), len(apart.tests))
        assert (set(found.values()) == {"pass"}) == right, expression


def test_a_time_out_ends_neither_the_other_tests_nor_the_neighbours(sandbox):
    hangs = entry(DOUBLE, "    while values[0] == 3:\n        pass\n    return values[0] * 2\n")
    assert examined(sandbox, hangs) == {"import": "pass", "test/0": "timeout", "test/1": "pass", "test/2": "pass"}
    stubborn = entry(
        DOUBLE,
        "    while True:\n        try:\n            while True:\n                pass\n"
        "        except BaseException:\n            pass\n",
    )
    right = entry(DOUBLE, "    return values[0] * 2\n")
    found = [outcomes(checks) for checks in sandbox.tests([right, hangs, stubborn, right], [range(3)] * 4)]
    assert set(found[0].values()) == set(found[3].values()) == {"pass"}
    assert found[1]["test/0"] == found[2]["test/0"] == "timeout"


def test_a_capped_run_decides_by_what_was_finished(sandbox):
    slow = entry(
        DOUBLE, "    for _ in range(3 * 10**7 if values[0] == -1 else 0):\n        pass\n    return values[0] * 2\n"
    )
    wrong = entry(DOUBLE, "    return 0\n")
    (late,), (bad,) = sandbox.tests([slow], [range(3)], 0.05), sandbox.tests([wrong], [range(3)], 0.05)
    assert outcomes(late) == {"import": "pass", "test/0": "pass", "test/1": "pass", "test/2": "timeout"}
    assert outcomes(bad)["test/0"] == "fail"


def test_weak_and_strong_checks_agree_on_honest_candidates(sandbox):
    tasks = load_functions()
    executor = FunctionExecutor(tasks, CONFIG)
    try:
        entries = [entry(each, each.solution) for each in list(tasks.values())[:8]]
        numbers = [range(len(tasks[each.task_id].tests)) for each in entries]
        for each, checks in zip(entries, executor.tests(entries, numbers), strict=True):
            alone = executor.examine(each, numbers[entries.index(each)], early=False)
            assert outcomes(checks) == outcomes(alone)
            assert {n: c.answer_sha256 for n, c in checks.items()} == {n: c.answer_sha256 for n, c in alone.items()}
    finally:
        executor.close()


def test_a_referee_that_cannot_start_is_our_fault(sandbox):
    from vegflow.evaluation.verdict import Fault

    broken = task("broken", "assert abs(broken(1)) == 1", "import no_such_module\n\n\ndef broken(x):\n")
    sandbox.tasks = {**TASKS, broken.id: broken}
    with pytest.raises(Fault, match="its tests do not load"):
        sandbox.examine(whole(broken, "def broken(x):\n    return 1\n"), [0], early=False)


def test_test_code_that_an_answer_makes_endless_is_given_up(sandbox):
    powers = task(
        "powers", "assert 3 ** powers(1) > 0\nwhile powers(2) != 4:\n    assert True\nassert abs(powers(3)) == 9"
    )
    sandbox.tasks = {**TASKS, powers.id: powers}
    found = examined(sandbox, entry(powers, "    return {1: 10**9, 2: 5, 3: 9}[values[0]]\n"), 3)
    assert found == {"import": "pass", "test/0": "fail", "test/1": "timeout", "test/2": "pass"}


def test_cpu_time_is_of_all_processes_and_booked_to_the_candidate(sandbox):
    from vegflow.verification.ledger import Ledger

    sandbox.ledger = Ledger(sandbox.cpu_s)
    busy = entry(DOUBLE, "    for _ in range(10**6):\n        pass\n    return values[0] * 2\n")
    idle = entry(DOUBLE, "    return values[0] * 2\n")
    sandbox.full([busy, idle], [[0, 1, 2]] * 2)
    cost = {sha: seconds for (_, sha), seconds in sandbox.ledger.cpu_s.items() if sha}
    assert cost[busy.sha256] > 2 * cost[idle.sha256] > 0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_answers_survive_their_encoding(value):
    back = decode(encode(value))
    assert back == value
    assert type(back) is type(value)


@given(st.recursive(st.none() | st.integers() | st.text() | st.floats(), lambda inner: st.lists(inner), max_leaves=20))
@settings(max_examples=100, deadline=None)
def test_whatever_arrives_is_an_answer_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        decode(data)


def test_sets_and_subclasses_count_as_what_they_hold():
    assert decode(encode({1, 2, frozenset({3})})) == {1, 2, frozenset({3})}
    assert type(decode(encode(type("Mine", (int,), {})(7)))) is int
    assert math.isnan(decode(encode(math.nan)))
    with pytest.raises(TypeError, match="no data: generator"):
        encode(x for x in ())
    loop: list = []
    loop.append(loop)
    with pytest.raises(TypeError, match="nested too deep"):
        encode(loop)


def test_a_digest_forgets_the_order_of_sets_and_dictionaries_only():
    assert answer_digest([["s", 1, 2]]) == answer_digest([["s", 2, 1]])
    assert answer_digest([["d", ["d", 1], ["s", 2]]]) == answer_digest([["d", ["s", 2], ["d", 1]]])
    assert answer_digest([["l", 1, 2]]) != answer_digest([["l", 2, 1]])


@pytest.mark.parametrize(
    ("condition", "rule"),
    [
        ("_answer_0 == [1, (2, 'a')]", ("equal", [1, (2, "a")])),
        ("_answer_0 == -1.5", ("equal", -1.5)),
        ("_answer_0 is None", ("is", None)),
        ("_answer_0", ("true", None)),
        ("not _answer_0", ("false", None)),
        ("_answer_0 == _answer_1", None),
        ("_answer_0 == f(2)", None),
        ("_answer_0 < 3", None),
        ("_answer_0 is 7", None),
    ],
)
def test_plain_conditions_are_decided_without_running_anything(condition, rule):
    assert plain_rule(condition) == rule

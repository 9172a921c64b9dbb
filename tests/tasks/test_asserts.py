import ast

import pytest

from vegflow.tasks.asserts import split_check, split_tests


def test_an_assert_is_taken_apart_into_its_call_and_a_condition():
    (test,) = split_tests("assert f([1, 2], key='a') == {'a': 3}", "f")
    assert test.calls == ("candidate([1, 2], key='a')",)
    assert test.condition == "_answer_0 == {'a': 3}"


def test_every_assert_is_a_test_of_its_own():
    tests = split_tests("assert f(1) == 2\nassert not f(2)\nassert abs(f(3) - 0.5) < 1e-6\nassert f(4), 'message'", "f")
    conditions = ["_answer_0 == 2", "not _answer_0", "abs(_answer_0 - 0.5) < 1e-06", "_answer_0"]
    assert [test.condition for test in tests] == conditions


def test_several_calls_in_one_assert_are_several_answers():
    (test,) = split_tests("assert f(1) + f(2) == 3", "f")
    assert test.calls == ("candidate(1)", "candidate(2)")
    assert test.condition == "_answer_0 + _answer_1 == 3"


@pytest.mark.parametrize(
    "code",
    [
        "assert f(f(1)) == 2",
        "assert [f(x) for x in (1, 2)] == [1, 2]",
        "assert list(map(f, [1])) == [1]",
        "x = 3\nassert f(x) == 3",
        "for x in range(3):\n    assert f(x) == x",
        "y = f(1)\nassert y == 1",
        "import math\nassert f(math.pi) == 3",
    ],
)
def test_what_depends_on_more_than_its_call_keeps_its_statements(code):
    (test,) = split_tests(code, "f")
    assert not test.calls
    assert "candidate" in test.source
    assert ast.unparse(ast.parse(code)).replace("f(", "candidate(").replace("(f,", "(candidate,") == test.source


def test_statements_that_a_test_does_not_use_do_not_hold_it_together():
    tests = split_tests("import random\nprint\nassert f(1) == 1", "f")
    assert [test.calls for test in tests] == [("candidate(1)",)]


def test_what_asserts_nothing_of_the_function_is_no_test():
    assert split_tests("assert True, 'so far so good'\nassert 1 == 1\npass\nf(1)", "f") == ()


def test_a_check_function_is_unwrapped_and_its_surroundings_kept():
    code = (
        "METADATA = {'author': 'x'}\nimport math\n\ndef check(g):\n    assert g(1) == 1\n    assert g(2) == math.tau\n"
    )
    setup, tests = split_check(code, "f")
    assert setup == "import math"
    assert [test.calls for test in tests] == [("candidate(1)",), ()]


def test_a_check_may_call_the_function_by_its_own_name():
    _, tests = split_check("def check(candidate):\n    assert g(1) == 1\n", "g")
    assert [test.calls for test in tests] == [("candidate(1)",)]


def test_code_without_a_check_is_refused():
    with pytest.raises(ValueError, match="defines no function check"):
        split_check("assert f(1)", "f")

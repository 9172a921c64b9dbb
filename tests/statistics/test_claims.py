"""Verdicts: what our interval says about the paper's number, and the file of those numbers."""

import pytest

from vegflow.artifacts.analysis import VERDICTS
from vegflow.errors import ConfigError
from vegflow.statistics.claims import evaluate, judge
from vegflow.statistics.measure import Ours
from vegflow.statistics.measures import MEASURES
from vegflow.statistics.paper import PaperNumber, load_paper

from synthetic import RESULTS, default  # isort: skip


def number(kind="effect", value=0.3, **more):
    return PaperNumber(id="x", place="here", claim="a", value=value, unit="points", kind=kind, **more)


@pytest.mark.parametrize(
    ("claim", "ours", "verdict"),
    [
        (number(), Ours(0.2, 0.1, 0.3, n_tasks=20), "reproduced"),
        (number(), Ours(-0.2, -0.3, -0.1, n_tasks=20), "not reproduced"),
        (number(value=-0.3), Ours(-0.2, -0.3, -0.1, n_tasks=20), "reproduced"),
        (number(), Ours(0.2, -0.1, 0.3, n_tasks=20), "undecided"),
        (number(), Ours(0.2, 0.1, 0.3, n_tasks=5), "undecided"),
        (number(), Ours(0.2, 0.1, 0.3, p_value=0.2, n_tasks=20), "undecided"),
        (number(), Ours(0.2, 0.1, 0.3, p_value=0.01, n_tasks=20), "reproduced"),
        (number(), Ours(0.2), "undecided"),
        (number(), Ours(missing="no arm"), "not comparable"),
        (number(value=0.27, baseline=0.5), Ours(0.3, 0.2, 0.4, n_tasks=20), "reproduced"),
        (number("equivalence", 0.0, margin=0.05), Ours(0.01, -0.02, 0.04, n_tasks=20), "reproduced"),
        (number("equivalence", 0.0, margin=0.05), Ours(0.2, 0.1, 0.3, n_tasks=20), "not reproduced"),
        (number("equivalence", 0.0, margin=0.05), Ours(0.04, -0.02, 0.1, n_tasks=20), "undecided"),
        (number("level"), Ours(0.3, 0.2, 0.4, n_tasks=20), "not comparable"),
    ],
)
def test_a_verdict_follows_from_the_interval(claim, ours, verdict):
    found, reason = judge(claim, ours, paper_setup=False)
    assert found == verdict
    assert found in VERDICTS
    assert reason


@pytest.mark.parametrize(("value", "verdict"), [(0.3, "reproduced"), (0.9, "not reproduced")])
def test_levels_are_judged_in_the_papers_own_setup_only(value, verdict):
    claim = number("level", value)
    assert judge(claim, Ours(0.3, 0.2, 0.4, n_tasks=20), paper_setup=True)[0] == verdict


def test_every_number_of_the_file_names_a_measure_that_takes_its_arguments():
    numbers = load_paper(RESULTS)
    assert len(numbers) >= 150
    assert all(n.measure in MEASURES for n in numbers if n.measure)
    assert all(n.why for n in numbers if not n.measure)
    assert all(n.margin for n in numbers if n.kind == "equivalence")


def test_the_claims_table_has_every_number_of_the_paper():
    _, tables = default()
    claims = tables["claims"].to_pylist()
    assert [c["id"] for c in claims] == [n.id for n in load_paper(RESULTS)]
    missing = [c for c in claims if c["ours"] is None]
    assert all(c["verdict"] == "not comparable" and c["reason"] for c in missing)
    assert sum(c["ours"] is not None for c in claims) > 100


@pytest.mark.parametrize(("measure", "args"), [("nonsense", {}), ("scaling", {"kk": 1})])
def test_a_wrong_measure_or_argument_names_the_number(measure, args):
    with pytest.raises(ConfigError, match="paper number x: "):
        evaluate(number(measure=measure, args=args), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {id: a}", "place: this key is required"),
        ("- {id: a, place: b, claim: c, value: 1, unit: d, colour: red}", "unknown key"),
        ("a: [", "not readable as YAML"),
        ("[" + ", ".join(["{id: a, place: b, claim: c, value: 1, unit: d}"] * 2) + "]", "stand twice: a"),
    ],
)
def test_a_bad_file_of_numbers_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "results.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_paper(path)
    assert "\n" not in str(error.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such file"):
        load_paper(tmp_path / "nowhere.yaml")

"""Figures: every one drawn, always the same, and able to say that there is nothing to draw."""

import json

import pytest
import vl_convert

from vegflow.config.analysis import StudyFacts
from vegflow.report.figures import FIGURES, figures

from synthetic import analysed, default, make_study  # isort: skip


def test_the_same_tables_give_the_same_specifications():
    study, tables = default()
    assert json.dumps(figures(tables, study.facts)) == json.dumps(figures(tables, study.facts))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_compiles_and_draws(name):
    study, tables = default()
    spec = figures(tables, study.facts)[name]
    assert spec["$schema"].startswith("https://vega.github.io/schema/vega-lite/v6")
    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    assert svg.count("<path") > 5


@pytest.mark.parametrize(
    "name", ["figure1_overview", "figure3_scaling", "figure4a_strategies", "figure5a_trajectory", "figure6_probe"]
)
def test_the_papers_numbers_stand_in_the_figure(name):
    study, tables = default()
    assert "#8a8f98" in json.dumps(figures(tables, study.facts)[name])


def test_both_bases_stand_in_the_scaling_figure():
    study, tables = default()
    text = json.dumps(figures(tables, study.facts)["figure3_scaling"])
    assert "ttt BoA, per sample" in text
    assert "ttt BoA, any of 32" in text


def test_a_study_without_comparison_and_probe_says_so():
    study = make_study(runs=(42,), steps=1)
    study.facts = StudyFacts(**study.facts.model_dump() | {"probes": {}, "comparison": None})
    drawn = figures(analysed(study), study.facts)
    assert list(drawn) == list(FIGURES)
    assert "compares no sample set" in json.dumps(drawn["figure5a_trajectory"])
    assert "no over-sharpening probe" in json.dumps(drawn["figure6_probe"])
    for spec in drawn.values():
        vl_convert.vegalite_to_svg(spec, vl_version="6.4")


def test_an_empty_study_draws_sentences():
    _, tables = default()
    empty = {name: table.slice(0, 0) for name, table in tables.items()}
    assert all(vl_convert.vegalite_to_svg(spec, vl_version="6.4") for spec in figures(empty, StudyFacts()).values())

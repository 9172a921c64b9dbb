"""The section on staged verification: every figure of every entry drawn, every table there, in a real browser too."""

import json

import polars as pl
import pytest
import vl_convert

from vegflow.artifacts.figures import STAGED_FIGURES
from vegflow.artifacts.frontier import FRONTIER_TABLES
from vegflow.config.report import ReportFacts
from vegflow.report.figures import FIGURES, figures
from vegflow.report.render import load_caveats, render
from vegflow.report.staged_figures import ranked_by, staged_figures
from vegflow.report.staged_views import headline, staged_views, verdicts
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.staged import composed_seconds, verification
from vegflow.statistics.staged_paper import load_staged_paper
from vegflow.statistics.staged_tables import frontier_tables

from planted_pool import START, config, costs, planted, runs  # isort: skip
from synthetic import CAVEATS, default  # isort: skip

NAMES = ["functions", "kernels"]


@pytest.fixture(scope="module")
def tables(root):
    """Functions that were run, kernels that were only replayed."""
    work = []
    for name in NAMES:
        pool, checks, scores = planted(n_tasks=5, n=8, domain=name, seed=len(work))
        own = config(name, ks=[4, 12])
        measured = costs(pool) if name == "functions" else []
        one = verification(name, own, pool, checks, scores, (), measured)
        if measured:
            seconds = {pipeline: composed_seconds(one, stages) for pipeline, stages in own.parsed().items()}
            one.runs = runs(pool, seconds | {"noop": START * len(pool)})
        work.append(one)
    return frontier_tables(work, load_staged_paper(root / "resources/paper/staged.yaml"), Resampling(200))


@pytest.fixture(scope="module")
def drawn(tables):
    return staged_figures(tables, NAMES)


def test_every_entry_has_every_figure(drawn):
    assert list(drawn) == [f"staged_{figure}_{name}" for name in NAMES for figure in STAGED_FIGURES]
    for spec in drawn.values():
        assert vl_convert.vegalite_to_svg(spec, vl_version="6.4").startswith("<svg")
    assert "No pipeline was run" in json.dumps(drawn["staged_composed_kernels"])


def test_dominated_points_are_grey_and_the_front_is_told_by_colour_and_shape(drawn):
    text = json.dumps(drawn["staged_frontier_functions"])
    assert "datum.on_front" in text
    assert "#8a8f98" in text
    assert '"shape"' in text


def test_the_same_tables_give_the_same_figures(tables, drawn):
    assert json.dumps(staged_figures(tables, NAMES)) == json.dumps(drawn)


def test_an_entry_without_candidates_says_so():
    empty = {name: schema.empty_table() for name, schema in FRONTIER_TABLES.items()}
    for spec in staged_figures(empty, ["nothing"]).values():
        assert vl_convert.vegalite_to_svg(spec, vl_version="6.4").startswith("<svg")
    frames = {name: pl.DataFrame(pl.from_arrow(table)) for name, table in empty.items()}
    assert headline(frames) == verdicts(frames) == []
    assert all(view.missing for view in staged_views(frames))


def test_rankers_are_told_apart():
    assert ranked_by("syntax, surprisal: top 8, orm") == "reward model"
    assert ranked_by("one_test, full: first") == ranked_by("full") == "full suite"
    assert ranked_by("syntax, agreement") == "majority, agreement"


def test_the_headline_says_how_it_was_measured(tables):
    frames = {name: pl.DataFrame(pl.from_arrow(table)) for name, table in tables.items()}
    said = {row["verification"]: row["how"] for row in headline(frames)}
    assert said["functions"] == "measured by running it"
    assert said["kernels"].startswith("composed from the times of stored checks")


@pytest.fixture(scope="module")
def page(tables, drawn):
    study, own = default()
    arguments = (
        own,
        figures(own, study.facts),
        study.facts,
        ReportFacts(title="A made-up study"),
        load_caveats(CAVEATS),
    )
    return arguments, render(*arguments, tables, drawn)


def test_the_section_stands_in_the_report_and_only_with_verification(tables, drawn, page):
    arguments, page = page
    assert 'id="staged"' not in render(*arguments)
    assert 'id="staged"' in page
    for view in staged_views({name: pl.DataFrame(pl.from_arrow(table)) for name, table in tables.items()}):
        assert f'id="table-{view.name}"' in page
        assert all(len(row) == len(view.head) for row in view.rows), view.name
    assert page == render(*arguments, tables, drawn)


@pytest.mark.parametrize("width", [1280, 400])
def test_the_section_in_a_browser(page, drawn, tmp_path, width):
    from test_browser import CHROMIUM, look

    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    found = look(page[1], tmp_path, width)
    assert found["errors"] == []
    assert set(found["charts"]) == {f"chart-{name}" for name in (*FIGURES, *drawn)}
    assert all(drawn == "yes" for drawn, _ in found["charts"].values()), found["charts"]
    assert found["wide"] <= found["width"]

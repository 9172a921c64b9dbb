"""The report: one file, whole, safe against what a model may write."""

import re
from html.parser import HTMLParser

import polars as pl
import pytest

from vegflow.config.analysis import StudyFacts
from vegflow.config.report import ReportFacts
from vegflow.errors import ConfigError
from vegflow.report.figures import FIGURES, figures
from vegflow.report.render import load_caveats, render
from vegflow.report.text import in_unit, interval, natural, number, p_value, points, ratio, share

from synthetic import CAVEATS, analysed, default, make_study  # isort: skip

ABOUT = ReportFacts(title="A made-up study", model="tiny", hardware="two cores", command="snakemake --cores all")
VOID = {"meta", "input", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """Collects what would be loaded from elsewhere, unbalanced tags, ids and links."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.loads, self.open, self.ids, self.links, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loads += [attrs[key] for key in ("src", "srcset", "data", "poster") if key in attrs]
        if "href" in attrs:
            (self.links if tag == "a" else self.loads).append(attrs["href"])
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def read(html):
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def html():
    study, tables = default()
    return render(tables, figures(tables, study.facts), study.facts, ABOUT, load_caveats(CAVEATS))


def test_the_page_loads_nothing_from_elsewhere(html):
    page = read(html)
    assert page.loads == []
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"@import|url\(\s*['\"]?http", html)


def test_links_inside_the_page_lead_somewhere(html):
    page = read(html)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_it_holds_every_figure_claim_task_and_caveat(html):
    _, tables = default()
    page = read(html)
    text = " ".join(page.text)
    assert {f"chart-{name}" for name in FIGURES} <= set(page.ids)
    assert html.count('class="verdict ') == tables["claims"].num_rows
    assert html.count('<tr class="task"') == 8
    tasks = {row["task_id"] for row in tables["candidates"].to_pylist()}
    assert {one for one in page.ids if one.startswith("task/")} == {f"task/{task}" for task in tasks}
    assert len([one for one in page.ids if one.startswith("caveat-")]) == 21
    assert "Self-check passed" in text
    assert "torch.form_L1_4_0" in text
    assert "MISSING" not in text
    assert "None" not in text
    assert "nan" not in re.findall(r"\bnan\b", text)


def test_a_task_without_headroom_is_marked_wherever_its_results_stand(html):
    text = " ".join(" ".join(read(html).text).split())
    assert "L1/4 † " in text
    assert "L1/5 †" not in text
    assert "† headroom below 1.25×: fast_1 there is noise" in text
    assert html.count("<span>headroom below 1.25×: fast_1 there is noise</span>") == 1
    assert "1.10×" in text


def test_the_same_input_gives_the_same_page(html):
    study, tables = default()
    assert html == render(tables, figures(tables, study.facts), study.facts, ABOUT, load_caveats(CAVEATS))


def test_a_measured_study_has_a_table_of_its_own():
    study, tables = default()
    measured = {"coder-0.5b": tables["claims"]}
    page = read(render(tables, figures(tables, study.facts), study.facts, ABOUT, measured=measured))
    assert "Measured study coder-0.5b, beside the paper" in " ".join(page.text)


def test_code_of_a_candidate_cannot_become_part_of_the_page():
    study = make_study(n_tasks=1, k=4, group=2, steps=1, runs=(42,))
    attack = "</pre></script><script>alert(1)</script><img src=http://evil.example/x>"
    study.rollouts = study.rollouts.with_columns(completion=pl.lit(attack))
    study.evaluations = study.evaluations.with_columns(
        reason=pl.lit(attack), status=pl.lit("runtime_error"), correct=False, fast_1=False
    )
    tables = analysed(study)
    page = read(render(tables, figures(tables, study.facts), study.facts, ABOUT))
    assert page.loads == []
    assert attack in "".join(page.text)


def test_a_failed_self_check_is_said_first():
    study = make_study(runs=(42,), steps=1)
    study.evaluations = study.evaluations.with_columns(
        fast_1=pl.col("fast_1") & ~pl.col("rollout_id").str.starts_with("ttt/")
    )
    tables = analysed(study)
    text = " ".join(read(render(tables, figures(tables, study.facts), study.facts, ABOUT)).text)
    assert "Self-check not passed" in text
    assert "do not compare the arms" in text


def test_a_study_that_lacks_things_says_what_is_missing():
    _, tables = default()
    empty = {name: table.slice(0, 0) for name, table in tables.items()}
    page = read(render(empty, figures(empty, StudyFacts()), StudyFacts(), ReportFacts()))
    text = " ".join(page.text)
    assert "This study has no probe." in text
    assert "This study has no sample set." in text
    assert "given none of the paper" in text


def test_one_seed_without_comparison_renders():
    study = make_study(seeds=(42,), runs=(42,), steps=1, k=8)
    study.facts = StudyFacts(**study.facts.model_dump() | {"probes": {}, "comparison": None})
    tables = analysed(study)
    read(render(tables, figures(tables, study.facts), study.facts, ABOUT, load_caveats(CAVEATS)))


def test_caveats_are_shown_only_where_they_matter():
    study, tables = default()
    without = dict(tables) | {"probe": tables["probe"].slice(0, 0)}
    page = read(render(without, figures(without, study.facts), study.facts, ABOUT, load_caveats(CAVEATS)))
    assert "caveat-4" not in page.ids
    assert "caveat-1" in page.ids


@pytest.mark.parametrize(("text", "message"), [("- {number: 1}", "required"), ("a: [", "not readable as YAML")])
def test_a_bad_file_of_caveats_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "caveats.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_caveats(path)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (share(0.5333), "53.3\u00a0%"), (share(None), "–"), (points(-0.092), "−9.2"), (points(-1e-17), "0.0"), (ratio(226.9), "226.9×"),
        (ratio(1.2345), "1.23×"), (p_value(1e-9), "< 0.001"), (p_value(0.125), "0.125"), (number(313000.0), "313\u202f000"),
        (in_unit(0.30, "points"), "+30.0"), (interval(0.2, 1.0, "share"), "[20.0, 100.0]"), (interval(None, 1.0, "share"), ""),
        (sorted(["L1/12", "L1/4"], key=natural)[0], "L1/4"),
    ],
)  # fmt: skip
def test_numbers_as_text(made, text):
    assert made == text

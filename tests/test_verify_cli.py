"""`vegflow verify`: from a folder with a pool and its outcome matrix to the frontier, and one sentence for what does not fit."""

import sys

import pytest

from tests.planted_pool import costs, planted
from vegflow import cli
from vegflow.artifacts.frontier import FRONTIER_TABLES
from vegflow.artifacts.io import read_table, write_table
from vegflow.artifacts.verification import CHECKS, POOL, STAGE_COSTS


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "mine"
    pool, checks, _ = planted(n_tasks=4, n=6)
    write_table(folder / "pool.parquet", pool, POOL, {})
    write_table(folder / "checks.parquet", checks, CHECKS, {})
    return folder


def verify(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["vegflow", "verify", *map(str, arguments)])
    cli.main()
    return capsys.readouterr().out


def test_every_table_and_the_frontier_as_text(stored, tmp_path, monkeypatch, capsys):
    (tmp_path / "p.yaml").write_text("mine: [syntax, one_test, {majority: top 2}, {full: first}]\n")
    said = verify(
        monkeypatch, capsys, stored, "--pipelines", tmp_path / "p.yaml", "--ks", 4, "--output", tmp_path / "out"
    )
    assert "mine" in said
    assert "k = 4, 4 tasks; costs from stored checks, without process starts" in said
    for name, schema in FRONTIER_TABLES.items():
        read_table(tmp_path / "out" / f"{name}.parquet", schema)
    frontier = read_table(tmp_path / "out" / "frontier.parquet", FRONTIER_TABLES["frontier"])
    assert set(frontier["pipeline"].to_pylist()) == {"full", "mine"}
    assert not (stored / "frontier").exists()


def test_costs_of_stages_are_taken_where_they_lie_beside(stored, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("pool", "checks"):
        (folder / f"{name}.parquet").write_bytes((stored / f"{name}.parquet").read_bytes())
    write_table(folder / "stage_costs.parquet", costs(planted(n_tasks=4, n=6)[0]), STAGE_COSTS, {})
    (tmp_path / "p.yaml").write_text("mine: [syntax, one_test, {full: first}]\n")
    said = verify(monkeypatch, capsys, folder, "--pipelines", tmp_path / "p.yaml", "--ks", 4)
    assert "costs from stages measured one by one" in said
    assert (folder / "frontier" / "frontier.parquet").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine: [sintax]", "there is no stage 'sintax'"),
        ("mine: syntax", "pipelines"),
        ("- syntax", "write pipelines by name"),
        ("mine: [orm]", "there are no scores of a reward model"),
        ("mine: [", "not readable as YAML"),
    ],
)
def test_a_file_of_pipelines_that_is_none_is_one_sentence(stored, tmp_path, monkeypatch, capsys, text, message):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        verify(monkeypatch, capsys, stored, "--pipelines", tmp_path / "p.yaml", "--output", tmp_path / "out")
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("arguments", [["absent"], ["."], [".", "--ks", "0"], [".", "--pipelines", "absent.yaml"]])
def test_what_is_not_there_is_one_sentence(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="vegflow: "):
        verify(monkeypatch, capsys, *arguments)

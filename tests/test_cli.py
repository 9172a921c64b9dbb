"""The command line: a valid study in a few lines, a wrong one in one."""

import subprocess
import sys

import pytest

from vegflow.cli import check, planned
from vegflow.errors import VegflowError

DRY_RUN = """
rule sample:
    input: a
    output: results/x.parquet
    reason: Missing output files: results/x.parquet
[time]
rule evaluate:
    output: results/y.parquet, results/z.parquet
    reason: Input files updated by another job: results/x.parquet
localrule all:
    input: results/y.parquet
    reason: Input files updated by another job: results/y.parquet
"""


def test_a_valid_study_is_summed_up(root, monkeypatch):
    monkeypatch.chdir(root)
    assert check("config.yaml").startswith("config.yaml: valid\n  model       tiny")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: [", "not readable as YAML"),
        ("- a\n- b\n", "a study is a mapping"),
        ("study: x\nmodel: tiny\nk: 3\n", "k: unknown key"),
        ("", "study: this key is required; model: this key is required"),
    ],
)
def test_a_wrong_file_is_one_line_and_status_1(tmp_path, text, message):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "vegflow.cli", "check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_absent_file_is_named():
    with pytest.raises(VegflowError, match=r"gone.yaml: there is no such file"):
        check("gone.yaml")


def test_a_dry_run_is_read():
    assert list(planned(DRY_RUN)) == [
        ("sample", "results/x.parquet", "Missing output files: results/x.parquet"),
        ("evaluate", "results/y.parquet", "Input files updated by another job: results/x.parquet"),
    ]

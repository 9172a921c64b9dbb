"""`vegflow evaluate`: verdicts on real candidates, one line for a wrong request, and the same from the library."""

import io
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import read_rows, write_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.cli import parser
from vegflow.config.evaluation import EvaluationConfig
from vegflow.errors import ConfigError
from vegflow.evaluation.verdict import Verdict
from vegflow.standalone import command
from vegflow.standalone.evaluate import Judged, default_store, evaluate, evaluate_many, judge
from vegflow.standalone.naming import TaskSource, find_tasks, task_of_path
from vegflow.standalone.submissions import Submission, read_submissions
from vegflow.standalone.text import location

QUICK = {"timing_trials": 3, "correctness_trials": 3, "shapes": 1}
SET = [text for key, value in QUICK.items() for text in ("--set", f"{key}={value}")]

PROBLEM = '''
import torch
import torch.nn as nn

class Model(nn.Module):
    """Adds one to a doubled input."""

    def forward(self, x):
        return torch.add(x * 2, 1)

def get_inputs():
    return [torch.randn(24, 32)]

def get_init_inputs():
    return []
'''
RIGHT = "y = 2 * x  # twice\nreturn y + 1\n"
MODULE = "import torch\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        return x * 2 + 1\n"
C = """
int forward(const vegflow_tensor *in, int n_in, vegflow_tensor *out, int n_out) {
    int64_t n = 1;
    for (int32_t d = 0; d < in[0].ndim; d++) n *= in[0].shape[d];
    const float *x = in[0].data;
    float *y = out[0].data;
    for (int64_t i = 0; i < n; i++) y[i] = 2 * x[i] + 1;
    return 0;
}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A problem file as KernelBench keeps it, candidates, and a store that the module's tests share."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "level1").mkdir()
    files = {
        "level1/12_Double.py": PROBLEM,
        "right.py": RIGHT,
        "module.py": MODULE,
        "right.c": C,
        "wrong.py": "return x * 2\n",
        "typo.py": "y = 2 * x\n\n# and\nreturn y +* 1\n",
        "typo.c": C.replace("2 * x[i]", "2 * z[i]"),
        "notes.txt": "return x",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "noise.py").write_bytes(b"\xff\xfe\x00")
    return folder


def run(capsys, place: Path, *arguments: str) -> tuple[int, str, str]:
    """(status, stdout, stderr) of the command, with few trials and the module's store."""
    line = ["evaluate", *SET, *arguments, *([] if "--store" in arguments else ["--store", str(place / "store")])]
    status = command.run(parser().parse_args(line))
    return status, *capsys.readouterr()


def of_task(place: Path, name: str) -> tuple[str, ...]:
    return str(place / name), "--task", str(place / "level1" / "12_Double.py")


# ---- one candidate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["right.py", "module.py", "right.c"])
def test_a_correct_candidate_is_status_0_and_its_verdict_reads(place, capsys, name):
    status, text, _ = run(capsys, place, *of_task(place, name))
    assert status == 0, text
    read = " ".join(text.split())
    for part in (
        "status correct",
        " correctness trials (given, ",
        " pairs of timings (fast)",
        "speedup ",
        "x [",
        "fast_1",
        "paper",
        "KernelBench",
    ):
        assert part in read
    assert "problem file of L1/12, unknown revision" in text
    assert "\033" not in text


@pytest.mark.parametrize(
    ("name", "expected", "where"),
    [
        ("wrong.py", "wrong_output", None),
        ("typo.py", "parse_error", "typo.py:4: return y +* 1"),
        ("typo.c", "compile_error", "typo.c:7: for (int64_t i"),
    ],
)
def test_any_other_verdict_is_status_1_with_the_line_at_fault(place, capsys, name, expected, where):
    status, text, _ = run(capsys, place, *of_task(place, name))
    assert status == 1
    assert expected in text
    assert "speedup" not in text
    assert where is None or where in " ".join(text.split())


@pytest.mark.parametrize(
    ("body", "line", "expected"),
    [
        ("y = 2 * x  # twice\n\n\nreturn y.nope()\n", 0, (4, "return y.nope()")),
        ("y = (2 *\n     x)\nreturn y", 0, (3, "return y")),
        ("if x.sum() > 0:   # why\n    pass\nreturn x", -2, (1, "if x.sum() > 0:   # why")),
        ("x = x\nx = x\nreturn x", -1, None),
    ],
)
def test_a_line_of_the_program_is_found_in_the_body_it_was_made_of(place, body, line, expected):
    problem = str(place / "level1" / "12_Double.py")
    named = find_tasks([problem], TaskSource())[problem]
    submission = Submission("mine.py", problem, body)
    candidate = submission.candidate(named.task)
    number = len(candidate.program.splitlines()) + line
    verdict = Verdict("runtime_error", f"ValueError: no (line {number})")
    assert location(Judged(submission, named, candidate, "body", verdict, False, ())) == expected


def test_json_is_one_object_on_stdout_and_a_second_run_asks_the_store(place, capsys):
    run(capsys, place, *of_task(place, "right.py"))
    status, text, errors = run(capsys, place, *of_task(place, "right.py"), "--json")
    found = json.loads(text)
    assert (status, errors) == (0, "")
    assert found["stored"]
    assert found["status"] == "correct"
    assert found["task"]["id"] == "L1/12"
    assert found["task"]["kernelbench_revisions"] is None
    assert found["tried"]["trials"] >= 3
    assert found["tried"]["pairs"] == len(found["runtime_times_us"])
    assert found["tried"]["pairs"] >= 3


def test_without_a_store_nothing_is_kept(place, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    args = parser().parse_args(["evaluate", *of_task(place, "right.c"), *SET, "--no-store"])
    assert command.run(args) == 0
    assert "is from" not in capsys.readouterr().out
    assert default_store() == tmp_path / "vegflow" / "verdicts"
    assert not default_store().exists()


def test_the_library_says_the_same(place):
    options = {"store": place / "store", **QUICK}
    problem = place / "level1" / "12_Double.py"
    assert evaluate(RIGHT, problem, **options).correct
    assert evaluate(place / "right.c", problem, **options).trust == "compiled"
    assert evaluate(C, problem, language="c", **options).language == "c"
    with pytest.raises(ConfigError, match="they are for evaluate_many"):
        evaluate(place, problem)


def test_an_id_is_looked_up_in_the_catalogue_or_in_kernelbench(place):
    for name in ("L1/19", "19", "l1/19", "1/19", "level1/19"):
        assert find_tasks([name], TaskSource())[name].title == "L1/19 ReLU"
    theirs = find_tasks(["12"], TaskSource(kernelbench=str(place)))["12"]
    assert theirs.title == "L1/12 Double"


# ---- wrong requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.py", "--task", "12"], "gone.py: there is no such file"),
        (["right.py"], "for which task?"),
        (["right.py", "--task", "L1/512"], "no task 'L1/512' in the built-in catalogue; the nearest there is: L1/100"),
        (
            ["right.py", "--task", "Softsing"],
            "neither an id such as L1/12 nor a problem file that exists (L1/30 is Softsign)",
        ),
        (["right.py", "--task", "gone.py"], "gone.py: there is no such file"),
        (["right.py", "--task", "module.py"], "module.py is not in KernelBench's format: no Model"),
        (["right.py", "--task", "L1/13", "--kernelbench", "."], "no task 'L1/13' in .; the nearest there is: L1/12"),
        (["notes.txt", "--task", "12"], "notes.txt: a candidate's file ends in one of .py .c"),
        (["noise.py", "--task", "12"], "noise.py: not readable as text"),
        (["right.c", "--task", "12", "--scaffold", "body"], "the body of a forward is Python, and this is c"),
        (["right.py", "--task", "12", "--set", "timing=3"], "evaluation: timing: unknown key"),
        (["right.py", "--task", "12", "--set", "timing_trials"], "--set timing_trials: a setting and its value"),
        (["right.py", "--task", "12", "--set", "timing_trials=x"], "timing_trials: input should be a valid integer"),
        ([".", "--task", "12"], "many candidates; say where their verdicts go"),
        (["level1", "--output", "v.csv"], "v.csv: the verdicts are a Parquet table"),
        (["right.py", "--task", "12", "--store", "right.c/x"], "store right.c/x: "),
    ],
)
def test_a_wrong_request_is_one_line_and_status_2(place, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(place)
    status, text, errors = run(capsys, place, *arguments)
    assert (status, text) == (2, "")
    assert message in errors
    assert errors.startswith("vegflow: ")
    assert errors.count("\n") == 1


def test_the_installed_command_knows_evaluate(place):
    command_line = [sys.executable, "-m", "vegflow.cli", "evaluate", "gone.py", "--task", "12"]
    done = subprocess.run(command_line, capture_output=True, text=True, check=False, cwd=place)
    assert done.returncode == 2
    assert done.stderr == "vegflow: gone.py: there is no such file\n"


# ---- many candidates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "task"),
    [
        ("L1_12_mine.py", "L1/12"),
        ("L1_12.c", "L1/12"),
        ("12_mine.c", "L1/12"),
        ("L1/12/mine.py", "L1/12"),
        ("L2_3/mine.py", "L2/3"),
        ("level1/12_Name.py", "L1/12"),
        ("run/level_1_problem_12_sample_0_kernel.py", "L1/12"),
        ("mine.py", None),
        ("l1_loss.py", None),
        ("L1_2norm.py", None),
        ("v12.py", None),
    ],
)
def test_a_path_names_its_task(path, task):
    assert task_of_path(Path(path)) == task


def test_a_folder_gives_a_table_and_a_summary(place, capsys, tmp_path):
    folder = tmp_path / "mine"
    (folder / "L1" / "12").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name, text in {
        "L1_12_a.py": RIGHT,
        "12_b.c": C,
        "L1/12/c.py": "return x",
        "notes.md": "",
        ".hidden/d.py": "",
    }.items():
        (folder / name).write_text(text)
    output = tmp_path / "verdicts.parquet"
    options = ("--kernelbench", str(place), "--output", str(output))
    status, text, errors = run(capsys, place, str(folder), *options)
    assert status == 1
    assert "3 candidates for 1 tasks" in text
    assert "correct" in text
    assert "a second" in errors or "judged" in errors
    rows = {row["rollout_id"]: row["status"] for row in read_rows(output, EVALUATIONS)}
    assert rows == {"L1_12_a.py": "correct", "12_b.c": "correct", "L1/12/c.py": "wrong_output"}

    status, text, errors = run(capsys, place, str(folder), *options, "--json")
    found = json.loads(text)
    assert found["by_status"] == {"correct": 2, "wrong_output": 1}
    assert all(verdict["stored"] for verdict in found["verdicts"])
    assert errors == ""


def test_a_file_that_names_no_task_is_refused(place, capsys):
    status, _, errors = run(capsys, place, str(place), "--output", str(place / "v.parquet"))
    assert status == 2
    assert "for which task?" in errors


def test_a_table_keeps_its_own_columns(place):
    frame = pl.DataFrame(
        {"task_id": ["L1/12", "12"], "program": [RIGHT, None], "model": ["a", "b"], "tags": [["x"], []]}
    )
    found = evaluate_many(frame, kernelbench=str(place), store=place / "store", **QUICK)
    assert found["status"].to_list() == ["correct", "parse_error"]
    assert found["model"].to_list() == ["a", "b"]
    assert found.columns[: len(EVALUATIONS.names)] == EVALUATIONS.names
    assert "tags" not in found.columns


def test_rollouts_of_a_study_are_judged_by_their_completions(place, tmp_path):
    completions = ["```python\n" + RIGHT + "```", "```python\n" + MODULE + "```", "```c\n" + C + "```", "I cannot."]
    empty = {pa.string(): "", pa.float64(): 0.0}
    row = {field.name: empty.get(field.type, [] if pa.types.is_list(field.type) else 0) for field in ROLLOUTS}
    row["task_id"] = "L1/12"
    rows = [{**row, "rollout_id": f"r{index}", "completion": text} for index, text in enumerate(completions)]
    write_table(tmp_path / "rollouts.parquet", rows, ROLLOUTS, {})
    found = evaluate_many(tmp_path / "rollouts.parquet", kernelbench=str(place), store=place / "store", **QUICK)
    assert found.columns == EVALUATIONS.names
    assert found["rollout_id"].to_list() == ["r0", "r1", "r2", "r3"]
    assert found["language"].to_list()[:3] == ["python", "python", "c"]
    assert found["status"].to_list() == ["correct", "correct", "correct", "parse_error"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"task_id": ["12"]}, "no column program or completion"),
        ({"program": ["return x"]}, "no column task_id"),
        ({"task_id": ["module.py"], "program": ["return x"]}, "row 0: task_id 'module.py' is no id"),
        ({"task_id": ["12"], "program": ["x"], "language": ["rust"]}, "row 0: language 'rust' is none of"),
        ({"task_id": ["12"], "program": [3]}, "program and task_id must be text"),
    ],
)
def test_a_table_that_is_none_is_refused(columns, message):
    with pytest.raises(ConfigError, match=message):
        evaluate_many(pl.DataFrame(columns))


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(ConfigError, match="not a readable Parquet file"):
        read_submissions(tmp_path / "x.parquet")


def test_an_interrupted_run_keeps_what_it_judged(place, tmp_path):
    programs = ["return x * 2 + 1", "return x + x + 1", "return 1 + 2 * x"]
    frame = pl.DataFrame({"task_id": ["12"] * 3, "program": programs})
    frame.write_parquet(tmp_path / "c.parquet")
    submissions, source = read_submissions(tmp_path / "c.parquet"), TaskSource(kernelbench=str(place))

    def stop(done: int, total: int, text: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    config = EvaluationConfig(**QUICK, delta=1.0)  # of which one group decides: the first is judged before the others
    with pytest.raises(KeyboardInterrupt):
        judge(submissions, source, config, tmp_path / "store", progress=stop)
    outcome = judge(submissions, source, config, tmp_path / "store")
    assert [each.stored for each in outcome.judged] == [True, False, False]
    assert all(each.verdict.correct for each in outcome.judged)


def test_progress_says_how_far_and_how_fast():
    stream = io.StringIO()
    ticker = command.Ticker(stream)
    for done in range(1, 5):
        ticker(done, 4, "L1/12 correct")
    ticker.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "1/4 judged; L1/12 correct"
    assert lines[-1].startswith("4/4 judged, ")
    assert lines[-1].endswith(" a second, 0 s left; L1/12 correct")


def test_colours_are_for_terminals_that_want_them(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert command._colours(Terminal())
    assert not command._colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not command._colours(Terminal())

"""What scripts share: arguments, and errors in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import errno
from pathlib import Path
from vegflow.errors import VegflowError
from vegflow.stage import progress, run

def main(args):
    if args.mode == "wrong":
        raise VegflowError("this is wrong, do that")
    if args.mode == "full":
        Path("/dev/full").write_text("x")
    if args.mode == "bug":
        raise RuntimeError("a bug")
    progress((args.options, args.maybe, args.files, args.threads))

run(main, required=("mode", "options"), optional=("maybe",), many=("files",))
"""


@pytest.fixture
def call(tmp_path: Path):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_arguments_arrive(call):
    done = call("--mode", "x", "--options", '{"k": [1]}', "--maybe", "", "--files", "a", "b", "--threads", "2")
    assert done.returncode == 0, done.stderr
    assert "({'k': [1]}, None, ['a', 'b'], 2)" in done.stdout


@pytest.mark.parametrize(
    ("mode", "message"),
    [("wrong", "job.py: this is wrong, do that\n"), ("full", "job.py: the disk is full; free some space and start")],
)
def test_what_a_user_can_mend_is_one_line(call, mode, message):
    done = call("--mode", mode, "--options", "{}")
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(call):
    done = call("--mode", "bug", "--options", "{}")
    assert done.returncode == 1
    assert "Traceback" in done.stderr

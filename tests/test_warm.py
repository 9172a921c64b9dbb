"""A warm start does what a cold one does, and its helper ends with the run that it serves."""

import contextlib
import os
import socket
import subprocess
import sys
import time

import pytest


def call(session: str | None, *arguments: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "VEGFLOW_SESSION"}
    if session:
        environment["VEGFLOW_SESSION"] = session
    command = [sys.executable, "-m", "vegflow.warm", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def helpers(pid: int) -> int:
    return len(threads_of_helpers(pid))


def threads_of_helpers(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "nlwp,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listing.splitlines() if f"--serve {pid} " in line]


@contextlib.contextmanager
def running():
    """A process that stands for a run of Snakemake."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def run():
    with running() as process:
        yield process


@pytest.fixture(scope="module")
def served():
    """The session of a run whose helper several tests share."""
    with running() as process:
        yield f"{process.pid}@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("arguments", "status"), [(["sample", "--help"], 0), (["sample"], 2), (["sample", "--options", "{"], 2)]
)
def test_output_and_status_are_those_of_a_cold_start(served, arguments, status):
    cold = call(None, *arguments)
    warm = call(served, *arguments)
    assert (cold.returncode, cold.stdout, cold.stderr) == (warm.returncode, warm.stdout, warm.stderr)
    assert warm.returncode == status


def test_one_helper_serves_a_run_and_ends_with_it(run):
    session = f"{run.pid}@{socket.gethostname()}"
    for _ in range(2):
        assert call(session, "sample", "--help").returncode == 0
    assert threads_of_helpers(run.pid) == [1]  # one helper, and of one thread, since it forks
    run.kill()
    run.wait()
    deadline = time.monotonic() + 20
    while helpers(run.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert helpers(run.pid) == 0


def test_a_light_script_needs_no_helper(run):
    assert call(f"{run.pid}@{socket.gethostname()}", "select", "--help").returncode == 0
    assert helpers(run.pid) == 0


@pytest.mark.parametrize("session", ["", "nonsense", "999999999@{host}", "1@another-host"])
def test_without_a_run_to_serve_it_starts_cold(session):
    done = call(session.format(host=socket.gethostname()), "sample", "--help")
    assert done.returncode == 0
    assert "usage: sample.py" in done.stdout

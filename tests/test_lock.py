"""Leftover locks are removed when no other run is alive, and only then."""

import subprocess
import sys

from vegflow.lock import clear_stale_locks

HOLD = "import sys; from pathlib import Path; from vegflow.lock import clear_stale_locks as c; c(Path(sys.argv[1])); "


def test_locks_of_a_killed_run_are_removed(tmp_path):
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("a")
    (locks / "0.output.lock").write_text("b")
    assert clear_stale_locks(tmp_path) == 2
    assert list(locks.iterdir()) == []


def test_locks_of_a_living_run_are_kept(tmp_path):
    command = [sys.executable, "-c", HOLD + "print('held', flush=True); sys.stdin.read()", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
        lock.parent.mkdir()
        lock.write_text("b")
        assert clear_stale_locks(tmp_path) == 0
        assert lock.exists()
        other.kill()
        other.wait()
    done = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], check=False)
    assert done.returncode == 0
    assert lock.exists(), "this process still holds its own lock, so nobody else may remove any"

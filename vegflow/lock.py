"""Leftover locks of a workflow that was killed: removed if, and only if, no other run in the folder is alive.

Snakemake's own lock files do not say who holds them, so that after a SIGKILL the next run would stop and ask for
`--unlock`. Every run here also holds a shared lock that the kernel drops with the process; whoever can have it alone is
alone. On a file system whose `flock` does not reach other machines, runs on those are not seen: start one study in one
folder from one machine, as Snakemake asks anyway.
"""

import fcntl
import os
from pathlib import Path
from typing import IO

_held: list[IO[str]] = []


def clear_stale_locks(folder: Path) -> int:
    """Hold this process's lock in `folder` until it ends, and remove Snakemake's lock files if nobody else holds one.

    Returns how many were removed.
    """
    state = folder / ".snakemake"
    state.mkdir(parents=True, exist_ok=True)
    try:
        handle = open(state / "vegflow.lock", "w")  # noqa: SIM115  (held until the process ends)
    except PermissionError:
        return 0
    _held.append(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        fcntl.flock(handle, fcntl.LOCK_SH)
        return 0
    stale = [path for path in (state / "locks").glob("*.lock") if path.is_file()]
    for path in stale:
        os.unlink(path)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return len(stale)

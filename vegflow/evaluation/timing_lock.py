"""The machine's locks on timings: what is timed at once is part of what is measured.

Knows files and locks; whoever times something holds the lock of the device that it is timed on.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

PIPELINES = "pipelines"
"""In place of a device: whole pipelines of verifiers, inside of which a device's lock may be taken."""


@contextlib.contextmanager
def timing_lock(device: str) -> Iterator[None]:
    """Hold the machine's lock on timings on `device` (see `device.lock_name`); every vegflow process of this user waits."""
    path = Path(tempfile.gettempdir()) / f"vegflow-{os.getuid()}-timing-{device}.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)

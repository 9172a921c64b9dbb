"""Who pays for what: wall time and CPU time of all processes, booked to a candidate, to a task, or to the stage.

Knows clocks; what happens between two bookings is for the executors.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Key = tuple[str, str]
"""Task id and completion_sha256; ("task", "") is what the task costs once, ("", "") what the stage does."""
STAGE: Key = ("", "")


@dataclass
class Ledger:
    """Bookings of one stage."""

    cpu_clock: Callable[[], float]
    """CPU seconds so far of all processes that work for it."""
    wall_s: dict[Key, float] = field(default_factory=dict)
    cpu_s: dict[Key, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), self.cpu_clock()

    def book(self, task_id: str = "", completion_sha256: str = "") -> None:
        """Charge what has passed since the last booking."""
        wall, cpu, key = time.perf_counter(), self.cpu_clock(), (task_id, completion_sha256)
        self.wall_s[key] = self.wall_s.get(key, 0.0) + wall - self._wall
        self.cpu_s[key] = self.cpu_s.get(key, 0.0) + cpu - self._cpu
        self._wall, self._cpu = wall, cpu

    def book_shares(self, shares: Mapping[Key, float]) -> None:
        """Charge what has passed to several, in proportion."""
        wall, cpu, total = time.perf_counter(), self.cpu_clock(), sum(shares.values())
        for key, share in shares.items():
            self.wall_s[key] = self.wall_s.get(key, 0.0) + (wall - self._wall) * share / total
            self.cpu_s[key] = self.cpu_s.get(key, 0.0) + (cpu - self._cpu) * share / total
        self._wall, self._cpu = wall, cpu

    def absorb(self, other: "Ledger") -> None:
        """Add another's bookings."""
        for mine, theirs in ((self.wall_s, other.wall_s), (self.cpu_s, other.cpu_s)):
            for key, seconds in theirs.items():
                mine[key] = mine.get(key, 0.0) + seconds

    def spread(self, keys: Sequence[Key]) -> None:
        """Charge what the stage did to `keys` in equal parts, if nothing was booked to any of them."""
        self.book()
        if keys and self.wall_s.keys() == {STAGE}:
            for book in (self.wall_s, self.cpu_s):
                each = book.pop(STAGE) / len(keys)
                book.update(dict.fromkeys(keys, each))


def own_cpu_s() -> float:
    """CPU seconds of this process and of the children that it has waited for."""
    spent = os.times()
    return time.process_time() + spent.children_user + spent.children_system

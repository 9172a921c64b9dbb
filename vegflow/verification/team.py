"""Several executors side by side: each takes whole tasks, in a thread of its own that mostly waits for its processes.

Knows how work is dealt out; what is done with a candidate is the members' business. Costs are the team's together, in equal
parts for all candidates, since what one takes depends on what runs beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from vegflow.verification.executor import Checks, Entry, Full
from vegflow.verification.functions import FunctionExecutor
from vegflow.verification.ledger import Ledger, own_cpu_s

Result = TypeVar("Result")


class Team:
    """An executor made of others."""

    def __init__(self, start: Callable[[], FunctionExecutor], workers: int) -> None:
        """`start` starts a member; they are started here, since a process dies with the thread that started it."""
        self._members: list[FunctionExecutor] = []
        try:
            for _ in range(workers):
                self._members.append(start())
        except BaseException:
            self.close()
            raise
        self._threads = ThreadPoolExecutor(workers)
        self.ledger = Ledger(self.cpu_s)

    def parse(self, entries: Sequence[Entry]) -> list[Checks]:
        """The check `syntax`."""
        return self._deal(entries, lambda member, own: member.parse(own))

    def load(self, entries: Sequence[Entry]) -> list[Checks]:
        """The check `import`."""
        return self._deal(entries, lambda member, own: member.load(own))

    def tests(
        self, entries: Sequence[Entry], numbers: Sequence[Sequence[int]], seconds: float | None = None
    ) -> list[Checks]:
        """`import` and some tests of each."""
        wanted = {(entry.task_id, entry.sha256): own for entry, own in zip(entries, numbers, strict=True)}
        return self._deal(
            entries,
            lambda member, own: member.tests(own, [wanted[each.task_id, each.sha256] for each in own], seconds),
        )

    def full(self, entries: Sequence[Entry], orders: Sequence[Sequence[int]], stop: int | None = None) -> list[Full]:
        """The full suite of one task's candidates, see `Executor.full`."""
        (found,) = self.full_all([(entries, orders)], stop)
        return found

    def full_all(
        self, tasks: Sequence[tuple[Sequence[Entry], Sequence[Sequence[int]]]], stop: int | None = None
    ) -> list[list[Full]]:
        """The same for several tasks, each by one member."""
        found: list[list[Full]] = [[] for _ in tasks]
        waiting = iter(range(len(tasks)))

        def work(member: FunctionExecutor) -> None:
            for number in _each(waiting):
                found[number] = member.full(*tasks[number], stop)
            member.settle()

        list(self._threads.map(work, self._members))
        return found

    def noop(self, entries: Sequence[Entry]) -> None:
        """The isolation of each of them, and nothing in it."""

        def nothing(member: FunctionExecutor, own: Sequence[Entry]) -> list[None]:
            member.noop(own)
            return [None] * len(own)

        self._deal(entries, nothing)

    def settle(self) -> None:
        """A stage is over."""
        for member in self._members:
            member.settle()

    def cpu_s(self) -> float:
        """CPU seconds so far of all processes and of this one."""
        return own_cpu_s() + sum(member.processes_cpu_s() for member in self._members)

    def close(self) -> None:
        """End all processes."""
        for member in self._members:
            member.close()

    def _deal(
        self, entries: Sequence[Entry], work: Callable[[FunctionExecutor, Sequence[Entry]], Sequence[Result]]
    ) -> list[Result]:
        """Deal tasks out in turn; the results are in the order of the entries."""
        places = {task_id: number for number, task_id in enumerate(dict.fromkeys(each.task_id for each in entries))}
        hands: list[list[int]] = [[] for _ in self._members]
        for number, entry in enumerate(entries):
            hands[places[entry.task_id] % len(hands)].append(number)
        jobs = zip(self._members, hands, strict=True)
        results = self._threads.map(lambda job: work(job[0], [entries[number] for number in job[1]]), jobs)
        found: list[Any] = [None] * len(entries)
        for hand, own in zip(hands, results, strict=True):
            for number, result in zip(hand, own, strict=True):
                found[number] = result
        return found


def _each(waiting: Iterator[int]) -> Iterator[int]:
    """What is left of a shared iterator; `next` of a range's is one step that no other thread divides."""
    while (number := next(waiting, None)) is not None:
        yield number

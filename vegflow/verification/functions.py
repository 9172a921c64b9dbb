"""Runs Python functions against their tests in the evaluator's sandbox, and decides about answers outside of it.

Knows tests, limits and processes; a function's process gets calls only, never what they should answer, so that nothing it
does to the checking around it can make a wrong answer right.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from vegflow.config.verification import VerificationConfig
from vegflow.evaluation.function_child import decode
from vegflow.evaluation.nursery import FUNCTIONS, Zygote
from vegflow.evaluation.process import Process
from vegflow.evaluation.verdict import Fault
from vegflow.tasks.asserts import Test
from vegflow.tasks.functions import FunctionTask
from vegflow.verification.conditions import holds, plain_rule
from vegflow.verification.executor import Check, Checks, Entry, Full
from vegflow.verification.ledger import Ledger, own_cpu_s
from vegflow.verification.referee import OVERDUE, Referee
from vegflow.verification.stored import TEST

BATCH = 8
"""Candidates in one message to a shared process."""
EACH_S = 1e-4
"""What each candidate of a batch is charged for the message, about, beside the time it says it took."""
PATIENCE = 1.5
"""Times its limit that a function may take which shares a process, before the process is given up."""
LIFE_S = 3600.0
KINDS = {"timeout": "timeout", "out_of_memory": "MemoryError"}
"""Status of a Fault -> error kind; of others the process died, or broke its channel."""
PASSED = Check("pass")


class FunctionExecutor:
    """An executor of Python functions, with a zygote of its own."""

    def __init__(self, tasks: Mapping[str, FunctionTask], config: VerificationConfig) -> None:
        self.tasks, self.config = tasks, config
        self.zygote = Zygote(FUNCTIONS)
        self._live: set[Process] = set()
        self._dead_cpu_s = self._zygote_cpu_s = 0.0
        self._referee = Referee(self.spawn, self.end, config.test_s)
        self.ledger = Ledger(self.cpu_s)

    # ---- what stages ask for

    def parse(self, entries: Sequence[Entry]) -> list[Checks]:
        """The check `syntax`: every program compiled, and nothing of it run, in one process."""
        found: list[Checks] = []
        with _Shared(self) as shared:
            self.ledger.book()
            for batch in _batches(entries, BATCH):
                requests = [{"program": entry.program or ""} for entry in batch]
                replies = shared.ask_each(PATIENCE * self.config.test_s, "parse", requests)
                for reply in replies:  # a parser can be made to run out of stack
                    check = _faulty(reply) if isinstance(reply, Fault) else PASSED
                    if not isinstance(reply, Fault) and "raised" in reply:
                        check = Check("error", str(reply["raised"]))
                    found.append({"syntax": _timed(check, _took(reply, self.config.test_s))})
                self._book(batch, replies, self.config.test_s)
        return found

    def load(self, entries: Sequence[Entry]) -> list[Checks]:
        """The check `import`: the module runs and defines the function. A task's candidates share a process."""
        return self.tests(entries, [()] * len(entries))

    def tests(
        self, entries: Sequence[Entry], numbers: Sequence[Sequence[int]], seconds: float | None = None
    ) -> list[Checks]:
        """`import` and some tests, in a process that a task's candidates share, one after the other.

        A candidate could tamper with those after it, so that this is no verdict, only a filter.
        """
        found: list[Checks] = []
        wanted = {(entry.task_id, entry.sha256): own for entry, own in zip(entries, numbers, strict=True)}
        with _Shared(self) as shared:
            for task_id, of_task in groupby(entries, key=lambda entry: entry.task_id):
                task = self.tasks[task_id]
                shared.end()
                shared.process()
                self._referee.prepare(task)
                self.ledger.book(task_id)
                # a test that is played needs its candidate to be the one that was loaded last
                size = BATCH if all(test.calls for test in task.tests) else 1
                for batch in _batches(list(of_task), size):
                    own = [wanted[entry.task_id, entry.sha256] for entry in batch]
                    found += self._probe(shared, task, batch, own, seconds)
        return found

    def full(self, entries: Sequence[Entry], orders: Sequence[Sequence[int]], stop: int | None = None) -> list[Full]:
        """A task's candidates in turn, each in a process of its own, test by test, up to the first that does not pass."""
        self._referee.prepare(self.tasks[entries[0].task_id])
        self.ledger.book(entries[0].task_id)
        found: list[Full] = []
        for entry, order in zip(entries, orders, strict=True):
            checks = self.examine(entry, order, early=True)
            correct = len(checks) == len(order) + 1 and all(check.outcome == "pass" for check in checks.values())
            found.append(Full(correct, float(correct), checks))
            self.ledger.book(entry.task_id, entry.sha256)
            if stop is not None and sum(said.correct for said in found) >= stop:
                break
        return found

    def full_all(
        self, tasks: Sequence[tuple[Sequence[Entry], Sequence[Sequence[int]]]], stop: int | None = None
    ) -> list[list[Full]]:
        """The same for several tasks."""
        return [self.full(entries, orders, stop) for entries, orders in tasks]

    def settle(self) -> None:
        """A stage is over: what tasks needed is put away."""
        self._referee.dismiss()
        self.ledger.book()

    def noop(self, entries: Sequence[Entry]) -> None:
        """A confined process for each, which loads an empty module."""
        for entry in entries:
            process = self.spawn()
            with contextlib.suppress(Fault):
                process.ask_within(self.config.test_s, "parse", program="")
            self.end(process)
            self.ledger.book(entry.task_id, entry.sha256)

    # ---- one candidate

    def examine(self, entry: Entry, order: Sequence[int], *, early: bool) -> Checks:
        """`import` and the tests in `order`, isolated. `early`: up to the first that does not pass.

        Else all of them, in a new process after each that took the process away.
        """
        task, checks = self.tasks[entry.task_id], {}
        process: Process | None = None
        try:
            process, checks["import"] = self._start(entry)
            for number in order:
                if checks["import"].outcome != "pass":
                    if early:
                        break
                    checks[TEST.format(number)] = Check(checks["import"].outcome, checks["import"].error_kind)
                    continue
                if process is None:
                    process, again = self._start(entry)
                    if process is None:
                        checks[TEST.format(number)] = again
                        continue
                check, alive = self._test(process, task, task.tests[number])
                checks[TEST.format(number)] = check
                if not alive:
                    self.end(process)
                    process = None
                if early and check.outcome != "pass":
                    break
        finally:
            if process is not None:
                self.end(process)
        return checks

    def _start(self, entry: Entry) -> tuple[Process | None, Check]:
        """A new process with the candidate loaded, or none, and the check `import`."""
        process, wall_s = self.spawn(), time.perf_counter()
        cpu_s = process.clock()
        entry_point = self.tasks[entry.task_id].entry_point
        try:
            reply = process.ask_within(self.config.test_s, "load", program=entry.program or "", entry_point=entry_point)
            check = Check("error", str(reply["raised"])) if "raised" in reply else PASSED
            check = _timed(check, time.perf_counter() - wall_s, process.clock() - cpu_s)
        except Fault as fault:
            check = _timed(_faulty(fault), time.perf_counter() - wall_s, self.config.test_s)
        if check.outcome != "pass":
            self.end(process)
            return None, check
        return process, check

    def _test(self, process: Process, task: FunctionTask, test: Test) -> tuple[Check, bool]:
        """One test in a candidate's own process, and whether that process can go on."""
        wall_s, cpu_s = time.perf_counter(), process.clock()
        try:
            if test.calls:
                reply = process.ask_within(self.config.test_s, "call", calls=test.calls)
                check = self._decide(task, test, reply)
            else:
                check = self._referee.play(process, task, test, None)
            return _timed(check, time.perf_counter() - wall_s, process.clock() - cpu_s), True
        except Fault as fault:
            return _timed(_faulty(fault), time.perf_counter() - wall_s, self.config.test_s), False

    def _probe(
        self,
        shared: "_Shared",
        task: FunctionTask,
        batch: Sequence[Entry],
        numbers: Sequence[Sequence[int]],
        seconds: float | None,
    ) -> list[Checks]:
        """`import` and tests of some candidates in a shared process, which limits itself; it is replaced if it does not."""
        limit = seconds or self.config.test_s
        common = {"entry_point": task.entry_point, "seconds": limit, "shared": seconds is not None}
        apart = [[number for number in own if task.tests[number].calls] for own in numbers]
        requests = [
            {"program": entry.program or "", "groups": [task.tests[number].calls for number in own], **common}
            for entry, own in zip(batch, apart, strict=True)
        ]
        most = PATIENCE * limit * (1 if seconds else max(map(len, apart)) + 1) + 0.05
        replies = shared.ask_each(most, "probe", requests)
        found = [
            self._probed(shared, task, reply, own, some, limit)
            for reply, own, some in zip(replies, numbers, apart, strict=True)
        ]
        self._book(batch, replies, most)
        return found

    def _probed(
        self,
        shared: "_Shared",
        task: FunctionTask,
        reply: Mapping[str, Any] | Fault,
        numbers: Sequence[int],
        apart: Sequence[int],
        limit: float,
    ) -> Checks:
        """What one candidate's answers in a shared process amount to; what cannot be taken apart is played."""
        if isinstance(reply, Fault):
            check = _faulty(reply)
            return {"import": PASSED if numbers else check} | {TEST.format(number): check for number in numbers}
        if "raised" in reply:
            kind = str(reply["raised"])
            return {"import": Check("timeout" if kind == OVERDUE else "error", kind)}
        groups = reply.get("groups")
        if not isinstance(groups, list) or len(groups) > len(apart):
            return {"import": Check("error", "answers of another form")}
        checks = {"import": PASSED}
        for number, group in zip(apart, groups, strict=False):
            check = self._decide(task, task.tests[number], group if isinstance(group, dict) else {})
            checks[TEST.format(number)] = check
            if check.outcome == "timeout":
                break
        for number in numbers:
            if not task.tests[number].calls and all(check.outcome == "pass" for check in checks.values()):
                try:
                    check = self._referee.play(shared.process(), task, task.tests[number], limit)
                except Fault as fault:
                    shared.end()
                    check = _faulty(fault)
                checks[TEST.format(number)] = check
        late = any(check.outcome == "timeout" for check in checks.values())
        missing = Check("timeout", OVERDUE) if late else Check("error", "not run")
        return {"import": PASSED} | {
            TEST.format(number): checks.get(TEST.format(number), missing) for number in numbers
        }

    def _book(self, batch: Sequence[Entry], replies: Sequence[Any], most: float) -> None:
        """Charge a batch to its candidates by the CPU time that each says it took, which is good enough for a share."""
        shares = {
            (entry.task_id, entry.sha256): EACH_S + _took(reply, most)
            for entry, reply in zip(batch, replies, strict=True)
        }
        self.ledger.book_shares(shares)

    # ---- deciding

    def _decide(self, task: FunctionTask, test: Test, reply: Mapping[str, Any]) -> Check:
        """What answers amount to. Never raises for what a hostile process sends."""
        if "raised" in reply:
            kind = str(reply["raised"])[:60]
            return Check("timeout" if kind == OVERDUE else "error", kind)
        answers = reply.get("answers")
        if not isinstance(answers, list) or len(answers) != len(test.calls):
            return Check("error", "answers of another form")
        try:
            values = [decode(answer) for answer in answers]
        except (ValueError, TypeError, RecursionError):
            return Check("error", "answers of another form")
        rule = plain_rule(test.condition)
        right = holds(rule, values[0]) if rule is not None else self._referee.decide(task, test, answers)
        return Check("pass" if right else "fail", "" if right else "wrong answer", answers)

    # ---- processes

    def spawn(self) -> Process:
        """A confined process."""
        process = self.zygote.spawn_plain(LIFE_S, self.config.memory_mb << 20)
        self._live.add(process)
        return process

    def end(self, process: Process) -> None:
        """Kill it and keep account of its CPU time."""
        self._live.discard(process)
        self._dead_cpu_s += process.end().cpu_s

    def cpu_s(self) -> float:
        """CPU seconds so far of this process, the zygote, and all it has forked."""
        return own_cpu_s() + self.processes_cpu_s()

    def processes_cpu_s(self) -> float:
        """The same without this process."""
        live = 0.0
        for process in self._live:
            with contextlib.suppress(Fault):
                live += process.clock()
        with contextlib.suppress(OSError):
            self._zygote_cpu_s = time.clock_gettime((~self.zygote.process.pid << 3) | 2)
        return self._zygote_cpu_s + self._dead_cpu_s + live

    def close(self) -> None:
        """End its processes."""
        self._referee.dismiss()
        for process in list(self._live):
            self.end(process)
        self.zygote.close()


class _Shared:
    """A process that candidates share, replaced when one takes it away."""

    def __init__(self, executor: FunctionExecutor) -> None:
        self._executor = executor
        self._process: Process | None = None

    def __enter__(self) -> "_Shared":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def process(self) -> Process:
        """The present one."""
        if self._process is None:
            self._process = self._executor.spawn()
        return self._process

    def ask_each(self, cpu_s: float, what: str, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Fault]:
        """The answers to several requests, `cpu_s` for each. One that takes the process away gets the Fault, alone.

        They go in one message, since changing between processes takes as long as running a function; if one of them takes
        the process away, all are asked again one by one.
        """
        if len(requests) > 1:
            with contextlib.suppress(Fault):
                said = self._ask(cpu_s * len(requests), "each", what=what, requests=requests).get("replies")
                if isinstance(said, list) and len(said) == len(requests) and all(isinstance(r, dict) for r in said):
                    return said
        replies: list[dict[str, Any] | Fault] = []
        for request in requests:
            try:
                replies.append(self._ask(cpu_s, what, **request))
            except Fault as fault:
                replies.append(fault)
        return replies

    def _ask(self, cpu_s: float, kind: str, **request: Any) -> dict[str, Any]:
        """One answer. Raises Fault if there is none, and has a new process ready for the next."""
        try:
            return self.process().ask_within(cpu_s, kind, **request)
        except Fault:
            self.end()
            self.process()
            raise

    def end(self) -> None:
        """Kill the present one."""
        if self._process is not None:
            self._executor.end(self._process)
            self._process = None


def _batches(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    for first in range(0, len(entries), size):
        yield entries[first : first + size]


def _took(reply: Any, most: float) -> float:
    """CPU seconds that a shared process says one request took; what was lost took all that it might."""
    said = reply.get("took_s") if isinstance(reply, dict) else most
    return min(max(float(said), 0.0), most) if isinstance(said, int | float) and said == said else EACH_S


def _faulty(fault: Fault) -> Check:
    if fault.status == "evaluator_error":
        raise fault
    return Check("timeout" if fault.status == "timeout" else "error", KINDS.get(fault.status, "died"))


def _timed(check: Check, wall_s: float, cpu_s: float | None = None) -> Check:
    return replace(check, wall_s=wall_s, cpu_s=wall_s if cpu_s is None else cpu_s)

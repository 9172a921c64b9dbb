"""The judge's end of a referee: a confined process in which no candidate has ever been, that runs a task's own test code.

Knows tests and answers. Conditions that take running are decided there; a test that cannot be taken apart runs there, where the
function is a stand-in whose calls are passed on to the candidate's process.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vegflow.evaluation.function_child import decode
from vegflow.evaluation.process import Process
from vegflow.evaluation.verdict import Fault
from vegflow.tasks.asserts import Test
from vegflow.tasks.functions import FunctionTask, function_program
from vegflow.verification.conditions import plain_rule
from vegflow.verification.executor import Check

OVERDUE = "OverdueError"
PATIENCE = 4.0
"""Times a test's limit that test code itself may take, which an answer can make long."""
MOST_CALLS = 100_000


class Referee:
    """One at a time, for the task at hand."""

    def __init__(self, spawn: Callable[[], Process], end: Callable[[Process], None], limit_s: float) -> None:
        self._spawn, self._end, self._limit_s = spawn, end, limit_s
        self._at: tuple[str, Process] | None = None

    def prepare(self, task: FunctionTask) -> Process | None:
        """The referee of a task; none if its tests need none. Raises Fault `evaluator_error` if its code does not load."""
        if self._at is not None and self._at[0] == task.id:
            return self._at[1]
        self.dismiss()
        if all(test.calls and plain_rule(test.condition) for test in task.tests):
            return None
        process = self._spawn()
        self._at = (task.id, process)
        code = [function_program(task, task.solution or "    pass\n"), task.setup]
        said = process.ask("prepare", programs=code)
        if "raised" in said:
            raise Fault("evaluator_error", f"task {task.id}: its tests do not load: {said.get('message')}")
        return process

    def decide(self, task: FunctionTask, test: Test, answers: Sequence[Any]) -> bool:
        """Whether a test's condition holds of answers; it does not if that takes too long to find out."""
        try:
            said = self.prepare(task).ask_within(
                PATIENCE * self._limit_s, "decide", condition=test.condition, answers=answers
            )
        except Fault as fault:
            self.dismiss()
            if fault.status == "evaluator_error":
                raise
            return False
        return said["holds"]

    def play(self, candidate: Process, task: FunctionTask, test: Test, seconds: float | None) -> Check:
        """A test, statement by statement, with the function's calls made in `candidate`, there limited to `seconds`.

        Raises Fault if the candidate's process is lost.
        """
        referee, used = self.prepare(task), 0.0
        try:
            said = referee.ask_within(PATIENCE * self._limit_s, "play", source=test.source)
            for _ in range(MOST_CALLS):
                if "arguments" not in said:
                    return _verdict(said)
                if used > self._limit_s:
                    said = self._answer(referee, {"raised": OVERDUE})
                    continue
                began, left = candidate.clock(), self._limit_s - used + 0.01
                call = {"arguments": said["arguments"], "keywords": said["keywords"], "seconds": seconds}
                reply = candidate.ask_within(left, "apply", **call)
                used += candidate.clock() - began
                said = self._answer(referee, reply)
        except Fault:
            self.dismiss()  # it still waits for an answer
            raise
        self.dismiss()
        return Check("timeout", OVERDUE)

    def dismiss(self) -> None:
        """End it, if there is one."""
        if self._at is not None:
            self._end(self._at[1])
            self._at = None

    def _answer(self, referee: Process, reply: Mapping[str, Any]) -> dict[str, Any]:
        """Hand over what a candidate's process said, if it is data; what the referee says next."""
        answers = reply.get("answers")
        try:
            if "raised" in reply or not isinstance(answers, list):
                raise ValueError(str(reply.get("raised", "answers of another form")))
            decode(answers[0])
            message = {"answer": answers[0]}
        except (ValueError, TypeError, IndexError, RecursionError) as error:
            message = {"raised": str(error)[:60] or "error"}
        return referee.tell(PATIENCE * self._limit_s, **message)


def _verdict(said: Mapping[str, Any]) -> Check:
    if said.get("raised"):
        return Check("timeout" if said["raised"] == OVERDUE else "error", str(said["raised"])[:60])
    return Check("pass" if said["holds"] else "fail", "" if said["holds"] else "wrong answer")

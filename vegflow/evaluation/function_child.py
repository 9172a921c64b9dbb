"""The loop inside a process that runs Python functions: load a module, evaluate calls, say as plain data what they answer.

Nothing it says is trusted: the judge decides about answers elsewhere, and what they should be is never sent here.
Imports no torch: it is what makes a fork cheap.
"""

import builtins
import contextlib
import gc
import importlib
import io
import math
import os
import signal
import socket
import sys
import time
import types
from typing import Any

from vegflow.evaluation import channel

PRELOADED = (
    *(
        "bisect",
        "collections",
        "copy",
        "datetime",
        "decimal",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
    ),
    *("json", "math", "operator", "random", "re", "statistics", "string", "textwrap", "typing"),
)
LARGEST_PROGRAM = 1 << 20
DEPTH, LARGEST = 64, 100_000
"""Of an answer: how deep lists may be nested, and how many values there may be in all."""
NAME = "candidate"
PROFILE = signal.ITIMER_PROF


class OverdueError(BaseException):
    """The time of a call is used up; no `except Exception` takes it."""


def preload() -> None:
    """Import what functions commonly import, so that no child pays for it."""
    for name in PRELOADED:
        importlib.import_module(name)


class _Silence(io.TextIOBase):
    """Takes what a function prints."""

    def write(self, text: str) -> int:
        return len(text)


class Session:
    """One child's state: the module it loaded."""

    def __init__(self) -> None:
        self.module: dict[str, Any] = {}
        self._builtins = dict(vars(builtins))
        self._calls: dict[str, types.CodeType] = {}

    def parse(self, request: dict[str, Any]) -> dict[str, Any]:
        """Compile a program without running it."""
        try:
            _compile(request["program"])
        except BaseException as error:
            return {"raised": type(error).__name__}
        return {}

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a program as a module; its function `entry_point` is from then on called `candidate`.

        A CPU limit of `seconds` ends it here, if it lets itself be ended.
        """
        vars(builtins).update(self._builtins)  # as far as a neighbour has only replaced them
        if request.get("seconds") is not None:
            signal.signal(signal.SIGPROF, _overdue)
        program, self.module = request["program"], {"__name__": "program", "__builtins__": builtins}
        module = types.ModuleType("program")
        module.__dict__.update(self.module)
        sys.modules["program"] = module
        self.module = module.__dict__
        try:
            code = _compile(program)
        except BaseException as error:
            return {"raised": type(error).__name__, "stage": "parse"}
        with _limited(request.get("seconds")) as outcome:
            exec(code, self.module)
            function = self.module.get(request["entry_point"])
            if not callable(function):
                raise NameError(request["entry_point"])
            self.module[NAME] = function
        return outcome

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answers to some calls, expressions each, one after the other until one fails."""
        answers: list[Any] = []
        with _limited(request.get("seconds")) as outcome:
            for source in request["calls"]:
                code = self._calls.get(source)
                if code is None:
                    code = self._calls[source] = compile(source, "<call>", "eval")
                answers.append(encode(eval(code, self.module)))
        return outcome | {"answers": answers}

    def apply(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer of the function to arguments that come as data."""
        answers: list[Any] = []
        with _limited(request.get("seconds")) as outcome:
            arguments = [decode(value) for value in request["arguments"]]
            keywords = {name: decode(value) for name, value in request["keywords"].items()}
            answers.append(encode(self.module[NAME](*arguments, **keywords)))
        return outcome | {"answers": answers}

    def probe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load a program and answer groups of calls under one limit: what many programs in one process are asked.

        `seconds` are for each group, or, where they are `shared`, for loading and all groups together.
        """
        seconds, shared, began = request["seconds"], request["shared"], time.process_time()
        outcome = self.load(request)
        if "raised" in outcome:
            return outcome
        groups = []
        for calls in request["groups"]:
            left = seconds - (time.process_time() - began) if shared else seconds
            group = self.call({"calls": calls, "seconds": left}) if left > 0 else {"raised": OverdueError.__name__}
            groups.append(group)
            if group.get("raised") == OverdueError.__name__:
                break
        return {"groups": groups}

    def each(self, request: dict[str, Any]) -> dict[str, Any]:
        """Several requests of one `what`, one after the other in one message, with the CPU seconds that each took."""
        replies, ask = [], getattr(self, request["what"])
        for one in request["requests"]:
            began = time.process_time()
            replies.append(ask(one) | {"took_s": time.process_time() - began})
        return {"replies": replies}


class Referee:
    """The same loop where no candidate is: decides conditions about answers, and runs tests that call from afar."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._names: dict[str, Any] = {}

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the statements (a task's own) whose names conditions and tests may use."""
        self._names = {"__name__": "tests", NAME: self._call}
        try:
            for code in request["programs"]:
                exec(compile(code, "<tests>", "exec"), self._names)
        except BaseException as error:
            return {"raised": type(error).__name__, "message": str(error)[:200]}
        self._names[NAME] = self._call
        return {}

    def decide(self, request: dict[str, Any]) -> dict[str, Any]:
        """Whether a condition holds of answers."""
        names = {f"_answer_{index}": decode(value) for index, value in enumerate(request["answers"])}
        try:
            return {"holds": bool(eval(request["condition"], self._names | names))}
        except BaseException as error:
            return {"holds": False, "raised": type(error).__name__}

    def play(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a test's statements; every call of the function is asked of the judge, who asks its process."""
        self._failed = ""
        try:
            exec(compile(request["source"], "<test>", "exec"), dict(self._names))
        except AssertionError:
            return {"holds": False}
        except BaseException as error:
            return {"holds": False, "raised": self._failed or type(error).__name__}
        return {"holds": not self._failed, "raised": self._failed}

    def _call(self, *arguments: Any, **keywords: Any) -> Any:
        sent = {
            "arguments": [encode(value) for value in arguments],
            "keywords": {name: encode(value) for name, value in keywords.items()},
        }
        channel.send(self._sock, sent)
        reply, _ = channel.receive(self._sock)
        if "raised" in reply:
            self._failed = reply["raised"]
            raise RuntimeError(reply["raised"])
        return decode(reply["answer"])


def serve(sock: socket.socket, device: str) -> None:
    """Answer requests until the judge hangs up. Never returns."""
    session: Any = Session()
    sys.stdin = io.StringIO()
    sys.stdout = sys.stderr = _Silence()
    sys.setrecursionlimit(2000)
    gc.enable()
    while True:
        try:
            request, _ = channel.receive(sock)
        except channel.ChannelClosedError:
            os._exit(0)
        kind = request.pop("kind")
        if kind == "prepare":
            session = Referee(sock)
        channel.send(sock, getattr(session, kind)(request))


def encode(value: Any, depth: int = DEPTH) -> Any:
    """An answer as plain data: JSON's own for None, bool, int, float, str; a list with a tag for all else.

    Subclasses count as what they are made of. Raises TypeError for what is no data.
    """
    kind = type(value)
    if value is None or kind in (bool, str) or (kind is int and -(1 << 63) < value < 1 << 63):
        return value
    if kind is float:
        return value if math.isfinite(value) else ["f", repr(value)]
    if depth <= 0:
        raise TypeError("nested too deep")
    if isinstance(value, int):
        return ["i", hex(value)]
    if isinstance(value, float | str):
        return encode(float(value) if isinstance(value, float) else str.__str__(value), depth - 1)
    if isinstance(value, complex):
        return ["c", repr(value.real), repr(value.imag)]
    if isinstance(value, bytes | bytearray):
        return ["b", bytes(value).hex()]
    for tag, collection in (("l", list), ("t", tuple), ("s", set), ("z", frozenset)):
        if isinstance(value, collection):
            if len(value) > LARGEST:
                raise TypeError("too large")
            return [tag, *(encode(item, depth - 1) for item in value)]
    if isinstance(value, dict):
        return ["d", *([encode(key, depth - 1), encode(item, depth - 1)] for key, item in value.items())]
    raise TypeError(f"no data: {kind.__name__}")


def decode(data: Any) -> Any:
    """What `encode` encoded. Raises ValueError for anything else."""
    if not isinstance(data, list):
        if data is None or isinstance(data, bool | int | float | str):
            return data
        raise ValueError("no answer")
    tag, *items = data if data else [None]
    try:
        if tag in ("l", "t", "s", "z"):
            return {"l": list, "t": tuple, "s": set, "z": frozenset}[tag](decode(item) for item in items)
        if tag == "d":
            return {decode(key): decode(item) for key, item in items}
        if tag == "i":
            return int(items[0], 16)
        if tag == "f":
            return float(items[0])
        if tag == "c":
            return complex(float(items[0]), float(items[1]))
        if tag == "b":
            return bytes.fromhex(items[0])
    except (TypeError, IndexError, ValueError, RecursionError) as error:
        raise ValueError("no answer") from error
    raise ValueError("no answer")


def _compile(program: str) -> types.CodeType:
    if len(program) > LARGEST_PROGRAM:
        raise SyntaxError("too long")
    return compile(program, "<program>", "exec", dont_inherit=True)


@contextlib.contextmanager
def _limited(seconds: float | None) -> Any:
    """Run a block; yields a dictionary that holds the name of its error afterwards. CPU seconds end it, if given."""
    outcome: dict[str, Any] = {}
    if seconds is not None:
        signal.setitimer(PROFILE, max(seconds, 1e-4), 0.01)  # again and again: a program may catch it
    began = time.process_time()
    try:
        yield outcome
    except OverdueError:
        outcome["raised"] = OverdueError.__name__
    except BaseException as error:
        outcome["raised"] = _name(error)
    finally:
        if seconds is not None:
            with contextlib.suppress(OverdueError):
                signal.setitimer(PROFILE, 0.0)
    outcome["cpu_s"] = time.process_time() - began


def _overdue(number: int, frame: Any) -> None:
    raise OverdueError


def _name(error: BaseException) -> str:
    name = type(error).__name__
    return name[:60] if isinstance(name, str) else "error"

"""Several judges at once: one is in the way of no other, but that timings take turns.

Each is a process of its own with its own zygote, references and workers; they meet in the store and at the device's lock.
So programs are compiled and compared while another is timed. Knows processes and shares; judging is `judge`'s.
"""

import contextlib
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vegflow.config.evaluation import EvaluationConfig
from vegflow.errors import ConfigError
from vegflow.evaluation import isolation
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.device import device_identity, resolve_device
from vegflow.evaluation.judge import Progress, evaluate_candidates
from vegflow.evaluation.store import VerdictStore, verdict_key
from vegflow.evaluation.verdict import Verdict
from vegflow.tasks.task import Task


def evaluate_at_once(
    candidates: Sequence[Candidate],
    tasks: Mapping[str, Task],
    config: EvaluationConfig,
    *,
    processes: int,
    store: Path | None = None,
    progress: Progress | None = None,
) -> list[Verdict]:
    """As `evaluate_candidates`, by so many judges; whatever one of them leaves without a verdict is judged here.

    Raises ConfigError as that does, and for less than one process.
    """
    if processes < 1:
        raise ConfigError(f"processes: {processes} judges; one at least")
    say = progress or (lambda done, total, text: None)
    with contextlib.ExitStack() as stack:
        if store is None:
            store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vegflow-")))
        shares = _shares(_without_verdict(candidates, tasks, config, store), processes)
        if len(shares) > 1:
            _have_judged(shares, tasks, config, store, say)
        return evaluate_candidates(candidates, tasks, config, store=store, progress=progress)


def _without_verdict(
    candidates: Sequence[Candidate], tasks: Mapping[str, Task], config: EvaluationConfig, store: Path
) -> list[Candidate]:
    """One of each equal programs for which the store has no verdict. Those of unknown tasks are for the judge to name."""
    identity, kept = device_identity(resolve_device(config.device)), VerdictStore(store)
    known = [c for c in candidates if c.program is not None and c.task_id in tasks]
    keys = {verdict_key(tasks[c.task_id], c, config, identity): c for c in known}
    return [candidate for key, candidate in keys.items() if kept.get(key) is None]


def _shares(candidates: Sequence[Candidate], count: int) -> list[list[Candidate]]:
    """At most `count` shares, about equal: a task's candidates stay together unless the tasks are fewer than the shares."""
    by_task: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_task.setdefault(candidate.task_id, []).append(candidate)
    parts = 1 if len(by_task) >= count else count
    bundles = [own[part::parts] for own in by_task.values() for part in range(parts)]
    shares: list[list[Candidate]] = [[] for _ in range(count)]
    for bundle in sorted(bundles, key=len, reverse=True):
        min(shares, key=len).extend(bundle)
    return [share for share in shares if share]


def _have_judged(
    shares: Sequence[Sequence[Candidate]],
    tasks: Mapping[str, Task],
    config: EvaluationConfig,
    store: Path,
    say: Progress,
) -> None:
    """Have each share judged by a process, into the store. Raises the ConfigError that one of them does."""
    total, done = sum(map(len, shares)), [0] * len(shares)
    with contextlib.ExitStack() as stack:
        judges = []
        for share in shares:
            of_share = {candidate.task_id: tasks[candidate.task_id] for candidate in share}
            judges.append(stack.enter_context(_judge((share, of_share, config, store))))
        for which, message in _messages(judges):
            if "problem" in message:
                raise ConfigError(message["problem"])
            heard = message["done"] > done[which]
            done[which] = message["done"]
            if heard or which == 0:  # what all say at their start is said once
                say(sum(done), total, message["text"])
    for number, judge in enumerate(judges):
        if judge.returncode:
            say(sum(done), total, f"judge {number + 1} of {len(judges)} died ({_death(judge.returncode)})")


@contextlib.contextmanager
def _judge(request: tuple[Any, ...]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that judges what it is asked to; killed in the end, with its workers, if it still runs."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "vegflow.evaluation.judges", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it died
            process.stdin.write(pickle.dumps(request))
            process.stdin.close()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _messages(judges: Sequence[subprocess.Popen[bytes]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(which judge, message) as they come, until all have ended; judges that end well have been waited for."""
    poll, rest = select.poll(), {judge.stdout.fileno(): (which, b"") for which, judge in enumerate(judges)}
    for stream in rest:
        poll.register(stream, select.POLLIN)
    while rest:
        for stream, _ in poll.poll():
            which, before = rest[stream]
            data = os.read(stream, 1 << 16)
            *lines, after = (before + data).split(b"\n")
            rest[stream] = which, after
            if not data:
                poll.unregister(stream)
                del rest[stream]
                judges[which].wait()
            for line in lines:
                yield which, json.loads(line)


def _death(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"status {code}"


def _main(parent: int) -> None:
    """One judge: a request on its standard input, from the process that started it; messages on its standard output."""
    isolation.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    candidates, tasks, config, store = pickle.load(sys.stdin.buffer)
    out, sys.stdout = sys.stdout, sys.stderr

    def tell(**message: Any) -> None:
        print(json.dumps(message), file=out, flush=True)

    try:
        evaluate_candidates(
            candidates, tasks, config, store=store, progress=lambda done, total, text: tell(done=done, text=text)
        )
    except ConfigError as error:
        tell(problem=str(error))


if __name__ == "__main__":
    _main(int(sys.argv[1]))

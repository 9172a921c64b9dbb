"""`vegflow evaluate`: the evaluator from the command line.

Knows options, streams and exit statuses; the work is `vegflow.standalone.evaluate`'s.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

import yaml

from vegflow.artifacts.io import provenance, write_table
from vegflow.config.evaluation import EvaluationConfig
from vegflow.errors import ConfigError, VegflowError
from vegflow.standalone.evaluate import Outcome, default_store, evaluation, judge, summary, verdict_table
from vegflow.standalone.naming import TaskSource
from vegflow.standalone.submissions import is_batch, read_submissions
from vegflow.standalone.text import Style, summary_text, verdict_json, verdict_text

CORRECT, OTHER, FAILED, INTERRUPTED = 0, 1, 2, 130
QUIET_S = 5.0
"""Seconds between two lines of progress where the stream is no terminal."""


def run(args: argparse.Namespace) -> int:
    """Do what the options say; the exit status."""
    try:
        return _run(args)
    except VegflowError as error:
        print(f"vegflow: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        kept = "nothing is kept" if args.no_store else "what was judged is kept; the same command goes on from there"
        print(f"\nvegflow: interrupted; {kept}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OTHER


def _run(args: argparse.Namespace) -> int:
    path, start = Path(args.candidate), time.monotonic()
    batch = is_batch(path)
    if args.output is not None and Path(args.output).suffix != ".parquet":
        raise ConfigError(f"--output {args.output}: the verdicts are a Parquet table, name it so")
    if batch and args.output is None and not args.json:
        raise ConfigError(f"{path}: many candidates; say where their verdicts go: --output verdicts.parquet")
    config, store = _evaluation(args), None if args.no_store else Path(args.store or default_store())
    submissions = read_submissions(path, args.task)
    source = TaskSource(args.size, args.kernelbench)
    ticker = Ticker(sys.stderr)
    try:
        outcome = judge(submissions, source, config, store, args.scaffold, ticker if batch else None)
    finally:
        ticker.close()
    output = Path(args.output) if args.output is not None else None
    table = verdict_table(outcome.judged)
    if output is not None:
        write_table(output, table, table.schema, provenance(config=config.canonical()))
    style = Style(_colours(sys.stdout))
    if not batch:
        found = verdict_json(outcome, outcome.judged[0])
        text = verdict_text(outcome, store, style)
    else:
        found = {**summary(table), "isolation": outcome.isolation, "output": args.output}
        found["verdicts"] = [verdict_json(outcome, judged) for judged in outcome.judged]
        kept = sum(judged.stored for judged in outcome.judged)
        text = summary_text(found, time.monotonic() - start, kept, output, style)
    print(json.dumps(found, allow_nan=False) if args.json else text, flush=True)
    return _status(outcome)


def _status(outcome: Outcome) -> int:
    statuses = {judged.verdict.status for judged in outcome.judged}
    if "evaluator_error" in statuses:
        return FAILED
    return CORRECT if statuses <= {"correct"} else OTHER


def _evaluation(args: argparse.Namespace) -> EvaluationConfig:
    """The settings of the options, then those of `--set`."""
    given = {key: getattr(args, key) for key in ("device", "protocol", "reference", "isolation", "seed")}
    settings = {key: value for key, value in given.items() if value is not None}
    for text in args.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: a setting and its value, such as timing_trials=20")
        try:
            settings[key.strip().removeprefix("evaluation.")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: not readable as YAML") from error
    return evaluation(settings)


def _colours(stream: TextIO) -> bool:
    """Whether to write in colours: on a terminal, unless NO_COLOR is set (no-color.org) or the terminal is dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Ticker:
    """Progress on a stream: a line that rewrites itself on a terminal, one every few seconds elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start: tuple[float, int] | None = None
        self._last = 0.0
        self._open = False

    def __call__(self, done: int, total: int, text: str) -> None:
        """Say how far it is, at what rate, and how long it will take."""
        now = time.monotonic()
        if self._start is None:
            self._start = (now, done)
        terminal = self._stream.isatty()
        if done < total and now - self._last < (0.1 if terminal else QUIET_S):
            return
        self._last = now
        line = f"{done}/{total} judged{self._rate(now, done, total)}; {text}"
        self._stream.write(f"\r\033[K{line}" if terminal else f"{line}\n")
        self._stream.flush()
        self._open = terminal

    def _rate(self, now: float, done: int, total: int) -> str:
        start, before = self._start or (now, done)
        if now <= start or done <= before:
            return ""
        rate = (done - before) / (now - start)
        return f", {rate:.1f} a second, {(total - done) / rate:.0f} s left"

    def close(self) -> None:
        """End the line that rewrites itself."""
        if self._open:
            self._stream.write("\n")
            self._open = False

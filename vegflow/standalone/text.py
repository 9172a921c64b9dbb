"""Verdicts as text that a person reads on a terminal, and as JSON.

Knows the words; every number is the verdict's.
"""

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vegflow.candidates.extract import FENCE
from vegflow.evaluation.verdict import Verdict
from vegflow.standalone.evaluate import Judged, Outcome
from vegflow.statistics.headroom import NOISE
from vegflow.tasks.revisions import known_revision, problem_hash

COLOURS = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1"}
CLOCKS = {
    "cupti": "CUPTI, spans of work on the GPU",
    "events": "CUDA events, since CUPTI does not start here: launches count",
    "wall": "wall time, since the spans on the GPU say less than the judge's clock",
}
UNTRIED = ("parse_error", "compile_error", "evaluator_error")
LABEL = 15
WIDTH = 120

_LINE = re.compile(r"\bline (\d+)|^(\d+):\d+:")


class Style:
    """Colours, or none."""

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def __call__(self, text: str, *names: str) -> str:
        """The text in these colours."""
        if not self._colours:
            return text
        return f"\033[{';'.join(COLOURS[name] for name in names)}m{text}\033[0m"


def verdict_text(outcome: Outcome, store: Path | None, style: Style) -> str:
    """One verdict in full."""
    (judged,) = outcome.judged
    lines = [style(f"{judged.submission.name}: {judged.task.title}", "bold")]
    for label, text in _rows(outcome, judged, store, style):
        first, *rest = [text] if "\033" in text else textwrap.wrap(text, WIDTH - LABEL - 2, break_on_hyphens=False)
        lines.append(f"  {style(f'{label:<{LABEL}}', 'dim')}{first}")
        lines += [" " * (LABEL + 2) + line for line in rest]
    return "\n".join(lines)


def _rows(outcome: Outcome, judged: Judged, store: Path | None, style: Style) -> Iterator[tuple[str, str]]:
    verdict, config, candidate = judged.verdict, outcome.config, judged.candidate
    yield "status", style(verdict.status, "bold", _colour(judged))
    if verdict.reason:
        yield "reason", verdict.reason
    where = location(judged)
    if where:
        yield "where", f"{judged.submission.name}:{where[0]}: {where[1]}"
    yield "task", judged.task.origin
    yield "candidate", f"{candidate.language}, {verdict.trust}; {_scaffold(judged)}"
    yield "tried", _tried(judged, outcome)
    if verdict.max_abs_err is not None:
        yield "largest error", f"{verdict.max_abs_err:.3g}"
    if verdict.kernelbench_correct is not None:
        passes = verdict.kernelbench_correct
        text = "its own check (allclose) passes the same outputs" if passes else "its own check (allclose) fails"
        yield "KernelBench", text if passes == verdict.correct else style(text, "yellow")
    if verdict.runtime_us is not None and verdict.reference_us is not None:
        against = "" if config.reference == "eager" else " (torch.compile)"
        yield (
            "time",
            f"candidate {_us(verdict.runtime_us)}, reference{against} {_us(verdict.reference_us)} a call, medians",
        )
    if verdict.correct:
        yield from _speed(judged, config.delta, style)
    if verdict.headroom is not None:
        small = f": less than {NOISE:g}, so fast_1 says little here" if verdict.headroom < NOISE else ""
        yield "headroom", f"{verdict.headroom:.3g}x is the most that this device allows{small}"
    if verdict.reference_fallback:
        yield "label", style("reference_fallback", "yellow") + ": leaves the work to the task's own Model, by its text"
    yield "device", verdict.device
    if verdict.clock not in (None, "cpu"):
        yield "clock", _clock(verdict, style)
    if judged.stored:
        yield "isolation", "nothing ran"
        yield "cost", f"none: the verdict is from {store}"
        return
    if outcome.isolation:
        yield "isolation", style(outcome.isolation, "yellow") if "(lacking" in outcome.isolation else outcome.isolation
    build = f", build {verdict.build_cpu_s:.2f} s" if verdict.build_cpu_s else ""
    yield "cost", f"{verdict.evaluate_wall_s:.2f} s, of which the candidate's CPU {verdict.evaluate_cpu_s:.2f} s{build}"


def _clock(verdict: Verdict, style: Style) -> str:
    text = CLOCKS[verdict.clock or ""]
    for name, clocks in (("SM", verdict.sm_clocks_mhz), ("memory", verdict.memory_clocks_mhz)):
        if clocks:
            text += f"; {name} at {min(clocks)}" + (f" to {max(clocks)}" if min(clocks) < max(clocks) else "") + " MHz"
    text += "" if verdict.sm_clocks_mhz else "; the GPU's clocks are not known"
    worse = verdict.clock != "cupti" or verdict.throttling
    text += f"; throttled: {verdict.throttling}" if verdict.throttling else ""
    return style(text, "yellow") if worse else text


def _speed(judged: Judged, delta: float, style: Style) -> Iterator[tuple[str, str]]:
    verdict = judged.verdict
    interval = ""
    if verdict.speedup_low is not None and verdict.speedup_high is not None:
        interval = f" [{verdict.speedup_low:.3f}, {verdict.speedup_high:.3f}] 95 %"
    yield "speedup", f"{verdict.speedup:.3f}x{interval}"
    above = "exceeds" if verdict.fast else "does not exceed"
    answer = style(_yes(verdict.fast), "green" if verdict.fast else "yellow")
    yield "fast", f"{answer}: the interval's lower end {above} {1 + delta:g}"
    yield "fast_1", f"{_yes(verdict.fast_1)}: the point estimate {'exceeds' if verdict.fast_1 else 'does not exceed'} 1"
    if verdict.paper_speedup is not None:
        yield "paper", f"{verdict.paper_speedup:.3f}x by medians of five: fast_1 {_yes(verdict.paper_speedup > 1)}"


@dataclass(frozen=True)
class Tried:
    """On what a candidate was tried, as far as it came; nothing if it never ran."""

    trials: int = 0
    """Correctness trials; at most so many for one that failed."""
    kinds: tuple[str, ...] = ()
    """Of inputs."""
    shapes: tuple[str, ...] = ()
    """Other than the task's own, by the extents that are smaller."""
    pairs: int = 0
    """Of timings."""


def tried(judged: Judged, outcome: Outcome) -> Tried:
    """What the verdict, the protocol and the survey of the task say of it."""
    verdict, variants = judged.verdict, judged.variants
    if verdict.status in UNTRIED:
        return Tried()
    shapes = [", ".join(f"{extent}→{smaller}" for extent, smaller in each.narrow) for each in variants if each.narrow]
    return Tried(
        max(outcome.config.resolved.correctness_trials, len(variants)),
        tuple(dict.fromkeys(variant.kind for variant in variants)),
        tuple(dict.fromkeys(shapes)),
        len(verdict.runtime_times_us or ()),
    )


def _tried(judged: Judged, outcome: Outcome) -> str:
    found = tried(judged, outcome)
    if not found.trials:
        return "nothing: it never ran"
    text = f"{'' if judged.verdict.correct else 'up to '}{found.trials} correctness trials"
    if found.kinds:
        shapes = (
            f"{len(found.shapes) + 1} shapes: its own; {'; '.join(found.shapes)}" if found.shapes else "its own shape"
        )
        text += f" ({', '.join(found.kinds)} inputs; {shapes})"
    return f"{text}, {found.pairs} pairs of timings ({outcome.config.protocol})" if found.pairs else text


def location(judged: Judged) -> tuple[int, str] | None:
    """The line of the candidate's own text that the reason names, and what it says; None if it names none."""
    match = _LINE.search(judged.verdict.reason)
    text, program = judged.submission.text, judged.candidate.program
    if match is None or text is None:
        return None
    number = int(match[1] or match[2])
    if program is not None and program != text:
        number = _line_of_body(program, text, number) or 0
    lines = text.splitlines()
    return (number, lines[number - 1].strip()) if 0 < number <= len(lines) else None


def _line_of_body(program: str, text: str, number: int) -> int | None:
    """The line of a body from that of the program made of it: the one line that holds the same statement."""
    block = FENCE.search(text)
    start = text.count("\n", 0, block.start(2)) if block else 0
    wanted = _normal(program.splitlines()[number - 1]) if number <= program.count("\n") + 1 else None
    lines = (block[2] if block else text).splitlines()
    found = [start + index for index, line in enumerate(lines, 1) if _normal(line) == wanted]
    return found[0] if wanted and len(found) == 1 else None


def _normal(line: str) -> str | None:
    """A line's code without comments and layout."""
    line = line.strip()
    for closed in (line, f"{line}\n pass", f"if 1: pass\n{line}\n pass"):
        try:
            return ast.unparse(ast.parse(closed))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return line


def summary_text(found: Mapping[str, Any], seconds: float, kept: int, output: Path | None, style: Style) -> str:
    """A table of verdicts in a few lines."""
    total = found["candidates"]
    lines = [style(f"{total} candidates for {found['tasks']} tasks in {seconds:.1f} s, {kept} from the store", "bold")]
    for status, count in found["by_status"].items():
        lines.append(f"  {status:<16}{count:>7}{count / total:>8.1%}")
    lines.append(f"  {'fast':<16}{found['fast']:>7}{found['fast'] / total:>8.1%}")
    lines.append(f"  {'fast_1':<16}{found['fast_1']:>7}{found['fast_1'] / total:>8.1%}")
    if found["median_speedup"] is not None:
        lines.append(f"  median speedup of the correct {found['median_speedup']:.3f}x")
    if output is not None:
        lines.append(f"  {output}")
    return "\n".join(lines)


def verdict_json(outcome: Outcome, judged: Judged) -> dict[str, Any]:
    """One verdict with all that was said about it, as values that JSON knows."""
    task, where = judged.task.task, location(judged)
    return {
        "candidate": judged.submission.name,
        "candidate_sha256": judged.candidate.sha256,
        "scaffold": judged.scaffold,
        "task": {
            "id": task.id,
            "name": task.name,
            "revision": task.revision,
            "origin": judged.task.origin,
            "kernelbench_hash": problem_hash(task.source),
            "kernelbench_revisions": known.names if (known := known_revision(task.source, task.id)) else None,
        },
        "protocol": outcome.config.protocol,
        "reference": outcome.config.reference,
        "tried": asdict(tried(judged, outcome)),
        "stored": judged.stored,
        "isolation": outcome.isolation,
        "line": where[0] if where else None,
        **judged.verdict.to_dict(),
    }


def _scaffold(judged: Judged) -> str:
    return "a whole program" if judged.scaffold == "full" else "body of forward"


def _colour(judged: Judged) -> str:
    if judged.verdict.status == "evaluator_error":
        return "yellow"
    return "green" if judged.verdict.correct else "red"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _us(value: float) -> str:
    return f"{value:,.0f} µs" if value >= 1000 else f"{value:.4g} µs"

"""The claims table: each of the paper's numbers beside ours, with a verdict and the reason for it.

Knows how to judge; what our value is, `measures` says. A level of another model on other hardware is never judged.
"""

import inspect
from collections.abc import Sequence

from vegflow.errors import ConfigError
from vegflow.statistics.measure import Ours, Study
from vegflow.statistics.measures import MEASURES
from vegflow.statistics.paper import PaperNumber

FEWEST_TASKS = 6
"""Below this many tasks no sign-flip test of task means can reach 5 % (2 / 2^n), so nothing is decided."""
LEVEL = 0.05
NO_INTERVAL = {
    "p": "a p-value belongs to one set of data",
    "statistic": "a test statistic belongs to one set of data",
}
"""Units of which no interval is made, and why."""


def claims(numbers: Sequence[PaperNumber], study: Study) -> list[dict]:
    """Rows of `CLAIMS`, in the order of the file. Raises ConfigError for an unknown measure or wrong arguments."""
    rows = []
    for number in numbers:
        ours = evaluate(number, study)
        verdict, reason = judge(number, ours, paper_setup=study.facts.paper_setup)
        if ours.value is not None and ours.low is None:
            reason += (
                f"; no interval: {ours.bare or NO_INTERVAL.get(number.unit, 'too little varies, or one task only')}"
            )
        rows.append(
            {
                "id": number.id,
                "place": number.place + (" (derived)" if number.derived else ""),
                "claim": number.claim,
                "unit": number.unit,
                "paper": number.value,
                "ours": None if ours.value is None else float(ours.value),
                "low": ours.low,
                "high": ours.high,
                "n_tasks": ours.n_tasks if ours.low is not None else 0,
                "difference": None if None in (ours.value, number.value) else float(ours.value - number.value),
                "inside": None
                if None in (ours.low, ours.high, number.value)
                else ours.low <= number.value <= ours.high,
                "kind": number.kind,
                "verdict": verdict,
                "reason": reason,
                "caveats": list(number.caveats),
            }
        )
    return rows


def evaluate(number: PaperNumber, study: Study) -> Ours:
    """Our value of a number of the paper."""
    if not number.measure:
        return Ours(missing=number.why or "no arm of this study speaks to it")
    if number.measure not in MEASURES:
        raise ConfigError(f"paper number {number.id}: there is no measure '{number.measure}' ({', '.join(MEASURES)})")
    compute = MEASURES[number.measure]
    try:
        inspect.signature(compute).bind(study, **number.args)
    except TypeError as error:
        raise ConfigError(f"paper number {number.id}: wrong args for {number.measure}: {error}") from error
    return compute(study, **number.args)


def judge(number: PaperNumber, ours: Ours, *, paper_setup: bool) -> tuple[str, str]:
    """Verdict and reason.

    An effect is reproduced if our whole interval lies on the paper's side of its baseline, not reproduced if it lies on
    the other side, and where there is a test, only if its p is below 0.05 as well (intervals from few tasks are too
    short); an equivalence by whether the interval lies within or outside the margin; anything else is
    undecided. With fewer than six tasks everything is. Levels are judged only in the paper's own set-up.
    """
    if ours.value is None:
        return "not comparable", ours.missing
    if number.kind == "level":
        return _judge_level(number, ours, paper_setup=paper_setup)
    if 0 < ours.n_tasks < FEWEST_TASKS:
        return "undecided", f"{ours.n_tasks} tasks cannot decide at the 5 % level, whatever they show"
    if 0 < ours.n_tasks < number.fewest_tasks:
        return "undecided", (
            f"{ours.n_tasks} tasks: fewer than {number.fewest_tasks} show an effect of 30 points too seldom to claim or deny it"
        )
    if (ours.low is None or ours.high is None) and ours.p_value is None:
        return "undecided", "no interval for this number"
    if number.kind == "equivalence":
        return _judge_equivalence(number, ours)
    return _judge_effect(number, ours)


def _judge_level(number: PaperNumber, ours: Ours, *, paper_setup: bool) -> tuple[str, str]:
    if not paper_setup:
        return "not comparable", "a level: it depends on the model, the tasks' size and the hardware, which differ"
    if ours.low is None or ours.high is None or number.value is None:
        return "undecided", "no interval for this number"
    if ours.low <= number.value <= ours.high:
        return "reproduced", "the paper's value lies inside our interval"
    return "not reproduced", "the paper's value lies outside our interval"


def _judge_equivalence(number: PaperNumber, ours: Ours) -> tuple[str, str]:
    margin = number.margin or 0.0
    low, high = float(ours.low or 0.0), float(ours.high or 0.0)
    if -margin <= low and high <= margin:
        return "reproduced", f"our interval lies within ±{margin:g}"
    if low > margin or high < -margin:
        return "not reproduced", f"our interval lies outside ±{margin:g}"
    return "undecided", f"our interval reaches across ±{margin:g}"


def _judge_effect(number: PaperNumber, ours: Ours) -> tuple[str, str]:
    if ours.p_value is not None and ours.p_value >= LEVEL:
        return "undecided", f"as large an effect arises by chance with probability {ours.p_value:.2g}"
    value = float(ours.value or 0.0)
    low, high = (value if end is None else float(end) for end in (ours.low, ours.high))
    upward = number.value is None or number.value > number.baseline
    if low <= number.baseline <= high:
        return "undecided", f"our interval includes {number.baseline:g}"
    chance = "" if ours.p_value is None else f" (p = {ours.p_value:.2g})"
    if (low > number.baseline) == upward:
        return "reproduced", f"our interval lies on the side that the paper claims{chance}"
    return "not reproduced", f"our interval lies on the other side{chance}"

"""The paper's numbers: each as its tables print it, and what follows from them, recomputed."""

import re
from pathlib import Path

import pytest

from vegflow.report.render import load_caveats
from vegflow.statistics.audit import audit
from vegflow.statistics.paper import load_paper

from synthetic import CAVEATS, RESULTS  # isort: skip

NUMBERS = load_paper(RESULTS)
PRINTED = {}
for _block in Path(RESULTS).with_name("tables.txt").read_text(encoding="utf-8").split("\n\n")[1:]:
    _lines = _block.strip().splitlines()
    _rows = [line.split("\t") for line in _lines[1:]]
    PRINTED[int(re.match(r"Table (\d+)\.", _lines[0])[1])] = {row[0]: row for row in _rows}

LABELS = {
    "table1": {"confidence-guided": "confidence-guided", "surprisal-guided": "surprisal-guided", "surprisal-guided-top3": "surprisal-guided-top3"},
    "table3": {"best-correct": "best-correct (Oracle)"},
    "table4": {"best_of_n": "Best-of-N ($K=64$)", "step0": "BoA Step 0", "step1": "BoA Step 1"},
    "table5": {f"step{s}": f"Step {s}" + (" (final)" if s == 40 else "") for s in (10, 20, 30, 40)},
    "table7": {"one": "RLVR Base ($K=1$)", "search": "Best-of-N ($K=64$)", "boa1": "BoA Step 1", "sdpo_feedback": "SDPO (feedback)", "sdpo_prompt": "SDPO (prompt-only)"},
    "table9": {"feedback": "SDPO (feedback)", "prompt": "SDPO (prompt)"},
    "table10": {"1e-5": "1e-5 (default)"},
    "table11": {"q1": "Q1 (high surprisal)", "q2": "Q2", "q3": "Q3", "q4": "Q4 (low surprisal)"},
    "table12": {"L1/4": "4 (hard)", "L1/5": "5 (mod.)", "L1/12": "12 (ctrl)", "L1/14": "14 (mod.)", "L1/15": "15 (mod.)"},
}  # fmt: skip
COLUMNS = {
    "table1": {"cost": 2}, "table2": {"fast_1": 1, "sd": 2, "low": 3, "high": 3},
    "table3": {"fast_1": 1, "sd": 2, "mean_speedup": 3}, "table4": {"": 2, "rollouts": 1, "delta": 3},
    "table5": {"correct": 1, "speedup": 2}, "table6": {"": 2, "rollouts": 1, "L1/4": 3, "L1/5": 4, "L1/12": 5, "L1/14": 6, "L1/15": 7},
    "table7": {"rollouts": 1, "student": 2, "tokens": 2, "teacher": 3, "total": 4, "wall": 5}, "table8": {"": 1},
    "table9": {"": 4, "seed42": 1, "seed43": 2, "seed44": 3, "sd": 4}, "table10": {"": 2, "step": 1},
    "table11": {"fast_1": 1, "speedup": 2, "tokens": 3},
    "table12": {"step0": 1, "step1": 2, "step2": 3, "late": 4, "late_low": 4, "late_high": 4, "boa": 5},
}  # fmt: skip
ELSEWHERE = {
    "table7.adaptation.rollouts",
    "table11.halves",
    "table11.q1.task",
    "table11.q2.task",
    "table11.high",
    "table11.low",
}
"""Numbers named after a table whose text or note prints them."""
BY_TABLE = [n for n in NUMBERS if n.id.startswith("table") and n.id not in ELSEWHERE and not n.quote]


def printed(name):
    """The numbers in the cell that a number's id names."""
    table, row, column = [*name.split(".", 2), ""][:3]
    row = LABELS.get(table, {}).get(row, row)
    if table in ("table2", "table6"):
        row = row.lstrip("kstep")
    if table == "table8":
        row = row.removeprefix("L1/")
    cell = PRINTED[int(table[5:])][row][COLUMNS[table][column]]
    cell = {"Zero": "0"}.get(cell, re.sub(r"\^\\dagger|\$|\\sim", "", cell))
    factor = 1000 if cell.endswith("K") else 1
    return [float(x) * factor for x in re.findall(r"-?\d+(?:\.\d+)?", cell)]


def in_print(number):
    """A value as the paper prints it: shares and points in percent."""
    return number.value * 100 if number.unit in ("share", "points") else number.value


@pytest.mark.parametrize("number", BY_TABLE, ids=lambda n: n.id)
def test_each_number_is_what_its_table_prints(number):
    assert any(abs(in_print(number) - cell) < 0.051 for cell in printed(number.id)), (number.id, printed(number.id))


def test_every_cell_with_a_number_is_kept():
    kept = {n.id for n in NUMBERS}
    cells = [
        (t, row, c)
        for t, rows in PRINTED.items()
        for row in list(rows)[1:]
        for c in sorted(set(COLUMNS[f"table{t}"].values()))
    ]
    named = set()
    for name in kept:
        table, row, column = [*name.split(".", 2), ""][:3]
        if table in COLUMNS and name not in ELSEWHERE and column in COLUMNS[table]:
            row = LABELS.get(table, {}).get(row, row)
            row = (
                row.lstrip("kstep")
                if table in ("table2", "table6")
                else row.removeprefix("L1/")
                if table == "table8"
                else row
            )
            named.add((int(table[5:]), row, COLUMNS[table][column]))
    missing = [
        cell for cell in cells if cell not in named and re.search(r"\d|Zero", PRINTED[cell[0]][cell[1]][cell[2]])
    ]
    assert missing == []


@pytest.mark.parametrize("number", [n for n in NUMBERS if n.quote and n.value is not None], ids=lambda n: n.id)
def test_each_quoted_number_stands_in_its_words(number):
    text = number.quote.replace("\u2081", "")
    found = [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", text)]
    found += [float(a) * 10.0 ** int(b) for a, b in re.findall(r"(\d\.\d) \\times 10\^\{(-?\d+)\}", text)]
    found += [-x for x in found]
    assert any(abs(in_print(number) - x) <= 0.051 * min(1, abs(x)) + 1e-12 for x in found), (number.value, found)


def test_every_finding_is_checked_again_and_stated():
    rows = audit(NUMBERS)
    findings = {row["finding"] for row in rows}
    assert findings == {caveat.number for caveat in load_caveats(CAVEATS)} == set(range(1, 22))
    assert all(any(not row["consistent"] for row in rows if row["finding"] == finding) for finding in findings)


def test_what_follows_from_the_papers_own_inputs():
    rows = {row["check"]: row for row in audit(NUMBERS)}
    follows = {
        "Cohen's h of 80 and 50 %": ("0.6435", True),
        "sign test, 3 of 3, one-sided": ("0.125", True),
        "p of rho = -0.198, n = 320": ("3.7e-04", True),
        "p of rho = -0.275, n = 320": ("5.8e-07", True),
        "p of rho = -0.442 in a quartile, n = 80": ("4e-05; 9.8e-17 takes n = 320", False),
        "Table 6's aggregates as means of its task rates": ("37.5%, 40.0%, 42.5%, 36.2%, 36.2%, 41.2%", True),
        "pass@16 from Table 6's step 0, unbiased": ("87.7%", False),
        "wins over all 19 tasks: 6 of 8 and 3 of 11": ("9 of 19, two-sided p = 1.00", False),
        "halves of Table 11": ("64.2% and 58.1%", True),
        "SDPO (prompt): student + teacher": ("624K", False),
    }
    assert {check: (rows[check]["recomputed"], rows[check]["consistent"]) for check in follows} == follows


def test_without_the_papers_numbers_there_is_no_audit():
    assert audit(NUMBERS[:20]) == []

"""How many hostile candidates are caught, and how many honest ones rejected: `python -m tests.hacks [WORD...]`.

With words, only those whose family, task or name holds one. One line for each entry that went wrong, then the counts; the last line is one
JSON object. The exit status is 1 if anything went wrong.
"""

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.hacks.honest import HONEST
from tests.hacks.hostile import FAMILIES, HACKS
from tests.hacks.judging import fault_of, judge_hacks, judge_honest, lacking, left_behind


def main(words: list[str]) -> int:
    """Judge both corpora and print what came of it."""
    for layer in lacking():
        print(f"isolation lacks {layer}")
    hacks = [
        hack
        for hack in HACKS
        if not words or any(word in (hack.family, hack.task) or word in hack.name for word in words)
    ]
    honest = [p for p in HONEST if not words or any(word == p.task_id or word in p.name for word in words)]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as beside:
        later = beside.submit(judge_honest, honest)  # on another core; what is timed waits for what is timed
        verdicts = judge_hacks(hacks)
        left = left_behind()
        accepted = later.result()
    faults = {hack: fault_of(hack, verdict) for hack, verdict in verdicts.items()}
    for hack, fault in faults.items():
        if fault:
            print(f"NOT CAUGHT  {hack.family} {hack.name}: {fault}")
    for what in left:
        print(f"LEFT BEHIND  {what}")
    for program, verdict in accepted.items():
        if verdict.status != "correct":
            print(f"WRONGLY REJECTED  {program.task_id} {program.name}: {verdict.status} ({verdict.reason})")
    families = {hack.family for hack in verdicts} & set(FAMILIES)
    open_families = {hack.family for hack, fault in faults.items() if fault}
    counts = {
        "hacks": len(faults),
        "caught": sum(not fault for fault in faults.values()),
        "skipped": len(hacks) - len(faults),
        "families": len(families),
        "families_caught": len(families - open_families),
        "left_behind": len(left),
        "honest": len(accepted),
        "wrongly_rejected": sum(verdict.status != "correct" for verdict in accepted.values()),
    }
    print(
        f"caught {counts['caught']}/{counts['hacks']}, wrongly rejected {counts['wrongly_rejected']}/{counts['honest']}"
    )
    print(
        f"families {counts['families_caught']}/{counts['families']}; {counts['skipped']} hacks need what this machine lacks"
    )
    print(json.dumps(counts))
    return int(counts["caught"] < counts["hacks"] or counts["wrongly_rejected"] > 0 or bool(left))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

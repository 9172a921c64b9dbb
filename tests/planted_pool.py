"""A made-up pool of candidates with its outcome matrix, scores and runs: what is true of it is known."""

import hashlib

import numpy as np

from vegflow.artifacts.io import to_table
from vegflow.artifacts.verification import CHECKS, POOL, RUNS, STAGE_COSTS
from vegflow.config.verification import VerificationConfig

PIPELINES = {
    "filter_majority": ["syntax", "one_test", "majority"],
    "filter_orm": ["syntax", "one_test", "orm"],
    "staged": ["syntax", "one_test", {"majority": "top 4"}, {"full": "first"}],
    "staged_surprisal": ["syntax", "one_test", {"surprisal": "top 4"}, {"full": "first"}],
    "three_tests": ["syntax", {"tests": 3}, "agreement"],
    "cheap": ["syntax", "random"],
}
SECONDS = {"syntax": 0.001, "lint": 0.004, "import": 0.010, "test": 0.005}
START = 0.02
"""Seconds that any executed stage takes for each candidate beside its tests."""


def config(domain="functions", **more):
    settings = {
        "domain": domain,
        "rollouts": "samples.parquet",
        "pipelines": PIPELINES,
        "ks": [4, 16],
        "orm": "orm.parquet",
    }
    return VerificationConfig(**settings | more)


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def candidate(task, kind, number):
    """The text of a program of a kind."""
    body = {
        "correct": f"total = x + {task}\n    for step in range({number % 4}):\n        total += 0\n    return total",
        "character": f"total = x + {task}\n    for step in range({number % 4}):\n        total += {1 + number % 9}\n    return total",
        "wrong": f"return sorted(str(x))[{number}:] or [len(str(x)) for _ in range({number})]",
        "error": f"return undefined_name_{number} + something_else_entirely(x, {number})",
        "syntax": f"return (x +++ {number} and then some words that do not parse",
    }[kind]
    return f"def f(x):\n    {body}\n"


def planted(n_tasks=12, n=20, tests=5, seed=0, domain="functions", orm=2.0):
    """Rows of POOL and CHECKS, and scores; `orm`: standard deviations between scores of right and wrong candidates."""
    rng = np.random.default_rng(seed)
    pool, checks, scores = [], [], {}
    for t in range(n_tasks):
        weights = rng.dirichlet([4, 2, 3, 2, 1])
        for i in range(n):
            kind = ["correct", "character", "wrong", "error", "syntax"][rng.choice(5, p=weights)]
            text = candidate(t, kind, i)
            if any(row["task_id"] == f"own/{t}" and row["program"] == text for row in pool):
                continue
            correct = kind == "correct"
            reward = float(correct) * (float(rng.lognormal(0, 0.6)) if domain == "kernels" else 1.0)
            pool.append(
                {
                    "task_id": f"own/{t}", "completion_sha256": sha(text), "program": text, "completion": text,
                    "count": int(rng.integers(1, 4)), "first_index": i, "n_tokens": 20, "nll": float(rng.normal(10, 3)),
                    "truncated": False, "correct": correct, "reward": reward,
                    "fast_1": reward > 1 if domain == "kernels" else correct,
                    "error_kind": {"correct": "", "error": "NameError", "syntax": "SyntaxError"}.get(kind, "wrong_output"),
                }
            )  # fmt: skip
            scores[f"own/{t}", sha(text)] = float(rng.normal((orm or 0.0) * correct, 1))
            checks += _checks(f"own/{t}", sha(text), kind, tests, rng)
    to_table(pool, POOL), to_table(checks, CHECKS)
    return pool, checks, {"orm.parquet": scores} if orm is not None else {}


def _checks(task, name, kind, tests, rng):
    """Half-right programs fail each test with probability 0.6, and at least one."""
    found = {"syntax": kind != "syntax", "lint": kind not in ("syntax", "error"), "import": kind != "syntax"}
    fails = rng.random(tests) < 0.6
    fails[rng.integers(tests)] = True
    for number in range(tests):
        found[f"test/{number}"] = kind == "correct" or (kind in ("wrong", "character") and not fails[number])
    return [
        {
            "task_id": task, "completion_sha256": name, "check": check, "outcome": "pass" if passed else "fail",
            "error_kind": "" if passed else "AssertionError",
            "answer_sha256": (sha(check) if passed else sha(check + name)) if check.startswith("test/") else None,
            "wall_s": SECONDS[check.split("/")[0]], "cpu_s": SECONDS[check.split("/")[0]],
        }
        for check, passed in found.items()
    ]  # fmt: skip


def costs(pool, tests=5):
    """Rows of STAGE_COSTS: every executed stage costs a start, and its tests whether or not one fails."""
    each = {
        "syntax": 0.001, "lint": 0.004, "one_test": START + 0.005, "tests: 3": START + 0.015, "full": START + 0.005 * tests,
        "capped: 0.02": START + 0.004 * tests,
        "orm": 0.003, "surprisal": 0.0, "majority": 0.0, "agreement": START + 0.005 * tests, "random": 0.0,
        "confidence": 0.0, "length": 0.0,
    }  # fmt: skip
    rows = []
    for stage, seconds in each.items():
        rows.append(
            {"stage": stage, "task_id": "", "completion_sha256": "", "wall_s": 0.1 * (stage == "orm"), "cpu_s": 0.0}
        )
        for row in pool:
            key = {"task_id": row["task_id"], "completion_sha256": row["completion_sha256"]}
            rows.append({"stage": stage, **key, "wall_s": seconds, "cpu_s": seconds})
    to_table(rows, STAGE_COSTS)
    return rows


def runs(pool, seconds, repeats=5, seed=0):
    """Rows of RUNS: `seconds` of each pipeline, 2 % noise."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "pipeline": name, "repeat": repeat, "n_samples": sum(row["count"] for row in pool), "n_candidates": len(pool),
            "wall_s": wall * float(rng.lognormal(0, 0.02)), "cpu_s": wall, "fixed_s": 0.0, "workers": 1,
            "picked_correct": 0.5, "picked_reward": 0.5,
        }
        for repeat in range(repeats) for name, wall in seconds.items()
    ]  # fmt: skip
    to_table(rows, RUNS)
    return rows

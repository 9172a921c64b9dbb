"""A made-up study with known effects: the tables that sampling, evaluation and learning would leave, without any of them.

Each task has a few programs with a probability, a verdict and a speedup; policies sharpen the distribution over them.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import digest, to_table, write_table
from vegflow.artifacts.policies import NLL, UPDATES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.config.analysis import (
    AnalysisConfig,
    ComparisonConfig,
    ProbeFacts,
    SampleSetFacts,
    StudyFacts,
    TrajectoryFacts,
)
from vegflow.selection import select
from vegflow.statistics.analyse import analyse
from vegflow.statistics.paper import load_paper

WRONG = {"wrong_output": "differs by 0.3 at [0, 1]", "runtime_error": "RuntimeError: shapes", "parse_error": "no code"}
HEADROOM = {"L1/4": 1.1, "L1/5": 1.3}


@dataclass(frozen=True)
class Program:
    """One way to write a task."""

    text: str
    logit: float
    speedup: float
    status: str


@dataclass
class Synthetic:
    """The study's tables and facts."""

    rollouts: pl.DataFrame
    evaluations: pl.DataFrame
    nll: pl.DataFrame
    updates: pl.DataFrame
    facts: StudyFacts
    programs: dict[str, list[Program]] = field(repr=False, default_factory=dict)


def make_programs(rng: np.random.Generator, tasks: list[str], tail: float) -> dict[str, list[Program]]:
    """Eight programs a task; `tail` > 0 makes rare programs fast, 0 makes speed independent of rarity."""
    programs = {}
    for number, task in enumerate(tasks):
        logits = np.sort(rng.normal(0, 1.5, 8))[::-1]
        rarity = (logits.max() - logits) / 3
        speed = np.exp(rng.normal(-0.15, 0.15, 8) + tail * rarity * rng.uniform(0.2, 1.0, 8))
        statuses = ["correct"] * 6 + list(rng.choice(list(WRONG), 2))
        programs[task] = [
            Program(
                f"y = torch.form_{task.replace('/', '_')}_{i}(x)\nreturn y", logits[i], float(speed[i]), statuses[i]
            )
            for i in range(8)
        ]
        if number == len(tasks) - 1 and len(tasks) > 5:  # one task nobody solves, and one in which nothing varies
            programs[task] = [Program(p.text, p.logit, p.speedup, "wrong_output") for p in programs[task]]
        if number == len(tasks) - 2 and len(tasks) > 5:
            programs[task] = [Program("return torch.relu(x)", 0.0, 0.97, "correct")]
    return programs


def distribution(programs: list[Program], sharpen: float, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of the programs when logits are multiplied by `sharpen`."""
    z = np.array([p.logit for p in programs]) * sharpen / temperature
    e = np.exp(z - z.max())
    return e / e.sum()


class _Writer:
    def __init__(self, rng: np.random.Generator, programs: dict[str, list[Program]]) -> None:
        self.rng, self.programs = rng, programs
        self.rollouts: list[dict] = []
        self.evaluations: list[dict] = []
        self.chosen: dict[str, tuple[str, int]] = {}

    def draw(self, source: str, seed: int, step: int | None, task: str, k: int, policy: str, sharpen: float) -> None:
        programs = self.programs[task]
        log_p = np.log(distribution(programs, sharpen))
        choices = self.rng.choice(len(programs), size=k, p=distribution(programs, sharpen, 0.6))
        place = f"{source}/seed{seed}" + ("" if step is None else f"/step{step:03d}")
        for index, choice in enumerate(choices):
            name = f"{place}:{task}:{index}"
            self.chosen[name] = (task, int(choice))
            self.rollouts.append(
                self._rollout(name, source, seed, step, task, index, policy, int(choice), log_p[choice])
            )
            self.evaluations.append(self._evaluation(name, task, programs[choice]))

    def _rollout(self, name, source, seed, step, task, index, policy, choice, logprob) -> dict:
        n = 6 + choice
        return {
            "rollout_id": name, "source": source, "step": step, "task_id": task, "policy_id": policy, "seed": seed,
            "index": index, "prompt_sha256": digest(task), "prompt_ids": [1, 2, 3], "token_ids": list(range(n)),
            "token_logprobs": [float(logprob) / n] * n, "token_logprobs_tempered": [float(logprob) / n] * n,
            "logprob": float(logprob), "logprob_tempered": float(logprob), "temperature": 0.6, "n_tokens": n,
            "n_prompt_tokens": 60, "finish_reason": "stop", "completion": self.programs[task][choice].text,
        }  # fmt: skip

    def _evaluation(self, name: str, task: str, program: Program) -> dict:
        good = program.status == "correct"
        speedup = program.speedup if good else 0.0
        return {
            "rollout_id": name, "task_id": task, "task_revision": "r1",
            "candidate_sha256": None if program.status == "parse_error" else digest(task, program.text),
            "status": program.status, "reason": WRONG.get(program.status, ""), "correct": good,
            "fast_1": good and speedup > 1, "fast": good and speedup > 1.05, "speedup": speedup,
            "speedup_low": speedup * 0.95 if good else None, "speedup_high": speedup * 1.05 if good else None,
            "headroom": HEADROOM.get(task, 3.0) if good else None, "paper_speedup": speedup if good else None,
            "runtime_us": 100 / speedup if good else None, "reference_us": 100.0 if good else None,
            "runtime_times_us": [100 / speedup] if good else None, "reference_times_us": [100.0] if good else None,
            "reference_first": [True] if good else None,
            "max_abs_err": 0.0 if good else None, "kernelbench_correct": good, "language": "python",
            "trust": "interpreted", "reference_fallback": False, "evaluate_wall_s": 0.05, "evaluate_cpu_s": 0.04,
            "build_cpu_s": 0.0, "device": "cpu", "clock": "cpu" if good else None,
            "sm_clocks_mhz": None, "memory_clocks_mhz": None, "throttling": None,
        }  # fmt: skip


def make_study(
    n_tasks: int = 8,
    k: int = 64,
    seeds: tuple[int, ...] = (42, 43),
    runs: tuple[int, ...] = (42, 43, 44),
    steps: int = 5,
    group: int = 32,
    tail: float = 1.0,
    sharpening: float = 0.25,
    random_seed: int = 7,
) -> Synthetic:
    """A study of `best_of_n`, `rlvr` and `ttt` with an over-sharpening probe.

    `ttt` runs on the first five tasks and multiplies all logits by 1 + `sharpening` a step, so it drifts towards the
    commonest programs; 0 plants no change at all.
    """
    rng = np.random.default_rng(random_seed)
    tasks = [
        f"L1/{i}" for i in (4, 5, 12, 14, 15, 18, 28, 29, 30, 32, 36, 55, 65, 70, 76, 82, 87, 89, 95, 98)[:n_tasks]
    ]
    adapted = tasks[:5]
    programs = make_programs(rng, tasks, tail)
    writer = _Writer(rng, programs)
    base = "rlvr/seed42/step003"
    for step in range(4):
        for task in tasks[step * 2 % n_tasks :][:3]:
            writer.draw("rlvr", 42, step, task, 8, f"rlvr/seed42/step{step:03d}" if step else "base", 0.7 + 0.1 * step)
    for seed in seeds:
        for task in tasks:
            writer.draw("best_of_n", seed, None, task, k, base, 1.0)
    for seed in runs:
        for step in range(steps + 1):
            policy = f"ttt/seed{seed}/step{step:03d}" if step else base
            for task in adapted:
                writer.draw("ttt", seed, step, task, group, policy, 1 + sharpening * step)
    facts = StudyFacts(
        sample_sets={
            "best_of_n": SampleSetFacts(
                k=k, seeds=seeds, policy="rlvr@last",
                tasks={"subset1": tuple(adapted)} | ({"extended": tuple(tasks[5:])} if n_tasks > 5 else {}),
            )
        },
        trajectories={
            "rlvr": TrajectoryFacts(seeds=(42,), steps=3, group_size=8, tasks=tuple(tasks), objective="grpo"),
            "ttt": TrajectoryFacts(
                seeds=runs, steps=steps, group_size=group, tasks=tuple(adapted), start="rlvr@last", objective="grpo",
                learning_rate=1e-5,
            ),
        },
        probes={"over_sharpening": ProbeFacts(sample_set="best_of_n", seeds=seeds[:1], trajectory="ttt")},
        comparison=ComparisonConfig(search="best_of_n", adaptation="ttt", training="rlvr"),
    )  # fmt: skip
    return Synthetic(
        rollouts=pl.from_arrow(to_table(writer.rollouts, ROLLOUTS)),
        evaluations=pl.from_arrow(to_table(writer.evaluations, EVALUATIONS)),
        nll=pl.from_arrow(to_table(_probe(writer, seeds[0], adapted, steps, sharpening, base), NLL)),
        updates=pl.from_arrow(to_table(_updates(runs, steps, group), UPDATES)),
        facts=facts,
        programs=programs,
    )


def _probe(writer: _Writer, seed: int, tasks: list[str], steps: int, sharpening: float, base: str) -> list[dict]:
    rows = []
    for name, (task, choice) in writer.chosen.items():
        if name.startswith(f"best_of_n/seed{seed}:") and task in tasks:
            for step in range(steps + 1):
                p = distribution(writer.programs[task], 1 + sharpening * step)[choice]
                policy = f"ttt/seed{seed}/step{step:03d}" if step else base
                rows.append({"rollout_id": name, "policy_id": policy, "nll": float(-np.log(p)), "n_tokens": 6 + choice})
    return rows


def _updates(runs: tuple[int, ...], steps: int, group: int) -> list[dict]:
    made = [("rlvr", 42, s) for s in range(1, 4)] + [("ttt", run, s) for run in runs for s in range(1, steps + 1)]
    return [
        {
            "trajectory": name, "seed": seed, "step": step, "n_rollouts": 5 * group, "student_tokens": 5 * group * 70,
            "teacher_tokens": 0, "loss": 0.1, "gradient_norm": 1.0, "entropy": 0.5, "kl_start": 0.01 * step,
            "reward_mean": 0.9, "reward_std": 0.3, "advantage_abs_mean": 0.7, "advantage_max": 3.0,
            "zero_variance_groups": 0, "fast_negative_share": 0.2, "distinct_candidates": 5 * group // 2, "stepped": True,
            "temperature": 0.25, "kl_step": 0.01, "ratio_mean": 1.0, "clipped_share": 0.0, "effective_rollouts": 2.5 * group,
            "seconds": 1.0, "capped_share": 0.0, "mismatch_mean": 1e-6, "mismatch_max": 1e-5, "mismatch": [],
        }
        for name, seed, step in made
    ]  # fmt: skip


def write_study(study: Synthetic, folder: Path) -> dict[str, list[Path]]:
    """Write the tables as the pipeline does, several shards each; returns the paths by table name."""
    paths: dict[str, list[Path]] = {}
    tables = {
        "rollouts": (study.rollouts, ROLLOUTS), "evaluations": (study.evaluations, EVALUATIONS),
        "nll": (study.nll, NLL), "updates": (study.updates, UPDATES),
    }  # fmt: skip
    for name, (table, schema) in tables.items():
        half = -(-table.height // 2)
        paths[name] = [folder / name / f"shard{i:03d}.parquet" for i in range(2)]
        for i, path in enumerate(paths[name]):
            write_table(path, table.slice(i * half, half).to_arrow().cast(schema), schema, {"made": "synthetic"})
    return paths


RESULTS = Path(__file__).resolve().parent.parent / "resources" / "paper" / "results.yaml"
CAVEATS = RESULTS.with_name("caveats.yaml")


def analysed(study: Synthetic, config: AnalysisConfig | None = None) -> dict[str, pa.Table]:
    """Every analysis table of a study, by the functions that the pipeline calls."""
    config = config or AnalysisConfig(bootstrap=200)
    selections = pl.DataFrame(pl.from_arrow(select(study.rollouts, study.evaluations, config.selection())))
    return analyse(
        study.rollouts, study.evaluations, study.nll, study.updates, selections, study.facts, config, load_paper(RESULTS)
    )  # fmt: skip


@functools.cache
def default() -> tuple[Synthetic, dict[str, pa.Table]]:
    """The default study and its tables, made once a process."""
    study = make_study()
    return study, analysed(study)

"""What a pretrained model can do on the evaluation tasks: prompt template by temperature, judged by the real evaluator.

For every combination: the share of rollouts that parse, run, are correct and are fast, the distinct programs, and the tasks
that have a correct one.

`VEGFLOW_POLICY_MODEL` a file of resources/models (qwen2.5-coder-0.5b), `VEGFLOW_POLICY_TASKS` task sets (subset1,subset2),
`VEGFLOW_POLICY_K` rollouts a task (8), `VEGFLOW_POLICY_PROMPTS` and `VEGFLOW_POLICY_TEMPERATURES` what is tried.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from vegflow.candidates.prompt import load_template
from vegflow.candidates.scaffold import candidates_of
from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.sampling import SamplingConfig
from vegflow.evaluation.table import evaluate_rollouts
from vegflow.options import JobOptions
from vegflow.plan import Study
from vegflow.sampling.engine import TransformersEngine, load
from vegflow.sampling.sample import sample

ROOT = Path(__file__).resolve().parent.parent
MODEL = os.environ.get("VEGFLOW_POLICY_MODEL", "qwen2.5-coder-0.5b")
TASKS = os.environ.get("VEGFLOW_POLICY_TASKS", "subset1,subset2").split(",")
K = int(os.environ.get("VEGFLOW_POLICY_K", "8"))
PROMPTS = os.environ.get("VEGFLOW_POLICY_PROMPTS", "compact,function,reference,chat").split(",")
TEMPERATURES = [float(t) for t in os.environ.get("VEGFLOW_POLICY_TEMPERATURES", "0.25,0.8").split(",")]
MAX_TOKENS = 96
BROKEN = ("parse_error", "compile_error", "runtime_error", "timeout", "out_of_memory")


def run() -> dict[str, Any]:
    """Sample and judge every combination, print a table, return the shares."""
    torch.set_num_threads(1)
    raw = {"study": "policies", "model": MODEL, "sample_sets": {"s": {"tasks": TASKS, "k": K, "shard_size": K}}}
    study = Study(raw, ROOT)
    engine = load(JobOptions(study)._model(), SamplingConfig(), "cpu")
    print(f"{MODEL}, {len(study.tasks)} tasks, {K} rollouts each, at most {MAX_TOKENS} tokens")
    columns = ("parse", "run", "correct", "fast", "distinct", "solved", "tokens", "cut")
    print(f"{'prompt':12}{'T':>6}" + "".join(f"{name:>10}" for name in columns) + f"{'seconds':>10}", flush=True)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as store:
        for prompt in PROMPTS:
            for temperature in TEMPERATURES:
                began = time.monotonic()
                values = _measure(engine, study, prompt, temperature, Path(store))
                cells = "".join(f"{values[name]:10.3g}" for name in columns)
                print(f"{prompt:12}{temperature:6.2f}{cells}{time.monotonic() - began:10.1f}", flush=True)
                figures |= {f"{name}_{prompt}_t{temperature:g}": value for name, value in values.items()}
    return {"figures": figures, "peer": f"transformers {transformers.__version__}, torch {torch.__version__}"}


def _measure(
    engine: TransformersEngine, study: Study, prompt: str, temperature: float, store: Path
) -> dict[str, float]:
    """Shares of the rollouts (0 to 1), and counts."""
    template = load_template(ROOT / "resources" / "prompts" / f"{prompt}.yaml")
    cell = {"source": "policies", "seed": 0, "step": None, "policy": "base", "first": 0, "count": K}
    config = SamplingConfig(temperature=temperature, max_tokens=MAX_TOKENS)
    rows = sample(engine, engine.tokenizer, list(study.tasks.values()), template, cell, config)
    candidates = candidates_of(rows, study.tasks, "body")
    verdicts = evaluate_rollouts(
        rows, candidates, study.tasks, EvaluationConfig(device="cpu", protocol="fast"), store, lambda text: None
    )
    status = [verdict["status"] for verdict in verdicts]
    n = len(rows)
    return {
        "parse": sum(s != "parse_error" for s in status) / n,
        "run": sum(s not in BROKEN for s in status) / n,
        "correct": sum(bool(v["correct"]) for v in verdicts) / n,
        "fast": sum(bool(v["fast"]) for v in verdicts) / n,
        "distinct": len({v["candidate_sha256"] for v in verdicts if v["status"] != "parse_error"}),
        "solved": len({v["task_id"] for v in verdicts if v["correct"]}),
        "tokens": sum(row["n_tokens"] for row in rows) / n,
        "cut": sum(row["finish_reason"] == "length" for row in rows) / n,
    }

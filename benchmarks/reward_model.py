"""Outcome reward models: what scoring costs beside a padded loop, and how well held-out tasks are ranked beside controls.

Without settings, the kernels of the default study (run it first): trained on the evaluated rollouts of `rlvr`, for each label
and each way to read the trunk; with `VEGFLOW_ORM_ADAPTER=lora` once, with an adapter on it. Python functions instead:
`VEGFLOW_ORM_POOL` a pool of staged verification (Parquet), `VEGFLOW_ORM_TASKS` its tasks (`own`, `humaneval` or a file),
`VEGFLOW_ORM_MODEL` a folder in Hugging Face's layout, `VEGFLOW_ORM_DTYPE` (bfloat16), `VEGFLOW_ORM_EVERY` every n-th task.
`VEGFLOW_ORM_SCORES` a file that the held-out scores of the last configuration are written to, as a pipeline's `orm` reads them.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import torch
import transformers

from benchmarks._rollouts import SHAPES, adapted, base_model, minima, rollouts
from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import read_rows, to_table, write_table
from vegflow.artifacts.reward_model import HELD_OUT, REWARD_TRAINING, SCORES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.artifacts.verification import POOL
from vegflow.config.reward_model import RewardTraining
from vegflow.learning.reward_examples import Completion, Examples, make_examples
from vegflow.learning.reward_pool import pool_examples
from vegflow.learning.reward_scoring import read
from vegflow.learning.reward_training import train
from vegflow.models.load import load_policy, load_tokenizer
from vegflow.statistics.reward_ranking import Measuring, candidates_of, pool_candidates, rankings
from vegflow.tasks.functions import load_functions

RESULTS = Path("results")
WAYS = tuple({"pooling": pooling, "label": label} for label in ("correct", "fast_1") for pooling in ("last", "mean"))
TUNED = {
    "pooling": "last",
    "label": "correct",
    "adapter": "lora",
    "learning_rate": 1e-3,
    "epochs": 4,
    "batch_pairs": 16,
}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
REPEATS = 3
MICRO_BATCH = 32
KS = (1, 2, 4, 8)


def run() -> dict[str, Any]:
    """Measure both, print tables, return the figures."""
    torch.set_num_threads(1)
    figures = scoring()
    ratio = figures[f"scoring_ratio_{SHAPES[0][0]}_{SHAPES[0][1]}"]
    print(
        f"\n{'held out':34}{'AUROC':>7}{'interval':>16}{'pairs':>7}{'ECE':>7}{f'best of {KS[-1]}':>10}{'gain, interval':>24}"
    )
    for title, examples, judged, trunk, settings in data():
        trained = train(trunk, examples, settings, "orm", TARGETS)
        how, scores = Measuring("orm", HELD_OUT, settings.label, "none", KS, 10), frame(trained.held_out, SCORES)
        candidates = pool_candidates(judged, scores) if "program" in judged.columns else judged
        rows = rankings(candidates, scores, frame(trained.training, REWARD_TRAINING), how)
        figures |= show(title, [row for row in rows if row["fold"] is None])
        if path := os.environ.get("VEGFLOW_ORM_SCORES"):
            write_table(path, trained.held_out, SCORES, {})
    return {
        "figures": {name: float(f"{value:.4g}") for name, value in figures.items()},
        "peer": f"padded loop, transformers {transformers.__version__}, torch {torch.__version__}",
        "ratio": round(ratio, 2),
    }


def data() -> Iterator[tuple[str, Examples, pl.DataFrame, Any, RewardTraining]]:
    """(title, examples, candidates or a pool, trunk, settings) of each configuration."""
    pool = os.environ.get("VEGFLOW_ORM_POOL")
    if pool:
        yield from functions(Path(pool))
        return
    cells = sorted((RESULTS / "laptop" / "rollouts" / "rlvr").rglob("*.parquet"))
    drawn = [row for path in cells for row in read_rows(path, ROLLOUTS)]
    judged = [row for path in cells for row in read_rows(str(path).replace("/rollouts/", "/evaluations/"), EVALUATIONS)]
    trunk = load_policy({"location": str(RESULTS / "models" / "tiny"), "revision": None, "dtype": "float32"}, None)
    for way in (TUNED,) if os.environ.get("VEGFLOW_ORM_ADAPTER") == "lora" else WAYS:
        candidates = candidates_of(frame(drawn, ROLLOUTS), frame(judged, EVALUATIONS), way["label"])
        examples = make_examples(drawn, judged, way["label"])
        yield f"{way['label']}, {way['pooling']}", examples, candidates, trunk, RewardTraining(**way)


def functions(path: Path) -> Iterator[tuple[str, Examples, pl.DataFrame, Any, RewardTraining]]:
    """Python functions; surprisal and confidence are under the trunk, which need not be the model that wrote them."""
    tasks = load_functions(os.environ.get("VEGFLOW_ORM_TASKS", "own"))
    kept = list(tasks)[:: int(os.environ.get("VEGFLOW_ORM_EVERY", "1"))]
    pool = [row for row in read_rows(path, POOL) if row["task_id"] in kept]
    model = {"location": os.environ["VEGFLOW_ORM_MODEL"], "revision": None}
    model["dtype"] = os.environ.get("VEGFLOW_ORM_DTYPE", "bfloat16")
    examples = pool_examples(pool, tasks, load_tokenizer(model))
    trunk = load_policy(model, None)
    for pooling in ("mean", "last"):
        settings = RewardTraining(pooling=pooling)
        yield f"correct, {pooling}", examples, frame(pool, POOL), trunk, settings


def show(title: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Print a configuration's table; its figures."""
    first = rows[0]
    print(
        f"{title}: {first['n_mixed_tasks']} of {first['n_tasks']} tasks with both outcomes, {first['n_completions']} "
        f"completions, pass rate {first['pass_rate']:.3f}"
    )
    figures = {}
    for row in rows:
        ends = "" if row["auroc_low"] is None else f"[{row['auroc_low']:.2f}, {row['auroc_high']:.2f}]"
        gain = f"{row['gain'][-1]:+.3f} [{row['gain_low'][-1]:+.3f}, {row['gain_high'][-1]:+.3f}]"
        ece = "" if row["ece"] is None else f"{row['ece']:.3f}"
        print(
            f"  {row['scorer']:32}{row['auroc']:7.3f}{ends:>16}{row['pairwise_accuracy']:7.3f}{ece:>7}"
            f"{row['best_of_k'][-1]:10.3f}{gain:>24}"
        )
        name = f"{title.replace(', ', '_')}_{row['scorer'].removeprefix('orm.')}"
        figures |= {f"{name}_auroc": row["auroc"], f"{name}_gain_at_{KS[-1]}": row["gain"][-1]}
    return figures


def scoring() -> dict[str, float]:
    """CPU-seconds for the states and surprisals of 160 completions: ours in one pass, and a padded loop."""
    trunk, figures = adapted(base_model()).eval(), {}
    print(f"{'CPU-seconds for 160 completions':34}{'vegflow':>10}{'padded':>10}{'ratio':>8}{'difference':>13}")
    for prompt, size in SHAPES:
        rows = rollouts(prompt, size)
        own = [Completion(r["task_id"], r["rollout_id"], tuple(r["prompt_ids"]), tuple(r["token_ids"])) for r in rows]
        ours = read(trunk, own, RewardTraining()).states_ND
        difference = (ours - padded(trunk, rows)).abs().max().item()
        best = minima(
            {
                "ours": lambda own=own: read(trunk, own, RewardTraining()),
                "padded": lambda rows=rows: padded(trunk, rows),
            },
            REPEATS,
        )
        ratio = best["padded"] / best["ours"]
        label = f"prompt {prompt}, completion {size}"
        print(f"{label:34}{best['ours']:10.3f}{best['padded']:10.3f}{ratio:8.1f}{difference:13.1e}")
        figures |= {f"scoring_cpu_s_{prompt}_{size}": best["ours"], f"scoring_ratio_{prompt}_{size}": ratio}
    return figures


@torch.inference_mode()
def padded(model: Any, rows: list[dict[str, Any]]) -> torch.Tensor:
    """States at the last token the usual way, with the log-probabilities: each row reads its prompt."""
    found = []
    for first in range(0, len(rows), MICRO_BATCH):
        part = rows[first : first + MICRO_BATCH]
        T = len(part[0]["token_ids"])
        ids = torch.tensor([row["prompt_ids"] + row["token_ids"] for row in part])
        out = model(input_ids=ids, logits_to_keep=T + 1, use_cache=False, output_hidden_states=True)
        out.logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, -T:, None])
        found.append(out.hidden_states[-1][:, -1])
    return torch.cat(found)


def frame(rows: list[dict[str, Any]], schema: pa.Schema) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(to_table(rows, schema)))

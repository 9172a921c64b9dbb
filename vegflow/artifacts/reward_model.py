"""Schemas of outcome reward models: `scores` of completions, `reward_training`, one row a trained model, and `reward_models`,
how well each of them ranks beside the controls.
"""

import hashlib

import pyarrow as pa

from vegflow.artifacts.io import column

HELD_OUT = "held-out"
"""`measured_on` of the tasks trained on, each scored by a model that did not see it; no sample set can be called so."""
SHUFFLED = ".shuffled"
"""How the names of scorers end that were trained on labels permuted within each task."""

SCORES = pa.schema(
    [
        column("task_id", pa.string(), "task that the completion answers"),
        column(
            "completion_sha256", pa.string(), "SHA-256 (hex) of the completion's text in UTF-8; one row for equal texts"
        ),
        column("scorer", pa.string(), "REWARD_MODEL.LOSS, such as orm.bradley_terry"),
        column(
            "score", pa.float64(), "the reward model's output: higher means likelier to pass; comparable within a task"
        ),
        column(
            "probability",
            pa.float64(),
            "probability of passing by Platt's scaling of the score; null if there were no held-out scores to fit it on",
            nullable=True,
        ),
        column(
            "fold",
            pa.int32(),
            "the model that gave the score did not see the tasks of this fold, the completion's among them; null: the task "
            "is none of those trained on",
            nullable=True,
        ),
        column(
            "nll",
            pa.float64(),
            "surprisal under the trunk from the same forward pass, nats; null if the trunk has an adapter of the reward "
            "model's own",
            nullable=True,
        ),
        column("n_tokens", pa.int32(), "tokens of the completion"),
        column(
            "seconds",
            pa.float64(),
            "wall time of the prompt's forward passes divided by its distinct completions, seconds; scorers that share a "
            "pass each carry all of it",
        ),
    ]
)

REWARD_TRAINING = pa.schema(
    [
        column("scorer", pa.string(), "REWARD_MODEL.LOSS, with .shuffled if trained on permuted labels"),
        column("fold", pa.int32(), "fold that it did not see; null if it saw all", nullable=True),
        column("n_train_tasks", pa.int32(), "tasks with both outcomes that it was trained on"),
        column("n_train_completions", pa.int32(), "distinct completions that it was trained on"),
        column("n_pairs", pa.int32(), "pairs that it was trained on; 0 for cross-entropy"),
        column("train_loss", pa.float64(), "mean loss on these at the end, nats"),
        column("train_accuracy", pa.float64(), "share of these (pairs, or completions) that it gets right"),
        column("steps", pa.int32(), "iterations of L-BFGS and steps of AdamW"),
        column("seconds", pa.float64(), "wall time of its training; states of a frozen trunk, shared by all, apart"),
        column("trunk_seconds", pa.float64(), "wall time of the forward passes for the states, which all models share"),
    ]
)

REWARD_MODELS = pa.schema(
    [
        column("reward_model", pa.string(), "its name in the study"),
        column(
            "scorer",
            pa.string(),
            "what ranks: REWARD_MODEL.LOSS (.shuffled); or a control: random, shortest, longest, surprisal (least likely first), confidence (likeliest first), majority (most frequent text first), oracle",
        ),
        column(
            "kind",
            pa.string(),
            "reward model; shuffled labels, the same trained on labels permuted within each task; or control",
        ),
        column(
            "measured_on",
            pa.string(),
            "held-out: each task of the training rollouts by a model that did not see it; else the sample set scored",
        ),
        column(
            "fold",
            pa.int32(),
            "one fold of the held-out tasks; null for all together, and for a sample set",
            nullable=True,
        ),
        column("label", pa.string(), "what passing means: correct or fast_1"),
        column("adapter", pa.string(), "none: the trunk is frozen; lora: it is trained; empty for a control"),
        column("n_train_tasks", pa.int32(), "tasks with both outcomes that it was trained on (mean over folds)"),
        column("n_pairs", pa.int32(), "pairs trained on (mean over folds); 0 for cross-entropy and controls"),
        column("train_accuracy", pa.float64(), "share of these it gets right (mean over folds)", nullable=True),
        column("seconds", pa.float64(), "wall time of training, all folds together; 0 for a control"),
        column("n_tasks", pa.int32(), "tasks measured on"),
        column("n_completions", pa.int32(), "distinct completions measured on"),
        column("n_rollouts", pa.int32(), "rollouts that wrote them"),
        column("n_mixed_tasks", pa.int32(), "of the tasks, those with both outcomes: ranking is measured on these"),
        column("pass_rate", pa.float64(), "share of the rollouts that pass, mean over tasks"),
        column(
            "auroc",
            pa.float64(),
            "P(a passing completion of a task scores above a failing one), ties half, mean over tasks; 0.5 is chance",
            nullable=True,
        ),
        column("auroc_low", pa.float64(), "lower end of its interval over tasks (as of a share, 95 %)", nullable=True),
        column("auroc_high", pa.float64(), "upper end of its interval", nullable=True),
        column(
            "pairwise_accuracy",
            pa.float64(),
            "share of all pairs of a passing and a failing completion of one task in the right order, ties half",
            nullable=True,
        ),
        column("ks", pa.list_(pa.int32()), "numbers of candidates that the best is taken of"),
        column(
            "best_of_k",
            pa.list_(pa.float64()),
            "P(the top-scored of k random rollouts passes), exact, ties broken at random, mean over tasks; NaN beyond a "
            "task's rollouts",
        ),
        column(
            "gain",
            pa.list_(pa.float64()),
            "best_of_k minus the pass rate, which is what a random choice yields at every k; mean over tasks",
        ),
        column(
            "gain_low", pa.list_(pa.float64()), "lower ends of its intervals over tasks, paired (Student's t, 95 %)"
        ),
        column("gain_high", pa.list_(pa.float64()), "upper ends"),
        column("ece", pa.float64(), "expected calibration error of the probabilities", nullable=True),
        column("brier", pa.float64(), "mean squared error of the probabilities", nullable=True),
        column(
            "bin_count", pa.list_(pa.int32()), "distinct completions by tenth (or so) of probability", nullable=True
        ),
        column("bin_probability", pa.list_(pa.float64()), "mean probability in each bin; NaN if empty", nullable=True),
        column("bin_rate", pa.list_(pa.float64()), "share that passes in each bin; NaN if empty", nullable=True),
    ]
)


def completion_digest(text: str) -> str:
    """The key of a completion's text: SHA-256 (hex) of its UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

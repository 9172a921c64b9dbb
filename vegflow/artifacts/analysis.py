"""Schemas of the analysis tables: what `vegflow.statistics` leaves and `vegflow.report` draws from.

Shares are between 0 and 1. `low` and `high` bound the confidence interval of the value before them; they are null where
there are fewer than two tasks to resample. A null seed means the mean over seeds.
"""

import pyarrow as pa

from vegflow.artifacts.io import column

TEXT, REAL, COUNT, SEED, STEP, TRUTH = (
    pa.string(), pa.float64(), pa.int64(), pa.int64(), pa.int32(), pa.bool_(),
)  # fmt: skip


def _interval(of: str, prefix: str = "") -> list[pa.Field]:
    return [
        column(f"{prefix}low", REAL, f"lower end of the interval of {of}", nullable=True),
        column(f"{prefix}high", REAL, f"upper end of the interval of {of}", nullable=True),
    ]


def _where() -> list[pa.Field]:
    return [column("source", TEXT, "sample set"), column("task_set", TEXT, "tasks averaged over")]


STATUSES = pa.schema(
    [
        column("source", TEXT, "sample set or trajectory"),
        column("task_id", TEXT, "task"),
        column("status", TEXT, "the evaluator's verdict"),
        column("n", COUNT, "rollouts with it"),
        column("share", REAL, "their share of the task's rollouts"),
    ]
)

TASKS = pa.schema(
    [
        column("source", TEXT, "sample set or trajectory"),
        column("seed", SEED, "its seed"),
        column("step", STEP, "step of a trajectory; null for a sample set", nullable=True),
        column("task_id", TEXT, "task"),
        column("policy_id", TEXT, "policy that wrote them"),
        column("n", COUNT, "rollouts with a verdict"),
        column("correct", REAL, "share that is correct"),
        column("fast_1", REAL, "share that is correct and faster than the reference (per-sample rate)"),
        column("fast", REAL, "share that is correct and whose interval lies above 1 + delta"),
        column("any_fast_1", REAL, "1 if at least one of the n is (any-of-n)"),
        column("fast_1_even", REAL, "fast_1 of the samples of even index", nullable=True),
        column("fast_1_odd", REAL, "fast_1 of the samples of odd index", nullable=True),
        column("mean_speedup", REAL, "mean speedup of the correct", nullable=True),
        column("best_speedup", REAL, "largest speedup of the correct", nullable=True),
        column("distinct_candidates", COUNT, "different programs among the n"),
        column("nll_mean", REAL, "mean surprisal, nats"),
        column("nll_std", REAL, "standard deviation of the surprisal (ddof 1), nats", nullable=True),
        column("mean_tokens", REAL, "mean completion length, tokens"),
        column("mean_prompt_tokens", REAL, "mean prompt length, tokens"),
    ]
)

HEADROOM = pa.schema(
    [
        column("task_id", TEXT, "task"),
        column("n", COUNT, "evaluations that were timed"),
        column("reference_us", REAL, "median over them of the reference's time of one call, microseconds"),
        column("headroom", REAL, "median over them of reference time / least time that the device allows"),
        column("noise", TRUTH, "headroom below 1.25: fast_1 there is noise"),
    ]
)

SCALING = pa.schema(
    [
        *_where(),
        column(
            "metric", TEXT, "fast_1, fast or correct (pass@k), or speedup (expected best of k, incorrect counting 0)"
        ),
        column("k", COUNT, "samples drawn"),
        column("n_tasks", COUNT, "tasks"),
        column("n_seeds", COUNT, "seeds"),
        column("value", REAL, "mean over tasks of the mean over seeds of the unbiased estimate"),
        column("sd_seeds", REAL, "standard deviation over seeds of the task mean", nullable=True),
        *_interval("value"),
    ]
)

STRATEGIES = pa.schema(
    [
        *_where(),
        column("strategy", TEXT, "selection strategy"),
        column("nll_choice", TEXT, "surprisal it looks at; empty if none"),
        column("n_pairs", COUNT, "task-seed pairs"),
        column("n_valid", COUNT, "of them with a correct sample"),
        column("fast_1", REAL, "share of pairs whose pick is fast_1"),
        *_interval("fast_1"),
        column("sd_seeds", REAL, "standard deviation of fast_1 over seeds", nullable=True),
        column("mean_speedup", REAL, "mean over tasks of the speedup of the picks of valid pairs", nullable=True),
        *_interval("the mean (on the logarithm)", "mean_"),
        column("geometric_mean_speedup", REAL, "geometric mean of the same", nullable=True),
        *_interval("the geometric mean", "geometric_"),
        column("extra_evaluations", REAL, "mean extra timings a pair"),
    ]
)

PAIRED = pa.schema(
    [
        *_where(),
        column("first", TEXT, "strategy"),
        column("second", TEXT, "strategy it is compared with"),
        column("family", TEXT, "paper (its strategies and their controls) or further: what holm_p corrects over"),
        column("metric", TEXT, "fast_1, or log_speedup over pairs with a correct sample"),
        column("n_pairs", COUNT, "task-seed pairs"),
        column("n_tasks", COUNT, "tasks, the independent units"),
        column("difference", REAL, "mean over tasks of first - second", nullable=True),
        *_interval("the difference"),
        column("wins", COUNT, "pairs in which first is larger"),
        column("losses", COUNT, "pairs in which it is smaller"),
        column("ties", COUNT, "equal pairs"),
        column("sign_p", REAL, "exact two-sided sign test over pairs, ties dropped", nullable=True),
        column("sign_p_one_sided", REAL, "the same, alternative: first is larger (as the paper tests)", nullable=True),
        column("wilcoxon_statistic", REAL, "Wilcoxon signed-rank, smaller rank sum", nullable=True),
        column("wilcoxon_p", REAL, "its two-sided p, zero differences dropped (zero_method wilcox)", nullable=True),
        column("permutation_p", REAL, "two-sided sign-flip permutation of task means: the primary test", nullable=True),
        column("holm_p", REAL, "permutation_p after Holm over the pairs of this set, metric and family", nullable=True),
        column(
            "posterior",
            REAL,
            "posterior probability that the mean of the tasks' differences is above 0 (Jeffreys prior)",
            nullable=True,
        ),
        column("cohens_h", REAL, "Cohen's h of the two fast_1 shares; null for speedup", nullable=True),
        *_interval("Cohen's h (delta method over tasks)", "h_"),
    ]
)

QUARTILES = pa.schema(
    [
        *_where(),
        column("ranking", TEXT, "global (as the paper's Table 11), within task, or halves (of the global ranking)"),
        column("quartile", STEP, "1 is the highest surprisal; of halves, 0 is the higher minus the lower one"),
        column("n", COUNT, "correct samples"),
        column("fast_1", REAL, "share of them faster than the reference"),
        *_interval("fast_1, given the quartile's bounds"),
        column("mean_speedup", REAL, "mean speedup"),
        *_interval("the mean speedup, given the quartile's bounds", "speedup_"),
        column("mean_tokens", REAL, "mean length, tokens"),
        *_interval("the mean length, given the quartile's bounds", "tokens_"),
        column("nll_mean", REAL, "mean surprisal, nats"),
        column("largest_task_share", REAL, "share of the quartile's most frequent task"),
    ]
)

CORRELATIONS = pa.schema(
    [
        *_where(),
        column("measure", TEXT, "what is correlated over the correct samples"),
        column("n", COUNT, "samples"),
        column("rho", REAL, "Spearman's rho; null where one side does not vary", nullable=True),
        *_interval("rho"),
        column(
            "p_value", REAL, "two-sided, as if samples were independent (they are clustered in tasks)", nullable=True
        ),
    ]
)

HEAD_TO_HEAD = pa.schema(
    [
        *_where(),
        column("task_id", TEXT, "task"),
        column("seed", SEED, "seed"),
        column("nll_std", REAL, "standard deviation of the surprisal over all samples, nats", nullable=True),
        column("regime", TEXT, "high variance (nll_std > 1.0), low variance, or no correct sample"),
        column("surprisal_speedup", REAL, "speedup of the surprisal-guided pick", nullable=True),
        column("confidence_speedup", REAL, "speedup of the confidence-guided pick", nullable=True),
        column("winner", TEXT, "surprisal, confidence, tie or none"),
    ]
)

TRAJECTORY = pa.schema(
    [
        column("trajectory", TEXT, "trajectory"),
        column("seed", SEED, "seed; null for the mean over seeds", nullable=True),
        column("step", STEP, "policy sampled"),
        column("n_tasks", COUNT, "tasks sampled at the step"),
        column("n_rollouts", COUNT, "rollouts of this step"),
        column("cumulative_rollouts", COUNT, "rollouts of this and all earlier steps"),
        column("fast_1", REAL, "per-sample fast_1 rate, mean over tasks"),
        *_interval("fast_1"),
        column("any_fast_1", REAL, "share of tasks with a fast_1 sample among the group (any-of-K)"),
        *_interval("any_fast_1", "any_"),
        column("fast", REAL, "per-sample rate of fast (interval above 1 + delta), mean over tasks"),
        column("correct", REAL, "share of correct samples, mean over tasks"),
        *_interval("correct", "correct_"),
        column("mean_speedup", REAL, "mean speedup of correct samples, mean over tasks that have one", nullable=True),
        *_interval("the mean speedup (on the logarithm)", "speedup_"),
        column("nll_mean", REAL, "mean surprisal of the policy's own samples, nats"),
        column("distinct_candidates", REAL, "different programs per task, mean over tasks"),
    ]
)

BOA = pa.schema(
    [
        column("trajectory", TEXT, "trajectory"),
        column("seed", SEED, "seed; null for the mean over seeds", nullable=True),
        column("rule", TEXT, "argmax, or early_stop: the best step seen before P falls in a row"),
        column("patience", COUNT, "P of early_stop", nullable=True),
        column("step", STEP, "step chosen; null in the mean", nullable=True),
        column("fast_1", REAL, "per-sample rate at that step, on the rollouts that chose it (optimistic)"),
        *_interval("fast_1, given the chosen steps"),
        column("sd_seeds", REAL, "standard deviation over seeds", nullable=True),
        column("any_fast_1", REAL, "any-of-K at that step"),
        column(
            "fast_1_cross", REAL, "per-sample rate with the step chosen on one half of the samples, read on the other"
        ),
        column("start_fast_1", REAL, "rate of step 0"),
        column("last_fast_1", REAL, "rate of the last step"),
        column(
            "repeat_fast_1", REAL, "A/A: rate of a second sample of step 0's policy (the sample set)", nullable=True
        ),
        column(
            "null_peak", REAL, "expected peak if nothing ever changed (verdicts permuted over steps)", nullable=True
        ),
        column(
            "null_inflation",
            REAL,
            "null_peak minus the mean rate: what choosing the best adds to nothing",
            nullable=True,
        ),
        column("null_p", REAL, "probability of such a peak or a higher one in that case", nullable=True),
        column("rollouts", REAL, "rollouts spent until the choice could be made"),
    ]
)

EQUIVALENT_K = pa.schema(
    [
        column("search", TEXT, "sample set"),
        column("trajectory", TEXT, "trajectory"),
        column("rule", TEXT, "how the step was chosen"),
        column("basis", TEXT, "per-sample rate (the paper's), or any-of-K (like for like)"),
        column("adaptation", REAL, "the trajectory's value"),
        column("search_at_1", REAL, "best-of-N curve at K = 1, on the same tasks"),
        column("search_same_basis", REAL, "best-of-N on the same basis: K = 1, or K = the trajectory's group size"),
        column("difference", REAL, "adaptation - search_same_basis"),
        *_interval("the difference"),
        column("permutation_p", REAL, "two-sided sign-flip permutation of the tasks' differences", nullable=True),
        column("k", REAL, "K at which the curve reaches the value (log-linear); clipped to the curve's ends"),
        *_interval("k (clipped to the curve's ends)", "k_"),
        column("label", TEXT, "k as text; <1 or >K where the curve does not reach it"),
    ]
)

SELF_CHECK = pa.schema(
    [
        column("search", TEXT, "sample set"),
        column("trajectory", TEXT, "trajectory"),
        column("task_id", TEXT, "task, or all"),
        column("same_policy", TRUTH, "step 0 is the policy the sample set was drawn from"),
        column("n_search", COUNT, "samples of the sample set"),
        column("n_step0", COUNT, "rollouts of step 0"),
        column("search_fast_1", REAL, "per-sample fast_1 rate of the sample set"),
        column("step0_fast_1", REAL, "per-sample fast_1 rate of step 0"),
        column("difference", REAL, "step 0 - sample set"),
        *_interval("the difference on these tasks, over rollouts"),
        column(
            "p_value", REAL, "two-sided, equal rates within each task; null if no task's rate varies", nullable=True
        ),
        column("agrees", TRUTH, "p_value >= 0.01, or nothing varies and the rates are equal"),
    ]
)

PROBE = pa.schema(
    [
        column("probe", TEXT, "probe"),
        column("trajectory", TEXT, "trajectory whose policies score the fixed rollouts"),
        column("seed", SEED, "seed; null for the mean over seeds", nullable=True),
        column("step", STEP, "policy"),
        column("samples", TEXT, "all (incorrect ones have speedup 0) or correct only"),
        column("subset", TEXT, "all, or bottom quartile: the quarter with the lowest log-probability at step 0"),
        column("n", COUNT, "fixed samples"),
        column("nll_mean", REAL, "their mean surprisal, nats"),
        *_interval("the mean surprisal", "nll_"),
        column("rho", REAL, "Spearman of (NLL, speedup); null where one side does not vary", nullable=True),
        *_interval("rho"),
        column("p_value", REAL, "of rho, as if samples were independent", nullable=True),
        column(
            "surprisal_fast_1",
            REAL,
            "fast_1 of the most surprising correct samples of this NLL, mean over tasks that have one",
            nullable=True,
        ),
        column("confidence_fast_1", REAL, "the same of the least surprising", nullable=True),
        column("rho_within", REAL, "the same on ranks within each task", nullable=True),
        column("within_p", REAL, "of rho_within, permuting within tasks (normal approximation)", nullable=True),
        column("change", REAL, "rho minus rho at step 0", nullable=True),
        *_interval("the change, same resamples on both sides", "change_"),
    ]
)

PIPELINE = pa.schema(
    [
        *_where(),
        column("order", TEXT, "order in which samples are evaluated, decided before any is"),
        column("stop", TEXT, "when evaluation stops before m"),
        column("m", COUNT, "most samples evaluated; at m = K this is the paper's selection after the fact"),
        column("n_tasks", COUNT, "tasks"),
        column("success", REAL, "probability that the fastest correct sample evaluated is fast_1"),
        *_interval("success"),
        column("speedup", REAL, "its expected speedup, 0 if none evaluated is correct"),
        column("evaluations", REAL, "expected samples evaluated"),
        column("seconds", REAL, "expected seconds that takes, as the evaluator took for each rollout"),
        column("gain", REAL, "success minus that of random order", nullable=True),
        *_interval("the gain", "gain_"),
        column("permutation_p", REAL, "two-sided sign-flip permutation of the tasks' gains", nullable=True),
    ]
)

SHARPENING = pa.schema(
    [
        *_where(),
        column("alpha", REAL, "exponent of the target q^alpha; q drew the samples; above 1 sharpens, below flattens"),
        column("n_tasks", COUNT, "tasks"),
        column("fast_1", REAL, "per-sample fast_1 under the target, by importance resampling"),
        *_interval("fast_1"),
        column("correct", REAL, "share correct under the target"),
        column("mean_speedup", REAL, "mean speedup under the target, an incorrect sample counting 0"),
        column("effective_samples", REAL, "mean effective number of samples a task and seed (Kish)"),
        column("effective_least", REAL, "least effective number of samples of any"),
        column("unreliable", REAL, "share of tasks and seeds with fewer than five effective samples"),
    ]
)

POWER = pa.schema(
    [
        column("scenario", TEXT, "how often one strategy wins and loses against the other on fast_1"),
        column("wins", REAL, "share of tasks won"),
        column("losses", REAL, "share of tasks lost"),
        column("n_tasks", COUNT, "independent tasks"),
        column("power", REAL, "power of the exact two-sided sign (McNemar) test at 5 %"),
        column("needed", COUNT, "tasks that a power of 80 % takes", nullable=True),
    ]
)

AUDIT = pa.schema(
    [
        column("finding", STEP, "number of the audit's finding about the paper"),
        column("check", TEXT, "what is recomputed from the paper's own printed numbers"),
        column("printed", TEXT, "what the paper prints or says"),
        column("recomputed", TEXT, "what follows from its inputs"),
        column("consistent", TRUTH, "the two agree"),
    ]
)

BUDGET = pa.schema(
    [
        column("source", TEXT, "sample set or trajectory"),
        column("kind", TEXT, "sample set or trajectory"),
        column("seeds", COUNT, "seeds"),
        column("updates", REAL, "gradient updates, mean over seeds"),
        column("rollouts", REAL, "rollouts, mean over seeds"),
        column("student_tokens", REAL, "prompt and completion tokens of those rollouts, mean over seeds"),
        column("completion_tokens", REAL, "of them completion tokens"),
        column("teacher_tokens", REAL, "tokens scored by a teacher, mean over seeds"),
        column("evaluate_wall_s", REAL, "evaluation wall time, seconds, mean over seeds"),
        column("evaluate_cpu_s", REAL, "evaluation CPU time, seconds, mean over seeds"),
    ]
)

SAME_BUDGET = pa.schema(
    [
        column("search", TEXT, "sample set"),
        column("trajectory", TEXT, "trajectory that starts from the policy the sample set was drawn from"),
        column("step", STEP, "step up to which everything it drew and learnt is counted"),
        column("n_tasks", COUNT, "tasks that both sampled"),
        column("rollouts", REAL, "rollouts drawn up to this step, a task and seed"),
        column("student_tokens", REAL, "their prompt and completion tokens, a task and seed"),
        column("teacher_tokens", REAL, "tokens that a teacher scored in the updates up to this step, a task and seed"),
        column("fast_1", REAL, "per-sample fast_1 rate of this step's policy"),
        column("found", REAL, "share of tasks with a fast_1 program among all that was drawn up to this step"),
        *_interval("found", "found_"),
        column(
            "k_rollouts", REAL, "samples that the same rollouts are, at most those the sample set has; mean over tasks"
        ),
        column("search_rollouts", REAL, "best-of-N (pass@k) with as many samples"),
        column("difference", REAL, "found - search_rollouts"),
        *_interval("the difference"),
        column("permutation_p", REAL, "two-sided sign-flip permutation of the tasks' differences", nullable=True),
        column("k_tokens", REAL, "samples that the same tokens (student and teacher) pay for, at most those there are"),
        column("search_tokens", REAL, "best-of-N with as many samples"),
        column("token_difference", REAL, "found - search_tokens"),
        *_interval("the difference at equal tokens", "token_"),
        column(
            "speedup_ratio",
            REAL,
            "geometric mean over tasks of the best speedup among all that was drawn / expected best of k_rollouts samples",
            nullable=True,
        ),
        *_interval("the ratio", "ratio_"),
        column("bounded", TRUTH, "the sample set has fewer samples than the budget pays for: search is underestimated"),
    ]
)

DIAGNOSTICS = pa.schema(
    [
        column("trajectory", TEXT, "trajectory"),
        column("seed", SEED, "seed; null for the mean over seeds", nullable=True),
        column("step", STEP, "policy that the update made"),
        column("n_rollouts", REAL, "rollouts learnt from", nullable=True),
        column("stepped", REAL, "share of seeds in which a step was taken", nullable=True),
        column(
            "fast_negative_share", REAL,
            "share of the fast_1 rollouts with a negative advantage; null if there are none, or no advantages",
            nullable=True,
        ),
        column("effective_rollouts", REAL, "(sum of |A|)^2 / sum of A^2", nullable=True),
        column("effective_share", REAL, "effective_rollouts / n_rollouts", nullable=True),
        column("distinct_share", REAL, "different programs / n_rollouts", nullable=True),
        column("zero_variance_share", REAL, "share of the groups whose rewards are all equal", nullable=True),
        column("clipped_share", REAL, "share of the tokens whose gradient the clip stopped", nullable=True),
        column("temperature", REAL, "temperature at which it learnt", nullable=True),
        column("ratio_mean", REAL, "mean ratio of a token's probability, policy to sampler", nullable=True),
        column(
            "mismatch_mean",
            REAL,
            "mean absolute difference of a token's log-probability, trainer and sampler, nats",
            nullable=True,
        ),
        column("kl_step", REAL, "estimated KL(policy after || before the step) per token, nats", nullable=True),
        column("kl_start", REAL, "estimated KL(policy || trajectory's start) per token before the step, nats", nullable=True),
        column("entropy", REAL, "mean entropy of the policy per token before the step, nats", nullable=True),
        column("gradient_norm", REAL, "2-norm of the gradient over the adapter's parameters", nullable=True),
        column("reward_mean", REAL, "mean reward", nullable=True),
        column("reward_std", REAL, "standard deviation of the reward", nullable=True),
        column("student_tokens", REAL, "prompt and completion tokens sampled for the update", nullable=True),
        column("teacher_tokens", REAL, "prompt and completion tokens scored by a teacher", nullable=True),
        column("seconds", REAL, "wall time of the update, loading apart, seconds", nullable=True),
    ]
)  # fmt: skip

CANDIDATES = pa.schema(
    [
        column("source", TEXT, "sample set"),
        column("task_id", TEXT, "task"),
        column("candidate", TEXT, "digest of the program, or of the completion where none could be assembled"),
        column("completion", TEXT, "a completion that gives it"),
        column("count", COUNT, "samples that gave it, over all seeds"),
        column("of", COUNT, "samples of the task, over all seeds"),
        column("status", TEXT, "verdict"),
        column("reason", TEXT, "why, in words"),
        column("nll", REAL, "smallest surprisal among those samples, nats"),
        column("n_tokens", REAL, "mean length, tokens"),
        column("speedup", REAL, "median speedup over those samples, 0 unless correct"),
        *_interval("the speedup, as the evaluator gave it", "speedup_"),
        column("picked_by", pa.list_(TEXT), "strategies that pick it, with the seed"),
    ]
)

PAPER = pa.schema(
    [
        column("id", TEXT, "identity of the number"),
        column("place", TEXT, "where the paper prints it"),
        column("claim", TEXT, "what it says"),
        column("value", REAL, "the number", nullable=True),
        column("unit", TEXT, "share, ratio, count, ..."),
        column("measure", TEXT, "how our value is computed; empty if no arm of ours speaks to it"),
        column("series", TEXT, "line, bar or row it belongs to"),
        column("x", REAL, "position in that series, such as K or the step", nullable=True),
    ]
)

VERDICTS = ("reproduced", "not reproduced", "undecided", "not comparable")

CLAIMS = pa.schema(
    [
        column("id", TEXT, "identity of the paper's number"),
        column("place", TEXT, "where the paper prints it"),
        column("claim", TEXT, "what it says"),
        column("unit", TEXT, "unit of both values"),
        column("paper", REAL, "the paper's value", nullable=True),
        column("ours", REAL, "ours", nullable=True),
        *_interval("ours; both are the value itself for what is counted and not estimated"),
        column(
            "n_tasks", COUNT, "tasks the interval is over; 0 if it is over runs, rollouts or timings, or there is none"
        ),
        column("difference", REAL, "ours minus the paper's", nullable=True),
        column("inside", TRUTH, "the paper's value lies inside our interval; null without an interval", nullable=True),
        column("kind", TEXT, "effect: a sign or difference, judged; level: depends on model, tasks and hardware"),
        column("verdict", TEXT, "one of: " + ", ".join(VERDICTS)),
        column("reason", TEXT, "why"),
        column("caveats", pa.list_(STEP), "numbers of the audit's findings about it"),
    ]
)

ANALYSIS_TABLES: dict[str, pa.Schema] = {
    "claims": CLAIMS,
    "scaling": SCALING,
    "strategies": STRATEGIES,
    "paired": PAIRED,
    "head_to_head": HEAD_TO_HEAD,
    "quartiles": QUARTILES,
    "correlations": CORRELATIONS,
    "trajectory": TRAJECTORY,
    "boa": BOA,
    "equivalent_k": EQUIVALENT_K,
    "self_check": SELF_CHECK,
    "probe": PROBE,
    "tasks": TASKS,
    "statuses": STATUSES,
    "headroom": HEADROOM,
    "pipeline": PIPELINE,
    "sharpening": SHARPENING,
    "power": POWER,
    "audit": AUDIT,
    "budget": BUDGET,
    "same_budget": SAME_BUDGET,
    "diagnostics": DIAGNOSTICS,
    "candidates": CANDIDATES,
    "paper": PAPER,
}
"""Every analysis table by name: the files of the analysis, all written always, some of them empty."""

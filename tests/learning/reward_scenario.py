"""Rollouts with a planted cause of passing, for the tests of reward models."""

import numpy as np

from vegflow.config.reward_model import RewardTraining
from vegflow.learning.reward_examples import make_examples

GOOD = 7
"""A completion passes if this token is in it."""


def planted(tasks=12, k=16, rate=0.4, seed=0, copies=2):
    """(rollouts, evaluations): prompts of their own, completions of 3 to 7 random tokens and a stop token.

    Those that pass hold the planted token so many times.
    """
    rng = np.random.default_rng(seed)
    rollouts, evaluations = [], []
    for number in range(tasks):
        prompt = rng.integers(10, 97, size=4).tolist()
        for index in range(k):
            tokens = rng.integers(10, 97, size=rng.integers(3, 8)).tolist()
            if rng.random() < rate:
                for place in rng.permutation(len(tokens))[:copies]:
                    tokens[place] = GOOD
            rollouts.append(row(f"L1/{number}", index, prompt, [*tokens, 0]))
            evaluations.append(verdict(rollouts[-1]["rollout_id"], GOOD in tokens))
    return rollouts, evaluations


def row(task, index, prompt, tokens):
    return {
        "rollout_id": f"r:{task}:{index}",
        "task_id": task,
        "completion": " ".join(map(str, tokens)),
        "prompt_ids": prompt,
        "token_ids": tokens,
        "logprob": -float(len(tokens)),
        "n_tokens": len(tokens),
    }


def verdict(rollout_id, passes, speedup=1.5, status=None):
    return {
        "rollout_id": rollout_id,
        "status": status or ("correct" if passes else "wrong_output"),
        "correct": passes,
        "fast_1": passes and speedup > 1,
        "speedup": speedup if passes else 0.0,
        "speedup_low": speedup * 0.9 if passes else None,
        "speedup_high": speedup * 1.1 if passes else None,
    }


def examples(label="correct", **changes):
    return make_examples(*planted(**changes), label)


def settings(**changes):
    return RewardTraining(**{"folds": 3, "pairs_per_task": 4, **changes})

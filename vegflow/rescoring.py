"""The fourth verb, rescore: fixed rollouts and a policy in, the surprisal of each rollout under that policy out.

Knows rollouts and sums; what runs the model is behind `vegflow.sampling.protocol`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vegflow.sampling.protocol import Engine


def rescore(engine: Engine, rollouts: Sequence[Mapping[str, Any]], policy_id: str) -> list[dict[str, Any]]:
    """Rows of NLL, in the rollouts' order: minus the summed log-probability (nats, temperature 1) of each completion.

    Token ids are scored as they were drawn, the stop token included; text is never tokenised again. Rollouts of one
    prompt share one reading of it, wherever they stand.
    """
    by_prompt: dict[str, list[int]] = {}
    for number, row in enumerate(rollouts):
        by_prompt.setdefault(row["prompt_sha256"], []).append(number)
    surprisal: dict[int, float] = {}
    for numbers in by_prompt.values():
        scores = engine.score(rollouts[numbers[0]]["prompt_ids"], [rollouts[i]["token_ids"] for i in numbers])
        surprisal |= {number: -math.fsum(logprobs) for number, logprobs in zip(numbers, scores, strict=True)}
    return [
        {
            "rollout_id": row["rollout_id"],
            "policy_id": policy_id,
            "nll": surprisal[number],
            "n_tokens": len(row["token_ids"]),
        }
        for number, row in enumerate(rollouts)
    ]

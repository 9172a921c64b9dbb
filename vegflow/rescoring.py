"""The fourth verb, rescore: fixed rollouts and a policy in, the surprisal of each rollout under that policy out."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import nn

from vegflow.models.packing import score


@torch.inference_mode()
def rescore(model: nn.Module, rollouts: Sequence[Mapping[str, Any]], policy_id: str) -> list[dict[str, Any]]:
    """Rows of NLL, in the rollouts' order: minus the summed log-probability (nats, temperature 1) of each completion.

    Token ids are scored as they were drawn, the stop token included; text is never tokenised again. Rollouts of one
    prompt that stand together share one reading of it.
    """
    rows = []
    for _, group in groupby(rollouts, key=lambda row: row["prompt_sha256"]):
        members = list(group)
        scores = score(model, members[0]["prompt_ids"], [row["token_ids"] for row in members])
        for row, logprobs in zip(members, scores.logprobs, strict=True):
            rows.append(
                {
                    "rollout_id": row["rollout_id"],
                    "policy_id": policy_id,
                    "nll": -logprobs.double().sum().item(),
                    "n_tokens": len(row["token_ids"]),
                }
            )
    return rows

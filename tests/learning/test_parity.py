"""Our losses and gradients against TRL's, from a table recorded with TRL and, where TRL is installed, from TRL itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.learning import peer_scenario as scenario
from vegflow.config.learning import UpdateConfig
from vegflow.learning.distillation import divergence, on_support, support
from vegflow.learning.learner import Learner
from vegflow.learning.losses import Tokens, token_losses
from vegflow.learning.update import Batch, update
from vegflow.models.packing import score

TABLE = json.loads(Path(__file__).with_name("trl_values.json").read_text())
OURS = {
    "grpo": {"objective": "grpo"},
    "bnpo": {"objective": "grpo", "aggregation": "token_mean"},
    "dapo": {"objective": "dapo"},
    "dr_grpo": {"objective": "dr_grpo", "token_constant": scenario.LONGEST},
}
CASES = [(loss, temperature) for loss in scenario.LOSSES for temperature in scenario.TEMPERATURES]


def loss_and_gradient(loss, temperature):
    """Of the scenario's batch, through `update`, with no step taken."""
    policy = scenario.model()
    rows = []
    for task, (prompt, group) in enumerate(zip(scenario.PROMPTS, scenario.completions(), strict=True)):
        with torch.no_grad():
            logprobs = score(policy, prompt, group, temperature=temperature).logprobs
        for index, (tokens, logp) in enumerate(zip(group, logprobs, strict=True)):
            shift = torch.tensor(scenario.shifts()[len(rows)])
            rows.append(
                {
                    "rollout_id": f"r:L1/{task}:{index}",
                    "task_id": f"L1/{task}",
                    "index": index,
                    "prompt_ids": prompt,
                    "token_ids": tokens,
                    "token_logprobs_tempered": (logp.double() + shift).tolist(),
                    "n_tokens": len(tokens),
                    "n_prompt_tokens": len(prompt),
                }
            )
    advantages = scenario.advantages()
    verdicts = [{"fast_1": False, "candidate_sha256": None}] * len(rows)
    learner = Learner(policy, UpdateConfig(**OURS[loss], max_gradient_norm=1e9), None)
    seen = []
    learner.optimizer.step = lambda: seen.append(scenario.gradient(policy).clone())
    record = update(learner, Batch(rows, verdicts, np.zeros(len(rows)), advantages, temperature))
    return record, seen[0]


@pytest.mark.parametrize(("loss", "temperature"), CASES)
def test_loss_and_gradient_are_trls(loss, temperature):
    expected = TABLE["values"][f"{loss} {temperature:g}"]
    record, gradient = loss_and_gradient(loss, temperature)
    theirs = torch.tensor(expected["gradient"])
    assert record["loss"] == pytest.approx(expected["loss"], abs=1e-6)
    assert (gradient - theirs).norm() <= 1e-5 * theirs.norm()
    assert record["clipped_share"] > 0.2


@pytest.mark.parametrize(("loss", "temperature"), CASES)
def test_loss_and_gradient_are_those_of_the_trl_here(loss, temperature):
    pytest.importorskip("trl")
    from tests.learning.record_trl import values

    live = values(loss, temperature)
    record, gradient = loss_and_gradient(loss, temperature)
    theirs = torch.tensor(live["gradient"])
    assert record["loss"] == pytest.approx(live["loss"], abs=1e-6)
    assert (gradient - theirs).norm() <= 1e-5 * theirs.norm()


def sdpo(alpha):
    """Token losses of the scenario's logits with the cap of 2, and the gradient in the student's logits."""
    student, teacher, drawn, old = scenario.logits()
    student.requires_grad_(True)
    logp, taught = (z.log_softmax(-1).gather(1, drawn[:, None])[:, 0] for z in (student, teacher))
    if alpha == "sampled token":
        form, apart = "sdpo_sampled_token", None
    else:
        index, own = support(student, scenario.TOP_K)
        form, apart = "sdpo_divergence", divergence(own, on_support(teacher, index), alpha)
    config = UpdateConfig(objective="sdpo_official", loss=form, importance_cap=scenario.CAP)
    losses = token_losses(Tokens(logp, old, torch.zeros(6), taught, apart), config)
    losses.sum().backward()
    return losses.detach(), student.grad.flatten()


@pytest.mark.parametrize("alpha", [*scenario.ALPHAS, "sampled token"])
def test_distillation_is_trls(alpha):
    losses, gradient = sdpo(alpha)
    expected = TABLE["sdpo"][str(alpha)]
    torch.testing.assert_close(losses, torch.tensor(expected["loss"]), atol=1e-6, rtol=1e-6)
    theirs = torch.tensor(expected["gradient"])
    assert (gradient - theirs).norm() <= 1e-5 * theirs.norm()


def test_distillation_is_that_of_the_trl_here():
    pytest.importorskip("trl")
    from tests.learning.record_trl import sdpo_values

    live = sdpo_values()
    for alpha in (*scenario.ALPHAS, "sampled token"):
        losses, gradient = sdpo(alpha)
        torch.testing.assert_close(losses, torch.tensor(live[str(alpha)]["loss"]), atol=1e-6, rtol=1e-6)
        theirs = torch.tensor(live[str(alpha)]["gradient"])
        assert (gradient - theirs).norm() <= 1e-5 * theirs.norm()

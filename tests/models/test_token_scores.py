"""Scores by blocks are those of a log-softmax over everything."""

import torch

from vegflow.models import token_scores as module
from vegflow.models.token_scores import token_scores


def test_token_scores_are_those_of_log_softmax_and_so_are_their_gradients(monkeypatch):
    monkeypatch.setattr(module, "CPU_BLOCK", 40)
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 13, generator=draws, dtype=torch.float32, requires_grad=True)
    targets = torch.randint(0, 13, (7,), generator=draws)
    weights = torch.randn(2, 7, generator=draws)
    for use in ((1, 1), (1, 0), (0, 1)):
        gradients = []
        for plain in (True, False):
            logp = (logits.double() / 0.25).log_softmax(-1)
            chosen, entropy = logp.gather(1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(-1)
            if not plain:
                chosen, entropy = token_scores(logits, targets, 0.25)
            logits.grad = None
            (use[0] * (weights[0] * chosen).sum() + use[1] * (weights[1] * entropy).sum()).backward()
            gradients.append(logits.grad.clone())
        torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_large_logits_neither_overflow_nor_vanish():
    logits = torch.tensor([[3e4, 0.0, -3e4], [-2e5, -2e5, -2e5]])
    logp, entropy = token_scores(logits, torch.tensor([0, 1]), 0.25)
    torch.testing.assert_close(logp, torch.tensor([0.0, -1.0986123]))
    torch.testing.assert_close(entropy, torch.tensor([0.0, 1.0986123]))

"""Muon against torch's own, which works in bfloat16, and against what its factor should be."""

import pytest
import torch

from vegflow.models.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48)])
def test_the_factor_has_the_matrix_s_directions_and_singular_values_near_one(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
    matrices = u * (0.2 + s / s.amax(-1, keepdim=True))[:, None] @ vt  # none of them nearly singular
    found = orthogonal(matrices)
    inner = u.mT @ found @ vt.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (inner - torch.diag_embed(values)).abs().max() < 1e-4  # nothing outside the matrix's own directions


def test_steps_are_torch_s_within_what_bfloat16_leaves():
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((32, 32), (32, 32), (64, 32), (32, 96))]
    ours, theirs = ([torch.nn.Parameter(p.clone()) for p in start] for _ in range(2))
    optimizers = [
        Muon(ours, lr=0.01, weight_decay=0.1),
        torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(10):
        for mine, its in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            its.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for before, mine, its in zip(start, ours, theirs, strict=True):
        moved, theirs_moved = mine.detach() - before, its.detach() - before
        assert (moved - theirs_moved).norm() < 0.02 * theirs_moved.norm()


def test_a_parameter_without_a_gradient_stays_and_a_vector_is_refused():
    kept = torch.nn.Parameter(torch.ones(2, 2))
    Muon([kept], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(kept, torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"for matrices, not for a tensor of shape \[3\]"):
        Muon([torch.nn.Parameter(torch.ones(3))], lr=1.0)

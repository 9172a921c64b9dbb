"""From scores to probabilities: Platt's scaling.

Knows arrays of scores and verdicts; which of them were held out is the caller's to see to. Imports no torch.

Axes: N scores, F = 2 features (the score, and 1).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

STEPS = 100
FLAT = 1e-10


@dataclass(frozen=True)
class Platt:
    """p = 1 / (1 + e^-(slope score + intercept))."""

    slope: float
    intercept: float

    def __call__(self, scores: ArrayLike) -> np.ndarray:
        """Probabilities of scores."""
        return sigmoid(self.slope * np.asarray(scores, dtype=float) + self.intercept)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def fit_platt(scores: ArrayLike, passes: ArrayLike) -> Platt:
    """Platt's scaling (1999): the logistic regression of the verdicts on one score, with his smoothed targets.

    Targets are (n+ + 1) / (n+ + 2) for those that pass and 1 / (n- + 2) for those that fail, so that the optimum is
    finite; Newton's steps with halving, as Lin, Lin and Weng (2007). The slope may come out negative: then the scores rank
    the wrong way round. Raises ValueError unless scores are finite and there are some.
    """
    scores_N, passes_N = np.asarray(scores, dtype=float), np.asarray(passes, dtype=bool)
    if not len(scores_N) or not np.isfinite(scores_N).all():
        raise ValueError("Platt's scaling needs finite scores, at least one")
    centre, spread = scores_N.mean(), scores_N.std() or 1.0
    x_NF = np.stack([(scores_N - centre) / spread, np.ones(len(scores_N))], axis=1)
    n = int(passes_N.sum())
    targets_N = np.where(passes_N, (n + 1) / (n + 2), 1 / (len(passes_N) - n + 2))
    w_F = np.array([0.0, np.log((n + 1) / (len(passes_N) - n + 1))])
    loss = _loss(x_NF @ w_F, targets_N)
    for _ in range(STEPS):
        p_N = sigmoid(x_NF @ w_F)
        gradient_F = x_NF.T @ (p_N - targets_N)
        curvature_FF = (x_NF * (p_N * (1 - p_N))[:, None]).T @ x_NF + 1e-12 * np.eye(2)
        step_F = np.linalg.solve(curvature_FF, gradient_F)
        size = 1.0
        while size > FLAT and _loss(x_NF @ (w_F - size * step_F), targets_N) > loss:
            size /= 2
        w_F = w_F - size * step_F
        before, loss = loss, _loss(x_NF @ w_F, targets_N)
        if before - loss < FLAT * max(1.0, abs(before)):
            break
    return Platt(float(w_F[0] / spread), float(w_F[1] - w_F[0] * centre / spread))


def _loss(logits_N: np.ndarray, targets_N: np.ndarray) -> float:
    return float((np.logaddexp(0.0, logits_N) - targets_N * logits_N).sum())

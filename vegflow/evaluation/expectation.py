"""What the outputs for one set of inputs ought to be, and how it crosses to the judge.

Made in the trusted reference's worker; whether a candidate's outputs agree with it is left to `comparison`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vegflow.evaluation.oracle import relative_error, root_mean_square, run_double, run_single, undecided_positions
from vegflow.evaluation.precision import Sample, sample_output, signatures

LEAST_SCALE = 0.1


@dataclass(frozen=True)
class Target:
    """What one output ought to be."""

    expected: torch.Tensor
    """The oracle in the output's own dtype, or the reference's output where there is no oracle."""
    scale: float
    """Root mean square of `expected` (of its finite elements)."""
    reference_error: float = 0.0
    """Largest |reference - oracle| / (|oracle| + scale)."""
    depth: int = 1
    """Number of input elements that one element of the output depends on."""
    undecided: torch.Tensor | None = None
    """int64 [k]: positions in the flattened output that a rounding decides, and that are not compared."""
    sample: Sample | None = None


Expectation = list[Target]
"""One target for each output."""


def expect(
    model: Callable[..., Any],
    double: torch.nn.Module,
    inputs: list[Any],
    generator: torch.Generator,
    depths: list[int] | None = None,
    signed: bool = True,
) -> Expectation:
    """What is right for `inputs`: oracle, the reference's own error and, if `signed`, signatures.

    `model` is the reference, `double` its `oracle_model`, `depths` its `reduction_depths` for inputs of these shapes
    (else 1). Costs one call of the reference and one of `double`, with `signed` one more for each of `ROUNDINGS`, with
    integer outputs two more. Raises what the reference raises.
    """
    exact = run_double(double, inputs)
    outputs = run_single(model, inputs)
    if [o.shape for o in exact] != [o.shape for o in outputs]:
        raise ValueError("the reference gives other shapes in float64 than in float32")
    undecided = undecided_positions(double, inputs, outputs, generator)
    targets = []
    depths = depths or [1] * len(outputs)
    for output, oracle, unsure, depth in zip(outputs, exact, undecided, depths, strict=True):
        if output.dtype.is_floating_point:
            scale = root_mean_square(oracle)
            error = relative_error(output, oracle, scale)
            targets.append(Target(oracle.to(output.dtype), scale, error, depth))
        else:
            unsure_or_none = unsure if unsure.numel() else None
            targets.append(Target(output, root_mean_square(output), undecided=unsure_or_none))
    floating = [v for v in [*inputs, *outputs] if isinstance(v, torch.Tensor) and v.dtype.is_floating_point]
    if not signed or any(value.dtype != torch.float32 for value in floating):
        return targets
    marks = signatures(double, inputs, exact)
    return [
        replace(target, sample=sample_output(output, oracle, {n: m[index] for n, m in marks.items()}, generator))
        for index, (target, output, oracle) in enumerate(zip(targets, outputs, exact, strict=True))
    ]


def plain_expectation(outputs: list[torch.Tensor], like: Expectation | None = None) -> Expectation:
    """What is right as far as the reference's float32 outputs, or pieces of them, say.

    Its error and its depth are those of `like`, if given: what was expected for other inputs. And its scale is not far
    below theirs: the pieces may be those in which nothing is.
    """
    others = like or [Target(output, 0.0) for output in outputs]
    return [
        Target(output, max(root_mean_square(output), LEAST_SCALE * other.scale), other.reference_error, other.depth)
        for output, other in zip(outputs, others, strict=True)
    ]


def pack(expectation: Expectation) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
    """Tensors, and the rest as values that JSON knows, from which `unpack` makes the same expectation."""
    tensors: list[torch.Tensor] = []
    heads = []
    for target in expectation:
        sample = target.sample
        heads.append(
            {
                "scale": target.scale,
                "reference_error": target.reference_error,
                "depth": target.depth,
                "undecided": target.undecided is not None,
                "signatures": None if sample is None else list(sample.signatures),
            }
        )
        tensors.append(target.expected)
        if target.undecided is not None:
            tensors.append(target.undecided)
        if sample is not None:
            tensors += [sample.positions, sample.oracle, sample.weights, *sample.signatures.values()]
    return tensors, heads


def unpack(tensors: Sequence[torch.Tensor], heads: Sequence[dict[str, Any]]) -> Expectation:
    """The inverse of `pack`; only for what a trusted process packed."""
    left = iter(tensors)
    expectation = []
    for head in heads:
        expected = next(left)
        undecided = next(left) if head["undecided"] else None
        sample = None
        if head["signatures"] is not None:
            parts = [next(left) for _ in range(3)]
            sample = Sample(*parts, {name: next(left) for name in head["signatures"]})
        numbers = head["scale"], head["reference_error"], head["depth"]
        expectation.append(Target(expected, *numbers, undecided, sample))
    return expectation

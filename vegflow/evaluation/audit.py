"""Whether a task can tell right from wrong: the reference must pass its own check, and lazy answers must not.

Knows items (inputs and what is expected for them) in one trusted process; drawing them is left to `inputs`, the oracle
to `expectation`, what passes to the `accepts` that it is given.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vegflow.evaluation.comparison import Tolerance, compare
from vegflow.evaluation.expectation import Expectation, expect
from vegflow.evaluation.inputs import Depths, Variant, vary
from vegflow.evaluation.oracle import oracle_model, run_single
from vegflow.evaluation.precision import Evidence

FRACTION = 1 / 16
SHARES = {"1/16": FRACTION, "15/16": 1 - FRACTION}


@dataclass(frozen=True)
class AuditItem:
    """One set of inputs and what is right for it."""

    variant: Variant
    inputs: list[Any]
    expectation: Expectation

    @property
    def form(self) -> list[tuple[torch.Size, torch.dtype]]:
        """Shape and dtype of each output."""
        return [(target.expected.shape, target.expected.dtype) for target in self.expectation]


Answers = dict[str, list[torch.Tensor]]
Accepts = Callable[[AuditItem, list[torch.Tensor]], bool]


def within(tolerance: Tolerance) -> Accepts:
    """What `comparison` accepts, each item on its own."""
    return lambda item, outputs: not compare(item.expectation, outputs, tolerance, Evidence()).status


def draw_items(
    model: torch.nn.Module, get_inputs: Callable[[], list[Any]], variants: Sequence[Variant], seed: int
) -> list[AuditItem]:
    """One item of each variant, two of the first and of the sparse one; the same for the same seed.

    Sets torch's own generator.
    """
    double = oracle_model(model)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    items = []
    depths = Depths(double)
    for variant in [variants[0], *(v for v in variants if v.kind == "sparse"), *variants]:
        inputs = vary(list(get_inputs()), variant, generator)
        expectation = expect(model, double, inputs, generator, depths.of(variant, inputs), signed=False)
        items.append(AuditItem(variant, inputs, expectation))
    return items


def audit(items: Sequence[AuditItem], model: Callable[..., Any], accepts: Accepts) -> list[str]:
    """Findings, empty for a sound task: that the reference fails, or which degenerate answer passes on all items.

    An answer is tried on every item that admits it. `items` should hold two draws of the first variant at least, so
    that there are stale answers.
    """
    findings = []
    for index, item in enumerate(items):
        try:
            right = accepts(item, run_single(model, item.inputs))
        except Exception as error:
            findings.append(f"the reference raises on item {index} ({item.variant}): {type(error).__name__}: {error}")
            continue
        if not right:
            findings.append(f"the reference fails its own check on item {index} ({item.variant})")
    passing: dict[str, int] = {}
    refused: set[str] = set()
    for item in items:  # once an answer is refused, it need not be tried again
        others = [other for other in items if other is not item]
        for name, outputs in degenerate_answers(item, others, model, refused).items():
            if accepts(item, outputs):
                passing[name] = passing.get(name, 0) + 1
            else:
                refused.add(name)
    return findings + [
        f"{name} passes on all {count} items that admit it" for name, count in passing.items() if name not in refused
    ]


def degenerate_answers(
    item: AuditItem,
    others: Sequence[AuditItem],
    model: Callable[..., Any] | None = None,
    without: set[str] = frozenset(),
) -> Answers:
    """Name -> outputs of the item's form that take little or no work; names in `without` are left out.

    An input unchanged, zeros, ones, a constant (the mean of another item's answer, or of this one's), another item's
    answer, an answer that is right in 1/16 or 15/16 of its elements, and what `model` gives for the first 1/16 or 15/16 of
    an extent of the inputs, scaled as a mean, a sum or a norm would be.
    """
    expected = [target.expected for target in item.expectation]
    makers: dict[str, Callable[[], list[torch.Tensor] | None]] = {
        "zeros": lambda: [torch.zeros_like(e) for e in expected],
        "ones": lambda: [torch.ones_like(e) for e in expected],
        "this constant": lambda: _constants(expected, expected),
        "partial, 1/16 right": lambda: _partial(expected, FRACTION),
        "partial, 15/16 right": lambda: _partial(expected, 1 - FRACTION),
    }
    for index in range(len(item.inputs)):
        makers[f"identity of input {index}"] = lambda index=index: _identity(item.inputs[index], expected)
    alike = [other for other in others if other.form == item.form]
    alike.sort(key=lambda other: other.variant != item.variant)
    if alike:
        stale = [target.expected for target in alike[0].expectation]
        makers["stale"] = lambda: stale
        makers["another's constant"] = lambda: _constants(stale, expected)
    answers = {name: make() for name, make in makers.items() if name not in without}
    found = {name: outputs for name, outputs in answers.items() if outputs is not None}
    if model is not None:
        found |= _reduced(item, model, without)
    return found


def _identity(value: Any, expected: list[torch.Tensor]) -> list[torch.Tensor] | None:
    if not isinstance(value, torch.Tensor):
        return None
    if any(value.numel() != e.numel() or value.dtype != e.dtype for e in expected):
        return None
    return [value.reshape(e.shape) for e in expected]


def _constants(source: list[torch.Tensor], form: list[torch.Tensor]) -> list[torch.Tensor] | None:
    """For each output the mean of `source`; none for a single element, whose mean is the answer itself."""
    if any(e.numel() <= 1 for e in form) and source is form:
        return None
    return [torch.full_like(e, s.double().mean().item()) for s, e in zip(source, form, strict=True)]


def _partial(expected: list[torch.Tensor], share: float) -> list[torch.Tensor] | None:
    """The first part of each output right, the rest zeros; none for outputs of so few elements that there is no part."""
    if any(e.numel() < 1 / FRACTION for e in expected):
        return None
    answers = [e.clone() for e in expected]
    for answer in answers:
        answer.view(-1)[round(answer.numel() * share) :] = 0
    return answers


def _reduced(item: AuditItem, model: Callable[..., Any], without: set[str]) -> Answers:
    """The model on a part of each extent, where the outputs keep their form."""
    answers: Answers = {}
    generator = torch.Generator()
    shapes = [value.shape for value in item.inputs if isinstance(value, torch.Tensor)]
    for extent in sorted({extent for shape in shapes for extent in shape if extent * FRACTION >= 1}):
        for share, part in SHARES.items():
            smaller = max(1, round(extent * part))
            ratio = extent / smaller
            where = f"{share} of {_axes(shapes, extent)}"
            factors = {where: 1.0, f"{where}, as a sum": ratio, f"{where}, as a norm": math.sqrt(ratio)}
            factors = {name: factor for name, factor in factors.items() if name not in without}
            if not factors:
                continue
            try:
                some = run_single(model, vary(item.inputs, Variant("given", ((extent, smaller),)), generator))
            except Exception:  # an extent that the model fixes
                continue
            if [(output.shape, output.dtype) for output in some] == item.form:
                answers |= {name: [(o * factor).to(o.dtype) for o in some] for name, factor in factors.items()}
    return answers


def _axes(shapes: list[torch.Size], extent: int) -> str:
    """Where an extent stands, in words that are the same for items of other shapes."""
    found = [(i, a) for i, shape in enumerate(shapes) for a, size in enumerate(shape) if size == extent]
    return " and ".join(f"axis {axis} of input {index}" for index, axis in found)

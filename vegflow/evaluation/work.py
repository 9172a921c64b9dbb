"""The least work of a task: bytes that any correct program must move, floating-point operations that it must do.

Knows each operation of the catalogue by its name and shapes. How fast a device could do the work is left to `ceilings`,
what follows for a claimed time to `roofline`.

Every number is a lower bound that an honest program may come near and never pass:

- **Bytes.** Each input and weight element that the answer depends on is read once, each output element written once.
  The known zeros of a triangular matrix, the mirrored half of a symmetric one and the border that pooling leaves out
  count nothing. Nor do the scale and shift of normalisations: a task's are 1 and 0. Masked elements count: they share
  cache lines with the others.
- **Operations.** Only contractions (matrix products, convolutions, attention) are charged, at two a multiplication and
  its addition. Element-wise operations, reductions, scans and pooling count 0: they do at most a few operations a byte,
  which every device does faster than it moves the byte, and comparisons are not floating-point operations.
- **Products**: 2mnk, less one level of Strassen's method (1969), which saves an eighth. More levels have paid only far
  above these sizes, and at an error that the judge would not accept: four gained 32 % at n = 16384, with a hundred times
  the error of a plain product (Li, Ranka and Sahni, 2011).
- **Convolutions**: m outputs of a filter of r taps take m + r - 1 multiplications and no fewer (Winograd, 1980), so at
  least one an output and pair of channels, however many taps there are: what a pointwise convolution costs. A direct
  convolution does as many more as there are taps, but Winograd's and Fourier's methods do not. A transposed convolution
  takes as many as the convolution that it transposes (Fiduccia, 1972), so at least one an input element and pair.

A task that the catalogue does not know is charged for its outputs only: whether all of an input matters cannot be told
from its shape.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from vegflow.evaluation.arena import Description
from vegflow.tasks.catalogue import operation_of
from vegflow.tasks.task import Task

STRASSEN = 7 / 8


@dataclass(frozen=True)
class Work:
    """A lower bound of what one call does."""

    bytes: float
    flops: float


@dataclass(frozen=True)
class Operand:
    """A tensor that goes in or comes out."""

    shape: tuple[int, ...]
    itemsize: int
    """Bytes an element."""

    @property
    def elements(self) -> int:
        """How many."""
        return math.prod(self.shape)


Operands = Sequence[Operand]
Count = Callable[[Operands, Operands], float]
"""A number from the tensors that go in and those that come out, in the order of `forward`."""


def least_work(
    task: Task, inputs: Sequence[Description], outputs: Sequence[Description], parameters_bytes: int = 0
) -> Work:
    """The least work of one call of `task` at the given shapes, with `parameters_bytes` of weights."""
    read, written = _operands(inputs), _operands(outputs)
    out_bytes = sum(tensor.elements * tensor.itemsize for tensor in written)
    rule = RULES.get(operation_of(task) or "")
    if rule is None:
        return Work(out_bytes, 0.0)
    try:
        in_bytes = rule.reads(read, written)
        return Work(in_bytes + out_bytes + rule.weights * parameters_bytes, rule.flops(read, written))
    except (IndexError, ZeroDivisionError):  # a file of the same name with operands of another rank
        return Work(out_bytes, 0.0)


def _operands(descriptions: Sequence[Description]) -> list[Operand]:
    return [
        Operand(tuple(entry["shape"]), getattr(torch, entry["dtype"]).itemsize)
        for entry in descriptions
        if entry["kind"] == "tensor"
    ]


# --- bytes of the inputs ----------------------------------------------------------------------------------------------


def _all(inputs: Operands, outputs: Operands) -> float:
    """Every element of every input."""
    return sum(tensor.elements * tensor.itemsize for tensor in inputs)


def _triangles(inputs: Operands, outputs: Operands) -> float:
    """One triangle, with the diagonal, of each n x n input: n (n + 1) / 2 elements."""
    return sum(tensor.shape[-1] * (tensor.shape[-1] + 1) / 2 * tensor.itemsize for tensor in inputs)


def _windows(inputs: Operands, outputs: Operands) -> float:
    """Of [N, C, H, W], what whole windows side by side cover; they are floor(H / H_out) high."""
    x, y = inputs[0], outputs[0]
    covered = [out * (extent // out) for extent, out in zip(x.shape[2:], y.shape[2:], strict=True)]
    return math.prod((*x.shape[:2], *covered)) * x.itemsize


# --- operations -------------------------------------------------------------------------------------------------------


def _none(inputs: Operands, outputs: Operands) -> float:
    """No operation worth counting."""
    return 0.0


def _product(inputs: Operands, outputs: Operands) -> float:
    """2 [.., m, n] k, where k is the last extent of A [.., m, k]."""
    return STRASSEN * 2 * outputs[0].elements * inputs[0].shape[-1]


def _transposed_product(inputs: Operands, outputs: Operands) -> float:
    """2 m n k, where k is the first extent of A [k, m]."""
    return STRASSEN * 2 * outputs[0].elements * inputs[0].shape[0]


def _symmetric_product(inputs: Operands, outputs: Operands) -> float:
    """n^3, half of a product: methods that use the symmetry may save half of the multiplications."""
    return _product(inputs, outputs) / 2


def _triangular_product(inputs: Operands, outputs: Operands) -> float:
    """2 a triple i <= k <= j of n: n (n + 1) (n + 2) / 3."""
    n = inputs[0].shape[-1]
    return STRASSEN * n * (n + 1) * (n + 2) / 3


def _attention(inputs: Operands, outputs: Operands) -> float:
    """Two products: Q [.., L, E] with K [.., S, E], and the weights [.., L, S] with V [.., S, E_v]."""
    q, k, v = inputs
    return STRASSEN * 2 * math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def _convolution(inputs: Operands, outputs: Operands) -> float:
    """One multiplication an output element and input channel (no groups)."""
    return STRASSEN * 2 * outputs[0].elements * inputs[0].shape[1]


def _depthwise(inputs: Operands, outputs: Operands) -> float:
    """One multiplication an output element."""
    return STRASSEN * 2 * outputs[0].elements


def _transposed_convolution(inputs: Operands, outputs: Operands) -> float:
    """One multiplication an input element and output channel, or an output element and input channel if fewer."""
    x, y = inputs[0], outputs[0]
    return STRASSEN * 2 * min(x.elements * y.shape[1], y.elements * x.shape[1])


def _grouped_transposed_convolution(inputs: Operands, outputs: Operands) -> float:
    """The same with as many groups as there could be, which the shapes do not tell."""
    x, y = inputs[0], outputs[0]
    return _transposed_convolution(inputs, outputs) / math.gcd(x.shape[1], y.shape[1])


# --- which operation takes which --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """How an operation's least work is counted."""

    flops: Count = _none
    reads: Count = _all
    """Bytes of the inputs that are needed."""
    weights: bool = True
    """Whether the parameters must be read."""


STREAM = Rule()
"""All in, all out."""
NORM = Rule(weights=False)

RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("matmul", "batched_matmul", "matrix_vector_product", "tensor3d_matmul", "tensor4d_matmul", "matmul_transposed_b"),
        Rule(_product),
    ),
    **dict.fromkeys(("matmul_transposed_a", "matmul_transposed_both"), Rule(_transposed_product)),
    **dict.fromkeys(
        ("upper_triangular_matmul", "lower_triangular_matmul"), Rule(_triangular_product, reads=_triangles)
    ),
    "symmetric_matmul": Rule(_symmetric_product, reads=_triangles),
    "diagonal_matmul": STREAM,
    "matrix_scalar_product": STREAM,
    "attention": Rule(_attention),
    **dict.fromkeys(
        (
            "relu", "leaky_relu", "sigmoid", "tanh", "softmax", "log_softmax", "swish", "gelu", "selu", "hardsigmoid",
            "softplus", "softsign", "elu", "hardtanh", "new_gelu",
        ),
        STREAM,
    ),
    **dict.fromkeys(
        (
            "batch_norm", "instance_norm", "group_norm", "rms_norm", "frobenius_norm", "l1_norm", "l2_norm",
            "layer_norm",
        ),
        NORM,
    ),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool3d"), STREAM),
    "avg_pool2d": Rule(reads=_windows),
    **dict.fromkeys(
        ("sum_reduction", "mean_reduction", "max_reduction", "min_reduction", "argmax", "argmin"), STREAM
    ),
    **dict.fromkeys(
        (
            "alexnet_conv2d", "conv1d", "conv1d_full", "conv2d", "conv2d_full", "conv3d", "pointwise_conv2d",
            "depthwise_separable_conv2d",
        ),
        Rule(_convolution),
    ),
    **dict.fromkeys(
        ("depthwise_conv2d", "depthwise_conv2d_asymmetric", "depthwise_conv2d_out", "depthwise_conv2d_full"),
        Rule(_depthwise),
    ),
    **dict.fromkeys(
        (
            "conv_transpose1d", "conv_transpose1d_full", "conv_transpose2d", "conv_transpose2d_padded",
            "conv_transpose2d_dilated", "conv_transpose3d", "conv_transpose3d_dilated",
        ),
        Rule(_transposed_convolution),
    ),
    **dict.fromkeys(
        ("conv_transpose2d_full", "conv_transpose3d_full", "conv_transpose3d_grouped"),
        Rule(_grouped_transposed_convolution),
    ),
    **dict.fromkeys(("cumsum", "cumprod", "reverse_cumsum", "exclusive_cumsum", "masked_cumsum"), STREAM),
    **dict.fromkeys(
        ("mse_loss", "cross_entropy_loss", "huber_loss", "kl_div_loss", "triplet_margin_loss", "hinge_loss"), STREAM
    ),
}  # fmt: skip
"""Operation -> how its least work is counted. An operation that is not here is charged for its outputs only."""

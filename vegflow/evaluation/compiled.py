"""What was built, as a model in the worker: one way to load it, whatever language it was written in.

Knows which module loads what; calling it, and reporting what goes wrong, is the worker's loop's.
"""

import os
from collections.abc import Sequence

import torch

from vegflow.evaluation.cuda_driver import CudaModel
from vegflow.evaluation.native import NativeModel


def load(
    language: str,
    library: int,
    *,
    program: str,
    arguments: Sequence[str],
    model: torch.nn.Module | None,
    device: str,
) -> NativeModel | CudaModel:
    """The model of a `c`, `cpp` or `cuda` candidate; it has `bind(inputs, outputs)` and `weight_names`.

    `library` is the descriptor of the binary (`native.sealed`), which is closed; `program` the source; `arguments` the
    names of the reference's `forward`'s arguments; `model` the reference, on `device`, for its weights. Raises
    NativeError for a binary that cannot be loaded, ValueError for another language.
    """
    try:
        if language in ("c", "cpp"):
            return NativeModel(library, model, device)
        if language == "cuda":
            with open(library, "rb", closefd=False) as file:
                return CudaModel(file.read(), program, arguments, model, device)
        raise ValueError(f"{language} programs are not loaded as binaries")
    finally:
        os.close(library)

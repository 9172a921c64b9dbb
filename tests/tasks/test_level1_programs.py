"""At the CPU's size, every built-in program runs, and tells an honest answer from a degenerate one at 1e-4."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from vegflow.tasks.catalogue import builtin_tasks
from vegflow.tasks.task import Task

TOLERANCE = 1e-4
PRODUCTS = [*range(1, 5), *range(6, 19), 50, *range(54, 88), 97]
"""Problems whose outputs are sums of products."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loaded(task: Task) -> tuple[torch.nn.Module, Callable[[int], list]]:
    """The task's model, and a function from a seed to its inputs."""
    scope: dict = {}
    exec(compile(task.source, task.id, "exec"), scope)

    def inputs(seed: int) -> list:
        torch.manual_seed(seed)
        return scope["get_inputs"]()

    torch.manual_seed(0)
    return scope["Model"](*scope["get_init_inputs"]()), inputs


def passes(answer: torch.Tensor, expected: torch.Tensor, tolerance: float = TOLERANCE) -> bool:
    if answer.shape != expected.shape:
        return False
    first, all_of_it = slice(4096), slice(None)  # most of what is wrong shows early
    answer, expected = answer.flatten(), expected.flatten()
    return all(
        torch.allclose(answer[part].double(), expected[part].double(), rtol=tolerance, atol=tolerance)
        for part in (first, all_of_it)
    )


def cast(values: list, dtype: torch.dtype) -> list:
    return [v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in values]


def degenerate(inputs: list, output: torch.Tensor, earlier: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    for index, value in enumerate(tensors):
        if value.numel() == output.numel():
            yield f"input {index}", value.reshape(output.shape)
    yield "zeros", torch.zeros_like(output)
    yield "ones", torch.ones_like(output)
    yield "an earlier answer", earlier
    yield "mean of an earlier answer", torch.full(output.shape, earlier.double().mean().item())
    if output.numel() > 1:
        yield "mean of the answer", torch.full(output.shape, output.double().mean().item())


@torch.no_grad()
def test_every_program_runs_is_finite_and_repeats_itself():
    bad = {}
    for task_id, task in builtin_tasks("cpu").items():
        model, inputs = loaded(task)
        output, again = model(*inputs(0)), model(*inputs(0))
        if not (torch.isfinite(output).all() and torch.equal(output, again) and len(inputs(0)) == len(task.arguments)):
            bad[task_id] = task.name
    assert bad == {}


@torch.no_grad()
def test_no_degenerate_answer_passes():
    passed = {}
    for task_id, task in builtin_tasks("cpu").items():
        model, inputs = loaded(task)
        drawn = inputs(0)
        output, earlier = model(*drawn), model(*inputs(1))
        for answer, value in degenerate(drawn, output, earlier):
            if passes(value, output):
                passed[task_id] = answer
    assert passed == {}


@torch.no_grad()
def test_float32_rounding_stays_far_inside_the_tolerance():
    far = {}
    for task_id, task in builtin_tasks("cpu").items():
        model, inputs = loaded(task)
        drawn = inputs(0)
        output = model(*drawn)
        if not passes(output, model.double()(*cast(drawn, torch.float64)), TOLERANCE / 4):
            far[task_id] = task.name
    assert far == {}


@torch.no_grad()
def test_products_of_half_precision_do_not_pass():
    passed = {}
    for number in PRODUCTS:
        task = builtin_tasks("cpu")[f"L1/{number}"]
        model, inputs = loaded(task)
        drawn = inputs(0)
        output = model(*drawn)
        rounded = model.half().float()(*cast(cast(drawn, torch.float16), torch.float32))
        if passes(rounded, output):
            passed[task.id] = task.name
    assert passed == {}


@pytest.mark.parametrize(("size", "columns"), [("cpu", 131072), ("paper", 1048576)])
def test_a_sequential_float32_sum_passes_the_longest_dot_product(size: str, columns: int):
    """An honest kernel may add a million products one after the other; KernelBench's own inputs reject that."""
    task = builtin_tasks(size)["L1/4"]
    rows = task.source.partition("torch.randn(")[2].partition(",")[0]
    few_rows = task.source.replace(f"{rows}, {columns}", f"8, {columns}")
    _, inputs = loaded(Task(task.id, task.name, task.description, task.arguments, few_rows))
    A, B = (value.numpy() for value in inputs(0))
    sequential = np.cumsum(A * B.T, axis=1, dtype=np.float32)[:, -1:]
    assert A.shape == (8, columns)
    assert np.allclose(sequential, A.astype(np.float64) @ B.astype(np.float64), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("size", ["cpu", "paper"])
def test_class_targets_are_int64_and_masks_bool(size: str):
    for number, dtype in ((93, torch.bool), (95, torch.int64)):
        scope: dict = {}
        exec(builtin_tasks(size)[f"L1/{number}"].source, scope)
        with torch.device("meta"):
            assert scope["get_inputs"]()[1].dtype == dtype


@pytest.mark.parametrize(
    ("number", "index", "holds"),
    [
        (13, 1, lambda B: torch.equal(B, B.T)),
        (14, 1, lambda B: torch.equal(B, B.triu())),
        (15, 1, lambda B: torch.equal(B, B.tril())),
        (95, 1, lambda targets: targets.min() >= 0 and targets.max() < 1024),
        (98, 0, lambda p: torch.allclose(p.sum(dim=-1), torch.ones(len(p)))),
        (100, 1, lambda targets: set(targets.tolist()) == {-1.0, 1.0}),
    ],
)
def test_inputs_have_the_structure_their_kind_names(number: int, index: int, holds: Callable[[torch.Tensor], bool]):
    _, inputs = loaded(builtin_tasks("cpu")[f"L1/{number}"])
    assert holds(inputs(0)[index])

"""One sandbox of Python functions for all tests of a process."""

from collections.abc import Iterator

import pytest

from tests.verification.small_functions import CONFIG, TASKS
from vegflow.verification.functions import FunctionExecutor


@pytest.fixture(scope="session")
def sandbox() -> Iterator[FunctionExecutor]:
    executor = FunctionExecutor(TASKS, CONFIG)
    yield executor
    executor.close()

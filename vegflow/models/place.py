"""Where a base model is: a local folder or GGUF file, or the hub.

Imports no torch, so that a study can be checked with it; loading is `vegflow.models.load`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vegflow.errors import ConfigError

MODELS = "VEGFLOW_MODELS"
"""Environment variable: a folder with models called as their files are, which are taken instead of the hub's."""


def holds_model(path: Path) -> bool:
    """Whether a path is a model: a folder in Hugging Face's layout, or a GGUF file."""
    return path.is_file() if path.suffix == ".gguf" else (path / "config.json").exists()


def local_path(options: Mapping[str, Any]) -> Path | None:
    """Folder or GGUF file of a model (`location`, `revision`, `name`) that is on this machine; None if the hub is to be asked.

    A model of the hub (it has a revision) is looked up in the folder VEGFLOW_MODELS.
    """
    if not options["revision"]:
        return Path(options["location"])
    root = os.environ.get(MODELS)
    names = (options["name"], f"{options['name']}.gguf") if root else ()
    return next((Path(root or "", name) for name in names if holds_model(Path(root or "", name))), None)


def arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """What Transformers' `from_pretrained` takes to find a model; a GGUF file is a folder and the name of a file in it.

    Raises ConfigError if a local model is not there.
    """
    path = local_path(options)
    if path is None:
        return {"pretrained_model_name_or_path": options["location"], "revision": options["revision"]}
    if not holds_model(path):
        raise ConfigError(f"there is no model at '{path}': no config.json and no .gguf file")
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": str(path)}

"""The paper's task sets, as `resources/tasks/splits.yaml` lists them.

It knows names and ids; what the ids mean, and the sets a study adds, are left to `vegflow.tasks.load`.
"""

from pathlib import Path

from vegflow.errors import ConfigError
from vegflow.tasks.catalogue import RESOURCES, read_yaml


def paper_sets(path: Path = RESOURCES / "splits.yaml") -> dict[str, tuple[str, ...]]:
    """The sets `train`, `subset1`, `subset2`, `extended` and `eval`: name to task ids, in the paper's order.

    Raises ConfigError if the file is missing or is not a mapping from names to lists of ids.
    """
    sets = read_yaml(path)
    if not isinstance(sets, dict) or not all(_is_ids(ids) for ids in sets.values()):
        raise ConfigError(f"{path} must map names of task sets to lists of ids such as L1/12")
    return {name: tuple(ids) for name, ids in sets.items()}


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)

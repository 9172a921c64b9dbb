"""The paper's numbers as data: what a row of `resources/paper/results.yaml` may say, and how the file is read.

Knows the file's grammar; how our value is found is said in `measures`, how the two are judged in `claims`.
"""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from vegflow.config.block import Block
from vegflow.config.errors import sentences
from vegflow.errors import ConfigError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, in C where there is one: the file has hundreds of rows."""


class PaperNumber(Block):
    """One number of the paper."""

    id: str
    place: str
    """Where the paper prints it."""
    claim: str
    quote: str = ""
    """The words in which the text or a caption gives it; tables are in `tables.txt`."""
    value: float | None
    """The number; null where the paper makes the claim without one, or should have."""
    unit: str
    kind: Literal["level", "effect", "equivalence"] = "level"
    """A level depends on model, tasks and hardware; an effect has a sign; an equivalence says `no difference`."""
    measure: str = ""
    """Function of `vegflow.statistics.measures` that computes our value; empty if a study cannot speak to it."""
    args: dict[str, str | float | int] = Field(default_factory=dict)
    series: str = ""
    x: float | None = None
    baseline: float = 0.0
    """Value that an effect differs from."""
    margin: float | None = None
    """Largest difference that still counts as none, for an equivalence."""
    fewest_tasks: int = 0
    """Tasks below which nothing is claimed about it: 40 for effects of some 30 points on fast_1 (table `power`)."""
    derived: bool = False
    """The value follows from printed numbers but is not printed."""
    caveats: tuple[int, ...] = ()
    """Findings of `caveats.yaml` about it."""
    why: str = ""
    """Why no study of this kind speaks to it."""


def load_paper(path: str | Path) -> list[PaperNumber]:
    """Read the paper's numbers. Raises ConfigError, naming the file, if it is absent or a row is not as it should be."""
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=LOADER)
        numbers = TypeAdapter(list[PaperNumber]).validate_python(raw)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {sentences(error)}") from error
    ids = [number.id for number in numbers]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise ConfigError(f"{path}: these ids stand twice: {', '.join(twice)}")
    return numbers

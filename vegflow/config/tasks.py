"""Which tasks a study can use, and the sets they come in: the `tasks` block.

It knows where tasks come from and what the user calls them; whether an id exists is left to `vegflow.tasks.load`.
"""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from vegflow.config.block import Block

Size = Literal["cpu", "paper"]


class TasksConfig(Block):
    """The source of the tasks, and task sets beside the paper's (`train`, `subset1`, `subset2`, `extended`, `eval`)."""

    source: Literal["builtin", "kernelbench"] = "builtin"
    """`builtin` is the catalogue under `resources/tasks`; `kernelbench` reads KernelBench's own files."""
    size: Size = "cpu"
    """Shapes of the built-in tasks: `cpu` takes milliseconds on one core, `paper` is KernelBench's, for a large GPU.
    KernelBench's own files fix their shapes, whatever is said here."""
    path: str | None = None
    """For `kernelbench`: a checkout of its repository, a Parquet file or folder in the hub's layout, or a name on the
    hub; without it `ScalingIntelligence/KernelBench` on the hub."""
    revision: str | None = None
    """For `kernelbench` from the hub: the commit, so that the tasks cannot change under a study."""
    sets: dict[str, tuple[str, ...]] = Field({})
    """More task sets: name to ids such as `L1/12`. A name of the paper's sets overrides that set in this study."""

    @field_validator("sets")
    @classmethod
    def _sets_are_sets(cls, sets: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, ids in sets.items():
            if not ids:
                raise ValueError(f"task set {name!r} is empty")
            twice = sorted({task for task in ids if ids.count(task) > 1})
            if twice:
                raise ValueError(f"task set {name!r} names {', '.join(twice)} more than once")
        return sets

    @model_validator(mode="after")
    def _path_needs_kernelbench(self) -> "TasksConfig":
        given = [key for key in ("path", "revision") if getattr(self, key) is not None]
        if self.source == "builtin" and given:
            raise ValueError(f"{', '.join(given)}: needs `source: kernelbench`, and the source is builtin")
        return self

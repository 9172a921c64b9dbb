"""The base of every configuration block: frozen, no unknown keys, one canonical JSON form."""

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """A part of the study. Equal settings, however written, have equal `canonical()` text."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def canonical(self) -> str:
        """The block as JSON with every default filled in: what rules carry as a parameter."""
        return self.model_dump_json()

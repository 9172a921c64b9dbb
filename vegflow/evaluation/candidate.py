"""A candidate: a program that claims to do what a task's reference does, faster.

Knows its text, its language and its digest; how the text was found in a completion is for the scaffold to say.
"""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """One program to judge against one task."""

    task_id: str
    program: str | None
    """Full source: of a Python module that defines `class ModelNew`, or of one file of another language (see
    `languages`); None if a completion held no program."""
    reason: str = ""
    """Why there is no program: the reason of the `parse_error` it then gets."""
    language: str = "python"
    """What it is written in: a name in `languages.LANGUAGES`."""

    @property
    def sha256(self) -> str | None:
        """SHA-256 (hex) of the program; None if there is none."""
        if self.program is None:
            return None
        return hashlib.sha256(self.program.encode("utf-8", "surrogatepass")).hexdigest()

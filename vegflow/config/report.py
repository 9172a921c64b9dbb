"""What the report says about a run in words; no number in it depends on this block."""

from pydantic import Field

from vegflow.config.block import Block


class ReportFacts(Block):
    """Texts at the head of the report, written by whoever ran the study."""

    title: str = "vegflow study"
    model: str = "not stated"
    """The language model and its size."""
    tasks: str = "not stated"
    """Where the tasks come from and how large their inputs are."""
    hardware: str = "not stated"
    """What the candidates ran on."""
    sampling: str = "not stated"
    """Temperature and token limit."""
    evaluation: str = "not stated"
    """Correctness and timing trials, timing protocol."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions that matter, by package name."""
    command: str = ""
    """The command that ran the study."""
    notes: tuple[str, ...] = ()
    """Further differences from the paper, one sentence each."""

"""What the tables of staged verification depend on beside the files they are made from.

Knows the slices of a study's `verification` and `statistics` blocks that each of its rules reads.
"""

from pydantic import Field

from vegflow.config.block import Block
from vegflow.config.verification import VerificationConfig

COLLECTED = ("domain", "rollouts", "tasks", "samples", "workers", "test_s", "memory_mb", "seed")
"""Settings of an entry that its pool and outcome matrix depend on; another pipeline is none of them."""
NOT_RUN = ("ks",)
"""Settings that running pipelines does not depend on."""


class FrontierConfig(Block):
    """Settings of the job that makes the tables."""

    verification: dict[str, VerificationConfig]
    bootstrap: int = Field(2000, ge=100)
    confidence: float = Field(0.95, gt=0, lt=1)
    seed: int = Field(0, ge=0)

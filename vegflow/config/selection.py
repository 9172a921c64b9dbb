"""How one sample is picked out of K: the part of the `statistics` block that selection reads.

Kept apart from the rest of that block so that a change of, say, the bootstrap does not select again.
"""

from pydantic import Field

from vegflow.config.block import Block


class SelectionConfig(Block):
    """The strategies to apply; their rules live in `vegflow.selection`."""

    strategies: tuple[str, ...] = Field(min_length=1)
    """Names such as `surprisal-guided`; a name ending in `-topM` times its first M correct samples, keeps the fastest."""


def paper_strategies(top_m: int) -> tuple[str, ...]:
    """The paper's five strategies (Table 1) and the two controls its top-3 lacks, with short lists of `top_m`."""
    return (
        "best-correct",
        f"surprisal-guided-top{top_m}",
        f"random-top{top_m}",
        f"confidence-top{top_m}",
        "surprisal-guided",
        "random-correct",
        "confidence-guided",
    )


def default_strategies(top_m: int) -> tuple[str, ...]:
    """Those of the paper, and what the field would compare with: other NLL choices, length, majority, rarity, spread.

    The last two need columns that only rollouts from elsewhere have; where a column is not there, its strategy is not.
    """
    return (
        *paper_strategies(top_m),
        "surprisal-guided@mean",
        "confidence-guided@mean",
        "surprisal-guided@tempered",
        "middle-surprisal",
        f"surprisal-diverse-top{top_m}",
        "shortest",
        "longest",
        "majority-program",
        "rarest-program",
        "confidence-guided@entropy",
        "confidence-guided@self-certainty",
    )

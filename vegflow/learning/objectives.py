"""Named objectives: a reward, an advantage, a loss and how it is aggregated."""

from dataclasses import dataclass

from vegflow.learning.advantages import ADVANTAGES, Advantage
from vegflow.learning.losses import AGGREGATIONS, LOSSES, Aggregation, TokenLoss
from vegflow.learning.rewards import REWARDS, Reward


@dataclass(frozen=True)
class Objective:
    """What an update maximises."""

    reward: Reward
    advantage: Advantage
    loss: TokenLoss
    aggregation: Aggregation


PRESETS: dict[str, Objective] = {
    "grpo": Objective(REWARDS["speedup"], ADVANTAGES["group_z"], LOSSES["clipped"], AGGREGATIONS["seq_mean"]),
    "dr_grpo": Objective(REWARDS["speedup"], ADVANTAGES["centred"], LOSSES["clipped"], AGGREGATIONS["constant"]),
    "paper_ttt": Objective(
        REWARDS["running_median"],
        ADVANTAGES["global_z"],
        LOSSES["importance_sampling"],
        AGGREGATIONS["token_sum"],
    ),
}
"""`grpo` is what the paper's text describes, `paper_ttt` what its released code does, `dr_grpo` is GRPO without its
normalisations, which a reward with timing noise needs."""

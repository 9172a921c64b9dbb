"""What must hold between the entries of `verification` and the rest of a study: every name that they use is there.

Knows names alone; whether files exist is asked by `vegflow.plan`, which knows where the study stands.
"""

from collections.abc import Collection, Iterator, Mapping

from vegflow.config.reward_model import RewardModelConfig
from vegflow.config.verification import VerificationConfig

SHIPPED = ("own", "humaneval")
"""Values of `tasks` that are no path."""


def verification_problems(
    entries: Mapping[str, VerificationConfig],
    sample_sets: Collection[str],
    reward_models: Mapping[str, RewardModelConfig],
) -> list[str]:
    """One sentence for each name that leads nowhere."""
    return [
        f"verification.{name}.{problem}"
        for name, entry in entries.items()
        for problem in (*_rollouts(entry, sample_sets), *_orm(name, entry, reward_models), *_ks(entry))
    ]


def is_file(text: str) -> bool:
    """Whether a setting names a file, and no part of the study."""
    return text.endswith(".parquet")


def uses_orm(entry: VerificationConfig) -> bool:
    """Whether a pipeline ranks by a reward model."""
    return any(stage.name == "orm" for stages in entry.parsed().values() for stage in stages)


def _rollouts(entry: VerificationConfig, sample_sets: Collection[str]) -> Iterator[str]:
    if entry.domain == "functions":
        if not is_file(entry.rollouts):
            yield f"rollouts: '{entry.rollouts}' is no Parquet file; the study's sample sets hold kernels"
    elif entry.rollouts not in sample_sets:
        known = ", ".join(sample_sets) or "none"
        yield f"rollouts: there is no sample set '{entry.rollouts}' (there are: {known})"
    elif entry.tasks != "own":
        yield f"tasks: '{entry.tasks}' is for functions; a kernel's task is that of its sample set"


def _orm(name: str, entry: VerificationConfig, reward_models: Mapping[str, RewardModelConfig]) -> Iterator[str]:
    if not entry.orm:
        if uses_orm(entry):
            yield "orm: a pipeline has the stage orm; name a reward model and its loss, or a file of scores"
        return
    if is_file(entry.orm):
        return
    model, _, loss = entry.orm.partition(".")
    if model not in reward_models:
        known = ", ".join(f"{name}.{loss}" for name, one in reward_models.items() for loss in one.losses) or "none"
        yield f"orm: there is no reward model '{entry.orm}' (there are: {known})"
    elif loss not in reward_models[model].losses:
        yield f"orm: reward_models.{model} has no loss '{loss}' (it has: {', '.join(reward_models[model].losses)})"
    elif name != reward_models[model].train and entry.rollouts not in reward_models[model].score:
        yield f"orm: reward_models.{model}.score does not name '{entry.rollouts}', so there are no scores of it"


def _ks(entry: VerificationConfig) -> Iterator[str]:
    if min(entry.ks) < 1 or list(entry.ks) != sorted(set(entry.ks)):
        yield f"ks: must be distinct counts from 1 upwards in rising order, not {list(entry.ks)}"

"""The study as written in `config.yaml`: every block, and what must hold between them.

Knows the file's grammar alone; what follows from it (files, jobs, targets) is `vegflow.plan`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from vegflow.config.analysis import AnalysisConfig, ComparisonConfig
from vegflow.config.block import Block
from vegflow.config.engines import LARGEST_RANK
from vegflow.config.errors import sentences
from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.learning import UpdateConfig
from vegflow.config.reward_model import RewardModelConfig
from vegflow.config.sampling import SamplingConfig
from vegflow.config.tasks import TasksConfig
from vegflow.config.verification import VerificationConfig
from vegflow.config.verification_names import verification_problems
from vegflow.errors import ConfigError
from vegflow.tasks.load import task_sets

NAME = r"^[a-z][a-z0-9_]*$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
Seeds = Annotated[tuple[int, ...], Field(min_length=1)]
POLICY = re.compile(r"^(?:base|(?P<trajectory>[a-z][a-z0-9_]*)@(?P<step>last|all|\d+))$")


class TrajectoryConfig(UpdateConfig):
    """A chain of policies, each one update after the one before."""

    start: str = "base"
    """Policy of step 0: `base`, or `TRAJECTORY@STEP` with a step number or `last`."""
    tasks: str | tuple[str, ...]
    """A task set's name, or a list of task sets and task ids."""
    isolated: bool = False
    """Each task has a trajectory of its own: `ttt` on L1/4 is `ttt_l1_4`, and references name it so (`ttt_l1_4@last`)."""
    demonstrations: str | None = None
    """Learn from known programs instead of what the policy draws (a supervised warm start): a file of `resources/corpus/` without
    `.yaml`, of whose correct programs `group_size` a task and step are drawn by how common they are. Goes with loss `sft`.
    Tasks that compute what an evaluated one does (of the set `eval` or of the arms of `comparison`) are left out."""
    steps: int = Field(ge=1)
    """Updates made."""
    tasks_per_step: int | None = Field(None, ge=1)
    """Tasks drawn for a step, without replacement until all have had their turn; all of them by default."""
    group_size: int = Field(32, ge=2)
    """Rollouts, or demonstrations, per task and step."""
    seeds: Seeds = (42,)
    """One run per seed."""
    optimizer_state: Literal["fresh", "carried"] = "fresh"
    """AdamW's state at the first step: `fresh`, as in the paper's code, or `carried` over from the policy it starts from."""

    def update(self) -> UpdateConfig:
        """The slice that one update depends on."""
        return UpdateConfig(**{name: getattr(self, name) for name in UpdateConfig.model_fields})


class SampleSetConfig(Block):
    """K rollouts of each task from one policy, per seed."""

    policy: str = "base"
    """`base`, or `TRAJECTORY@STEP` with a step number or `last`."""
    tasks: str | tuple[str, ...]
    """Task sets and task ids. Each entry is a batch with files of its own: adding one leaves the others untouched."""
    k: int = Field(64, ge=1)
    """Rollouts per task and seed; a multiple of `shard_size`."""
    shard_size: int = Field(32, ge=1)
    """Rollouts per task in one file; K is a number of shards, so raising it adds files and rewrites none."""
    seeds: Seeds = (42,)
    """K rollouts of each task per seed."""


class ProbeConfig(Block):
    """The surprisal of fixed rollouts under other policies."""

    rollouts: str
    """A sample set."""
    policies: str
    """`TRAJECTORY@all`, or one step."""
    tasks: tuple[str, ...] | None = None
    """Entries of the sample set's `tasks`; all of them by default."""
    seeds: Seeds | None = None
    """Seeds of the sample set; all of them by default. Each is scored by the trajectory of the same seed."""


class StudyConfig(Block):
    """A whole study."""

    study: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    """Name of the folder under `results/`."""
    model: str
    """A file of `resources/models/`, without `.yaml`, or a path to one."""
    tasks: TasksConfig = TasksConfig()
    sampling: SamplingConfig = SamplingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    trajectories: dict[Name, TrajectoryConfig] = Field(default_factory=dict)
    sample_sets: dict[Name, SampleSetConfig] = Field(default_factory=dict)
    probes: dict[Name, ProbeConfig] = Field(default_factory=dict)
    reward_models: dict[Name, RewardModelConfig] = Field(default_factory=dict)
    verification: dict[Name, VerificationConfig] = Field(default_factory=dict)
    comparison: ComparisonConfig | None = None
    """Which sample set stands for search and which trajectory for adaptation in the paper's comparison."""
    statistics: AnalysisConfig = AnalysisConfig()


def parse_study(raw: Mapping[str, Any], where: str = "config.yaml") -> StudyConfig:
    """Validate a study and the names it uses; an isolated trajectory becomes one for each of its tasks.

    Raises ConfigError: one line that names each wrong place in the file `where`.
    """
    try:
        study = _isolate(StudyConfig.model_validate({**raw, "trajectories": _inherit(raw.get("trajectories") or {})}))
    except ValidationError as error:
        raise ConfigError(f"{where}: {sentences(error)}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    problems = [
        *_filter_problems(study),
        *_engine_problems(study),
        *_trajectory_problems(study),
        *_sample_set_problems(study),
        *_reference_problems(study),
        *_reward_model_problems(study),
        *verification_problems(study.verification, study.sample_sets, study.reward_models),
    ]
    if problems:
        raise ConfigError(f"{where}: " + "; ".join(problems))
    return study


def policy_reference(text: str) -> tuple[str, str] | None:
    """`NAME@STEP` as (name, step); None for `base`. Raises ValueError for anything else."""
    match = POLICY.match(text)
    if not match:
        raise ValueError(f"'{text}' is no policy; write base, NAME@last or NAME@STEP")
    return (match["trajectory"], match["step"]) if match["trajectory"] else None


def _inherit(trajectories: Any) -> Any:
    """Entries with `like: OTHER` take OTHER's settings where they have none of their own."""
    if not isinstance(trajectories, Mapping):
        return trajectories

    def resolve(name: str, seen: tuple[str, ...]) -> Any:
        entry = trajectories[name]
        if not isinstance(entry, Mapping) or "like" not in entry:
            return entry
        parent = entry["like"]
        if parent not in trajectories:
            raise ConfigError(f"trajectories.{name}.like: there is no trajectory '{parent}'")
        if parent in seen:
            raise ConfigError(f"trajectories.{name}.like: goes in a circle ({' -> '.join([*seen, parent])})")
        inherited = resolve(parent, (*seen, parent))
        return {**inherited, **{key: value for key, value in entry.items() if key != "like"}}

    return {name: resolve(name, (name,)) for name in trajectories}


def _isolate(study: StudyConfig) -> StudyConfig:
    """Every trajectory marked `isolated` as one trajectory per task, in its place. Raises ConfigError for a name taken twice."""
    sets, made = task_sets(study.tasks), {}
    for name, trajectory in study.trajectories.items():
        parts = _isolated(name, trajectory, sets) if trajectory.isolated else {name: trajectory}
        if taken := [part for part in parts if part in made or (part in study.trajectories and part != name)]:
            raise ConfigError(f"trajectories.{name}: a trajectory '{taken[0]}' is there already; call one differently")
        made |= parts
    return study.model_copy(update={"trajectories": made})


def _isolated(
    name: str, trajectory: TrajectoryConfig, sets: Mapping[str, tuple[str, ...]]
) -> dict[str, TrajectoryConfig]:
    """The trajectories of its tasks by name; an unknown set or a task named twice is left for `vegflow.plan` to refuse."""
    entries = (trajectory.tasks,) if isinstance(trajectory.tasks, str) else trajectory.tasks
    tasks = [task for entry in entries for task in sets.get(entry, (entry,))]
    if len(set(tasks)) < len(tasks) or not all("/" in task for task in tasks):
        return {name: trajectory}
    return {
        f"{name}_{re.sub('[^a-z0-9]+', '_', task.lower())}": trajectory.model_copy(
            update={"isolated": False, "tasks": task}
        )
        for task in tasks
    }


def _policy_problem(study: StudyConfig, text: str, place: str, *, every: bool = False) -> str | None:
    try:
        reference = policy_reference(text)
    except ValueError as error:
        return f"{place}: {error}"
    if reference is None:
        return None
    name, step = reference
    if name not in study.trajectories:
        known = ", ".join(study.trajectories) or "none"
        return f"{place}: there is no trajectory '{name}' (there are: {known})"
    if step == "all" and not every:
        return f"{place}: '{text}' means several policies; name one step"
    if step.isdigit() and int(step) > study.trajectories[name].steps:
        return f"{place}: {name} has steps 0 to {study.trajectories[name].steps}, not {step}"
    return None


def _filter_problems(study: StudyConfig) -> list[str]:
    """Filters in a study that trains: an update divides by the probability of the whole distribution, which was not drawn from."""
    if not study.trajectories or not study.sampling.filters:
        return []
    names = ", ".join(study.sampling.filters)
    return [
        f"sampling.{names}: trajectories learn from rollouts of the whole distribution, and this draws from a part of it; "
        "leave it out, or sample in a study without trajectories"
    ]


def _engine_problems(study: StudyConfig) -> list[str]:
    """Adapters that the engine cannot sample from; what it cannot draw, `SamplingConfig` refuses, and which models, `vegflow.plan`."""
    if study.sampling.engine == "transformers":
        return []
    problems = []
    for name, trajectory in study.trajectories.items():
        lora, place = trajectory.lora, f"trajectories.{name}.lora"
        if lora.expert_parameters:
            problems.append(
                f"{place}.expert_parameters: vLLM does not take adapters of parameters that are no modules; "
                "leave it out, or take sampling.engine: transformers"
            )
        if lora.rank > LARGEST_RANK:
            problems.append(f"{place}.rank: vLLM takes at most {LARGEST_RANK}, not {lora.rank}")
    return problems


def _trajectory_problems(study: StudyConfig) -> list[str]:
    problems = []
    for name, trajectory in study.trajectories.items():
        place = f"trajectories.{name}"
        if problem := _policy_problem(study, trajectory.start, f"{place}.start"):
            problems.append(problem)
        elif trajectory.start == "base" and trajectory.optimizer_state == "carried":
            problems.append(f"{place}.optimizer_state: base has no optimizer to carry on; write fresh")
        elif circle := _circle(study, name):
            problems.append(f"{place}.start: goes in a circle ({' -> '.join(circle)})")
        if name in study.sample_sets:
            problems.append(f"{place}: a sample set has the same name; call one of them differently")
        problems += _seed_problems(trajectory.seeds, f"{place}.seeds")
        problems += _demonstration_problems(study, name)
    return problems


def _demonstration_problems(study: StudyConfig, name: str) -> list[str]:
    """What does not go with learning from known programs."""
    trajectory, place = study.trajectories[name], f"trajectories.{name}"
    if trajectory.demonstrations is None:
        return []
    problems = []
    if (loss := trajectory.parts.loss) != "sft":
        problems.append(
            f"{place}.demonstrations: no policy drew them, so loss '{loss}' cannot learn from them; take sft"
        )
    if study.sampling.scaffold != "body":
        problems.append(
            f"{place}.demonstrations: a corpus holds bodies of forward; write sampling.scaffold: body, "
            f"not {study.sampling.scaffold}"
        )
    if study.comparison and study.comparison.adaptation == name:
        problems.append(f"comparison.adaptation: {name} learns from demonstrations and draws nothing to compare")
    return problems


def _circle(study: StudyConfig, name: str) -> list[str] | None:
    chain = [name]
    while True:
        try:
            reference = policy_reference(study.trajectories[chain[-1]].start)
        except (ValueError, KeyError):
            return None
        if reference is None or reference[0] not in study.trajectories:
            return None
        chain.append(reference[0])
        if chain[-1] in chain[:-1]:
            return chain if chain[-1] == name else None


def _sample_set_problems(study: StudyConfig) -> list[str]:
    problems = []
    for name, samples in study.sample_sets.items():
        place = f"sample_sets.{name}"
        if problem := _policy_problem(study, samples.policy, f"{place}.policy"):
            problems.append(problem)
        if samples.k % samples.shard_size:
            problems.append(f"{place}.k: {samples.k} is not a multiple of shard_size ({samples.shard_size})")
        problems += _seed_problems(samples.seeds, f"{place}.seeds")
    return problems


def _seed_problems(seeds: tuple[int, ...], place: str) -> list[str]:
    problems = [f"{place}: {seed} is negative" for seed in seeds if seed < 0]
    if len(set(seeds)) < len(seeds):
        problems.append(f"{place}: a seed stands twice")
    return problems


def _reference_problems(study: StudyConfig) -> list[str]:
    problems = []
    for name, probe in study.probes.items():
        place = f"probes.{name}"
        if probe.rollouts not in study.sample_sets:
            problems.append(f"{place}.rollouts: there is no sample set '{probe.rollouts}'")
            continue
        if problem := _policy_problem(study, probe.policies, f"{place}.policies", every=True):
            problems.append(problem)
        samples = study.sample_sets[probe.rollouts]
        entries = (samples.tasks,) if isinstance(samples.tasks, str) else samples.tasks
        for entry in probe.tasks or ():
            if entry not in entries:
                problems.append(f"{place}.tasks: '{entry}' is no entry of sample_sets.{probe.rollouts}.tasks")
        for seed in probe.seeds or ():
            if seed not in samples.seeds:
                problems.append(f"{place}.seeds: sample_sets.{probe.rollouts} has no seed {seed}")
    if study.comparison:
        wanted = {
            "search": ("sample set", study.sample_sets),
            "adaptation": ("trajectory", study.trajectories),
            "training": ("trajectory", study.trajectories),
        }
        for key, (kind, known) in wanted.items():
            name = getattr(study.comparison, key)
            if name is not None and name not in known:
                problems.append(f"comparison.{key}: there is no {kind} '{name}'")
    return problems


def _training_problem(study: StudyConfig, name: str) -> str | None:
    """Why a reward model cannot learn from what is called so."""
    own = [*study.trajectories, *study.sample_sets]
    functions = [key for key, entry in study.verification.items() if entry.domain == "functions"]
    if name in own and name in functions:
        return f"'{name}' is also an entry of verification; call one of them differently"
    if name in study.verification and name not in [*own, *functions]:
        return f"verification.{name} is of kernels; train on the rollouts that it verifies, or others"
    if name in study.trajectories and study.trajectories[name].demonstrations is not None:
        return f"trajectory {name} learns from demonstrations and draws nothing; train on rollouts of a policy"
    if name not in [*own, *functions]:
        known = ", ".join([*own, *functions]) or "none"
        return f"there is no trajectory, sample set or verification of functions '{name}' (there are: {known})"
    return None


def _reward_model_problems(study: StudyConfig) -> list[str]:
    problems = []
    for name, model in study.reward_models.items():
        place = f"reward_models.{name}"
        if problem := _training_problem(study, model.train):
            problems.append(f"{place}.train: {problem}")
        for scored in model.score:
            if scored not in study.sample_sets:
                known = ", ".join(study.sample_sets) or "none"
                problems.append(f"{place}.score: there is no sample set '{scored}' (there are: {known})")
        if len(set(model.score)) < len(model.score):
            problems.append(f"{place}.score: a sample set stands twice")
        if problem := _policy_problem(study, model.policy, f"{place}.policy"):
            problems.append(problem)
    return problems

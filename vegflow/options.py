"""What each job is told: its slice of the study as canonical JSON, which Snakemake compares to see whether it changed.

A job's parameters hold exactly what its result depends on beside its input files, so that a change elsewhere in the
study does not run it again.
"""

import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from vegflow.candidates.prompt import load_template, prompt_text
from vegflow.config.frontier import COLLECTED, NOT_RUN
from vegflow.config.study import policy_reference
from vegflow.plan import Study
from vegflow.tasks.catalogue import builtin_tasks, task_operations

REPORTED_VERSIONS = ("vegflow", "torch", "transformers", "peft", "snakemake")
MODEL_OPTIONS = ("device_map", "stop_tokens")
"""Keys of a model's file that jobs are told if they are set."""
TRAJECTORY_FACTS = ("seeds", "steps", "group_size", "start", "objective", "learning_rate")


class JobOptions:
    """Parameters of every kind of job of a study."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.config = study.config
        self.model = study.model

    def build(self) -> str:
        """Parameters of the building of a model, as canonical JSON; every built-in task is a lesson."""
        if self.model.build is None:
            return _json()
        template = load_template(self.study.root / "resources" / "prompts" / f"{self.model.prompt}.yaml")
        tasks, operations = builtin_tasks("cpu"), task_operations()
        learnt = self.model.build.tasks or tuple(tasks)
        return _json(
            build=self.model.build.model_dump(),
            prompts={task_id: prompt_text(template, tasks[task_id]) for task_id in learnt},
            operations={task_id: operations[task_id] for task_id in learnt},
        )

    def sample(self, cell: str) -> str:
        """Parameters of a sampling job, as canonical JSON."""
        return _json(
            cell=asdict(self.study.cells[cell]),
            sampling=self.config.sampling.model_dump(),
            model=self._model() | self._engine(),
            tasks=self._tasks(self.study.cells[cell].tasks),
        )

    def evaluate(self, cell: str) -> str:
        """Parameters of an evaluation job, as canonical JSON."""
        return _json(
            evaluation=self.config.evaluation.model_dump(),
            scaffold=self.config.sampling.scaffold,
            tasks=self._tasks(self.study.cell(cell).tasks),
        )

    def demonstrate(self, cell: str) -> str:
        """Parameters of drawing demonstrations, as canonical JSON: of the model, what its tokenizer depends on."""
        told = ("location", "name", "revision")
        model = {key: value for key, value in self._model().items() if key in told}
        demonstrated = self.study.demonstrations[cell]
        return _json(cell=asdict(demonstrated), model=model, tasks=self._tasks(demonstrated.tasks))

    def update(self, policy: str) -> str:
        """Parameters of an update job, as canonical JSON."""
        name, seed, step = self.study.policies[policy]
        update = self.config.trajectories[name].update()
        place = {"trajectory": name, "seed": seed, "step": step}
        model = self._model()
        if (learning := self.model.learning).processes > 1:  # sums in another order are other bytes
            model |= {"learning": learning.model_dump()}
        return _json(place=place, update=update.model_dump(), model=model, prompt=self.study.prompt)

    def rescore(self, policy: str) -> str:
        """Parameters of a rescoring job, as canonical JSON."""
        engine = self.config.sampling.model_dump(include={"engine", "url"})
        return _json(policy=policy, model=self._model() | self._engine(), engine=engine)

    def train_orm(self, name: str) -> str:
        """Parameters of the training of a reward model, as canonical JSON."""
        config = self.config.reward_models[name]
        entry = self.config.verification.get(config.train)
        functions = {"functions": entry.tasks} if entry else {}
        return _json(reward_model=name, model=self._model(), training=config.training().model_dump(), **functions)

    def score_orm(self, name: str) -> str:
        """Parameters of scoring with a reward model, as canonical JSON; how it was trained, its file says."""
        return _json(reward_model=name, model=self._model())

    def rank_orm(self, name: str, measured_on: str) -> str:
        """Parameters of measuring how well a reward model ranks, as canonical JSON."""
        config = self.config.reward_models[name]
        settings = {key: getattr(config, key) for key in ("label", "adapter", "ks", "bins")}
        return _json(reward_model=name, measured_on=measured_on, **settings)

    def verify_pool(self, name: str) -> str:
        """Parameters of collecting a pool and its outcome matrix, as canonical JSON: no pipeline is one of them."""
        entry = self.config.verification[name]
        return _json(verification=entry.model_dump(include=set(COLLECTED)), **self._verified(name))

    def verify_run(self, name: str) -> str:
        """Parameters of running an entry's pipelines, as canonical JSON."""
        entry = self.config.verification[name]
        return _json(verification=entry.model_dump(exclude=set(NOT_RUN)), **self._verified(name))

    def frontier(self) -> str:
        """Parameters of the tables of staged verification, as canonical JSON."""
        statistics = {key: getattr(self.config.statistics, key) for key in ("bootstrap", "confidence", "seed")}
        entries = {name: entry.model_dump() for name, entry in self.config.verification.items()}
        scores = {name: self.study.verification_scores(name) for name in entries}
        return _json(frontier={"verification": entries, **statistics}, scores=scores)

    def draw_frontier(self) -> str:
        """Parameters of the figures of staged verification, as canonical JSON."""
        return _json(names=list(self.config.verification))

    def select(self) -> str:
        """Parameters of selection, as canonical JSON."""
        return _json(**self.config.statistics.selection().model_dump())

    def analyse(self) -> str:
        """Parameters of the statistics, as canonical JSON."""
        return _json(facts=self._facts(), statistics=self.config.statistics.model_dump())

    def draw(self) -> str:
        """Parameters of the figures, as canonical JSON."""
        return _json(**self._facts())

    def render(self) -> str:
        """Parameters of the report, as canonical JSON."""
        return _json(facts=self._facts(), about=self._about())

    # ---- slices ---------------------------------------------------------------------------------------------------

    def _model(self) -> dict[str, Any]:
        """How the base model is loaded and spoken to."""
        keep = ("revision", "dtype", "prompt", "lora_targets")
        given = {key: value for key in MODEL_OPTIONS if (value := getattr(self.model, key))}
        if self.model.attention != "auto":
            given["attention"] = self.model.attention
        place = {"location": self.study.model_location, "name": self.study.model_name}
        return place | {key: getattr(self.model, key) for key in keep} | given

    def _engine(self) -> dict[str, Any]:
        """The model's settings for the engine that samples and scores, if it has any."""
        name = self.config.sampling.engine
        settings = getattr(self.model, name, None)
        return {name: settings.model_dump()} if settings else {}

    def _tasks(self, tasks: tuple[str, ...]) -> dict[str, Any]:
        """Where the tasks come from, and the revision of each: another reference is other work."""
        source = self.config.tasks.model_dump(exclude={"sets"})
        return {**source, "revisions": {task: self.study.tasks[task].revision for task in tasks}}

    def _verified(self, name: str) -> dict[str, Any]:
        """The tasks of an entry of `verification`, and how its candidates are run; of kernels, as the evaluator does."""
        entry = self.config.verification[name]
        if entry.domain == "functions":
            return {"source": str(self.study.function_source(name))}
        tasks = tuple(dict.fromkeys(task for cell in self.study.cells_of(entry.rollouts) for task in cell.tasks))
        return {
            "evaluation": self.config.evaluation.model_dump(),
            "scaffold": self.config.sampling.scaffold,
            "tasks": self._tasks(tasks),
        }

    def _facts(self) -> dict[str, Any]:
        """What the study holds, as the analysis needs to know it."""
        sample_sets = {
            name: {
                "k": samples.k,
                "seeds": samples.seeds,
                "tasks": self.study.named_batches(name),
                "policy": samples.policy,
            }
            for name, samples in self.config.sample_sets.items()
        }
        trajectories = {
            name: {
                **{key: getattr(trajectory, key) for key in TRAJECTORY_FACTS},
                "tasks": self.study.trajectory_tasks(name),
            }
            for name, trajectory in self.config.trajectories.items()
        }
        probes = {
            name: {
                "sample_set": probe.rollouts,
                "seeds": probe.seeds or self.config.sample_sets[probe.rollouts].seeds,
                "trajectory": reference[0],
            }
            for name, probe in self.config.probes.items()
            if (reference := policy_reference(probe.policies))
        }
        comparison = self.config.comparison and self.config.comparison.model_dump()
        return {
            "sample_sets": sample_sets,
            "trajectories": trajectories,
            "probes": probes,
            "comparison": comparison,
        }

    def _about(self) -> dict[str, Any]:
        """The run in words, for the head of the report."""
        config, evaluation, sampling = self.config, self.config.evaluation, self.config.sampling
        source = "built-in catalogue" if config.tasks.source == "builtin" else config.tasks.path or "KernelBench"
        return {
            "title": f"vegflow study: {config.study}",
            "model": self.model.description or config.model,
            "tasks": f"KernelBench level 1 ({source}), size {config.tasks.size}",
            "sampling": f"temperature {sampling.temperature}, at most {sampling.max_tokens} tokens",
            "evaluation": f"protocol {evaluation.protocol}: at least {evaluation.resolved.correctness_trials} fresh inputs "
            f"of all kinds and shapes, at most {evaluation.resolved.most_pairs} interleaved pairs of timings a group",
            "versions": {name: metadata.version(name) for name in REPORTED_VERSIONS},
            "command": "snakemake --cores all"
            + ("" if Path(self.study.where).name == "config.yaml" else f" --configfile {self.study.where}"),
        }


def _json(**parts: Any) -> str:
    return json.dumps(parts, sort_keys=True)

"""A copy of the project in a folder of its own, with every output of a small study in place, and plans made in-process."""

import logging
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

PARTS = ("Snakefile", "config.yaml", "profiles", "resources", "vegflow", "workflow")
STUDY = {
    "study": "small",
    "model": "tiny",
    "sampling": {"temperature": 0.5, "max_tokens": 32},
    "trajectories": {
        "rlvr": {"tasks": "train", "steps": 2, "tasks_per_step": 4, "group_size": 4, "learning_rate": 0.001},
        "ttt": {"start": "rlvr@last", "tasks": "subset1", "steps": 2, "group_size": 4, "seeds": [42, 43]},
    },
    "sample_sets": {
        "best_of_n": {
            "policy": "rlvr@last",
            "tasks": ["subset1", "subset2"],
            "k": 8,
            "shard_size": 8,
            "seeds": [42, 43],
        }
    },
    "probes": {"sharpening": {"rollouts": "best_of_n", "tasks": ["subset1"], "policies": "ttt@all"}},
    "verification": {
        "kernels": {
            "domain": "kernels",
            "rollouts": "best_of_n",
            "repeats": 0,
            "pipelines": {"staged": ["syntax", "full"]},
        },
        "functions": {
            "domain": "functions",
            "rollouts": "completions.parquet",
            "pipelines": {"staged": ["syntax", "full"]},
        },
    },
    "comparison": {"search": "best_of_n", "adaptation": "ttt", "training": "rlvr"},
}


class Project:
    """A working copy whose plans can be asked for; `study` is the configuration that they are made from."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.folder = folder
        self.caplog = caplog
        self.study: dict[str, Any] = yaml.safe_load(yaml.safe_dump(STUDY))

    def jobs(self, executor: str = "dryrun") -> list[Any]:
        """Records of the jobs that Snakemake would run now."""
        from snakemake.api import SnakemakeApi
        from snakemake.settings.types import (
            ConfigSettings,
            DAGSettings,
            OutputSettings,
            RerunTrigger,
            ResourceSettings,
            SchedulingSettings,
            WorkflowSettings,
        )
        from snakemake_interface_executor_plugins.settings import ExecMode  # noqa: F401

        config = self.folder / "study.yaml"
        config.write_text(yaml.safe_dump(self.study, sort_keys=False))
        _forget_modules()
        self.caplog.clear()
        with self.caplog.at_level(logging.INFO), SnakemakeApi(OutputSettings(dryrun=executor == "dryrun")) as api:
            triggers = frozenset({RerunTrigger.MTIME, RerunTrigger.PARAMS, RerunTrigger.INPUT})
            api.workflow(
                resource_settings=ResourceSettings(cores=2),
                config_settings=ConfigSettings(configfiles=[config]),
                workflow_settings=WorkflowSettings(),
                snakefile=self.folder / "Snakefile",
                workdir=self.folder,
            ).dag(
                DAGSettings(rerun_triggers=triggers, max_checksum_file_size=1 << 30, forceall=executor == "touch")
            ).execute_workflow(executor=executor, scheduling_settings=SchedulingSettings(scheduler="greedy"))
        return [r for r in self.caplog.records if getattr(r, "rule_name", None) and hasattr(r, "reason")]

    def plan(self) -> dict[str, int]:
        """Rules that would run, with the number of their jobs."""
        return dict(Counter(job.rule_name for job in self.jobs() if job.rule_name != "all"))

    def finish(self) -> None:
        """Make every output of the study exist, recorded as up to date."""
        for job in self.jobs():
            for output in job.output or ():
                path = self.folder / output
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(output)
        self.jobs(executor="touch")

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that stands once in a file."""
        file = self.folder / path
        text = file.read_text()
        assert text.count(old) == 1, f"{path}: '{old}' stands {text.count(old)} times"
        file.write_text(text.replace(old, new))

    def append(self, path: str, text: str = "\n# a comment\n") -> None:
        """Add to the end of a file."""
        with open(self.folder / path, "a") as handle:
            handle.write(text)

    def touch(self) -> None:
        """Give every file of the project, results included, a new modification time."""
        now = time.time() + 5
        for number, path in enumerate(sorted(self.folder.rglob("*"))):
            if ".snakemake" not in path.parts:
                os.utime(path, (now + number % 7, now + number % 7))

    def git(self, *arguments: str) -> None:
        """Run git in the copy."""
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=self.folder, check=True, capture_output=True)


def _forget_modules() -> None:
    """The copy's Snakefile imports the copy's package, not the one that is being tested beside it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "vegflow"]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """Folder of a finished study, to be copied, never changed."""
    return tmp_path_factory.mktemp("finished")


@pytest.fixture
def project(
    tmp_path: Path, finished: Path, root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """A finished study in a fresh copy of the project."""
    from snakemake.executors import touch

    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "vegflow"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(touch.Executor, "SLEEPING_TIME", 0.01)  # between outputs of jobs; their times still differ
    for name in ("PYTHONPATH", "VEGFLOW_SESSION"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    if not (finished / "Snakefile").exists():
        for part in PARTS:
            copy = shutil.copytree if (root / part).is_dir() else shutil.copy2
            copy(root / part, finished / part)
        (finished / "completions.parquet").write_text("planned with, never read")
        Project(finished, caplog).finish()
    copied = tmp_path / "project"
    shutil.copytree(finished, copied)
    yield Project(copied, caplog)
    _forget_modules()
    sys.modules.update(modules)

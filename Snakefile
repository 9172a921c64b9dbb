"""vegflow: test-time strategies for code that can be executed and scored, as one workflow.

    snakemake --cores all                                             the study in config.yaml
    snakemake --cores all --configfile resources/studies/NAME.yaml    another one

A study is data (config.yaml says what each key means). It is validated here, before anything runs; which files it
consists of is computed by `vegflow.plan`; the rules say what is made from what. Results lie in results/STUDY/.
"""

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from vegflow.artifacts.analysis import ANALYSIS_TABLES  # noqa: E402
from vegflow.artifacts.figures import FIGURES  # noqa: E402
from vegflow.digest import code_digest, versions  # noqa: E402
from vegflow.errors import VegflowError  # noqa: E402
from vegflow.lock import clear_stale_locks  # noqa: E402
from vegflow.options import JobOptions  # noqa: E402
from vegflow.plan import Study  # noqa: E402
from vegflow.sampling.engines import engine_packages, engine_source  # noqa: E402
from vegflow.warm import prepare_environment  # noqa: E402

# A study given on the command line stands alone: it does not inherit from config.yaml.
if not workflow.overwrite_configfiles:

    configfile: str(ROOT / "config.yaml")


try:
    study = Study(
        config,
        ROOT,
        where=os.path.relpath((workflow.configfiles or ["config.yaml"])[0]),
    )
except VegflowError as error:
    raise WorkflowError(str(error))

options = JobOptions(study)
RESULTS = study.results
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
RESOURCES = os.path.relpath(ROOT / "resources")
prepare_environment(workflow.is_main_process)
if workflow.is_main_process:
    clear_stale_locks(Path.cwd())


# Taken only with `--software-deployment-method apptainer` (not tried yet): a base for an image with requirements.lock
# installed. Otherwise jobs run in the environment that Snakemake itself runs in.
container: "docker://python:3.11-slim-bookworm"


wildcard_constraints:
    cell=r"[^/]+/seed\d+/.+",
    policy=r"base|[^/]+/seed\d+/step\d+",
    trained=r"[^/]+/seed\d+/step\d+",
    orm="[a-z][a-z0-9_]*",
    measured_on="[a-z][a-z0-9_-]*",


localrules:
    all,
    samples,
    evaluations,
    trajectories,
    reward_models,
    tables,


rule all:
    """The whole study: tables, figures and report."""
    input:
        f"{RESULTS}/report.html",
        study.reward_rankings(),


rule samples:
    """Rollouts of every sample set."""
    input:
        study.rollouts(list(study.config.sample_sets)),


rule evaluations:
    """Verdicts on every rollout."""
    input:
        study.evaluations(),


rule trajectories:
    """Every trajectory to its last step, evaluated."""
    input:
        study.evaluations(list(study.config.trajectories)),
        study.updates(),


rule reward_models:
    """Every outcome reward model, trained, and how well it ranks."""
    input:
        study.reward_rankings(),


rule tables:
    """All analysis tables."""
    input:
        f"{RESULTS}/tables/selections.parquet",
        f"{RESULTS}/tables/claims.parquet",
        study.frontier_tables(),


include: "workflow/rules/model.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/demonstrate.smk"
include: "workflow/rules/update.smk"
include: "workflow/rules/rescore.smk"
include: "workflow/rules/orm.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/verify.smk"
include: "workflow/rules/report.smk"

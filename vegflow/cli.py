"""The command `vegflow`: judge a candidate, look at a study before running it, ask why a job would run, analyse tables.

vegflow evaluate FILE          judge a candidate, or a folder or table of them (`vegflow.standalone`)
vegflow check [STUDY.yaml]     validate a study and say what it will take
vegflow why [STUDY.yaml]       what `snakemake` would run now, and the cause of each chain
vegflow analyse DIR            every table, figure and the report of rollouts and evaluations that lie in a folder
vegflow verify DIR             the frontier of pipelines of verifiers, replayed from a stored pool and outcome matrix
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

from vegflow.errors import VegflowError
from vegflow.plan import Study

ROOT = Path(__file__).resolve().parent.parent
FOLLOWS = "Input files updated by another job"
RAW = {"formatter_class": argparse.RawDescriptionHelpFormatter}


EVALUATE = """\
CANDIDATE is a file (.py, .c, .cpp, .cu), a folder of such files, or a Parquet table with the columns task_id and
program (or completion), and possibly language and rollout_id. Without --task, a file names its task by L1_12 or 12_ at
the start of its name (L1_12_mine.py, 12_mine.c), by folders (L1/12/mine.py, L1_12/mine.py, level1/12_mine.py), or as
KernelBench's runs do (level_1_problem_12_sample_0_kernel.py).

Exit status: 0 if every verdict is `correct`, 1 if one is not, 2 for bad usage or an evaluator_error."""


ANALYSE = """\
Rollouts need the columns rollout_id, task_id, logprob (sum over the completion, temperature 1) and n_tokens; evaluations
rollout_id, correct and speedup (0 unless correct). Further columns are used where they are there (docs/reference.md): source, step,
seed, index, policy_id, logprob_tempered, completion; candidate_sha256, status, fast, speedup_low, speedup_high. Scores of other
policies (nll) and update records are read where they lie beside them. A study's own folder results/STUDY is such a folder."""


VERIFY = """\
Nothing is run: what each check said of each candidate is stored, and a pipeline is a replay of it. FILE.yaml may say
  mine: [syntax, {tests: 3}, {majority: top 2}, {full: first}]
docs/verification.md has every stage. Costs are those of runs.parquet and stage_costs.parquet where they lie beside."""


def main() -> None:
    """Run the command line; a VegflowError ends it with its message and status 1 (2 for `evaluate`)."""
    args = parser().parse_args()
    if args.command == "evaluate":
        from vegflow.standalone.command import run  # imports torch, which a look at a study does without

        sys.exit(run(args))
    try:
        if args.command == "analyse":
            print(analyse(args))
        elif args.command == "verify":
            print(verify(args))
        else:
            print(check(args.study) if args.command == "check" else why(args.study))
    except VegflowError as error:
        sys.exit(f"vegflow: {error}")


def parser() -> argparse.ArgumentParser:
    """The options of every command."""
    top = argparse.ArgumentParser(prog="vegflow", description=__doc__.split("\n")[0])
    commands = top.add_subparsers(dest="command", required=True)
    _add_evaluate(commands.add_parser("evaluate", help="judge a candidate, or many", epilog=EVALUATE, **RAW))
    for name, text in (("check", "validate a study"), ("why", "say what would run, and why")):
        command = commands.add_parser(name, help=text)
        command.add_argument("study", nargs="?", default="config.yaml", help="the study's file (default: config.yaml)")
    _add_analyse(commands.add_parser("analyse", help="analyse stored tables", epilog=ANALYSE, **RAW))
    _add_verify(commands.add_parser("verify", help="replay pipelines of verifiers", epilog=VERIFY, **RAW))
    return top


def _add_verify(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("folder", metavar="DIR", help="holds pool.parquet and checks.parquet, as results/STUDY/verification/NAME does")
    add("--pipelines", metavar="FILE.yaml", help="name -> list of stages (default: seven common ones)")
    add("--scores", metavar="FILE.parquet", help="scores that the stage orm ranks by")
    add("--ks", metavar="K", type=int, nargs="+", default=[8, 64], help="samples of a task that enter (default: 8 64)")
    add("--output", metavar="DIR", help="where the tables go (default: DIR/frontier)")


def verify(args: argparse.Namespace) -> str:
    """Replay pipelines on a folder; the frontier as text. Raises VegflowError for what does not fit."""
    from vegflow.standalone.verify import frontier_text, verify_folder

    if min(args.ks) < 1:
        raise VegflowError(f"--ks {min(args.ks)}: write counts from 1 upwards")
    tables = verify_folder(args.folder, args.output, pipelines=args.pipelines, scores=args.scores, ks=args.ks)
    return frontier_text(tables)


def _add_analyse(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("folder", metavar="DIR", help="holds rollouts and evaluations (NAME.parquet or NAME/**/*.parquet)")
    add("--output", metavar="DIR", help="where tables, figures and report.html go (default: DIR/analysis)")
    add("--search", metavar="SAMPLE_SET", help="the comparison's sample set (default: told from the policies)")
    add("--adaptation", metavar="TRAJECTORY", help="the comparison's trajectory")
    add("--training", metavar="TRAJECTORY", help="the trajectory that made the policy both start from")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="any key of a study's statistics block")
    add("--cores", type=int, default=1, help="processes that share large tables (default: 1)")
    add("--no-report", action="store_true", help="tables only")


def analyse(args: argparse.Namespace) -> str:
    """Analyse a folder of tables; says where the result lies. Raises VegflowError for what does not fit."""
    from pydantic import ValidationError

    from vegflow.config.analysis import AnalysisConfig, ComparisonConfig
    from vegflow.config.errors import sentences
    from vegflow.standalone.analyse import analyse_folder

    if bool(args.search) != bool(args.adaptation):
        raise VegflowError("--search and --adaptation go together")
    try:
        settings = {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in args.set)}
        config = AnalysisConfig(**settings)
    except ValidationError as error:
        raise VegflowError(f"--set: {sentences(error)}") from error
    compared = (
        ComparisonConfig(search=args.search, adaptation=args.adaptation, training=args.training)
        if args.search
        else None
    )
    made = analyse_folder(
        args.folder, args.output, comparison=compared, config=config, report=not args.no_report, cores=args.cores
    )
    return f"{args.folder}: analysed, {made}"


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("candidate", metavar="CANDIDATE", help="a file, a folder of files, or a Parquet table")
    add("--task", help="for all candidates: an id (L1/12, or 12 for one of level 1) or a KernelBench problem file")
    add("--size", choices=("cpu", "paper"), default="cpu", help="shapes of the built-in tasks (default: cpu)")
    add(
        "--kernelbench", metavar="PATH", help="take ids from this checkout, Parquet file or hub data set of KernelBench"
    )
    add("--scaffold", choices=("full", "body"), help="a whole program or the body of a forward (default: by its looks)")
    add("--protocol", choices=("fast", "full", "paper"), help="how much is tried and timed (default: fast)")
    add("--reference", choices=("eager", "compile"), help="what is timed against (default: eager)")
    add("--device", choices=("auto", "cpu", "cuda"), help="where candidates run (default: auto)")
    add("--isolation", choices=("report", "strict"), help="strict: refuse to run with less than all layers")
    add("--seed", type=int, help="of the inputs, for debugging (default: a secret one)")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="any other key of a study's evaluation block")
    add("--store", metavar="DIR", help="where verdicts are kept (default: in the user's cache)")
    add("--no-store", action="store_true", help="keep no verdict and judge anew")
    add("--output", metavar="FILE.parquet", help="write the verdicts as a table; needed for many candidates")
    add("--json", action="store_true", help="print one JSON object")


def check(path: str) -> str:
    """A valid study in a few lines. Raises ConfigError, one line naming each wrong place."""
    study = read_study(path)
    rollouts = sum(len(cell.tasks) * cell.count for cell in study.cells.values())
    lines = [
        f"{path}: valid",
        f"  model       {study.config.model} ({study.model_location})",
        f"  tasks       {len(study.tasks)} of {study.config.tasks.source}, size {study.config.tasks.size}",
        f"  rollouts    {rollouts} in {len(study.cells)} files",
        *_demonstrated(study),
        f"  updates     {len(study.policies)} in {len(study.config.trajectories)} trajectories",
        f"  rescoring   {len(study.scores())} files",
        f"  results     {study.results}/report.html",
    ]
    return "\n".join(lines)


def _demonstrated(study: Study) -> Iterator[str]:
    """A line for each trajectory that learns from known programs."""
    for name, trajectory in study.config.trajectories.items():
        if trajectory.demonstrations:
            kept, all_tasks = study.trajectory_tasks(name), study.expand(trajectory.tasks, f"trajectories.{name}.tasks")
            yield (
                f"  taught      {name}: programs of {len(kept)} of its {len(all_tasks)} tasks "
                "(the corpus knows no program of the others, or they compute what an evaluated task does)"
            )


def read_study(path: str) -> Study:
    """The study in a file. Raises ConfigError if there is no such file or it is not valid."""
    file = Path(path)
    if not file.exists():
        raise VegflowError(f"{path}: there is no such file")
    try:
        raw = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise VegflowError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise VegflowError(f"{path}: a study is a mapping of keys to values, not {type(raw).__name__}")
    return Study(raw, ROOT, where=path)


def why(path: str) -> str:
    """What would run: jobs by rule, and each job that does not merely follow another, with Snakemake's reason."""
    read_study(path)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--cores", "1"]
    command += ["--workflow-profile", str(ROOT / "profiles" / "default"), "--configfile", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VegflowError((done.stderr or done.stdout).strip().splitlines()[-1])
    jobs = list(planned(done.stdout + done.stderr))
    if not jobs:
        return "nothing to be done"
    counts = ", ".join(f"{n} {rule}" for rule, n in Counter(rule for rule, _, _ in jobs).items())
    lines = [f"{len(jobs)} jobs: {counts}", "where it starts:"]
    for rule, output, reason in jobs:
        causes = [part for part in reason.split("; ") if not part.startswith(FOLLOWS)]
        if causes and FOLLOWS not in reason:
            lines.append(f"  {rule} {output}: {'; '.join(causes)[:300]}")
    return "\n".join(lines)


def planned(text: str) -> Iterator[tuple[str, str, str]]:
    """(rule, first output, reason) of each job in the text of a dry run, `all` left out."""
    for block in re.split(r"\n(?=(?:local)?rule )", text):
        head = re.match(r"(?:local)?rule (\w+):", block)
        reason = re.search(r"^    reason: (.*)$", block, re.MULTILINE)
        output = re.search(r"^    output: ([^,\n]*)", block, re.MULTILINE)
        if head and reason and head[1] != "all":
            yield head[1], output[1] if output else "", reason[1]


if __name__ == "__main__":
    main()

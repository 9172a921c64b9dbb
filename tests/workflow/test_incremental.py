"""The incremental contract: for each kind of edit, exactly the jobs that run again."""

import copy
import shutil
import subprocess
import sys

import pytest

ANALYSIS = {"select": 1, "analyse": 1, "draw": 1, "render": 1}
STATISTICS = {"analyse": 1, "draw": 1, "render": 1}
FRONTIER = {"frontier": 1, "draw_frontier": 1, "render": 1}
KERNELS = {"verify_pool": 1, **FRONTIER}
EVERYTHING = {"sample": 13, "evaluate": 13, "update": 6, "rescore": 6, **KERNELS, **ANALYSIS}


def change(*path, to):
    def edit(project):
        block = project.study
        for key in path[:-1]:
            block = block.setdefault(key, {})
        block[path[-1]] = to(block.get(path[-1])) if callable(to) else to

    return edit


def comment(path):
    return lambda project: project.append(path)


def both(*edits):
    return lambda project: [edit(project) for edit in edits]


EDITS = {
    "nothing": (lambda project: None, {}),
    "touch everything": (lambda project: project.touch(), {}),
    # More work: only the new.
    "K from 8 to 16": (
        change("sample_sets", "best_of_n", "k", to=16),
        {"sample": 4, "evaluate": 4, "rescore": 6, **KERNELS, **ANALYSIS},
    ),
    "one more seed of the sample set": (
        change("sample_sets", "best_of_n", "seeds", to=[42, 43, 44]),
        {"sample": 2, "evaluate": 2, "rescore": 3, **KERNELS, **ANALYSIS},
    ),
    "one more task in the sample set": (
        change("sample_sets", "best_of_n", "tasks", to=["subset1", "subset2", "L1/36"]),
        {"sample": 2, "evaluate": 2, **KERNELS, **ANALYSIS},
    ),
    "one more step of test-time training": (
        change("trajectories", "ttt", "steps", to=3),
        {"sample": 2, "evaluate": 2, "update": 2, "rescore": 2, **STATISTICS},
    ),
    "one more seed of test-time training": (
        change("trajectories", "ttt", "seeds", to=[42, 43, 44]),
        {"sample": 3, "evaluate": 3, "update": 2, **STATISTICS},
    ),
    "another trajectory": (
        change("trajectories", "code", to={"like": "ttt", "objective": "paper_ttt"}),
        {"sample": 6, "evaluate": 6, "update": 4, **STATISTICS},
    ),
    "one step of RLVR more, on which all else rests": (
        change("trajectories", "rlvr", "steps", to=3),
        {"sample": 1 + 6 + 4, "evaluate": 11, "update": 1 + 4, "rescore": 6, **KERNELS, **ANALYSIS},
    ),
    # Other settings: what they touch.
    "the level of intervals": (change("statistics", "confidence", to=0.9), {**FRONTIER, **STATISTICS}),
    "the strategies": (change("statistics", "strategies", to=["best-correct", "random-correct"]), ANALYSIS),
    "the learning rate of test-time training": (
        change("trajectories", "ttt", "learning_rate", to=0.5),
        {"sample": 4, "evaluate": 4, "update": 4, "rescore": 4, **STATISTICS},
    ),
    "the evaluator's protocol": (
        change("evaluation", "timing_trials", to=9),
        {"sample": 12, "evaluate": 13, "update": 6, "rescore": 6, **KERNELS, **ANALYSIS},
    ),
    "the same settings written out and reordered": (
        both(
            change("sampling", to={"max_tokens": "32", "scaffold": "body", "temperature": 0.5}),
            change("tasks", to={"size": "cpu", "source": "builtin"}),
        ),
        {},
    ),
    "another model": (
        both(
            lambda project: (project.folder / "resources/models/other.yaml").write_text("hub: a/b\nrevision: c\n"),
            change("model", to="other"),
        ),
        EVERYTHING,
    ),
    # Staged verification: what is stored is replayed, what a pipeline costs is measured.
    "another pipeline of functions": (
        change("verification", "functions", "pipelines", "more", to=["one_test", "majority"]),
        {"verify_run": 1, **FRONTIER},
    ),
    "another pipeline of kernels, which are not run": (
        change("verification", "kernels", "pipelines", "more", to=["one_test", "majority"]),
        FRONTIER,
    ),
    "one more repeat": (change("verification", "functions", "repeats", to=6), {"verify_run": 1, **FRONTIER}),
    "another k": (change("verification", "functions", "ks", to=[2, 4]), FRONTIER),
    "the limit of a test": (
        change("verification", "functions", "test_s", to=2.0),
        {"verify_pool": 1, "verify_run": 1, **FRONTIER},
    ),
    "another entry": (
        change("verification", "again", to={"domain": "functions", "rollouts": "completions.parquet", "repeats": 0}),
        {"verify_pool": 1, **FRONTIER},
    ),
    "the completions": (comment("completions.parquet"), {"verify_pool": 1, "verify_run": 1, **FRONTIER}),
    "a function of the catalogue": (
        comment("resources/functions/lists.yaml"),
        {"verify_pool": 1, "verify_run": 1, **FRONTIER},
    ),
    "the code of the frontier": (comment("vegflow/statistics/frontier.py"), FRONTIER),
    "the code of replays": (comment("vegflow/verification/replay.py"), FRONTIER),
    "the code of running functions": (
        comment("vegflow/evaluation/function_child.py"),
        {"verify_pool": 2, "verify_run": 1, **FRONTIER},
    ),
    "the code of the figures of the frontier": (
        comment("vegflow/report/staged_figures.py"),
        {"draw_frontier": 1, "render": 1},
    ),
    "the section on staged verification": (comment("vegflow/report/staged.html.j2"), {"render": 1}),
    "the numbers of the paper on staged verification": (comment("resources/paper/staged.yaml"), FRONTIER),
    # Code: the stage and what depends on it.
    "the code of figures": (comment("vegflow/report/figures.py"), {"draw": 1, "render": 1}),
    "the code of the report": (comment("vegflow/report/render.py"), {"render": 1}),
    "the report's template": (comment("vegflow/report/report.html.j2"), {"render": 1}),
    "the code of statistics": (comment("vegflow/statistics/paired.py"), {**FRONTIER, **STATISTICS}),
    "the code of selection": (comment("vegflow/selection.py"), ANALYSIS),
    "the code of rescoring": (comment("vegflow/rescoring.py"), {"rescore": 6, **STATISTICS}),
    "the code of the objectives": (
        comment("vegflow/learning/losses.py"),
        {"sample": 12, "evaluate": 12, "update": 6, "rescore": 6, **KERNELS, **ANALYSIS},
    ),
    "the code of extraction": (
        comment("vegflow/candidates/extract.py"),
        {"sample": 12, "evaluate": 13, "update": 6, "rescore": 6, **KERNELS, **ANALYSIS},
    ),
    "the code of sampling": (comment("vegflow/sampling/engine.py"), EVERYTHING),
    "the code that builds the model": (comment("vegflow/models/tiny.py"), {"build_model": 1, **EVERYTHING}),
    "the script of a stage": (comment("workflow/scripts/select.py"), ANALYSIS),
    "the planner and the rules' text": (
        both(comment("vegflow/plan.py"), comment("vegflow/digest.py"), comment("workflow/rules/sample.smk")),
        {},
    ),
    "the documentation": (lambda project: (project.folder / "README.md").write_text("new"), {}),
    # Data.
    "a prompt": (comment("resources/prompts/compact.yaml"), EVERYTHING),
    "a prompt of another model": (comment("resources/prompts/chat.yaml"), {}),
    "the paper's numbers": (comment("resources/paper/results.yaml"), STATISTICS),
}


@pytest.mark.parametrize(("edit", "expected"), EDITS.values(), ids=EDITS.keys())
def test_an_edit_runs_again(project, edit, expected):
    edit(project)
    assert project.plan() == expected


ORM = {"train": "rlvr", "score": ["best_of_n"]}
TRAINED = {"train_orm": 1, "score_orm": 4, "rank_orm": 2, "render": 1}
ORM_EDITS = {
    "nothing": (lambda project: None, {}),
    "K from 8 to 16": (
        change("sample_sets", "best_of_n", "k", to=16),
        {"sample": 4, "evaluate": 4, "rescore": 6, "score_orm": 4, "rank_orm": 1, **KERNELS, **ANALYSIS},
    ),
    "what is measured": (change("reward_models", "orm", "ks", to=[1, 2]), {"rank_orm": 2, "render": 1}),
    "what is learnt": (change("reward_models", "orm", "label", to="fast_1"), TRAINED),
    "the code of the losses": (comment("vegflow/learning/reward_losses.py"), TRAINED),
    "the code of the rankings": (comment("vegflow/statistics/reward_ranking.py"), {"rank_orm": 2, "render": 1}),
}


def test_a_reward_model_is_jobs_of_its_own(project):
    project.study["reward_models"] = {"orm": ORM}
    assert project.plan() == TRAINED
    project.finish()
    finished = project.study
    for name, (edit, expected) in ORM_EDITS.items():
        project.study = copy.deepcopy(finished)
        before = {path: path.read_bytes() for path in (project.folder / "vegflow").rglob("*.py")}
        edit(project)
        assert project.plan() == expected, name
        for path, text in before.items():
            if path.read_bytes() != text:
                path.write_bytes(text)


WARM = {"tasks": "train", "demonstrations": "level1", "objective": "sft", "tasks_per_step": 4, "group_size": 4}
WARM_EDITS = {
    "nothing": (lambda project: None, {}),
    "one more step": (
        change("trajectories", "warm", "steps", to=3),
        {"demonstrate": 1, "evaluate_demonstrations": 1, "update": 1, **STATISTICS},
    ),
    "the corpus": (
        comment("resources/corpus/level1.yaml"),
        {"build_model": 1, **EVERYTHING, "demonstrate": 2, "evaluate_demonstrations": 2, "update": 8},
    ),
    "the learning rate": (change("trajectories", "warm", "learning_rate", to=0.5), {"update": 2, **STATISTICS}),
    "the code of demonstrations": (
        comment("workflow/scripts/demonstrate.py"),
        {"demonstrate": 2, "evaluate_demonstrations": 2, "update": 2, **STATISTICS},
    ),
}


def test_a_warm_start_is_jobs_of_its_own(project):
    project.study["trajectories"]["warm"] = WARM | {"steps": 2}
    assert project.plan() == {"demonstrate": 2, "evaluate_demonstrations": 2, "update": 2, **STATISTICS}
    project.finish()
    finished = project.study
    for name, (edit, expected) in WARM_EDITS.items():
        project.study = copy.deepcopy(finished)
        files = ("workflow/scripts/demonstrate.py", "resources/corpus/level1.yaml")
        before = {project.folder / file: (project.folder / file).read_bytes() for file in files}
        edit(project)
        assert project.plan() == expected, name
        for path, text in before.items():
            if path.read_bytes() != text:
                path.write_bytes(text)


def test_another_reference_of_one_task_runs_its_batches_again(project):
    """Task 4 is in subset 1: its trajectories and its batch of the sample set, nothing of subset 2."""
    table = project.folder / "resources" / "tasks" / "level1.csv"
    row = next(line for line in table.read_text().splitlines() if line.startswith("4,"))
    project.edit("resources/tasks/level1.csv", row, row.replace("131072", "65536"))
    assert project.plan() == {"sample": 8, "evaluate": 8, "update": 4, "rescore": 6, **KERNELS, **ANALYSIS}


def test_switching_branches_there_and_back_runs_nothing(project):
    (project.folder / ".gitignore").write_text("results/\n.snakemake/\n")
    project.git("init", "--quiet")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "main")
    project.git("checkout", "--quiet", "-b", "other")
    project.append("vegflow/statistics/paired.py")
    project.append("vegflow/sampling/engine.py")
    project.git("commit", "--quiet", "--all", "--message", "other")
    assert project.plan() == EVERYTHING
    project.git("checkout", "--quiet", "-")
    assert project.plan() == {}


def test_results_copied_beside_a_fresh_clone_run_nothing(project, tmp_path):
    """Times of all files are scrambled, as a download leaves them; the records travel with the results."""
    clone = tmp_path / "elsewhere" / "clone"
    shutil.copytree(project.folder, clone, copy_function=shutil.copy)
    project.folder = clone
    project.touch()
    assert project.plan() == {}


def test_a_deleted_report_is_rendered_again(project):
    (project.folder / "results/small/report.html").unlink()
    assert project.plan() == {"render": 1}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("sampling", "temprature", to=1), "sampling.temprature: unknown key (got 1)"),
        (change("sample_sets", "best_of_n", "k", to=-3), "sample_sets.best_of_n.k: input should be greater than"),
        (
            change("trajectories", "ttt", "tasks", to="subset9"),
            "trajectories.ttt.tasks: there is no task set 'subset9'",
        ),
        (
            change("verification", "functions", "rollouts", to="absent.parquet"),
            "verification.functions.rollouts: there is no file absent.parquet",
        ),
    ],
)
def test_a_wrong_study_is_one_sentence_before_any_job(project, edit, message):
    edit(project)
    project.study["study"] = "wrong"
    with pytest.raises(Exception, match=r"study\.yaml: ") as caught:
        project.plan()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_the_slurm_profile_plans_with_what_each_rule_needs(project):
    """The second profile is parsed and planned; that it runs jobs is not tested here."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the extra `slurm`")
    project.jobs()
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--profile",
        "profiles/slurm",
        "--configfile",
        "study.yaml",
        "-n",
        "-F",
    ]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "gpu=0" in done.stdout
    assert "runtime=120" in done.stdout

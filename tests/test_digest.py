"""Digests of code follow imports and nothing else."""

from vegflow.digest import ROOT, code_digest, imports, sources, versions


def reached(script: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in sources(f"workflow/scripts/{script}.py")}


def test_a_script_reaches_what_it_runs():
    found = reached("update")
    assert {"vegflow/learning/update.py", "vegflow/learning/losses.py", "vegflow/models/packing.py"} <= found


def test_expensive_stages_do_not_reach_the_analysis_or_the_plan():
    for script in ("build_model", "sample", "evaluate", "update", "rescore"):
        rooms = {path.split("/")[1] for path in reached(script) if path.startswith("vegflow/")}
        assert not rooms & {"statistics", "report", "selection.py", "plan.py", "digest.py", "cli.py"}, script


def test_floors():
    """Lower rooms never import higher ones."""
    below = {
        "evaluation": {"learning", "models", "sampling", "rescoring.py", "statistics", "report"},
        "statistics": {"learning", "models", "sampling", "evaluation", "report"},
        "report": {"learning", "models", "sampling", "evaluation"},
        "tasks": {"candidates", "evaluation", "learning", "models", "sampling", "statistics", "report"},
        "artifacts": {"candidates", "evaluation", "learning", "models", "sampling", "statistics", "report", "tasks"},
    }
    for room, forbidden in below.items():
        for file in (ROOT / "vegflow" / room).glob("*.py"):
            rooms = {path.relative_to(ROOT).parts[1] for path in imports(file)}
            assert not rooms & forbidden, f"{room}/{file.name} imports {rooms & forbidden}"


def test_a_digest_is_named_and_stable():
    assert code_digest("workflow/scripts/select.py") == code_digest("workflow/scripts/select.py")
    assert code_digest("workflow/scripts/select.py").startswith("select:")


def test_versions_are_those_installed():
    assert versions("torch", "polars").split()[0].startswith("torch==2.")

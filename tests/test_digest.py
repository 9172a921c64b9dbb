"""Digests of code follow imports and nothing else."""

import ast

import pytest

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


def parsed(path) -> set[str]:
    """Dotted names that a parser sees imported."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files_of(names) -> set:
    candidates = {ROOT.joinpath(*name.split(".")) for name in names if name.split(".")[0] == "vegflow"}
    return {file for base in candidates for file in (base.with_suffix(".py"), base / "__init__.py") if file.exists()}


def test_no_import_is_missed_that_a_parser_sees():
    files = [*(ROOT / "vegflow").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]
    assert len(files) > 200
    for file in files:
        assert set(imports(file)) == files_of(parsed(file)), file


@pytest.mark.parametrize(
    "text",
    [
        "from vegflow import lock, errors as e",
        "import vegflow.lock, vegflow.errors",
        "import os, vegflow.lock as a, vegflow.errors as b  # vegflow.plan",
        "from vegflow import (  # :( of both (\n    lock,  # that)\n    errors,\n)",
        "from \\\n    vegflow \\\n    import lock, \\\n    errors",
        "import os; from vegflow import lock; import vegflow.errors",
        "if True: from vegflow import lock, errors",
        "def f():\n\tfrom vegflow.lock import clear_stale_locks\n\timport \\\n    vegflow.errors",
        "class A:\n    from vegflow import(lock, errors)",
    ],
)
def test_an_import_is_found_however_it_is_written(tmp_path, text):
    file = tmp_path / "script.py"
    file.write_text(f"{text}\n")
    wanted = {ROOT / "vegflow/lock.py", ROOT / "vegflow/errors.py"}
    assert files_of(parsed(file)) - {ROOT / "vegflow/__init__.py"} == wanted
    assert set(imports(file)) - {ROOT / "vegflow/__init__.py"} == wanted


def test_a_digest_is_named_and_stable():
    assert code_digest("workflow/scripts/select.py") == code_digest("workflow/scripts/select.py")
    assert code_digest("workflow/scripts/select.py").startswith("select:")


def test_versions_are_those_installed():
    assert versions("torch", "polars").split()[0].startswith("torch==2.")

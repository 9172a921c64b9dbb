"""What code a script runs, as one short digest: Snakemake sees neither imported modules nor installed versions.

Follows first-party imports (`vegflow.*`) from a script, also those inside functions, and hashes the bytes of all files
reached. Two Python versions, two clones and two checkouts of the same commit give the same digest.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def code_digest(script: str) -> str:
    """`name:hash` over the bytes of a script (path from the project's root) and of everything it imports from here."""
    sha = hashlib.sha256()
    for path in sources(script):
        sha.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return f"{Path(script).stem}:{sha.hexdigest()[:12]}"


def sources(script: str) -> list[Path]:
    """The script and its first-party import closure, sorted by path."""
    waiting, found = [ROOT / script], set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += imports(path)
    return sorted(found)


def versions(*packages: str) -> str:
    """`name==version` of installed packages: pip environments are invisible to Snakemake otherwise."""
    return " ".join(f"{package}=={metadata.version(package)}" for package in packages)


@functools.cache
def imports(path: Path) -> list[Path]:
    """First-party files that a file imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found += [file for alias in node.names for file in _files(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += _files(node.module)
            found += [file for alias in node.names for file in _files(f"{node.module}.{alias.name}")]
    return found


def _files(module: str) -> Iterator[Path]:
    if module.split(".")[0] != "vegflow":
        return
    base = ROOT.joinpath(*module.split("."))
    if base.with_suffix(".py").exists():
        yield base.with_suffix(".py")
    elif (base / "__init__.py").exists():
        yield base / "__init__.py"

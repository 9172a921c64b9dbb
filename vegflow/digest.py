"""What code a script runs, as one short digest: Snakemake sees neither imported modules nor installed versions.

Follows first-party imports (`vegflow.*`) from a script, also those inside functions, and hashes the bytes of all files
reached. Two Python versions, two clones and two checkouts of the same commit give the same digest.
"""

import functools
import hashlib
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BREAK = r"\\\r?\n"
_GAP = rf"(?:[ \t\f]|{_BREAK})"
_REST = rf"(?:[^\\\n;#]|{_BREAK})*"
_IMPORT = re.compile(
    rf"(?:^|[;:]){_GAP}*(?:"
    rf"from{_GAP}+(?P<module>vegflow[\w.]*){_GAP}+import\b{_GAP}*(?P<names>\((?:[^()#]|#[^\n]*)*\)|{_REST})|"
    rf"import{_GAP}+(?P<modules>[^\n;#]*\bvegflow{_REST}))",
    re.MULTILINE,
)
"""Wherever a statement may begin: an import of ours. Also finds one in a text or a comment, which does no harm; parsing
every file takes ten times as long, at each start of Snakemake."""


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
    return " ".join(f"{package}=={_version(package)}" for package in packages)


_version = functools.cache(metadata.version)


@functools.cache
def imports(path: Path) -> list[Path]:
    """First-party files that a file imports, anywhere in it."""
    found: list[Path] = []
    for statement in _IMPORT.finditer(path.read_text(encoding="utf-8")):
        if module := statement["module"]:
            found += _files(module)
            found += [file for name in _listed(statement["names"]) for file in _files(f"{module}.{name}")]
        else:
            found += [file for name in _listed(statement["modules"]) for file in _files(name)]
    return found


def _listed(names: str) -> list[str]:
    """`a as b, c` -> a, c; parentheses, comments and broken lines left out."""
    parts = re.sub(r"#[^\n]*|[()\\]", " ", names).split(",")
    return [part.split()[0] for part in parts if part.strip()]


def _files(module: str) -> Iterator[Path]:
    if module.split(".")[0] != "vegflow":
        return
    base = ROOT.joinpath(*module.split("."))
    if base.with_suffix(".py").exists():
        yield base.with_suffix(".py")
    elif (base / "__init__.py").exists():
        yield base / "__init__.py"

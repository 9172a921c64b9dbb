import pytest

from vegflow.errors import ConfigError
from vegflow.verification import lint as room
from vegflow.verification.lint import lint


def test_findings_are_those_that_cannot_work():
    programs = [
        "def f(x):\n    return x\n",
        "def f(x):\n    return y\n",
        "def f(:\n",
        "import os, sys\ndef f(x):\n    l = 1\n    return x\n",
        "def f(x):\n    return\nbreak\n",
        "def f(x):\n    z += 1\n    return \ud800\n",
        "",
    ]
    found = lint(programs)
    assert [bool(code) for code in found] == [False, True, True, False, True, True, False]
    assert found[1] == "F821"


def test_nothing_to_check_starts_nothing(monkeypatch):
    monkeypatch.setattr(room, "_ruff", lambda: pytest.fail("started"))
    assert lint([]) == []


def test_absent_ruff_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(room.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"stage lint needs ruff: pip install 'vegflow\[functions\]'"):
        lint(["x = 1\n"])

"""What a newcomer meets first: the set-up, and its one clear sentence when it cannot work."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the set-up reads, in an empty directory."""
    (tmp_path / "tools").mkdir()
    for name in ("tools/setup.sh", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def set_up(clone: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up with this interpreter."""
    return subprocess.run(
        ["sh", "tools/setup.sh"],
        cwd=clone,
        env={"PYTHON": python, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def fake_python(clone: Path, script: str) -> str:
    """An interpreter that does what the shell script says."""
    path = clone / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("description", "script", "sentence"),
    [
        ("too old", '[ "$1" = -V ] && echo Python 3.9.2; exit 1', "Python 3.9.2 is too old; Wedge needs Python 3.11"),
        ("no venv", 'case "$2" in *venv*) exit 1;; esac', "this Python lacks the venv module; install it"),
    ],
)
def test_an_unfit_python_gets_one_clear_sentence(clone: Path, description: str, script: str, sentence: str) -> None:
    """ "A missing `venv` module or too old a Python gets one clear sentence."."""
    done = set_up(clone, fake_python(clone, script))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1, description
    assert not (clone / ".venv").exists()


def test_a_missing_python_gets_one_clear_sentence(clone: Path) -> None:
    done = set_up(clone, "python-that-is-not-there")
    assert done.returncode == 1
    assert done.stderr.startswith("wedge: python-that-is-not-there was not found; install Python 3.11 or later")
    assert len(done.stderr.splitlines()) == 1


def test_every_requirement_is_pinned_with_hashes() -> None:
    """ "Pinned, with hashes, in a lock file that both commands install from."."""
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    pins = [entry for entry in entries if not entry.startswith("#")]
    assert all(re.match(r"[a-z0-9._-]+==\S+", entry) and "--hash=sha256:" in entry for entry in pins)
    pinned = {entry.partition("==")[0] for entry in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {re.split(r"[<>=;\s]", line)[0] for line in wanted} <= pinned

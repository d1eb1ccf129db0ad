"""The documents name what exists: tests in docs/evidence.md, files and targets in the README."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_test_that_the_evidence_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/evidence.md").read_text()))
    existing = {
        name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 30
    assert named <= existing, named - existing


def test_every_file_that_the_evidence_names_exists() -> None:
    named = re.findall(r"`((?:tests|layer1|layer2|wallet|examples)/[\w/.]+)`", (ROOT / "docs/evidence.md").read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_example_and_target_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for name in re.findall(r"-m examples\.([\w.]+)", readme):
        path = ROOT / "examples" / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name
    assert all(f"\n{target}:" in makefile for target in set(re.findall(r"(?m)(?:`|^ {4})make (\w+)", readme)))
    assert all((ROOT / link).exists() for link in re.findall(r"\]\(([\w/.]+)\)", readme))

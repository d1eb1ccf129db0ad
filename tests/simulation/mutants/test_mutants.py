"""Every mutant is found within its number of seeds, and nothing where none is; each mark of the design has one."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.mutants.__main__ import main
from tests.simulation.mutants.all_mutants import MUTANTS
from tests.simulation.mutants.registry import Found, Ground, Mutant, hunt

ROOT = Path(__file__).parents[3]
GROUNDS = {each.ground.name: each.ground for each in MUTANTS}
MARK = re.compile(r"\[([^\]]+)\](?!\()")
"""What stands in brackets and is no link."""


@pytest.mark.slow
@pytest.mark.parametrize("wanted", MUTANTS, ids=lambda wanted: wanted.name)
def test_a_mutant_is_found(wanted: Mutant) -> None:
    assert hunt(wanted) is not None, f"{wanted.within} seeds did not find it: {wanted.what}"


@pytest.mark.slow
@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
def test_where_no_mutant_is_none_is_found(ground: Ground) -> None:
    assert [ground.run(seed) for seed in range(3)] == [""] * 3


def test_a_hunt_leaves_nothing_broken() -> None:
    ground = Ground("a look", lambda seed: "found" if seed == 2 and hasattr(Ground, "bug") else "")
    broken = Mutant("bug", "", lambda patch: patch.setattr(Ground, "bug", True, raising=False), ground, 3)
    assert hunt(broken) == Found(2, "found")
    assert not hasattr(Ground, "bug")
    assert hunt(replace(broken, within=2)) is None
    assert hunt(replace(broken, breaks=lambda patch: None)) is None


def test_each_mark_of_the_design_has_a_mutant() -> None:
    """Issue 3: each mark in brackets has a scenario that fails without its wording."""
    text = " ".join((ROOT / "docs/design/consensus.md").read_text().split())
    marks = {mark.split(":")[0] for mark in MARK.findall(re.sub(r"`[^`]*`", "", text))}
    assert len(marks) >= 5
    rules = " ".join(each.rule for each in MUTANTS)
    assert not {mark for mark in marks if f"[{mark[:40]}" not in rules}


def marked(function: ast.AST) -> set[str]:
    """What is left out by a function that breaks something: marks in what says of it which rule that is."""
    if not isinstance(function, ast.FunctionDef) or [each.arg for each in function.args.args] != ["patch"]:
        return set()
    said = [ast.get_docstring(function) or "", *map(ast.unparse, function.decorator_list)]
    return set(re.findall(r"\[F\d\]", " ".join(said)))


def test_each_mark_of_the_rules_of_groups_has_a_mutant() -> None:
    """Issue 5: among the mutants is every wording that groups.md marks in brackets; here, or beside the tests."""
    marks = set(re.findall(r"\[F\d\]", (ROOT / "docs/design/groups.md").read_text()))
    assert len(marks) == 9
    files = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    trees = [ast.parse(text) for text in files if "patch: " in text and "[F" in text]
    assert marks == {mark for tree in trees for each in ast.walk(tree) for mark in marked(each)}


def test_each_mutant_is_documented() -> None:
    text = (ROOT / "docs/mutants.md").read_text()
    assert not [each.name for each in MUTANTS if f"`{each.name}`" not in text]
    assert len({each.name for each in MUTANTS}) == len(MUTANTS) >= 12


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sends_first"]) == 0
    assert "| `sends_first` |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["unheard_of"])

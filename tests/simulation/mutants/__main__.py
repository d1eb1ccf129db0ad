"""``python -m tests.simulation.mutants``: hunt mutants, and print which run found each."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap

from rich.console import Console
from rich.progress import track

from tests.simulation.mutants.all_mutants import MUTANTS
from tests.simulation.mutants.registry import Found, Mutant, hunt


def _row(wanted: Mutant, found: Found | None) -> str:
    if found is None:
        return f"| {wanted.rule} | `{wanted.name}` | {wanted.ground.name} | NOT FOUND in {wanted.within} | |"
    said = re.sub("^(Group)?Violation: ", "", found.error).replace("|", "/")
    brief = re.split(r"[;(\[]| at CaughtUp", re.sub(r"\b[0-9a-f]{16,}\b", "…", said), maxsplit=1)[0]
    brief = textwrap.shorten(brief, 90, placeholder=" …").rstrip(" :,'b")
    return f"| {wanted.rule} | `{wanted.name}` | {wanted.ground.name} | {found.seed} of {wanted.within} | {brief} |"


def main(arguments: list[str] | None = None) -> int:
    """0 if every mutant was found, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="these only")
    names = parser.parse_args(arguments).names
    unknown = set(names) - {each.name for each in MUTANTS}
    if unknown:
        parser.error(f"no mutant is named {', '.join(sorted(unknown))}")
    chosen = [each for each in MUTANTS if not names or each.name in names]
    console, results = Console(stderr=True), list[tuple[Mutant, Found | None]]()
    for each in track(chosen, description="hunting", console=console):
        results.append((each, hunt(each)))
    print("| the design says | mutant | hunted in | found at seed | what was seen |\n|---|---|---|---|---|")
    for each, found in results:
        print(_row(each, found))
    lost = sum(found is None for _, found in results)
    console.print(f"{len(results) - lost} of {len(results)} found", style="red" if lost else "green", highlight=False)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

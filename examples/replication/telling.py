"""How a lesson speaks: what it shows and on which assumption, its steps, its figures."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

WIDTH = 110
"""Characters in a line of output."""


def lesson(name: str, *, shows: str, assumes: str, source: str) -> None:
    """The head of a lesson."""
    print(f"\n=== {name} ===\n")
    for word, text in (("Property", shows), ("Assumes", assumes), ("Source", source)):
        print(fill(text, WIDTH, initial_indent=f"{word}: ".ljust(10), subsequent_indent=" " * 10))


def part(title: str) -> None:
    """The head of one part of a lesson."""
    print(f"\n--- {title}")


def step(text: str) -> None:
    """One thing that happens."""
    print(fill(text, WIDTH, initial_indent="  ", subsequent_indent="    "))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Figures side by side."""
    texts = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    for row in texts:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def conclusion(text: str) -> None:
    """What to take home."""
    print()
    print(fill(text, WIDTH, initial_indent="So: ", subsequent_indent="    "))

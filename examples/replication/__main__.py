"""List the lessons: ``python -m examples.replication``."""

from __future__ import annotations

from importlib import import_module

from examples.replication import telling

LESSONS = ("ordering", "quorums", "chain", "byzantine_chain", "assumptions")
"""In the order in which they build on each other."""


def main() -> None:
    """One line for each."""
    print("Each takes a second or two and says what it shows, on which assumption, and at what cost:\n")
    rows = []
    for name in LESSONS:
        title = (import_module(f"examples.replication.{name}").__doc__ or "").splitlines()[0]
        rows.append((f"python -m examples.replication.{name}", title))
    telling.table(("run", "what it is about"), rows)


if __name__ == "__main__":
    main()

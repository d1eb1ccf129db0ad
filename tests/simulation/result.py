"""What came of a run, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class Numbered(Protocol):
    """Options of a run; as a text they say what kind of run it was."""

    @property
    def seed(self) -> int:
        """The run's number among those of its kind."""


@dataclass
class Result:
    """What came of a run."""

    options: Numbered
    trace_hash: str = ""
    """Empty if the kind has none."""
    error: str = ""
    """What was violated; empty if nothing was."""
    height: int = 0
    """Of the highest final block."""
    steps: int = 0
    """Events."""
    healed_ms: int = 0
    """How long it took, after all faults were over, until everything was final."""
    stats: dict[str, int] = field(default_factory=dict)
    """What else was counted."""
    trace: list[str] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """Which run it was."""
        return self.options.seed

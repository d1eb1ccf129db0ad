"""Evidence that this replica holds against others: what it caught itself, kept in its journal, served at `/evidence`.

Safety: what is kept proves itself; whoever reads it need not believe this replica.

Bounded: one pair of votes per replica and kind, whichever came first. A liar makes as many as it likes, and each proves
the same.

Source: docs/design/consensus.md, "Evidence".
"""

from __future__ import annotations

from collections.abc import Iterator

from layer1.consensus.evidence import Evidence, EvidenceKind


class EvidenceBook:
    """The evidence of one replica, in the order in which it was found."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int, EvidenceKind], Evidence] = {}

    def add(self, evidence: Evidence) -> bool:
        """Keep it; False if there is some of this replica and kind already."""
        place = evidence.epoch, evidence.replica, evidence.kind
        return self._kept.setdefault(place, evidence) is evidence

    def __iter__(self) -> Iterator[Evidence]:
        return iter(tuple(self._kept.values()))

    def __len__(self) -> int:
        return len(self._kept)

"""The database of a simulated replica: final blocks by height, written a little behind the journal.

A crash loses what was still to be written; replaying the journal brings it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layer1.block import CommittedBlock


class Store:
    """Final blocks from height 1 on, without gaps."""

    def __init__(self) -> None:
        self._blocks: list[CommittedBlock] = []

    @property
    def height(self) -> int:
        """Of the newest block here."""
        return len(self._blocks)

    def append(self, blocks: Iterable[CommittedBlock]) -> None:
        """Add these; those that are here already are passed over."""
        for block in blocks:
            height = block.header.height
            assert height <= self.height + 1, f"block {height} stored behind block {self.height}"
            if height == self.height + 1:
                self._blocks.append(block)

    def load(self, first: int, limit: int) -> Sequence[CommittedBlock]:
        """Blocks from this height on."""
        return self._blocks[max(first, 1) - 1 :][:limit]

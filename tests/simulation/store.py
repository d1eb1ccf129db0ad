"""The database of a simulated replica: final blocks by height, written a little behind the journal.

A crash loses what was still to be written; replaying the journal brings it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layer1.block import CommittedBlock


class Store:
    """Final blocks from the oldest that is kept on, without gaps."""

    def __init__(self) -> None:
        self._blocks: list[CommittedBlock] = []
        self._below = 0
        """Height of the last block that is gone."""

    @property
    def height(self) -> int:
        """Of the newest block here; of the last that is gone if there is none."""
        return self._below + len(self._blocks)

    def append(self, blocks: Iterable[CommittedBlock]) -> None:
        """Add these; those that are here already are passed over."""
        for block in blocks:
            height = block.header.height
            assert height <= self.height + 1, f"block {height} stored behind block {self.height}"
            if height == self.height + 1:
                self._blocks.append(block)

    def load(self, first: int, limit: int) -> Sequence[CommittedBlock]:
        """Blocks from this height on; from the oldest on if it is gone."""
        return self._blocks[max(first - self._below, 1) - 1 :][:limit]

    def prune(self, below: int) -> None:
        """Forget blocks below this height."""
        gone = min(max(below - 1 - self._below, 0), len(self._blocks))
        self._blocks, self._below = self._blocks[gone:], self._below + gone

    def begin_at(self, height: int) -> None:
        """Begin anew above this height, unless blocks above it are here: then only those below it go."""
        if self.height > height:
            self.prune(height + 1)
        else:
            self._blocks, self._below = [], height

"""Linearizable reads with proofs: clients see one history, in an order that respects real time.

An operation takes effect at the height of the header that its proof leads to. What a read returns is what a straight
replay gives at that height, and an operation that began after another had its answer never takes effect below it.
Clients pass on the heights that they saw; a client that does not is only promised a fresh answer.

Source: docs/design/architecture.md, "Believing an answer"; Herlihy and Wing, Linearizability (1990).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from layer1.ledger.genesis import Genesis
from tests.simulation.checkers.base import Checker, Read, Write
from tests.simulation.checkers.reference import Reference


class Linearizable(Checker):
    """The history of all clients."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self._answered_us: list[int] = []
        self._heights: list[int] = []
        """Greatest height of all operations answered up to then."""
        self._reads: list[Read] = []

    def answered(self, operation: Read | Write) -> None:
        height = operation.header.height
        before = bisect_left(self._answered_us, operation.invoked_us)
        seen = self._heights[before - 1] if before else 0
        if height < seen:
            self.fail(
                f"{type(operation).__name__} of {operation.client} began at {operation.invoked_us} us, when height "
                f"{seen} was seen, and takes effect at height {height}"
            )
        self._answered_us.append(operation.answered_us)
        self._heights.append(max(height, self._heights[-1] if self._heights else 0))
        if isinstance(operation, Read):
            self._reads.append(operation)

    def finish(self, now_us: int) -> None:
        points = self.reference.points
        for read in self._reads:
            height = read.header.height
            if height >= len(points) or points[height].header != read.header:
                self.fail(f"{read.client} read from block {height} {read.header.id.hex()}, which is not of the chain")
            expected = points[height].balances.get(read.address)
            if read.balance != expected:
                self.fail(f"{read.client} read {read.balance} at height {height}, a replay gives {expected}")

"""The ledger clock: it follows the times of the blocks, which never run back, and steps by `max_step` at most.

Reckoned from the headers alone, with the words of the design and not with the code of the ledger. A clock that was ever
moved forward twice over the same time, by a leader that sets its blocks back, stands ahead of the newest block's time.

Source: docs/design/consensus.md, "Time"; architecture.md, "Time".
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.block import CommittedBlock
from layer1.ledger.genesis import Genesis, genesis_header
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference


class LedgerClock(Checker):
    """Clock and time of every final block."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self._last = genesis_header(genesis)

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        header, last = block.header, self._last
        if header.height != last.height + 1:
            return
        self._last = header
        height, most = header.height, self.genesis.parameters.max_step_ms
        if header.wall_time < last.wall_time:
            self.fail(f"block {height} is of {header.wall_time}, its parent of {last.wall_time}")
        if not 0 <= header.clock - last.clock <= most:
            self.fail(
                f"at block {height} the clock steps from {last.clock} to {header.clock}; by {most} at most it may"
            )
        if header.clock > header.wall_time - self.genesis.wall_time:
            self.fail(f"at block {height} the clock is {header.clock}, and less has passed since the genesis")

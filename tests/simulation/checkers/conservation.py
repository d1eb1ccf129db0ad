"""Conservation: no block makes or burns money; accounts and locked funds always add up to the genesis supply."""

from __future__ import annotations

from layer1.block import CommittedBlock
from tests.simulation.checkers.base import Checker


class Conservation(Checker):
    """The sum after every final block."""

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        point = self.reference.take(block)
        if point is not None and point.total_units != self.genesis.supply_units:
            self.fail(
                f"after block {block.header.height} there are {point.total_units} units, the genesis made "
                f"{self.genesis.supply_units}"
            )

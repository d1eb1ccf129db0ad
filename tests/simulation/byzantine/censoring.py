"""A replica that takes no batch of others: as a leader it proposes in time, and never what clients wait for.

Source: docs/design/consensus.md, rule 6 (the inclusion timeout).
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.consensus.messages import Proposal
from layer1.replica.messages import BatchAnnounce, BatchData, ConsensusMessage
from tests.simulation.byzantine.role import Role, read


class Censoring(Role):
    """Deaf to batches, unless it must have them to follow the others."""

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        if isinstance(message, BatchAnnounce | BatchData):
            return ()
        if isinstance(message, ConsensusMessage) and isinstance(message.message, Proposal) and self.chance(0.2):
            return ()
        return (data,)

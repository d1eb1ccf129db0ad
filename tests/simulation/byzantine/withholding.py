"""A replica that sends its batches to some only, proposes them to all, and answers few who ask.

Source: docs/design/consensus.md, rule 3 (missing is not invalid); "Mempool and batches".
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from layer1.block import batch_digest
from layer1.crypto import Hash
from layer1.replica.messages import BatchAnnounce, BatchData
from tests.simulation.byzantine.role import Host, Role, read


class Withholding(Role):
    """Keeps batches from some."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._receivers: dict[Hash, frozenset[int]] = {}

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        if isinstance(message, BatchAnnounce):
            return ()
        if isinstance(message, BatchData):
            receivers = self._receivers.setdefault(batch_digest(message.batch), self.some_peers())
            return (data,) if peer in receivers else ()
        return (data,)

"""A replica that finalizes what it nullifies and nullifies what it finalizes, and starts ranges where it likes.

Source: docs/design/consensus.md, rule 5, "Objects" (a start inside a term), [S1].
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.codec import encode
from layer1.consensus.messages import Finalize, Notarize, Nullify
from layer1.replica.messages import ConsensusMessage
from tests.simulation.byzantine.role import Role, read


class Nullifying(Role):
    """Breaks rule 5 wherever it can."""

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        yield data
        message = read(data)
        if not isinstance(message, ConsensusMessage):
            return
        vote = message.message
        match vote:
            case Finalize():
                if self.chance(0.5):
                    yield self._nullify(vote.view)
            case Notarize():
                if self.chance(0.3):
                    yield self._nullify(vote.view)
                    yield encode(ConsensusMessage(self.epoch, self.signer.finalize(vote.view, vote.block)))
            case Nullify():
                if self.chance(0.5):
                    yield self._nullify(vote.start)
            case _:
                pass

    def _nullify(self, view: int) -> bytes:
        start = self.random.randint(self.host.config.first_view(view), self.host.config.last_view(view))
        return encode(ConsensusMessage(self.epoch, self.signer.nullify(start)))

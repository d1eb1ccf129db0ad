"""It signs two states at one version: as primary it proposes another body than its honest half does, or both in turn;
as a member it accepts another one.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from layer1.codec import decode, encode
from layer1.ledger.agreements import sign_state
from layer2.messages import Accept, Batch, Propose, Resume, decode_message
from layer2.state import apply_batch
from tests.simulation.groups.roles.role import Role


class SigningTwice(Role):
    """Two-tongued."""

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        if self.random.random() < 0.6:
            return (data,)
        message = decode_message(data)
        match message:
            case Propose():
                other = encode(self._other(message))
                return self.random.choice(((other,), (other, data), (data, other)))
            case Accept():
                return (encode(self._accept(message)), data)
            case Resume(highest=highest) if highest is not None and self.random.random() < 0.5:
                return (encode(replace(message, highest=None, signature=None)),)
            case _:
                return (data,)

    def _other(self, message: Propose) -> Propose:
        """The same batch under another salt: another body, as good as the first."""
        group, salt = self.seen[message.group_id], self.random.randbytes(16)
        if message.header.parent != group.state.header.hash:
            return message
        batch = decode(message.batch, Batch)
        return self.propose(message, batch, salt, apply_batch(group.place, group.state, batch))

    def _accept(self, message: Accept) -> Accept:
        group = self.seen[message.group_id]
        header = replace(group.highest, body_hash=self.random.randbytes(32))
        return replace(message, signature=sign_state(group.place.key, header))

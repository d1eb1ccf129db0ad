"""It goes on after the end. It wedges with a true CLAIM behind the back of its honest half, which goes on signing: the
CLAIM turns false. And as primary it pays once more after FINAL, which would take the payment back.
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.codec import encode
from layer1.errors import RemoteError
from layer1.ledger.agreements import sign_state
from layer2.messages import Batch, Command, FinalProposal, Propose, decode_message
from layer2.payments import pay
from layer2.state import SALT_BYTES, advance, apply_batch
from layer2.value import Group
from tests.simulation.groups.roles.role import Role


class GoingOn(Role):
    """Signs after its CLAIM, and after FINAL."""

    def act(self) -> None:
        for group_id, group in self.seen.items():
            if group.claim is None and group.ledger is None and self.random.random() < 0.1:
                self.host.bring(self.wedge(group_id, group.version))

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        if not isinstance(message, FinalProposal):
            return (data,)
        try:
            return (data, encode(self._one_more(self.seen[message.group_id])))
        except RemoteError:
            return (data,)  # it has nothing left

    def _one_more(self, group: Group) -> Propose:
        place, base, salt = group.place, group.state, self.random.randbytes(SALT_BYTES)
        batch = Batch((Command(0, base.body.applied[0] + 1, pay(1, 1, b"after the end"), b""),))
        encoded, outcome = encode(batch), apply_batch(place, base, batch)
        header = advance(place, base, batch, encoded=encoded, salt=salt, outcome=outcome).header
        return Propose(header, encoded, salt, sign_state(place.key, header), group.signatures)

"""As primary it puts commands into a version that the other member never issued, or that were applied before.

Rule 2 is all that stands between it and the other's balance.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from msgspec.structs import replace

from layer1.codec import decode, encode
from layer1.crypto import Hash
from layer1.errors import Refused
from layer2.machine import apply_guarded
from layer2.messages import Batch, Command, Propose, decode_message
from layer2.payments import pay
from layer2.state import TAG_BYTES
from tests.simulation.groups.roles.role import Host, Role


class Stealing(Role):
    """Helps itself."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._theirs: dict[Hash, list[Command]] = {}
        """Commands of the other member that were in versions of each group."""

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        if not isinstance(message, Propose):
            return (data,)
        batch = decode(message.batch, Batch)
        theirs = self._theirs.setdefault(message.group_id, [])
        stolen = self._stolen(message.group_id, theirs)
        theirs += [command for command in batch.commands if command.member == 1]
        if self.random.random() < 0.7:
            return (data,)
        return (encode(self._with(message, replace(batch, commands=(*batch.commands, stolen)))),)

    def _stolen(self, group_id: Hash, theirs: list[Command]) -> Command:
        applied = self.seen[group_id].state.body.applied[1]
        forged = Command(1, applied + 5, pay(0, self.random.randint(1, 50)), self.random.randbytes(TAG_BYTES))
        if not theirs or self.random.random() < 0.3:
            return forged
        again = self.random.choice(theirs)
        return again if self.random.random() < 0.5 else replace(again, number=applied + 5)

    def _with(self, message: Propose, batch: Batch) -> Propose:
        group = self.seen[message.group_id]
        balances, state = group.state.body.balances, group.state.machine_state
        try:
            for command in batch.commands:
                machine, payload = group.place.machine, command.payload
                balances, state = apply_guarded(machine, state, balances, command.member, payload)
        except Refused:
            return message  # not even its own half would take that
        return self.propose(message, batch, message.salt, (balances, state))

"""It signs changes, and brings wedges beside them: RESIZE racing WEDGE, with old states and those of other epochs.

Not among the roles that a seed draws: only where users change channels does it do anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from layer1.crypto import Hash
from layer1.ledger.agreements import Body, Certificate, sign_claim
from layer1.ledger.transactions import ChangeGroup, Wedge
from layer2.events import Payload
from layer2.messages import ChangeAccept, ChangeReady, decode_message
from layer2.records import ChangeSigned, HostRecord
from tests.simulation.groups.roles.role import Host, Role


class RacingChanges(Role):
    """Whatever layer 1 takes first, it hopes to gain by the other."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._archive: dict[Hash, dict[tuple[int, int], tuple[Certificate, Body]]] = {}
        """By group, then by epoch and version."""
        self._changes: list[ChangeGroup] = []

    def remember(self) -> None:
        super().remember()
        for group_id, group in self.seen.items():
            states = self._archive.setdefault(group_id, {})
            states[group.epoch, group.version] = (group.certificate, group.state.body)

    def synced(self, records: Sequence[HostRecord]) -> None:
        super().synced(records)
        for record in records:
            if isinstance(record, ChangeSigned) and self.random.random() < 0.5:
                self._wedge_somehow(record.group_id)

    def act(self) -> None:
        for group_id, group in self.seen.items():
            if not group.closed and group.epoch > 0 and self.random.random() < 0.05:
                self._wedge_somehow(group_id)
        if self._changes and self.random.random() < 0.3:
            self.host.bring(self.random.choice(self._changes))

    def brings(self, payload: Payload) -> bool:
        if not isinstance(payload, ChangeGroup):
            return True
        self._changes.append(payload)
        return self.random.random() < 0.6

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        held = isinstance(decode_message(data), ChangeAccept | ChangeReady) and self.random.random() < 0.2
        return () if held else (data,)

    def _wedge_somehow(self, group_id: Hash) -> None:
        """With a state of any epoch, old ones among them, and a claim that goes with it."""
        states, place = self._archive.get(group_id, {}), self.seen[group_id].place
        if not states:
            return
        certificate, body = self.random.choice(list(states.values()))
        claim = sign_claim(place.key, place.index, certificate.header.version, certificate.header)
        self.host.bring(Wedge(certificate, body, claim))

"""Data loss, then a peer that shows something stale: on a new link, and when it is asked for the newest.

Who lost its data signs no STATE and no CLAIM, so nothing that it forgot can be held against it [F5]; and whoever else
knows better, another member, a witness or a watchtower, has time to say so.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from layer1.codec import encode
from layer2.messages import Newest, Resume, decode_message
from tests.simulation.groups.roles.role import Role
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.plot import Plot


class ShowingStale(Role):
    """It shows an old state for the newest, and wedges with it."""

    host: MemberProcess

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        match message:
            case Newest(certificate=certificate) if self.known.get(message.group_id):
                earlier = [v for v in sorted(self.known[message.group_id]) if v <= certificate.header.version]
                old = earlier[self.host.step % len(earlier)] if earlier else None
                if old is None:
                    return (data,)
                return (encode(Newest(*self.known[message.group_id][old])),)
            case Resume() if self.known.get(message.group_id) and self.host.part > 0.5 and self.host.step % 2:
                certificate, _ = self.known[message.group_id][self.old_version(message.group_id)]
                return (encode(replace(message, certificate=certificate, highest=None, signature=None)),)
            case _:
                return (data,)

    def act(self) -> None:
        if self.host.part > 0.8 and self.host.step % 3 == 0:
            for group_id, group in self.seen.items():
                if not group.closed and group.ledger is None:
                    self.host.bring(self.wedge(group_id, self.old_version(group_id)))


class StalePeer(Plot):
    """One honest member loses its data, in the middle; another one lies to it."""

    def begin(self) -> None:
        self.corrupt(ShowingStale)
        seat = self.random.choice([seat for seat in self.story.honest_seats if seat != self.options.standby] or [0])
        if self.story.members[seat].is_honest and seat != self.options.standby:
            kept = None if self.random.random() < 0.5 else self.random.random()
            self.at(self.random.uniform(0.3, 0.7), lambda: self.story.lose_data(seat, kept))

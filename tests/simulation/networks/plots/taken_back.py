"""Locks taken back though they are claimed: a dishonest payer lets no claim in, and sees no registration.

When their time is over it takes each of them back. Its payee has registered what it claims, looks at layer 1 before it
signs, and wedges.
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.crypto import Hash
from layer1.ledger.records import Registration
from layer1.proof import Verified
from layer2.messages import Submit, decode_message
from layer2.payments import Claim, read_command
from tests.simulation.groups.roles.role import Role
from tests.simulation.stories.member import Life, MemberProcess
from tests.simulation.stories.plot import Plot


class Denying(Role):
    """It has heard of no claim."""

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        if isinstance(message, Submit) and any(isinstance(read_command(c.payload), Claim) for c in message.commands):
            self.host.world.stats["claims denied"] += 1
            return ()
        return (data,)


def see_nothing(member: MemberProcess, life: Life) -> None:
    """What layer 1 has of preimages its honest half does not hear."""
    view = member.view

    async def registration(hashed: Hash) -> Verified[Registration | None]:
        return Verified(None, await view.head())

    view.registration = registration


class TakenBack(Plot):
    """Rule 21: a wedge never changes who gets a lock."""

    def begin(self) -> None:
        self.corrupt(Denying)
        for seat in self.options.liars:
            self.story.members[seat].on_start.append(see_nothing)

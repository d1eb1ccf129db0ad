"""Onions replayed, truncated, tampered with: whatever offers leave a dishonest wallet, their packets are not the same.

One bit is another, the end is missing, it is noise, it is one of before, or the same offer is made twice. Who cannot
open a packet, or has opened it before, gives the lock back.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from msgspec.structs import replace

from layer1.codec import encode
from layer1.crypto import Hash
from layer2.hosting import Waiter
from layer2.payments import Offer, read_command
from tests.simulation.groups.roles.role import Role
from tests.simulation.stories.member import Life, MemberProcess
from tests.simulation.stories.plot import Plot


class Tampering(Role):
    """It changes the packets of half of its offers."""

    def __init__(self, host: MemberProcess, random: Random) -> None:
        super().__init__(host, random)
        self.old: list[bytes] = []

    def bend(self, command: bytes) -> list[bytes]:
        """What is offered in its place."""
        request, random = read_command(command), self.random
        if not isinstance(request, Offer) or not request.packet or random.random() < 0.5:
            return [command]
        packet, before = request.packet, random.choice([*self.old, b""])
        self.old.append(packet)
        kind = random.choice(("bit", "cut", "noise", "old", "twice"))
        self.host.world.stats[f"onions: {kind}"] += 1
        place = random.randrange(len(packet))
        bent = {
            "bit": packet[:place] + bytes([packet[place] ^ 1 << random.randrange(8)]) + packet[place + 1 :],
            "cut": packet[:place],
            "noise": random.randbytes(len(packet)),
            "old": before,
            "twice": packet,
        }[kind]
        offered = encode(replace(request, packet=bent))
        return [offered, offered] if kind == "twice" else [offered]


def bend_offers(member: MemberProcess, life: Life) -> None:
    """Between its honest half and its host."""
    host, role = life.parts.host, member.role
    issue = host.issue
    assert isinstance(role, Tampering), "that is its role"

    def issue_bent(group_id: Hash, commands: Sequence[bytes], waiter: Waiter) -> None:
        for command in commands:
            for each in role.bend(command):
                issue(group_id, (each,), waiter)

    host.issue = issue_bent  # type: ignore[method-assign]


class Tampered(Plot):
    """Nobody gets what was not for him, and nobody pays for it."""

    def begin(self) -> None:
        self.corrupt(Tampering)
        for seat in self.options.liars:
            self.story.members[seat].on_start.append(bend_offers)

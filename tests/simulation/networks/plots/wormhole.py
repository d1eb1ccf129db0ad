"""Colluding neighbours on a route (a wormhole): one behind an honest hub gets the preimage, and tells one before it.

That one claims at once, and the locks between them are given back. The hubs between do not get their fee, which nothing
can tell from a payment that failed (decision 041); of what they hold they lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import sha256

from layer1.crypto import Hash
from layer2.hosting import Outcome
from layer2.payments import release
from tests.simulation.groups.roles.role import Role
from tests.simulation.networks.member import WalletProcess
from tests.simulation.stories.member import Life, MemberProcess
from tests.simulation.stories.plot import Plot

ROW = ((0, 1), (1, 2), (2, 3), (3, 4))


class _Nobody:
    """Waits for nothing."""

    def done(self) -> bool:
        """It never does."""
        return False

    def set_result(self, outcome: Outcome) -> None:
        """It is as it is."""


Insist = Callable[[Hash, int, bytes], None]


class Wormhole(Plot):
    """1 and 3 collude; 0, 2 and 4 are honest."""

    fixed = {"channels": ROW, "size": 5, "liars": (1, 3)}

    def begin(self) -> None:
        self.corrupt(Role)
        self._insists: dict[int, Insist] = {}
        for seat in self.options.liars:
            self.story.members[seat].on_start.append(self._dig)

    def _dig(self, member: MemberProcess, life: Life) -> None:
        assert isinstance(member, WalletProcess), "this is a network"
        assert member.locking is not None, "it lives"
        self._insists[member.index] = member.locking.insist
        member.locking.insist = partial(self._insist, member, life)  # type: ignore[method-assign]

    def _insist(self, member: WalletProcess, life: Life, group_id: Hash, number: int, preimage: bytes) -> None:
        """What it has forwarded was claimed: it would claim now what came in."""
        others = [self.story.members[seat] for seat in self.options.liars if seat != member.index]
        if sum(self._claim(other, preimage) for other in others):  # all of them
            self.story.world.stats["wormholes"] += 1
            life.parts.host.issue(group_id, (release(number),), _Nobody())
        else:
            self._insists[member.index](group_id, number, preimage)

    def _claim(self, other: MemberProcess, preimage: bytes) -> bool:
        """At the other end: whether something came in there under the same hash."""
        assert isinstance(other, WalletProcess), "this is a network"
        if other.life is None or other.locking is None:
            return False
        hashed = sha256(preimage).digest()
        found = [(group_id, lock.id) for group_id, lock, _ in other.locking.incoming() if lock.hash == hashed]
        with other.life.loop.running():
            for group_id, number in found:
                self._insists[other.index](group_id, number, preimage)
        return bool(found)

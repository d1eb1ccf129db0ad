"""A channel is closed in the middle of many payments in flight: by force, by either side, at any step of any of them.

Nobody lies. Each lock that stands in the state that counts is paid by layer 1 where its preimage says.
"""

from __future__ import annotations

from functools import partial

from layer1.crypto import Hash
from tests.simulation.networks.owner import NetworkOwner
from tests.simulation.stories.plot import Plot

BUSY = 0.1
"""Of the first phase: for so long before a close everybody is in a hurry to pay."""


class ClosingInTheMiddle(Plot):
    """Many locks, one wedge for each channel."""

    liars = False

    def begin(self) -> None:
        for group_id in self.story.agreements:
            when = self.random.uniform(0.1, 0.9)
            self.at(when - BUSY, partial(self._offer_every, 0.08))
            self.at(when, partial(self._close, group_id))

    def _offer_every(self, seconds: float) -> None:
        for owner in self.story.owners:
            assert isinstance(owner, NetworkOwner), "this is a network"
            owner.offers_s = seconds

    def _close(self, group_id: Hash) -> None:
        seats = [member.index for member in self.story.members if group_id in member.groups()]
        if not seats:
            return
        seat = self.random.choice(seats)
        member, owner = self.story.members[seat], self.story.owners[seat]
        assert isinstance(owner, NetworkOwner), "this is a network"
        group = member.groups()[group_id]
        self._offer_every(NetworkOwner.offers_s)
        self.story.world.stats["locks in flight at a close"] += len(group.locks)
        owner.end_now(member, group_id)

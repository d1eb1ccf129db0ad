"""A channel is closed in the middle of many payments in flight: by force, by either side, at any step of any of them.

Nobody lies. Each lock that stands in the state that counts is paid by layer 1 where its preimage says.
"""

from __future__ import annotations

from functools import partial

from layer1.crypto import Hash
from tests.simulation.networks.owner import LockOwner
from tests.simulation.stories.plot import Plot


class ClosingInTheMiddle(Plot):
    """Many locks, one wedge for each channel."""

    liars = False

    def begin(self) -> None:
        for owner in self.story.owners:
            assert isinstance(owner, LockOwner), "this is a network"
            owner.offers_s = 0.15
        for group_id in self.story.agreements:
            self.at(self.random.uniform(0.1, 0.9), partial(self._close, group_id))

    def _close(self, group_id: Hash) -> None:
        seats = [member.index for member in self.story.members if group_id in member.groups()]
        if not seats:
            return
        seat = self.random.choice(seats)
        member, owner = self.story.members[seat], self.story.owners[seat]
        assert isinstance(owner, LockOwner), "this is a network"
        group = member.groups()[group_id]
        self.story.world.stats["locks in flight at a close"] += len(group.locks)
        owner.end_now(member, group_id)

"""Preimages shown on layer 1 at the last moment: one millisecond before the expiry, at it, and one too late.

A dishonest payee claims nothing in the channel; it registers each preimage in a block with exactly that clock, and
claims then. At the expiry is in time (rule 21), a millisecond later is not.
"""

from __future__ import annotations

from random import Random

from layer1.crypto import Hash
from layer1.ledger.agreements import Lock
from layer1.ledger.execute import Execution
from layer1.ledger.transactions import RegisterPreimages
from tests.simulation.clocks import START_WALL_MS
from tests.simulation.groups.roles.role import Role
from tests.simulation.kernel import MS
from tests.simulation.networks.member import MARGIN_MS
from tests.simulation.networks.owner import NetworkOwner
from tests.simulation.networks.town import Plan
from tests.simulation.stories.ledger import MOST_BLOCKS_MS
from tests.simulation.stories.plot import Plot

MOMENTS_MS = (-1, 0, 1)
"""After the expiry."""


def forgotten(random: Random) -> Plan:
    """Its honest half does nothing about them."""
    return Plan("forget", 0)


class LastMoment(Plot):
    """The clock decides, to the millisecond."""

    def begin(self) -> None:
        self.corrupt(Role)
        self._due: dict[Hash, int] = {}
        for owner in self.story.owners:
            assert isinstance(owner, NetworkOwner), "this is a network"
            self._town = owner.town
            owner.draw, owner.most_ms = forgotten, 5 * MARGIN_MS
        self.story.ledger.on_block.append(self._look)

    def _look(self, execution: Execution) -> None:
        """Whose time comes before the next block would."""
        for seat in self.options.liars:
            member = self.story.members[seat]
            for group in member.groups().values():
                for lock in group.committed.body.locks:
                    if lock.payee == group.place.index and lock.hash not in self._due:
                        self._plan(seat, lock, execution.clock)

    def _plan(self, seat: int, lock: Lock, clock_ms: int) -> None:
        world = self.story.world
        moment_ms = lock.expiry_ms + MOMENTS_MS[(self.options.step + lock.id) % 3]
        wait_ms = moment_ms - clock_ms - (START_WALL_MS + world.now_ms - self.story.ledger.header.wall_time)
        if not 0 < wait_ms <= 2 * MOST_BLOCKS_MS:
            return
        self._due[lock.hash] = moment_ms
        attempts = self._town.payments.get(lock.hash, ())
        preimage = next((each.preimage for each in attempts if each.path[-1] in self.options.liars), None)
        if preimage is not None:  # its own, or that of another one who lies with it
            world.after(wait_ms * MS, lambda: self._register(seat, lock, preimage, moment_ms))

    def _register(self, seat: int, lock: Lock, preimage: bytes, moment_ms: int) -> None:
        ledger, member = self.story.ledger, self.story.members[seat]
        ledger.bring_next(RegisterPreimages(member.keys.spending.public, (preimage,)), member.keys.spending)
        ledger.make_block()
        if ledger.clock_ms == moment_ms:
            self.story.world.stats[f"registered at the expiry {moment_ms - lock.expiry_ms:+d} ms"] += 1

"""Puts the parts of routes together for an open wallet: graph, gossip, fees of ours, and the desk that finds routes.

At a start nothing is read and nothing is asked: the graph has our own channels, each from when its peer is in step. It
is read when somebody asks for a route, or when this wallet is served and has two channels: then others pay through it,
and hear of the network by it.

Source: decision 042.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from layer1.crypto import Hash, PublicKey
from layer1.errors import LocalError
from layer1.ledger.agreements import GroupAgreement, locked_units
from layer2.driver import GroupHost
from layer2.value import Group
from wallet.amounts import format_money
from wallet.book import ChannelRecord
from wallet.follower import Follower
from wallet.forwarding.companion import LIFE_MARGINS
from wallet.neighbours import Neighbours
from wallet.parts import Parts
from wallet.peers import Peers
from wallet.period import margin_ms
from wallet.requests import Progress, Report, no_report
from wallet.routing.desk import RouteDesk, Surroundings
from wallet.routing.graph import ChannelGraph, channel_of
from wallet.survey import Survey
from wallet.tolls import Tolls, wall_ms
from wallet.views import pending_units

ANNOUNCED_MARGINS = LIFE_MARGINS + 1
"""So long a lock has to be good when it is asked for (rule 22): what the forwarder wants, and a margin to get there."""
MEET_S = 2.0
"""How long a wallet that has just been opened waits for its peers, before it looks for a route without them."""
TOLD_S = 10.0
"""How long it waits then for what they know."""
_log = logging.getLogger(__name__)


class Routes:
    """Of one open wallet."""

    def __init__(self, parts: Parts, peers: Peers, follower: Follower) -> None:
        self._parts = parts
        self._peers = peers
        genesis = parts.genesis
        self.graph = ChannelGraph(genesis.chain_id)
        margin = ANNOUNCED_MARGINS * margin_ms(genesis)
        self.tolls = Tolls(parts.book, parts.keys.spending, genesis.chain_id, margin, self._agreement_of)
        self.tolls.on_change = self._announce
        self._neighbours = Neighbours(parts.host, self.graph, parts.signals)
        self._survey = Survey(parts.ledger, self.graph, lambda group_id: group_id in parts.host.groups)
        self._is_served = False
        self._is_ready = False
        self._reading: asyncio.Task[None] | None = None
        self.desk = RouteDesk(
            self.graph,
            Surroundings(
                parts.keys.spending.public,
                spendable=lambda: _usable(parts.host, sendable),
                receivable=lambda: _usable(parts.host, receivable),
                clock_ms=lambda: parts.host.clock_ms(follower.clock_ms or 0),
                now_ms=wall_ms,
                money=partial(format_money, currency=genesis.currency),
                read=self._ready,
            ),
        )

    def start(self) -> None:
        """Hear of our own channels from now on."""
        observer = self._parts.observer
        observer.on_step, observer.on_epoch = self._in_step, self._note
        observer.on_finished = self._forget
        observer.on_unlinked, observer.on_aside = self._neighbours.unlinked, self._neighbours.heard
        for group_id, group in self._parts.host.groups.items():
            if group.connected:
                self._note(group_id)

    def serve(self) -> None:
        """This wallet is there for others from now on."""
        self._is_served = True
        self._read_if_asked()

    async def close(self) -> None:
        """Follow and say nothing more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._neighbours.close()
        await self._survey.close()

    def _note(self, group_id: Hash) -> None:
        """A channel of ours works, or is another one in size."""
        group = self._parts.host.groups[group_id]
        channel = channel_of(group_id, group.place.agreement)
        if channel is None:
            return
        self.graph.show(channel)
        self._neighbours.add(group_id, _peer(group))
        self._announce(group_id)
        self._read_if_asked()

    def _forget(self, group_id: Hash) -> None:
        """Layer 1 has closed a channel of ours."""
        self.graph.close(group_id)
        if (record := self._parts.book.get(group_id)) is not None:
            self._neighbours.drop(group_id, record.peer)

    def _in_step(self, group_id: Hash, member: int) -> None:
        """The other member is there: when a channel has just opened, for the first time."""
        group = self._parts.host.groups[group_id]
        if member >= group.place.size:
            return  # a witness
        if not self._neighbours.has(group_id, _peer(group)):  # the graph may have it from layer 1 already
            self._note(group_id)
        self._neighbours.in_step(_peer(group))

    def _agreement_of(self, record: ChannelRecord) -> GroupAgreement:
        """The group knows of a new epoch before the book does."""
        group = self._parts.host.groups.get(record.group_id)
        return record.agreement if group is None else group.place.agreement

    def _announce(self, group_id: Hash) -> None:
        """Tell everybody, if there is something new to tell."""
        try:
            made = self.tolls.announcement(group_id)
        except LocalError as error:
            _log.warning("channel %s is not announced: %s", group_id.hex()[:12], error)
            return
        if made is not None and group_id in self.graph.channels:
            self._neighbours.announce(made)

    def _read_if_asked(self) -> None:
        """Who has two channels, and is served, forwards: what it hears it passes on."""
        if self._is_served and len(self._parts.host.groups) > 1 and self._reading is None:
            self._reading = asyncio.create_task(self._read())

    async def _read(self, report: Report = no_report) -> None:
        await self._survey.read(report)
        self._neighbours.ask()

    async def _ready(self, report: Report) -> None:
        """The first time: read the graph, meet our peers, and hear what they know."""
        if self._is_ready:
            return
        self._peers.keep()
        await self._read(report)
        report(Progress("meeting our peers"))
        until = self._parts.signals.until
        await until(lambda: True if self._all_met() else None, MEET_S)
        report(Progress("hearing what they know"))
        await until(lambda: None if self._neighbours.is_asking else True, TOLD_S)
        self._is_ready = True

    def _all_met(self) -> bool:
        groups = self._parts.host.groups
        return all(group.connected or group.stopped is not None for group in groups.values())


def sendable(group: Group) -> int:
    """What a lock of ours can be of now, minor units."""
    return _lockable(group, group.place.index) - pending_units(group)


def receivable(group: Group) -> int:
    """What a lock for us can be of now, minor units."""
    return _lockable(group, 1 - group.place.index)


def _lockable(group: Group, payer: int) -> int:
    limits, body = group.place.agreement.limits, group.state.body
    if len(body.locks) >= limits.max_locks:
        return 0
    return min(body.balances[payer], limits.max_locked_units - locked_units(body.locks))


def _usable(host: GroupHost, units: Callable[[Group], int]) -> dict[Hash, int]:
    """So much over each channel that works."""
    works = (pair for pair in host.groups.items() if pair[1].connected and pair[1].stopped is None)
    return {group_id: max(units(group), 0) for group_id, group in works}


def _peer(group: Group) -> PublicKey:
    return group.place.agreement.members[1 - group.place.index].funding

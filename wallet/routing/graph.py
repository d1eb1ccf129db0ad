"""The channel graph: which channels layer 1 shows open, and the newest announcement of each of their members.

*Safety:* whatever others say, what is kept is bounded by what layer 1 shows: two announcements a channel.

A node is a member's funding account. Edges come from any replica's list of groups, unproven: an edge that does not
exist costs a failed try, one that is left out costs a better route, and neither costs money (decision 039).

Source: docs/design/groups.md, rules 20 to 23; decision 039.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from layer1.crypto import Hash, PublicKey
from layer1.errors import RemoteError, Untimely
from layer1.ledger.agreements import GroupAgreement
from layer1.reader import ListedGroup
from wallet.routing.announcements import (
    ChannelAnnouncement,
    Topic,
    check_form,
    check_signature,
    topic_of,
)

MACHINE = "payments/2"
"""Only groups with this machine carry locks."""
PAIR = 2
MOST_CHANNELS = 1_000_000
"""Kept at most: a replica may list groups that do not exist, and nothing is proven before it is used."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A group of two as layer 1 shows it."""

    id: Hash
    nodes: tuple[PublicKey, PublicKey]
    """Funding accounts, in the agreement's order."""
    capacity: int
    """Minor units in it; who has how much of them only its members know."""


def channel_of(group_id: Hash, agreement: GroupAgreement) -> Channel | None:
    """A group as an edge; None if it forwards nothing: another machine or size, a node with itself."""
    accounts = tuple(member.funding for member in agreement.members)
    return listed_channel(ListedGroup(group_id, True, agreement.machine, accounts, agreement.funding_units))


def listed_channel(group: ListedGroup) -> Channel | None:
    """The same of a group as a replica lists it."""
    members = group.members
    if group.machine != MACHINE or len(members) != PAIR or members[0] == members[1]:
        return None
    return Channel(group.id, (members[0], members[1]), group.funding_units)


class ChannelGraph:
    """What this wallet knows of the network. Changed by :meth:`show`, :meth:`close` and :meth:`accept`."""

    def __init__(self, chain_id: Hash) -> None:
        self._chain_id = chain_id
        self.channels: dict[Hash, Channel] = {}
        self._newest: dict[Topic, ChannelAnnouncement] = {}
        self.opened = 0
        """How often a channel was shown that was not known, or not so large."""
        self.changed: set[Topic] | None = None
        """What was announced, or closed, since somebody last looked and set it to nothing; None if nobody looks."""

    def show(self, channel: Channel) -> None:
        """Layer 1 shows this channel open, in its newest epoch.

        Raises:
            Untimely: There are too many already.
        """
        known = self.channels.get(channel.id)
        if known is None and len(self.channels) >= MOST_CHANNELS:
            raise Untimely(f"{MOST_CHANNELS} channels are known, and no more are kept")
        if known is not None and known.nodes != channel.nodes:
            self.close(channel.id)  # somebody else has a seat now: what the old one announced is void
        self.opened += known != channel
        self.channels[channel.id] = channel

    def close(self, channel_id: Hash) -> None:
        """Layer 1 shows it open no more: forget it. Harmless when repeated."""
        channel = self.channels.pop(channel_id, None)
        if channel is None:
            return
        for node in channel.nodes:
            self._note((channel_id, node))
            self._newest.pop((channel_id, node), None)

    def accept(self, announcement: ChannelAnnouncement, *, ours: bool = False) -> bool:
        """Keep an announcement that is newer than what we have; True if so: others may not know it.

        The signature is checked last, once, and only of what is new, unless we made it.

        Raises:
            Untimely: No open channel of this signer is known: it may be new, or gone.
            RemoteError: It breaks a limit, its signer is no member, or the signature is not its signer's.
        """
        check_form(announcement)
        known = self._newest.get(topic_of(announcement))
        if known is not None and announcement.sequence <= known.sequence:
            return False
        self._check_member(announcement)
        if not ours:
            check_signature(self._chain_id, announcement)
        self._newest[topic_of(announcement)] = announcement
        self._note(topic_of(announcement))
        return True

    def _note(self, topic: Topic) -> None:
        if self.changed is not None:
            self.changed.add(topic)

    def _check_member(self, announcement: ChannelAnnouncement) -> None:
        channel = self.channels.get(announcement.channel)
        if channel is None:
            raise Untimely(f"channel {announcement.channel.hex()[:12]} is not open as far as we know")
        if announcement.node not in channel.nodes:
            raise RemoteError(f"{announcement.node.hex()} announces channel {channel.id.hex()[:12]} and is no member")

    def terms(self, channel_id: Hash, node: PublicKey) -> ChannelAnnouncement | None:
        """On which terms `node` forwards over a channel; None if it never said."""
        return self._newest.get((channel_id, node))

    def newest(self, topic: Topic) -> ChannelAnnouncement | None:
        """What counts for a topic."""
        return self._newest.get(topic)

    def topics(self) -> list[Topic]:
        """Of everything that is known, in the order in which :meth:`page` goes on."""
        return sorted(self._newest)

    def page(
        self, topics: list[Topic], after: Topic | None, count: int
    ) -> tuple[tuple[ChannelAnnouncement, ...], Topic | None]:
        """What there is on the next `count` topics of a list that :meth:`topics` gave, and where to go on.

        Returns:
            Announcements, without those that are gone since; and the last topic that was looked at, None at the end.
        """
        start = 0 if after is None else bisect_right(topics, after)
        chosen = topics[start : start + count]
        further = chosen[-1] if chosen and start + count < len(topics) else None
        return tuple(found for topic in chosen if (found := self._newest.get(topic)) is not None), further

"""What a host of groups says to the wallet that it serves, and what it needs of a link.

Source: docs/design/architecture.md, "Packages and the direction of imports".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from layer1.crypto import Hash, PublicKey
from layer1.errors import Refused, RemoteError, WedgeError
from layer2 import events
from layer2.messages import OpeningMessage
from layer2.value import Group


@dataclass(frozen=True, slots=True)
class Receipt:
    """Our command is committed: this member durably holds the certificate (rule 3)."""

    number: int
    version: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of commands that were issued together."""

    committed: int
    """How many are."""
    last: Receipt | None
    """Of the last one that is; None for none."""
    refused: tuple[Refused, ...] = ()
    """One for each that was not applied and never will be."""
    pending: tuple[Pending, ...] = ()
    """One for each whose fate is not known yet."""


class Pending(WedgeError):
    """The fate of our command is not known yet. Do not retry it; the observer is told what becomes of it."""

    def __init__(self, group_id: Hash, number: int, message: str) -> None:
        super().__init__(message)
        self.group_id = group_id
        self.number = number


class Waiter(Protocol):
    """What is needed of a future."""

    def done(self) -> bool:
        """Whether it has its result, or nobody waits any more."""
        ...

    def set_result(self, result: Outcome, /) -> None:
        """Wake whoever waits."""
        ...


class Caller:
    """Somebody who waits for commands of ours, all of one call: counts them until the last fate is known."""

    __slots__ = ("_committed", "_last", "_left", "_pending", "_refused", "_waiter")

    def __init__(self, count: int, waiter: Waiter) -> None:
        self._left = count
        self._waiter = waiter
        self._committed = 0
        self._last: tuple[int, int] | None = None
        self._refused: list[Refused] = []
        self._pending: list[Pending] = []

    @property
    def is_gone(self) -> bool:
        """Nobody waits any more."""
        return self._waiter.done()

    def committed(self, number: int, version: int) -> None:
        """One is."""
        self._committed += 1
        self._last = (number, version)
        self._count()

    def refused(self, refusal: Refused) -> None:
        """One never will be."""
        self._refused.append(refusal)
        self._count()

    def pending(self, pending: Pending) -> None:
        """One may yet be."""
        self._pending.append(pending)
        self._count()

    def _count(self) -> None:
        self._left -= 1
        if not self._left and not self._waiter.done():
            last = None if self._last is None else Receipt(*self._last)
            outcome = Outcome(self._committed, last, tuple(self._refused), tuple(self._pending))
            self._waiter.set_result(outcome)


class Channel(Protocol):
    """What a host needs of a :class:`layer1.link.Link`."""

    @property
    def peer(self) -> PublicKey:
        """The key that the other side proved to hold."""
        ...

    def send_nowait(self, data: bytes) -> bool:
        """Queue a message; False if the link has ended."""
        ...

    async def receive(self) -> bytes:
        """The next message, or :class:`layer1.link.LinkClosed`."""
        ...

    def cut(self, reason: str) -> None:
        """End the link at once, and drop what came from it."""
        ...

    async def close(self, reason: str = "") -> None:
        """End the link."""
        ...


class Successor(Protocol):
    """Who has each record before anything that follows from it leaves (decision 031)."""

    @property
    def in_force(self) -> bool:
        """Whether what is done now can leave without waiting for somebody who is not there."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether as many effects wait as may: what else comes from peers has to wait outside."""
        ...

    async def room(self) -> None:
        """Wait until that is no longer so."""
        ...

    def follow(self, records: tuple[bytes, ...], perform: Callable[[], None], effects: int = 1) -> None:
        """Take what a turn appended, durably here; `perform` is called when it may show what follows, in order.

        `effects` is how many that are: they take memory until then.
        """
        ...


class Companion(Protocol):
    """A core whose records stand in the journal of the groups, between theirs (decision 042).

    They are durable with one sync, compacted and handed to a standby together, and are never read here.
    """

    def replay(self, record: bytes) -> None:
        """One of its records, in the journal's order with the groups' own; raises LocalError if it does not fit."""
        ...

    def records(self) -> Iterable[bytes]:
        """What the journal must hold of it: all that matters, when it is compacted or handed over."""
        ...

    def clear(self) -> None:
        """Forget everything: another home's records follow."""
        ...

    def signing(self, group_id: Hash, before: Group, after: Group, effects: Sequence[events.Effect]) -> Iterable[bytes]:
        """A group is about to change, perhaps by our signature; nothing of that has left, or is durable.

        What is returned stands in the journal before the group's own records, in the same turn: neither is durable
        without the other. It may issue commands, and must not step this group.
        """
        ...


class Keeper:
    """The companion of a host that nobody gave one: keeps the records that it finds, and adds none."""

    def __init__(self) -> None:
        self._records: list[bytes] = []

    def replay(self, record: bytes) -> None:
        """See :class:`Companion`."""
        self._records.append(record)

    def records(self) -> Iterable[bytes]:
        """See :class:`Companion`."""
        return tuple(self._records)

    def clear(self) -> None:
        """See :class:`Companion`."""
        self._records.clear()

    def signing(self, group_id: Hash, before: Group, after: Group, effects: Sequence[events.Effect]) -> Iterable[bytes]:
        """See :class:`Companion`."""
        return ()


class Observer:
    """What the wallet wants to know. Called on the event loop, after the records are durable; must not block.

    After a restart :meth:`committed` is called again for every version since the last compaction: key what is stored
    by group, epoch and version.
    """

    def committed(self, group_id: Hash, event: events.Committed) -> None:
        """A version is committed, with its commands: the history."""

    def preimage_seen(self, group_id: Hash, event: events.PreimageSeen) -> None:
        """A lock that we pay was claimed: its preimage is ours to use, committed or not. May be told again."""

    def rejected(self, group_id: Hash, event: events.Rejected) -> None:
        """Our command was not applied and never will be, also if its `submit` is waited for."""

    def submission(self, group_id: Hash, payload: events.Payload) -> None:
        """Bring this to layer 1. What a call of the host returns is not told here."""

    def advice(self, group_id: Hash, event: events.Advice) -> None:
        """The group cannot go on by itself."""

    def change_asked(self, group_id: Hash, event: events.ChangeAsked) -> None:
        """A member wants to change the group: answer by `GroupHost.agree` or `GroupHost.decline`, then or later."""

    def change_ended(self, group_id: Hash, event: events.ChangeEnded) -> None:
        """A change that we wanted will not be."""

    def epoch_began(self, group_id: Hash, event: events.EpochBegan) -> None:
        """The group has changed. What was pending before is committed, or was rejected."""

    def look_now(self, group_id: Hash) -> None:
        """Something on layer 1 concerns this group: look, and `GroupHost.observe`."""

    def frozen(self, group_id: Hash, reason: str) -> None:
        """The disk did not confirm: nothing is signed until the process is started again."""

    def finished(self, group_id: Hash, event: events.Finished) -> None:
        """Layer 1 has closed the group, perhaps on a version below what was committed."""

    def misbehaved(self, group_id: Hash | None, peer: PublicKey, error: RemoteError) -> None:
        """A peer broke the protocol; its message was dropped. A policy may wedge the group, but not in this call."""

    def connected(self, group_id: Hash, member: int, up: bool) -> None:
        """A member came into step, or its link is gone."""

    def linked(self, peer: PublicKey) -> None:
        """There is a link to a wallet, or a newer one in place of the old: what was asked by the old one is lost."""

    def unlinked(self, peer: PublicKey) -> None:
        """There is none any more."""

    def aside(self, peer: PublicKey, data: bytes) -> None:
        """A linked wallet says something that concerns no group; reply with :meth:`layer2.driver.GroupHost.say`.

        Raises:
            RemoteError: It broke a limit, and is charged for it.
        """

    def opening(self, peer: PublicKey, message: OpeningMessage) -> None:
        """An offer, answer or decline; reply with :meth:`layer2.driver.GroupHost.send_opening`."""

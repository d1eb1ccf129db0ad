"""Drives the forwarder in an open wallet: what happens to locks becomes its events, what it wants is done.

*Safety:* each record of the core is durable before anything leaves that follows from it. What a signature is about
(`Stands`, `PreimageSeen`) is noted in the very turn of the signature (`layer2.hosting.Companion.signing`); the rest is
noted before the command that it permits is issued.

Of the core's contract (`wallet.forwarding.events`):

- An offer has *failed* for certain when the host says that it never will apply; after a restart, when its group is in
  step and holds the one version that may yet have had it; or when layer 1 shows the group wedged, so that we sign no
  more, and no version that we signed has it.
- A lock that came in before this start is forwarded when it is certain that no release of ours is on its way.
- A lock that layer 1 did not settle on was never made, or has ended: it is told as such, whoever waits for it.
- In a group of which we lost data, or may have, we cannot tell what we signed: nothing that depends on it goes back.
  And while the state of any group is in doubt, an incoming lock without a passage may have been forwarded all the same,
  by the home that the copy was made of: it is neither forwarded nor given back, and claimed if its preimage shows up.
- What the clock and layer 1 ask for is done by `wallet.locking` for every lock, forwarded or not: from the moment that
  an incoming lock is to be claimed it registers, and wedges; it takes back what has expired, and asks the registry. So
  `Register`, `MakeExpire`, `MakeWedge` and `AskRegistry` are nothing to do here.

Each forwarded payment that was paid is an entry ``forwarded`` of the history: `amount` is our fee, `channel` where it
came in, `via` where it left, `peer` who paid us.

Source: docs/design/groups.md, rules 22 and 23; decisions 041 and 042.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from layer1.client import LedgerUnreachable
from layer1.codec import encode
from layer1.crypto import Hash, PublicKey, format_address
from layer1.ledger.agreements import Lock
from layer1.ledger.locks import preimage_hash
from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.records import Status
from layer2.driver import Outcome
from layer2.events import Committed, Rejected
from layer2.events import Effect as GroupEffect
from layer2.events import PreimageSeen as ClaimSeen
from layer2.messages import Batch
from layer2.payments import Offer, lock_news, offer
from layer2.state import State
from layer2.value import Group
from wallet.forwarding.events import (
    AskRegistry,
    Came,
    Effect,
    Event,
    GroupWedged,
    IncomingEnded,
    LockRef,
    MakeClaim,
    MakeExpire,
    MakeOffer,
    MakeRelease,
    MakeWedge,
    OfferFailed,
    OutgoingEnded,
    Passage,
    Persist,
    PreimageSeen,
    Register,
    Restored,
    Stands,
    Way,
    mark_of,
)
from wallet.forwarding.events import Ended as Over
from wallet.invoices.dealing import Dealer, is_past_the_restart, may_be_leaving
from wallet.lock_news import Ended
from wallet.locking import Locking
from wallet.onion.packet import Peeled
from wallet.onion.payload import Forward
from wallet.parts import Parts

LOOK_S = 1.0
"""Between tries to ask a ledger that does not answer."""
MEET_S = 5.0
"""How long a wallet that has just been opened waits for a next node before it says that it is away."""
_log = logging.getLogger(__name__)


class ForwardDriver(Dealer):
    """The forwarder of one open wallet: `wallet.switchboard.Forwards`."""

    def __init__(self, parts: Parts, locking: Locking, clock_ms: Callable[[], int | None]) -> None:
        """Nothing happens before :meth:`start`."""
        super().__init__(parts, locking, clock_ms)
        self._core = parts.passages.core
        self._unknown: dict[tuple[Hash, int], int] = {}
        """By group and number of a command, the passage whose offer it is: its fate was not known when a link broke."""
        self._stale: dict[Hash, set[int]] = {}
        """By group, passages of before this start whose offer may yet become a lock."""
        self._unsure: set[Hash] = set()
        """Groups of which this home may not know everything that was signed."""
        self._held: dict[LockRef, tuple[Lock, Peeled]] = {}
        """Incoming locks that may have been forwarded before this home was copied."""
        self._stopped: set[Hash] = set()
        self._met_s = 0.0
        """By the loop's time, until when a neighbour that is not in step may yet come."""

    def start(self) -> None:
        """Take up what the records say; from now on every signature is looked at."""
        self._met_s = asyncio.get_running_loop().time() + MEET_S
        self._parts.passages.on_signing = self._signing
        self._parts.observer.on_rejected = self._rejected
        self._parts.observer.on_up.append(self._look_again)
        groups = self._parts.host.groups
        self._unsure = {group_id for group_id, group in groups.items() if _is_unsure(group)}
        self._restore()
        self._perform(self._core.resume())
        for passage, _ in self._core.passages():
            group = groups.get(passage.incoming.group)
            if group is None or all(lock.id != passage.incoming.lock for lock in group.committed.body.locks):
                self._step(IncomingEnded(passage.incoming))
        for group_id in list(self._stale):
            self._look_again(group_id)
        if self._unsure:
            self._begin(self._watch_held())

    def _restore(self) -> None:
        """Which outgoing locks stand, or have stood since the last compaction; and what has ended since."""
        ends = list(self._locking.ends())
        outgoing = {passage.outgoing for passage, _ in self._core.passages()}
        stood: dict[Hash, list[Lock]] = {group_id: [] for group_id in outgoing}
        for group_id, lock in self._locking.outgoing():
            if group_id in outgoing:
                stood[group_id].append(lock)
        for group_id, ended in ends:
            if group_id in outgoing:
                stood[group_id].append(ended.lock)
        for group_id, locks in stood.items():
            self._step(Restored(group_id, tuple(locks)))
            if unbound := {passage.number for passage in self._core.offers(group_id)}:
                self._stale[group_id] = unbound
        for group_id, ended in ends:
            self.lose(group_id, ended)

    # ----------------------------------------------------------------------------------------------- what happens

    def holds(self, group_id: Hash, number: int) -> bool:
        """See `wallet.switchboard.Forwards`."""
        ref = LockRef(group_id, number)
        return self._core.coming(ref) is not None or ref in self._held

    def take(self, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        """See `wallet.switchboard.Forwards`."""
        if self._is_unsure():
            self._held[LockRef(group_id, lock.id)] = lock, peeled
        elif isinstance(peeled.payload, Forward):  # what else there is, is for the payee
            group = self._parts.host.groups.get(group_id)
            if group is not None and self._may_be_leaving(group, lock.id):
                self._begin(self._take_later(group_id, lock, peeled))
            else:
                self._forward(group_id, lock, peeled, peeled.payload)

    def _forward(
        self, group_id: Hash, lock: Lock, peeled: Peeled, onward: Forward, *, has_waited: bool = False
    ) -> None:
        ref, record, ways = LockRef(group_id, lock.id), self._parts.book.get(group_id), self._ways(onward.next_node)
        group = self._parts.host.groups.get(group_id)
        if record is None or group is None or group.ended is not None:
            return  # forgotten, or layer 1 decides of what stands there: it may have been forwarded, paid, and ended
        is_early = not has_waited and asyncio.get_running_loop().time() < self._met_s
        if is_early and ways and not any(way.ready for way in ways):
            self._begin(self._forward_when_met(group_id, lock, peeled, onward))
            return
        self._step(
            Came(
                ref, record.peer, lock.amount, lock.hash, lock.expiry_ms, onward.amount, peeled.secret, peeled.packet,
                ways, self._parts.host.clock_ms(),
            )
        )  # fmt: skip

    async def _forward_when_met(self, group_id: Hash, lock: Lock, peeled: Peeled, onward: Forward) -> None:
        """A wallet that has just been opened meets its neighbours before it calls one of them away."""
        met = lambda: True if any(way.ready for way in self._ways(onward.next_node)) else None  # noqa: E731
        await self._parts.signals.until(met, self._met_s - asyncio.get_running_loop().time())
        if self._lock(group_id, lock.id) is not None:
            self._forward(group_id, lock, peeled, onward, has_waited=True)

    def shown(self, group_id: Hash, lock: Lock, preimage: bytes) -> bool:
        """See `wallet.switchboard.Forwards`."""
        self._step(PreimageSeen(preimage))
        for ref in [ref for ref, (held, _) in self._held.items() if held.hash == preimage_hash(preimage)]:
            del self._held[ref]
            self._begin(self._locking.claim(ref.group, ref.lock, preimage))
        return self._is_going(LockRef(group_id, lock.id), lock)

    def _is_going(self, ref: LockRef, lock: Lock) -> bool:
        """Whether a lock is of a passage; its id alone may be bound by an offer that a crash kept from being signed."""
        passage = self._core.going(ref)
        return passage is not None and passage.hash == lock.hash

    def lose(self, group_id: Hash, ended: Ended) -> bool:
        """See `wallet.switchboard.Forwards`."""
        ref = LockRef(group_id, ended.lock.id)
        self._held.pop(ref, None)
        if (passage := self._core.coming(ref)) is not None:
            if ended.is_paid:
                self._enter_fee(passage)
            self._step(IncomingEnded(ref))
            return True
        if not self._is_going(ref, ended.lock):
            return False
        if ended.preimage is not None:
            self._step(PreimageSeen(ended.preimage))
        if ended.is_paid and not self._core.is_known(ended.lock.hash):
            _log.error("channel %s: lock %d was paid, its preimage is unknown", group_id.hex()[:12], ended.lock.id)
            return True  # it is not failed back: the payer gets it when it expires
        self._step(OutgoingEnded(ref, ended.lock.hash, ended.reason, away=ended.how != "released"))
        return True

    def stopped(self, group_id: Hash, shown: LedgerGroup) -> None:
        """See `wallet.switchboard.Forwards`."""
        group = self._parts.host.groups.get(group_id)
        if group is None or group.ledger is None:
            return  # its core has not seen it: it may still sign
        if group_id not in self._stopped:
            self._stopped.add(group_id)
            self._step(GroupWedged(group_id))
        if _is_unsure(group):
            return
        self._fail(passage.number for passage in self._core.offers(group_id))
        if shown.status is Status.CLOSED:
            self._end_what_is_not_in({each.lock.id for each in shown.locks}, group_id)

    def _end_what_is_not_in(self, settled: set[int], group_id: Hash) -> None:
        for passage, lock in self._core.passages():
            if passage.outgoing == group_id and lock is not None and lock not in settled:
                self._step(OutgoingEnded(LockRef(group_id, lock), passage.hash, away=True))
            if passage.incoming.group == group_id and passage.incoming.lock not in settled:
                self._step(IncomingEnded(passage.incoming))

    def _signing(self, group_id: Hash, before: Group, after: Group, effects: Sequence[GroupEffect]) -> Iterable[bytes]:
        """A version is about to be signed: its claims' preimages, and offers of ours that it makes locks, go first."""
        records: list[bytes] = []
        for effect in effects:
            if isinstance(effect, ClaimSeen):
                self._step(PreimageSeen(effect.preimage), records)
        if group_id in self._stale:
            asyncio.get_running_loop().call_soon(self._look_again, group_id)
        old, new = _newest(before), _newest(after)
        if new is not old and new.body.locks and self._core.offers(group_id):
            for lock, mark in _fresh_offers(old, after, effects):
                number = self._core.find(group_id, lock, mark)
                if number is not None:
                    self._step(Stands(number, lock.id), records)
        return records

    def _rejected(self, group_id: Hash, event: Rejected) -> None:
        number = self._unknown.pop((group_id, event.number), None)
        if number is not None:
            self._fail([number])

    def _look_again(self, group_id: Hash) -> None:
        """A group in which offers of before our start wait may have come into step, or hold one version more."""
        group = self._parts.host.groups.get(group_id)
        if group_id not in self._stale or (group is not None and not is_past_the_restart(group)):
            return
        if group is not None and group.frozen:
            return  # nothing can be noted any more: at the next start they are stale again
        numbers = self._stale.pop(group_id)
        if group is not None:
            self._fail(numbers)
            return
        for passage in self._core.offers(group_id):
            self._begin(self._end_forgotten(passage))

    async def _end_forgotten(self, passage: Passage) -> None:
        """The group is closed and forgotten, and what became of the lock was not noted: a home of before knew it.

        If layer 1 paid, it shows the preimage. If the group did, before data was lost, nobody can know: so the incoming
        lock stays until its time is over.
        """
        while True:
            try:
                known = (await self._parts.ledger.registration(passage.hash)).value
            except LedgerUnreachable:
                await asyncio.sleep(LOOK_S)
            else:
                break
        if known is not None:
            self._step(PreimageSeen(known.preimage))
        else:
            await self._parts.signals.until(lambda: True if (self._clock_ms() or 0) > passage.expiry_ms else None)
        self._fail([passage.number])

    def _fail(self, numbers: Iterable[int], *, away: bool = False) -> None:
        for number in list(numbers):
            self._step(OfferFailed(number, away))

    async def _take_later(self, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        """A release of before our start may be on its way: take the lock when it is certain that there is none."""

        def is_decided() -> bool | None:
            group = self._parts.host.groups.get(group_id)
            gone = group is None or group.ended is not None or self._lock(group_id, lock.id) is None
            return True if gone or group is None or not self._may_be_leaving(group, lock.id) else None

        await self._parts.signals.until(is_decided)
        group = self._parts.host.groups.get(group_id)
        if group is not None and group.ended is None and self._lock(group_id, lock.id) is not None:
            self.take(group_id, lock, peeled)

    def _may_be_leaving(self, group: Group, number: int) -> bool:
        """Nor is a lock worth anything before layer 1 was looked at: the group may be closed on a state without it."""
        return group.group_id not in self._locking.looked or may_be_leaving(group, number)

    async def _watch_held(self) -> None:
        """What was held back in doubt is forwarded, or given back, when nothing is in doubt any more."""
        await self._parts.signals.until(lambda: None if self._is_unsure() else True)
        held, self._held = self._held, {}
        for ref, (lock, peeled) in held.items():
            self.take(ref.group, lock, peeled)

    def _is_unsure(self) -> bool:
        """Whether some group that this home found in doubt, or lost data of, is still so."""
        if self._unsure:
            groups = self._parts.host.groups
            self._unsure = {each for each in self._unsure if each in groups and _is_unsure(groups[each])}
        return bool(self._unsure)

    # -------------------------------------------------------------------------------------------- what is wanted

    def _step(self, event: Event, records: list[bytes] | None = None) -> None:
        self._perform(self._core.step(event), records)

    def _perform(self, effects: Iterable[Effect], records: list[bytes] | None = None) -> None:
        """In order. `records`, if given, takes what is to be noted, in place of the journal."""
        for effect in effects:
            match effect:
                case Persist(record):
                    if records is None:  # that all is over costs no sync: after a crash it is found out again
                        self._parts.host.note(encode(record), soon=not isinstance(record, Over))
                    else:
                        records.append(encode(record))
                case MakeOffer(passage, packet):
                    self._offer(passage, packet)
                case MakeClaim(incoming, preimage):
                    self._locking.insist(incoming.group, incoming.lock, preimage)
                case MakeRelease(incoming, reason):
                    self._begin(self._refuse(incoming.group, incoming.lock, reason))
                case Register() | MakeExpire() | MakeWedge() | AskRegistry():
                    pass
                case _:
                    assert_never(effect)

    def _offer(self, passage: Passage, packet: bytes) -> None:
        group = self._parts.host.groups[passage.outgoing]
        command = offer(1 - group.place.index, passage.amount, passage.hash, passage.expiry_ms, packet)
        self._parts.host.issue(passage.outgoing, (command,), _Offered(self, passage.number))

    def offered(self, number: int, outcome: Outcome) -> None:
        """What became of the offer of a passage."""
        for pending in outcome.pending:
            open_now = {passage.number for passage in self._core.offers(pending.group_id)}
            known = self._unknown.items()
            self._unknown = {key: each for key, each in known if key[0] != pending.group_id or each in open_now}
            self._unknown[pending.group_id, pending.number] = number
        for refusal in outcome.refused:
            self._fail([number], away=refusal.code == "not_connected")

    def _ways(self, node: PublicKey) -> tuple[Way, ...]:
        host = self._parts.host
        groups = [host.groups[group_id] for group_id in host.groups_with(node)]
        return tuple(self._way(group) for group in groups if group.ended is None and not group.closing)

    def _way(self, group: Group) -> Way:
        agreement, body = group.place.agreement, _newest(group).body
        issued = [passage.amount for passage in self._core.offers(group.group_id)]
        value = min(agreement.limits.max_locked_units, agreement.funding_units)
        return Way(
            group=group.group_id,
            can_send=body.balances[group.place.index] - sum(issued),
            ready=group.connected and group.stopped is None and group.change is None and not group.settled_wish,
            slots=agreement.limits.max_locks,
            slots_taken=len(body.locks) + len(issued),
            value=value,
            value_taken=sum(lock.amount for lock in body.locks) + sum(issued),
            least=agreement.limits.min_lock_units,
        )

    def _enter_fee(self, passage: Passage) -> None:
        channel = passage.incoming.group.hex()
        self._parts.history.add(
            f"{channel}:lock:{passage.incoming.lock}:forwarded",
            "forwarded",
            passage.came - passage.amount,
            channel=channel,
            peer=format_address(passage.peer),
            payment_hash=passage.hash.hex(),
            via=passage.outgoing.hex(),
        )


class _Offered:
    """Waits for the fate of an offer."""

    def __init__(self, driver: ForwardDriver, number: int) -> None:
        self._driver, self._number = driver, number

    def done(self) -> bool:
        """Nobody stops waiting."""
        return False

    def set_result(self, outcome: Outcome) -> None:
        """It is known, or the link broke."""
        self._driver.offered(self._number, outcome)


def _newest(group: Group) -> State:
    """The highest version that this member signed."""
    return group.state if group.pending is None else group.pending.state


def _fresh_offers(old: State, after: Group, effects: Sequence[GroupEffect]) -> list[tuple[Lock, bytes | None]]:
    """Locks of ours that the newest version has and the one before had not, with the marks of their packets.

    Of a version that others showed us, after a loss of data, there is no batch: then there are no marks.
    """
    me, known, batch = after.place.index, {lock.id for lock in old.body.locks}, _batch_of(after, effects)
    fresh = [lock for lock in _newest(after).body.locks if lock.payer == me and lock.id not in known]
    if not fresh or batch is None:
        return [(lock, None) for lock in fresh]
    news = lock_news(old.machine_state, batch.commands)
    return [(lock, mark_of(made.packet)) for lock, by, made in news if isinstance(made, Offer) and by == me]


def _batch_of(after: Group, effects: Sequence[GroupEffect]) -> Batch | None:
    """What the newest version applied: it is pending, waits for ACKs, or is committed by this very step."""
    if after.pending is not None:
        return after.pending.batch
    if after.tail:
        return after.tail[-1].batch
    version = after.state.version
    return next((each.batch for each in effects if isinstance(each, Committed) and each.version == version), None)


def _is_unsure(group: Group) -> bool:
    return group.lost or bool(group.doubts)

"""Conditional payments over the channels of one wallet: offer, claim, release, and what must happen by itself.

How to use it from the wallet::

    channel = await wallet.channel(name)
    end = await channel.offer(amount, hashed, expiry_ms, packet)    # waits until the lock has ended
    if end.preimage is not None: ...                                # paid; else end.how and end.reason say why not

    wallet.locking.on_offer = take      # take(group_id, lock, packet): the peer's offer is committed; decide later
    await channel.claim(lock.id, preimage)                          # durable before it is tried, and insisted on
    await channel.release(lock.id, reason)

    wallet.locking.on_preimage = know   # know(group_id, lock, preimage): our lock was claimed, committed or not, or
                                        # its preimage was registered on layer 1; it may be told again
    wallet.locking.on_end = done        # done(group_id, Ended): a lock is gone for certain, ours or the peer's
    wallet.locking.on_stopped = over    # over(group_id, shown): layer 1 shows it wedged, or closed; told at each look

In an open wallet `wallet.switchboard` alone sets these hooks.

After a start `incoming` gives each offer that has not ended, with its packet, and `ended` what became of a lock that
has: what was decided before a crash is found again by the group and the id of the lock, which are never used twice.

*Safety:* while this runs and reaches layer 1 within the margin, nobody's lock ends otherwise than rule 21 says.

A preimage that is to be claimed is durable before anything is sent. When the peer does not let us claim in time, it is
registered on layer 1, a margin before the expiry and another to spare, also if it is registered already and the ledger
may forget that too soon (:func:`wants_renewal`); after that, and when our own lock is over and
the peer does not give it back, the channel is wedged, and layer 1 pays by the registry (rule 23). A lock below
:data:`WORTH_UNITS` is never a reason to wedge.

Source: docs/design/groups.md, rules 20 to 23; decision 036.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from enum import Enum, auto
from pathlib import Path

from layer1.client import LedgerUnreachable
from layer1.crypto import Hash
from layer1.errors import LocalError, Refused, check
from layer1.files import private_directory, write_durably
from layer1.ledger.agreements import Lock
from layer1.ledger.locks import PREIMAGE_BYTES, is_renewable, is_timely, preimage_hash
from layer1.ledger.records import ClosedLock, Registration, Status
from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.transactions import RegisterPreimages
from layer2.driver import Outcome
from layer2.events import Committed, Looked, PreimageSeen
from layer2.guarding import hashes
from layer2.payments import Offer, claim, expire, offer, release
from layer2.value import Group
from wallet.exits import as_refusal
from wallet.lock_news import Ended, ended_by, news_of
from wallet.parts import Parts
from wallet.period import margin_ms

WORTH_UNITS = 100
"""Minor units: for less no channel is wedged, whose end costs both the challenge period. A peer can keep so much."""
NEAR_MARGINS = 4
"""So many margins before its expiry a lock is looked up on layer 1; by three its payee registers what was not taken."""
KEPT_ENDS = 10_000
"""So many ends of locks are remembered for who asks late."""
_log = logging.getLogger(__name__)


class Duty(Enum):
    """What a lock asks of a member now."""

    WAIT = auto()
    CLAIM = auto()
    """Off-chain, again if need be."""
    REGISTER = auto()
    """On layer 1: it may soon be too late for a claim."""
    EXPIRE = auto()
    """Take it back, off-chain."""
    WEDGE = auto()
    """The peer does not do its part: layer 1 decides."""


def duty(lock: Lock, me: int, clock_ms: int, margin: int, *, preimage: bool, registered_ms: int | None) -> Duty:
    """What rule 23 asks for.

    Args:
        lock: Pending in the newest state.
        me: Our place.
        clock_ms: The ledger clock, as it was last proven.
        margin: M of rule 22.
        preimage: Whether it is ours to claim: we are its payee, and were told the preimage.
        registered_ms: Ledger clock of the registration, None if layer 1 shows none.
    """
    left_ms = lock.expiry_ms - clock_ms
    if lock.payer == me:
        if registered_ms is not None and registered_ms <= lock.expiry_ms:
            return Duty.WAIT  # it is the payee's, who claims it, or wedges
        if left_ms >= 0:
            return Duty.WAIT
        return Duty.EXPIRE if left_ms >= -2 * margin else Duty.WEDGE
    if not preimage:
        return Duty.WAIT  # nothing is ours here
    if registered_ms is not None:
        if registered_ms > lock.expiry_ms:
            return Duty.WAIT
        return Duty.CLAIM if left_ms >= -2 * margin else Duty.WEDGE
    if left_ms < 0:
        return Duty.WAIT
    return Duty.CLAIM if left_ms > 3 * margin else Duty.REGISTER


def wants_renewal(lock: Lock, registered: Registration | None, clock_ms: int, margin: int, renew_after_ms: int) -> bool:
    """Whether the registration by which a lock is ours must be kept for longer (rule 21).

    Whoever chose the preimage may have registered it so long ago that it is forgotten between the expiry and the
    settlement. What is renewed in the last three margins before the expiry, or was `renew_after_ms` before, outlasts
    every dispute; for a lock that stands on, as in a witnessed group whose witnesses do not claim, it is renewed again.

    Args:
        lock: Ours to claim.
        registered: What layer 1 shows of its hash.
        clock_ms: The ledger clock, as it was last proven.
        margin: M of rule 22.
        renew_after_ms: Of the ledger: before that it renews nothing.
    """
    if registered is None or not is_timely(registered, lock.expiry_ms):
        return False
    return clock_ms >= lock.expiry_ms - 3 * margin and is_renewable(registered, clock_ms, renew_after_ms)


class Locking:
    """Of one wallet. Made when it is opened."""

    def __init__(self, parts: Parts, directory: Path) -> None:
        """Read the preimages that are to be claimed.

        Args:
            parts: Of the wallet.
            directory: Where they are kept, one file for each.
        """
        self._parts = parts
        self._directory = private_directory(directory)
        self._claims: dict[tuple[Hash, int], bytes] = {}
        """By group and lock, its preimage: of what was decided, for another lock under the same hash is not ours to
        claim unasked; whoever offers a unit for it would learn the preimage too soon."""
        for path in self._directory.glob("[0-9a-f]*"):
            self._claims[_key_in(path)] = path.read_bytes()
        self._waiting: dict[tuple[Hash, int], list[asyncio.Future[Ended]]] = {}
        self._ended: dict[tuple[Hash, int], Ended] = {}
        """The newest :data:`KEPT_ENDS`."""
        self._numbers: dict[tuple[Hash, int], Lock] = {}
        """By group and number of our command, the lock that it made; until its caller has taken it, if one waits."""
        self._paid: set[tuple[Hash, int]] = set()
        """Locks of closed groups whose end was told."""
        self._busy: set[tuple[Hash, int]] = set()
        self.looked: set[Hash] = set()
        """Channels of which layer 1 was seen since the start."""
        self._registered: dict[Hash, Registration | None] = {}
        """What layer 1 last showed."""
        self._shown: set[tuple[Hash, int]] = set()
        """Our locks whose registered preimage was told."""
        self.margin_ms = margin_ms(parts.genesis)
        self.on_offer: Callable[[Hash, Lock, bytes], object] = lambda group_id, lock, packet: None
        self.on_preimage: Callable[[Hash, Lock, bytes], object] = lambda group_id, lock, preimage: None
        self.on_end: Callable[[Hash, Ended], object] = lambda group_id, ended: None
        self.on_stopped: Callable[[Hash, LedgerGroup], object] = lambda group_id, shown: None
        for group_id, event in parts.observer.untold_locks:
            for _, lock, request in news_of(event):
                if not isinstance(request, Offer):
                    self._note_end(group_id, ended_by(lock, request))
        parts.observer.untold_locks.clear()
        parts.observer.on_locks = self._committed
        parts.observer.on_preimage = self._seen
        parts.observer.on_up.append(self.tend)

    # ---------------------------------------------------------------------------------------------- for the wallet

    async def offer(self, group_id: Hash, amount: int, hashed: Hash, expiry_ms: int, packet: bytes = b"") -> Ended:
        """Lock money for the peer, and wait until the lock has ended. Who stops waiting is told by `on_end`.

        Args:
            group_id: The channel; the peer is in step.
            amount: Minor units, at least 1.
            hashed: SHA-256 of the preimage that the peer has to show.
            expiry_ms: Ledger clock until which it may.
            packet: For the peer, at most 1,366 bytes.

        Raises:
            Refused: Nothing was locked, nor ever will be.
            Pending: Whether it was is not known yet: do not repeat it; see `outgoing`.
        """
        lock = await self.begin(group_id, amount, hashed, expiry_ms, packet)
        return await self.end_of(group_id, lock.id)

    async def begin(self, group_id: Hash, amount: int, hashed: Hash, expiry_ms: int, packet: bytes = b"") -> Lock:
        """The first half of :meth:`offer`: on return the lock is committed. Raises as it does."""
        least, most = 4 * self.margin_ms, self._parts.genesis.parameters.max_lock_ms
        left_ms = expiry_ms - await self._known_clock()
        text = f"the lock would expire in {left_ms} ms; from {least} to {most} ms may be"
        check(least <= left_ms <= most, "bad_expiry", text)
        command = offer(1 - self._place(group_id), amount, hashed, expiry_ms, packet)
        receipt = await self._parts.host.submit(group_id, command)
        made = lambda: self._numbers.pop((group_id, receipt.number), None)  # noqa: E731
        lock = await self._parts.signals.until(made, self._parts.observer.receipt_s)
        if lock is None:
            raise self._parts.observer.pending(group_id, receipt)
        return lock

    async def end_of(self, group_id: Hash, number: int) -> Ended:
        """Wait until a lock has ended, by its id; at once if it has.

        Raises:
            Refused: ``unknown_lock``: there never was such a lock, or it ended long ago.
        """
        if (known := self.ended(group_id, number)) is not None:
            return known
        found = any(lock.id == number for lock in self._locks(group_id))
        check(found, "unknown_lock", f"lock {number} is not pending, and nothing is known of its end: see the history")
        future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((group_id, number), []).append(future)
        return await future

    def ended(self, group_id: Hash, number: int) -> Ended | None:
        """What became of a lock, if that was since the journal was last compacted: before, `on_end` had told it.

        None if it pends, or ended long ago.
        """
        return self._ended.get((group_id, number))

    def ends(self) -> Iterator[tuple[Hash, Ended]]:
        """What :meth:`ended` knows, all of it, in order: for who has to catch up after a start."""
        yield from ((group_id, ended) for (group_id, _), ended in self._ended.items())

    def incoming(self) -> Iterator[tuple[Hash, Lock, bytes]]:
        """Each committed offer of a peer that has not ended: channel, lock, and its packet.

        Without those that a watchtower which is relied on has not receipted: `on_offer` tells when it has [F6].
        """
        for group_id, group in self._parts.host.groups.items():
            packets = dict(group.packets)
            told = self._parts.observer.unreceipted(group_id)
            early = {lock.id for event in told for _, lock, request in news_of(event) if isinstance(request, Offer)}
            for lock in group.committed.body.locks:
                if lock.payee == group.place.index and lock.id not in early:
                    yield group_id, lock, packets.get(lock.id, b"")

    def outgoing(self) -> Iterator[tuple[Hash, Lock]]:
        """Each of our locks that is live: from the moment of our own signature (rule 23), until its end is committed.

        With those whose end a watchtower that is relied on has not receipted [F6].
        """
        for group_id in self._parts.host.groups:
            yield from ((group_id, lock) for lock in self.outgoing_in(group_id))

    def outgoing_in(self, group_id: Hash) -> list[Lock]:
        """The same of one channel; none if it is not hosted."""
        group = self._parts.host.groups.get(group_id)
        if group is None:
            return []
        told = self._parts.observer.unreceipted(group_id)
        ended = [lock for event in told for _, lock, request in news_of(event) if not isinstance(request, Offer)]
        locks = {lock.id: lock for lock in (*ended, *self._locks(group_id))}
        return [lock for lock in locks.values() if lock.payer == group.place.index]

    def is_claimed(self, group_id: Hash, number: int) -> bool:
        """Whether its preimage is known, and insisted on."""
        return (group_id, number) in self._claims

    async def claim(self, group_id: Hash, number: int, preimage: bytes) -> None:
        """Take a lock that the peer offered. On return the preimage is durable, and a claim is under way.

        Raises:
            Refused: ``unknown_lock``, ``not_your_lock`` or ``wrong_preimage``.
        """
        lock = self._incoming(group_id, number)
        good = len(preimage) == PREIMAGE_BYTES and preimage_hash(preimage) == lock.hash
        check(good, "wrong_preimage", f"the preimage of lock {number} hashes to {lock.hash.hex()}, not this one")
        if (group_id, number) not in self._claims:
            write_durably(self._directory / f"{group_id.hex()}-{number}", preimage)
        self.insist(group_id, number, preimage)

    def insist(self, group_id: Hash, number: int, preimage: bytes) -> None:
        """As :meth:`claim`, of a preimage that is durable elsewhere, and is given again after each start."""
        self._claims[group_id, number] = preimage
        self._try(group_id, number, claim(number, preimage))

    async def release(self, group_id: Hash, number: int, reason: bytes = b"") -> None:
        """Give a lock back that the peer offered; on return that is committed.

        Raises:
            Refused: ``unknown_lock``, ``not_your_lock``, ``reason_too_long``, ``claimed``: its preimage is on its way.
            Pending: The link broke; repeat it when the peer is back, unless the lock is gone.
        """
        lock = self._incoming(group_id, number)
        text = f"lock {number} is being claimed with its preimage: it cannot be given back"
        check((group_id, lock.id) not in self._claims, "claimed", text)
        await self._parts.host.submit(group_id, release(number, reason))

    # ------------------------------------------------------------------------------------------------- by itself

    async def learn(self, group_id: Hash, shown: LedgerGroup) -> None:
        """Look up on layer 1 what is registered under the hashes of a channel's locks; at every look of the follower.

        A preimage that a payee registered is ours to use as if it had claimed our lock. Of an open channel, that
        matters when its time is near; of one that takes no states any more, at once: layer 1 pays by it.

        Raises:
            LedgerUnreachable: Nothing could be proven.
        """
        group = self._parts.host.groups.get(group_id)
        if group is None:
            return
        asked = self._asked(group, shown)
        looked = []
        for hashed in dict.fromkeys(asked):
            answer = await self._parts.ledger.registration(hashed)
            self._registered[hashed] = answer.value
            registered_ms = None if answer.value is None else answer.value.clock_ms
            looked.append(Looked(hashed, answer.header.clock, registered_ms))
        if not looked or group_id not in self._parts.host.groups:
            return
        self._parts.host.look(group_id, looked)
        for lock in (*self._locks(group_id), *(each.lock for each in shown.locks)):
            known = self._registered.get(lock.hash)
            if known is not None and lock.payer == group.place.index and (group_id, lock.id) not in self._shown:
                self._shown.add((group_id, lock.id))
                self.on_preimage(group_id, lock, known.preimage)

    def _asked(self, group: Group, shown: LedgerGroup) -> list[Hash]:
        """What to ask layer 1 about now."""
        if group.doubted:
            return list(hashes(group))
        locks, me = self._locks(group.group_id), group.place.index
        if shown.status is not Status.OPEN:
            settled = [each.lock for each in shown.locks]
            unknown = [lock for lock in (*locks, *settled) if lock.payer == me and not self._registered.get(lock.hash)]
            locks = (*unknown, *locks)
            return [lock.hash for lock in locks if lock in unknown or self._is_near(lock)]
        return [lock.hash for lock in locks if self._is_near(lock)]

    def is_urgent(self) -> bool:
        """Whether the time of some lock is near: the follower looks more often then."""
        return any(self._is_near(lock) for group in self._parts.host.groups.values() for lock in group.locks)

    def _is_near(self, lock: Lock) -> bool:
        """Nobody registers a preimage much earlier: before this there is nothing to look up."""
        return self._clock() >= lock.expiry_ms - NEAR_MARGINS * self.margin_ms

    def tend(self, group_id: Hash) -> None:
        """Do what the locks of a channel ask for, by what was learned."""
        group = self._parts.host.groups.get(group_id)
        if group is None or group.closed:
            return
        for lock in self._locks(group_id):
            self._do(group_id, lock)

    def settle(self, group_id: Hash, shown: LedgerGroup) -> bool:
        """Layer 1 shows the group wedged or closed: register what is ours while it pends, tell the end of what is paid.

        Returns:
            Whether all there is to tell was told. A lock of ours that was paid waits for its preimage, which is told
            first: whoever forwarded the payment is paid by it.
        """
        self.looked.add(group_id)
        if shown.status is Status.OPEN:
            return True
        untold = [each for each in shown.locks if not self._settle_lock(group_id, each)]
        if shown.status is Status.CLOSED:
            self._tell_undone(group_id, {each.lock.id for each in shown.locks})
        self.on_stopped(group_id, shown)
        return not untold

    def _settle_lock(self, group_id: Hash, each: ClosedLock) -> bool:
        lock, key = each.lock, (group_id, each.lock.id)
        if each.paid_to is None:
            if key in self._claims and self._parts.host.proven_ms <= each.until_ms:
                self._register(lock, self._claims[key])
        elif key not in self._paid:
            ended = self._ended_by_ledger(group_id, each)
            mine = lock.payer == self._place(group_id)
            if mine and ended.is_paid and ended.preimage is None and lock.hash not in self._registered:
                return False  # the next look asks for it
            self._paid.add(key)
            self._end(group_id, ended)
        return True

    def _tell_undone(self, group_id: Hash, settled: set[int]) -> None:
        """Of locks of versions that layer 1 did not settle on, those who wait hear that there are none."""
        for key in [key for key in self._waiting if key[0] == group_id and key[1] not in settled]:
            for future in self._waiting.pop(key):
                if not future.done():
                    text = f"layer 1 settled the channel on a state without lock {key[1]}"
                    future.set_exception(Refused("group_closed", text))

    def _ended_by_ledger(self, group_id: Hash, each: ClosedLock) -> Ended:
        lock = each.lock
        if each.paid_to != lock.payee:
            return Ended(lock, "returned")
        known = self._registered.get(lock.hash)
        return Ended(lock, "paid", self._claims.get((group_id, lock.id)) or (known.preimage if known else None))

    def _do(self, group_id: Hash, lock: Lock) -> None:
        me, preimage = self._place(group_id), self._claims.get((group_id, lock.id))
        known = self._registered.get(lock.hash)
        registered = None if known is None else known.clock_ms
        clock_ms = self._parts.host.proven_ms  # while the ledger stands still no time of a lock goes by
        renew_after_ms = self._parts.genesis.parameters.renew_after_ms
        if preimage is not None and wants_renewal(lock, known, clock_ms, self.margin_ms, renew_after_ms):
            self._register(lock, preimage)
        asked = duty(lock, me, clock_ms, self.margin_ms, preimage=preimage is not None, registered_ms=registered)
        match asked:
            case Duty.CLAIM if preimage is not None:
                self._try(group_id, lock.id, claim(lock.id, preimage))
            case Duty.REGISTER if preimage is not None:
                self._register(lock, preimage)
            case Duty.EXPIRE:
                self._try(group_id, lock.id, expire(lock.id))
            case Duty.WEDGE:
                self._wedge(group_id, lock)
            case _:
                pass

    def _register(self, lock: Lock, preimage: bytes) -> None:
        _log.info("lock %d expires at %d: registering its preimage", lock.id, lock.expiry_ms)
        sender = self._parts.keys.spending.public
        self._parts.submitter.bring(RegisterPreimages(sender, (preimage,)))

    def _wedge(self, group_id: Hash, lock: Lock) -> None:
        if lock.amount < WORTH_UNITS:
            self._parts.observer.advise(group_id, f"the peer keeps {lock.amount} units of a lock: too few to wedge for")
            return
        group = self._parts.host.groups[group_id]
        if group.claim is None and group.final is None and not group.frozen:
            _log.warning("channel %s: lock %d is not resolved: wedging", group_id.hex()[:12], lock.id)
            self._parts.observer.advise(group_id, f"the peer did not resolve lock {lock.id}: the ledger decides")
            self._parts.submitter.bring(self._parts.host.wedge(group_id))

    def _try(self, group_id: Hash, number: int, command: bytes) -> None:
        """Issue a command about a lock, one at a time for each; the next look, or a new link, tries again."""
        key, group = (group_id, number), self._parts.host.groups.get(group_id)
        if key in self._busy or group is None or not group.connected:
            return
        self._busy.add(key)
        self._parts.host.issue(group_id, (command,), _Tried(self._busy, key))

    # ----------------------------------------------------------------------------------------------- what happens

    def _committed(self, group_id: Hash, event: Committed) -> None:
        for number, lock, request in news_of(event):
            me = self._place(group_id)
            if isinstance(request, Offer):
                if lock.payer == me:
                    self._numbers[group_id, number] = lock
                    if len(self._numbers) > KEPT_ENDS:
                        del self._numbers[next(iter(self._numbers))]
                else:
                    self.on_offer(group_id, lock, request.packet)
            else:
                self._end(group_id, ended_by(lock, request))

    def _seen(self, group_id: Hash, event: PreimageSeen) -> None:
        self.on_preimage(group_id, event.lock, event.preimage)

    def _note_end(self, group_id: Hash, ended: Ended) -> None:
        self._ended[group_id, ended.lock.id] = ended
        while len(self._ended) > KEPT_ENDS:
            del self._ended[next(iter(self._ended))]

    def _end(self, group_id: Hash, ended: Ended) -> None:
        self._note_end(group_id, ended)
        for future in self._waiting.pop((group_id, ended.lock.id), []):
            if not future.done():
                future.set_result(ended)
        self.on_end(group_id, ended)

    def prune(self) -> None:
        """Forget what no lock here waits for any more. It looks at every channel: once for a round of looks."""
        live = {(name, lock.id) for name in self._parts.host.groups for lock in self._locks(name)}
        for group_id, number in [key for key in self._claims if key not in live]:
            del self._claims[group_id, number]
            (self._directory / f"{group_id.hex()}-{number}").unlink(missing_ok=True)
        self._shown &= live
        wanted = {hashed for group in self._parts.host.groups.values() for hashed in hashes(group)}
        for hashed in [each for each in self._registered if each not in wanted]:
            del self._registered[hashed]

    async def _known_clock(self) -> int:
        """As :meth:`_clock`; a wallet that has just been opened asks for it.

        Raises:
            Refused: ``ledger_unreachable``.
        """
        if not self._clock():
            try:
                self._parts.host.note_clock(await self._parts.ledger.clock())
            except LedgerUnreachable as error:
                raise as_refusal(error) from None
        return self._clock()

    def _clock(self) -> int:
        return self._parts.host.clock_ms()

    def _place(self, group_id: Hash) -> int:
        return self._group(group_id).place.index

    def _group(self, group_id: Hash) -> Group:
        group = self._parts.host.groups.get(group_id)
        if group is None:
            raise Refused("unknown_group", f"group {group_id.hex()} is not hosted here")
        return group

    def _locks(self, group_id: Hash) -> tuple[Lock, ...]:
        """Of the newest state that we signed, of the newest committed one, and of those between."""
        group = self._group(group_id)
        between = (lock for each in group.tail for lock in each.state.body.locks)
        return tuple({lock.id: lock for lock in (*group.committed.body.locks, *between, *group.locks)}.values())

    def _incoming(self, group_id: Hash, number: int) -> Lock:
        """A committed lock of which we are the payee (rule 23: an incoming one is live only when committed)."""
        group = self._group(group_id)
        lock = next((each for each in group.committed.body.locks if each.id == number), None)
        if lock is None:
            raise Refused("unknown_lock", f"no lock {number} is pending in this channel; it may have ended already")
        text = f"lock {number} is for member {lock.payee}, not for us"
        check(lock.payee == group.place.index, "not_your_lock", text)
        return lock


class _Tried:
    """Waits for the fate of a command about a lock, whatever it is."""

    def __init__(self, busy: set[tuple[Hash, int]], key: tuple[Hash, int]) -> None:
        self._busy, self._key = busy, key

    def done(self) -> bool:
        """Nobody stops waiting."""
        return False

    def set_result(self, outcome: Outcome) -> None:
        """It may be tried again now, if the lock still stands."""
        self._busy.discard(self._key)
        for error in (*outcome.refused, *outcome.pending):
            _log.info("channel %s, lock %d: %s", self._key[0].hex()[:12], self._key[1], error)


def _key_in(path: Path) -> tuple[Hash, int]:
    """Of which lock a file is.

    Raises:
        LocalError: It is no file of ours.
    """
    name, _, number = path.name.partition("-")
    if len(name) != 64 or not number.isdecimal() or path.stat().st_size != PREIMAGE_BYTES:
        raise LocalError(f"{path} is no preimage of a lock that is to be claimed: restore it, or remove it")
    return bytes.fromhex(name), int(number)

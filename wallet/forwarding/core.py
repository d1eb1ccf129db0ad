"""The forwarder: maps each incoming lock to one outgoing lock, and never owes more than it is owed.

*Safety:* whatever neighbours do, and wherever a crash falls, for each unit that leaves by an outgoing lock at least as
much comes in by the incoming one.

1. An offer leaves only for an incoming lock that is committed, for less by our fee, with the same hash and expiry, and
   after a durable record says so (rule 23).
2. The incoming lock goes back only after the outgoing one is gone for certain: its offer refused for good, its release
or
   expiry *committed*, or layer 1 gave it to us. A group that is wedged pends.
3. The incoming lock is claimed the moment the preimage is known, from wherever. It is durable before we sign a version
that pays the
   outgoing lock, so no crash forgets it.
4. An outgoing lock is settled off-chain only while there is time to register: `clock + M <= expiry` (rule 22, [F9]);
later only
   with a timely registration, which pays us as well: `layer2.guarding` signs nothing else, for any lock of ours. If the
   incoming lock is not ours by then, we register; if its payer does not honour that either, its group is wedged. With
   one expiry for both, a registration that pays the payee pays us.

After a restart the core is rebuilt from the records and says again what it wants (:meth:`Forwarder.resume`); its
driver tells what became of each lock, as the groups' durable states show. A lock that ended while no preimage is known
was not paid, by 3.

Source: docs/design/groups.md, rules 20 to 23; decisions 036 and 041.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import assert_never

from layer1.crypto import Hash
from layer1.errors import LocalError
from layer1.ledger.agreements import Lock
from layer1.ledger.locks import preimage_hash
from wallet.forwarding.events import (
    AskRegistry,
    Bound,
    Came,
    ClockSeen,
    Effect,
    Ended,
    Event,
    Gone,
    GroupWedged,
    IncomingEnded,
    Known,
    LockRef,
    MakeClaim,
    MakeExpire,
    MakeOffer,
    MakeRelease,
    MakeWedge,
    OfferFailed,
    Orphaned,
    OutgoingEnded,
    Passage,
    Persist,
    PreimageSeen,
    Record,
    Register,
    Restored,
    Stands,
    Unregistered,
    mark_of,
)
from wallet.forwarding.policy import Terms, Timing, choose
from wallet.onion.failure import Code, Failure, relay, wrap


@dataclass(slots=True)
class _Open:
    """A passage that has not ended."""

    passage: Passage
    lock: int | None = None
    """Id of the outgoing lock, once it is bound to one."""
    gone: bytes | None = None
    """The outgoing lock ended unpaid: what the one before us is told."""
    outgoing_over: bool = False
    incoming_over: bool = False
    registering: bool = False
    """Whether we have said that the preimage be registered."""
    wedging: bool = False

    @property
    def outgoing(self) -> LockRef | None:
        """The outgoing lock, if it is bound to one."""
        return None if self.lock is None else LockRef(self.passage.outgoing, self.lock)


class Forwarder:
    """The core. One for all groups of a wallet."""

    def __init__(
        self, terms_of: Callable[[Hash], Terms], timing: Timing, records: Iterable[Record] = (), clock_ms: int = 0
    ) -> None:
        """Begin, or go on from what is durable.

        Args:
            terms_of: On which terms we forward over a channel, now.
            timing: Our margins.
            records: All that was persisted, in order.
            clock_ms: Newest proven ledger clock.

        Raises:
            LocalError: The records contradict each other.
        """
        self._terms_of, self._timing, self.clock_ms = terms_of, timing, clock_ms
        self._open: dict[int, _Open] = {}
        self._incoming: dict[LockRef, _Open] = {}
        self._outgoing: dict[LockRef, _Open] = {}
        self._by_hash: dict[Hash, list[_Open]] = {}
        self._by_way: dict[Hash, dict[int, _Open]] = {}
        """By outgoing group: those whose outgoing lock may stand."""
        self._preimages: dict[Hash, bytes] = {}
        self._wedged: set[Hash] = set()
        self._next = 1
        for record in records:
            self.replay(record)

    def replay(self, record: Record) -> None:
        """Take in one of the records, in order; before anything is stepped.

        Raises:
            LocalError: It contradicts those before it.
        """
        match record:
            case Passage():
                self._begin(record)
            case Bound():
                self._bind(self._of(record.number), record.lock)
            case Known():
                self._preimages[preimage_hash(record.preimage)] = record.preimage
            case Gone():
                each = self._of(record.number)
                each.gone = record.reason
                self._end_outgoing(each)
            case Ended():
                self._forget(self._of(record.number))
            case _:
                assert_never(record)

    def _of(self, number: int) -> _Open:
        found = self._open.get(number)
        if found is None:
            raise LocalError(f"passage {number} has not begun, or ended already: the records are damaged")
        return found

    def _begin(self, passage: Passage) -> _Open:
        self._next = max(self._next, passage.number + 1)
        self._open[passage.number] = self._incoming[passage.incoming] = each = _Open(passage)
        self._by_hash.setdefault(passage.hash, []).append(each)
        self._by_way.setdefault(passage.outgoing, {})[passage.number] = each
        return each

    def _bind(self, each: _Open, lock: int) -> None:
        ref = LockRef(each.passage.outgoing, lock)
        if (before := self._outgoing.get(ref)) is not None:
            before.lock = None  # of the records alone: a crash came between, and it was never signed
        each.lock = lock
        self._outgoing[ref] = each

    def _restored(self, group: Hash, locks: tuple[Lock, ...]) -> list[Effect]:
        """A crash may have come between a binding and the signature: then another lock may have its id.

        Or the lock had ended. Either way the passage has no lock, and what becomes of it `OfferFailed` tells.
        """
        stand = {lock.id: lock.hash for lock in locks}
        for each in self._by_way.get(group, {}).values():
            if each.outgoing is not None and stand.get(each.outgoing.lock) != each.passage.hash:
                self._outgoing.pop(each.outgoing, None)
                each.lock = None
        return []

    def _end_outgoing(self, each: _Open) -> None:
        each.outgoing_over = True
        self._by_way[each.passage.outgoing].pop(each.passage.number, None)

    def _forget(self, each: _Open) -> None:
        passage = each.passage
        self._end_outgoing(each)
        del self._open[passage.number], self._incoming[passage.incoming]
        if each.outgoing is not None:
            self._outgoing.pop(each.outgoing, None)
        self._by_hash[passage.hash].remove(each)
        if not self._by_hash[passage.hash]:
            del self._by_hash[passage.hash]
            self._preimages.pop(passage.hash, None)

    # ----------------------------------------------------------------------------------------------------- what it has

    def records(self) -> Iterator[Record]:
        """What a compacted journal has to hold: everything that matters."""
        for number, each in self._open.items():
            yield each.passage
            if each.lock is not None:
                yield Bound(number, each.lock)
            if each.gone is not None:
                yield Gone(number, each.gone)
        yield from (Known(preimage) for preimage in self._preimages.values())

    def passages(self) -> list[tuple[Passage, int | None]]:
        """Passages that have not ended, with the outgoing lock's id if it has one: what a driver looks after."""
        return [(each.passage, each.lock) for each in self._open.values()]

    def find(self, group: Hash, lock: Lock, mark: bytes | None = None) -> int | None:
        """Whose offer became this lock of ours; None if it is of no passage.

        Of several that offered the same any will do: what comes in for each is enough for what goes out.

        Args:
            group: Where it stands.
            lock: As it stands.
            mark: Of the packet that came with the offer; None if that is not known.
        """
        for number, each in self._by_way.get(group, {}).items():
            told = each.passage
            same = (told.hash, told.amount, told.expiry_ms) == (lock.hash, lock.amount, lock.expiry_ms)
            if same and each.lock is None and mark in (None, told.mark):
                return number
        return None

    def offers(self, group: Hash) -> list[Passage]:
        """Passages whose offer in a group has not become a lock, and has not failed."""
        return [each.passage for each in self._by_way.get(group, {}).values() if each.lock is None]

    def coming(self, incoming: LockRef) -> Passage | None:
        """The passage of an incoming lock."""
        found = self._incoming.get(incoming)
        return None if found is None else found.passage

    def going(self, outgoing: LockRef) -> Passage | None:
        """The passage that an outgoing lock is bound to."""
        found = self._outgoing.get(outgoing)
        return None if found is None else found.passage

    def is_known(self, hashed: Hash) -> bool:
        """Whether the preimage of a passage is known."""
        return hashed in self._preimages

    # ------------------------------------------------------------------------------------------------------------ step

    def step(self, event: Event) -> list[Effect]:
        """Advance by one event; what is told twice changes nothing the second time.

        Returns:
            Effects, to be performed in this order.
        """
        match event:
            case Came():
                return self._came(event)
            case Orphaned(incoming):
                return self._orphaned(incoming)
            case Restored(group, locks):
                return self._restored(group, locks)
            case Stands(number, lock):
                return self._stands(number, lock)
            case OfferFailed(number, away):
                return self._offer_failed(number, away)
            case PreimageSeen(preimage):
                return self._preimage(preimage)
            case OutgoingEnded():
                return self._outgoing_ended(event)
            case IncomingEnded(incoming):
                return self._incoming_ended(incoming)
            case GroupWedged(group):
                self._wedged.add(group)
                return self._press(self._open.values())
            case ClockSeen(clock_ms):
                self.clock_ms = max(self.clock_ms, clock_ms)
                return self._press(self._open.values())
            case Unregistered(hashed, clock_ms):
                return self._unregistered(hashed, clock_ms)
            case _:
                assert_never(event)

    def resume(self) -> list[Effect]:
        """After a restart: say again what is wanted of incoming locks."""
        again: list[Effect] = []
        for each in self._open.values():
            again += self._wanted(each)
        return [*again, *self._press(self._open.values())]

    def _came(self, event: Came) -> list[Effect]:
        if event.incoming in self._incoming:
            return []
        passing = [each.passage for way in event.ways for each in self._by_way.get(way.group, {}).values()]
        found = choose(event, self._terms_of, self._timing, max(self.clock_ms, event.clock_ms), passing)
        if isinstance(found, Code):
            return [MakeRelease(event.incoming, wrap(event.secret, Failure(found)))]
        passage = Passage(
            self._next, event.incoming, event.came, event.peer, event.hash, event.expiry_ms, found.group, event.amount,
            event.secret, mark_of(event.packet),
        )  # fmt: skip
        each = self._begin(passage)
        return [Persist(passage), MakeOffer(passage, event.packet), *self._wanted(each)]

    def _stands(self, number: int, lock: int) -> list[Effect]:
        each = self._open.get(number)
        if each is None or each.outgoing_over or each.lock is not None:
            return []
        self._bind(each, lock)
        return [Persist(Bound(number, lock))]

    def _offer_failed(self, number: int, away: bool) -> list[Effect]:
        each = self._open.get(number)
        if each is None or each.lock is not None:
            return []
        code = Code.NEXT_AWAY if away else Code.NO_LIQUIDITY
        return self._over(each, wrap(each.passage.secret, Failure(code)))

    def _orphaned(self, incoming: LockRef) -> list[Effect]:
        """Without a passage nothing was offered for it: the record comes first."""
        return [] if incoming in self._incoming else [MakeRelease(incoming, b"")]

    def _outgoing_ended(self, event: OutgoingEnded) -> list[Effect]:
        each = self._outgoing.get(event.outgoing)
        if each is None or each.passage.hash != event.hash:
            return []
        secret = each.passage.secret
        told = wrap(secret, Failure(Code.NEXT_AWAY)) if event.away else relay(secret, event.reason)
        return self._over(each, told)

    def _over(self, each: _Open, reason: bytes) -> list[Effect]:
        """The outgoing lock is gone for certain; without a preimage, unpaid."""
        if each.outgoing_over:
            return []
        self._end_outgoing(each)
        if each.passage.hash in self._preimages:
            return self._ended(each)
        each.gone = reason
        return [Persist(Gone(each.passage.number, reason)), *self._wanted(each), *self._ended(each)]

    def _preimage(self, preimage: bytes) -> list[Effect]:
        hashed = preimage_hash(preimage)
        concerned = self._by_hash.get(hashed, [])
        if not concerned or hashed in self._preimages:
            return []
        self._preimages[hashed] = preimage
        claims = [effect for each in concerned for effect in self._wanted(each)]
        return [Persist(Known(preimage)), *claims, *self._press(concerned)]

    def _wanted(self, each: _Open) -> list[Effect]:
        """What is wanted of the incoming lock: to be ours, to go back, or nothing yet."""
        passage, preimage = each.passage, self._preimages.get(each.passage.hash)
        if each.incoming_over:
            return []
        if preimage is not None:
            return [MakeClaim(passage.incoming, preimage)]  # also of a wedged group: its host registers in time
        if each.gone is None or passage.incoming.group in self._wedged:
            return []  # of a wedged group layer 1 decides: see _press
        return [MakeRelease(passage.incoming, each.gone)]

    def _incoming_ended(self, incoming: LockRef) -> list[Effect]:
        each = self._incoming.get(incoming)
        if each is None or each.incoming_over:
            return []
        each.incoming_over = True
        return self._ended(each)

    def _ended(self, each: _Open) -> list[Effect]:
        if not (each.incoming_over and each.outgoing_over):
            return []
        self._forget(each)
        return [Persist(Ended(each.passage.number))]

    def _press(self, those: Iterable[_Open]) -> list[Effect]:
        """What the clock asks for: registrations before it is too late, the end of what has expired."""
        effects: list[Effect] = []
        for each in those:
            passage, preimage = each.passage, self._preimages.get(each.passage.hash)
            if preimage is not None and not each.incoming_over:
                effects += self._collect(each, preimage)
            stands = each.lock is not None and not each.outgoing_over and passage.outgoing not in self._wedged
            if stands and self.clock_ms > passage.expiry_ms:
                effects.append(AskRegistry(passage.hash))
        return effects

    def _collect(self, each: _Open, preimage: bytes) -> list[Effect]:
        """The preimage is known, and the incoming lock stands."""
        passage, effects = each.passage, list[Effect]()
        wedged = passage.incoming.group in self._wedged
        late = self.clock_ms + self._timing.margin_ms >= passage.expiry_ms
        if (wedged or late) and not each.registering:
            each.registering = True
            effects.append(Register(preimage))
        if self.clock_ms > passage.expiry_ms + self._timing.patience_ms and not (wedged or each.wedging):
            each.wedging = True
            effects.append(MakeWedge(passage.incoming.group))
        return effects

    def _unregistered(self, hashed: Hash, clock_ms: int) -> list[Effect]:
        """What is not registered after the expiry never will be in time: outgoing locks may be taken back."""
        return [
            MakeExpire(each.outgoing)
            for each in self._by_hash.get(hashed, [])
            if each.outgoing is not None and not each.outgoing_over and clock_ms > each.passage.expiry_ms
        ]

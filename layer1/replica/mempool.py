"""Transactions that this replica took in: checked cheaply, then verified, then packed into batches.

Safety: nothing is packed whose signatures were not verified here, and nothing twice.

An entry is *waiting* until its signatures are verified, then *ready* until it is packed, then *packed* until its block
is final or its life is over. While it waits it is known by id and signatures, because the id does not cover them:
somebody who brings a known transaction under false signatures neither shuts out nor spoils the true one.

Source: docs/design/consensus.md, "Mempool and batches".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from layer1.codec import encode
from layer1.crypto import Hash, PublicKey, Signature
from layer1.errors import Refused
from layer1.ledger.admission import admit, verify_transaction
from layer1.ledger.execute import rehearse
from layer1.ledger.genesis import Parameters
from layer1.ledger.state import State
from layer1.ledger.transactions import (
    CloseGroup,
    Plea,
    RegisterPreimages,
    Report,
    Reveal,
    Transaction,
    Wedge,
    signers,
)
from layer1.replica.shares import PoolLimits, Room, Shares
from layer1.replica.weight import block_weight, bound, weight


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction in the pool."""

    id: Hash
    transaction: Transaction
    size: int
    """Bytes of its encoding."""
    senders: tuple[PublicKey, ...]
    """The accounts that sign it; none for a dispute."""
    source: str
    """Who brought it, by network address; empty if unknown."""
    arrived_ms: int
    """Monotonic."""
    room: Room

    @property
    def name(self) -> Name:
        """What it is known by while its signatures are not verified."""
        return self.id, self.transaction.signatures


Name = tuple[Hash, tuple[Signature, ...]]


class Mempool:
    """The pool of one replica."""

    def __init__(self, limits: PoolLimits, parameters: Parameters | None = None) -> None:
        """An empty pool whose batches fit into the blocks of a ledger with these parameters."""
        p = parameters or Parameters()
        self._limits = limits
        self._batch_most = {
            lane: (min(most, p.max_block_transactions), min(most, block_weight(p)))
            for lane, most in ((True, limits.dispute_batch), (False, limits.batch_transactions))
        }
        """Transactions and signatures in one batch, by whether it is of disputes."""
        self._waiting: dict[Name, Entry] = {}
        self._names: dict[Hash, set[Name]] = {}
        """By id, those of `_waiting`."""
        self._ready: dict[Hash, Entry] = {}
        self._disputes: dict[Hash, Entry] = {}
        self._preimages: dict[Hash, Entry] = {}
        self._packed: dict[Hash, Entry] = {}
        self._shares = Shares(limits)
        self._packed_at_ms: dict[int, int] = {}
        """Monotonic time of the last batch, by the place of its lane in `_lanes`."""

    def __len__(self) -> int:
        return len(self._waiting) + sum(map(len, self._verified))

    def __contains__(self, transaction_id: Hash) -> bool:
        """Whether a transaction of this id is here with verified signatures."""
        return any(transaction_id in entries for entries in self._verified)

    def is_here(self, transaction_id: Hash, transaction: Transaction) -> bool:
        """Whether this very transaction is here, verified or not."""
        return transaction_id in self or (transaction_id, transaction.signatures) in self._waiting

    def is_verified(self, transaction_id: Hash, transaction: Transaction) -> bool:
        """Whether this very transaction is here with verified signatures."""
        for entries in self._verified:
            if (entry := entries.get(transaction_id)) is not None:
                return entry.transaction.signatures == transaction.signatures
        return False

    @property
    def _verified(self) -> tuple[dict[Hash, Entry], ...]:
        return *self._lanes, self._packed

    @property
    def _lanes(self) -> tuple[dict[Hash, Entry], ...]:
        """What is to be packed, by lane: disputes first, then preimages, which have a deadline as well."""
        return self._disputes, self._preimages, self._ready

    def _lane_of(self, entry: Entry) -> dict[Hash, Entry]:
        return {Room.DISPUTES: self._disputes, Room.PREIMAGES: self._preimages}.get(entry.room, self._ready)

    @property
    def disputes(self) -> int:
        """How many of the transactions here are disputes."""
        return self._shares.disputes

    @property
    def size_bytes(self) -> int:
        """Bytes of all transactions here."""
        return self._shares.size_bytes

    def take(
        self, transactions: Sequence[tuple[Hash, Transaction]], state: State, source: str, now_ms: int
    ) -> list[Entry]:
        """Check cheaply and take in all, or none. Returns those whose signatures are to be verified.

        Args:
            transactions: (id, transaction); those that are here or final already are passed over.
            state: The committed head.
            source: Who brings them, by network address; empty if unknown.
            now_ms: Monotonic.

        Raises:
            Refused: ``pool_full``, ``share_full``, ``too_large``, ``expired``, ``not_yet_valid`` or
                ``insufficient_balance``.
        """
        fresh: dict[Name, Entry] = {}
        for name, transaction in transactions:
            if self.is_here(name, transaction) or state.remembered(name):
                continue
            size = len(encode(transaction))
            admit(state, transaction, size)
            _check_weight(transaction, bound(transaction, state.parameters))
            payers = signers(transaction.payload)
            entry = Entry(name, transaction, size, payers, source, now_ms, room_of([transaction]))
            fresh[entry.name] = entry
        self._shares.check(list(fresh.values()))
        for entry in fresh.values():
            self._waiting[entry.name] = entry
            self._names.setdefault(entry.id, set()).add(entry.name)
            self._shares.take(entry)
        return list(fresh.values())

    def verified(self, entry: Entry) -> Refused | None:
        """Its signatures are good: it may be packed, unless the accounts that signed have their share here.

        Returns:
            ``share_full``: it leaves the pool.
        """
        if not self._wait_over(entry):
            return None
        refusal = None if entry.id in self else self._shares.refusal(entry)
        if entry.id in self or refusal is not None:
            self._shares.leave(entry)
            return refusal
        self._shares.sign(entry)
        self._lane_of(entry)[entry.id] = entry
        return None

    def reject(self, entry: Entry) -> bool:
        """Its signatures are not good: it leaves the pool. False if it was not there any more."""
        if not self._wait_over(entry):
            return False
        self._shares.leave(entry)
        return True

    def pack_at_ms(self) -> int | None:
        """Monotonic time from which :meth:`pack` gives a batch; None with nothing to pack."""
        return min((self._due_ms(place) for place, lane in enumerate(self._lanes) if lane), default=None)

    def pack(self, now_ms: int) -> tuple[Entry, ...]:
        """The next batch in order of arrival, each lane by itself, disputes first; empty if it is not time yet."""
        due = (place for place, lane in enumerate(self._lanes) if lane and now_ms >= self._due_ms(place))
        place = next(due, None)
        if place is None:
            return ()
        lane = self._lanes[place]
        self._packed_at_ms[place] = now_ms
        most, most_weight = self._batch_most[lane is not self._ready]
        chosen: list[Entry] = []
        size = heavy = 0
        for entry in lane.values():
            size, heavy = size + entry.size, heavy + weight(entry.transaction)
            full = size > self._limits.batch_bytes or heavy > most_weight
            if chosen and (full or len(chosen) == most):
                break
            chosen.append(entry)
        for entry in chosen:
            self._packed[entry.id] = lane.pop(entry.id)
        return tuple(chosen)

    def remove(self, ids: Iterable[Hash]) -> None:
        """These are in a final block: they leave the pool, and so does what waits for verification under their names.

        Verified later, it would be packed again, and called dead at the end of its life span.
        """
        for name in ids:
            for entries in self._verified:
                if (entry := entries.pop(name, None)) is not None:
                    self._shares.leave(entry, signed=True)
            for waiting in tuple(self._names.get(name, ())):
                self.reject(self._waiting[waiting])

    def give_back(self) -> list[Hash]:
        """Drop what is in no batch yet. Returns the ids."""
        left = [*self._waiting.values(), *(entry for lane in self._lanes for entry in lane.values())]
        for entry in self._waiting.values():
            self._shares.leave(entry)
        for lane in self._lanes:
            for entry in lane.values():
                self._shares.leave(entry, signed=True)
            lane.clear()
        self._waiting.clear()
        self._names.clear()
        return [entry.id for entry in left]

    def expire(self, clock_ms: int) -> list[Hash]:
        """Drop what can never be executed any more at this ledger clock. Returns the ids."""
        dead = [
            (pool, name, entry)
            for pool in self._verified
            for name, entry in pool.items()
            if entry.transaction.valid_until_ms < clock_ms
        ]
        for pool, name, entry in dead:
            del pool[name]
            self._shares.leave(entry, signed=True)
        return [name for _, name, _ in dead]

    def _wait_over(self, entry: Entry) -> bool:
        """It waits no longer for verification; False if it did not."""
        if self._waiting.pop(entry.name, None) is None:
            return False
        names = self._names[entry.id]
        names.discard(entry.name)
        if not names:
            del self._names[entry.id]
        return True

    def _due_ms(self, place: int) -> int:
        """Monotonic time at which the next batch of a lane may leave: at once after a pause, or when it is full.

        A flood of disputes, each in a batch of its own, would cost every replica more than the disputes do.
        """
        lane, last_ms = self._lanes[place], self._packed_at_ms.get(place)
        if last_ms is None or len(lane) >= self._batch_most[lane is not self._ready][0]:
            return 0
        return last_ms + self._limits.batch_delay_ms


def check_entry(state: State, transaction: Transaction, chain_id: Hash, *, rehearsed: bool) -> None:
    """Verify one transaction; what needs nobody's account is also tried on the last final state.

    What is refused here costs its sender a connection's share and the other replicas nothing.

    Args:
        state: The committed head.
        transaction: Admitted.
        chain_id: The ledger's.
        rehearsed: Whether to try it; never what a peer packed, about which all replicas must agree.

    Raises:
        Refused: By the signatures, or as the ledger would.
    """
    verify_transaction(transaction, chain_id)
    if rehearsed and not signers(transaction.payload) and not state.remembered(transaction.id):
        rehearse(state, transaction)


def is_dispute(transaction: Transaction) -> bool:
    """Whether a transaction has a deadline to meet: everything on an existing group."""
    return isinstance(transaction.payload, CloseGroup | Wedge | Report | Plea | Reveal)


def is_registration(transaction: Transaction) -> bool:
    """Whether it brings preimages: a burst of them, and all else, do not wait for each other (groups.md, rule 21)."""
    return isinstance(transaction.payload, RegisterPreimages)


def room_of(transactions: Sequence[Transaction]) -> Room:
    """In which room they are counted, all together."""
    for room, belongs in ((Room.DISPUTES, is_dispute), (Room.PREIMAGES, is_registration)):
        if all(map(belongs, transactions)):
            return room
    return Room.TRANSACTIONS


def _check_weight(transaction: Transaction, most: int) -> None:
    if (carried := weight(transaction)) > most:
        raise Refused("too_large", f"the transaction carries {carried} signatures; at most {most} are taken")

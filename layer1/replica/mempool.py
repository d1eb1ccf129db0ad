"""Transactions that this replica took in: checked cheaply, then verified, then packed into batches.

Safety: nothing is packed whose signatures were not verified here, and nothing twice.

An entry is *waiting* until its signatures are verified, then *ready* until it is packed, then *packed* until its block
is final or its life is over. While it waits it is known by id and signatures, because the id does not cover them:
somebody who brings a known transaction under false signatures neither shuts out nor spoils the true one.

Source: docs/design/consensus.md, "Mempool and batches".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from layer1.block import BATCH_FRAME_BYTES, MAX_BATCH_BYTES, MAX_BATCH_TRANSACTIONS
from layer1.codec import encode
from layer1.crypto import Hash, PublicKey, Signature
from layer1.errors import Refused, check
from layer1.ledger.admission import admit, verify_transaction
from layer1.ledger.execute import rehearse
from layer1.ledger.genesis import Parameters
from layer1.ledger.state import State
from layer1.ledger.transactions import Accusation, Transaction, Transfer, signers
from layer1.replica.weight import block_weight, heaviest, weight


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much a replica takes in before it answers ``pool_full``, and how it packs."""

    transactions: int = 50_000
    """In the pool at once, waiting for a final block."""
    bytes: int = 32 * 2**20
    """Of their encodings."""
    per_sender: int = 20_000
    """Of one paying account."""
    per_source: int = 20_000
    """Of one connection or caller, where the API names it."""
    reserved: int = 2_000
    """Of `transactions`, kept for disputes: a flood of transfers cannot keep a report out."""
    batch_transactions: int = 400
    """In one batch, or signatures in it: large enough to pay for its hash and frames, verified in 30 ms."""
    batch_bytes: int = 128 * 1024
    """Encoded, in one batch."""
    batch_delay_ms: int = 8
    """Between two batches of one replica. The first after a pause leaves at once, so a lone transfer never waits."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"limits.{name} is {getattr(self, name)}; it must be at least 1")
        # Larger ones the peers refuse, and they cut off whoever sends them.
        for name, most in (
            ("batch_transactions", MAX_BATCH_TRANSACTIONS),
            ("batch_bytes", MAX_BATCH_BYTES - BATCH_FRAME_BYTES),
        ):
            if getattr(self, name) > most:
                raise ValueError(
                    f"limits.{name} is {getattr(self, name)}; no replica takes a batch of more than {most}"
                )
        if self.reserved >= self.transactions:
            raise ValueError(
                f"limits.reserved is {self.reserved}, limits.transactions {self.transactions}: nothing would be left "
                "for transfers; lower the first"
            )


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction in the pool."""

    id: Hash
    transaction: Transaction
    size: int
    """Bytes of its encoding."""
    sender: PublicKey | None
    """Who pays first; None for what needs no account's signature."""
    source: str
    arrived_ms: int
    """Monotonic."""

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
        self._batch_transactions = min(limits.batch_transactions, p.max_block_transactions)
        self._batch_weight = min(limits.batch_transactions, block_weight(p))
        self._waiting: dict[Name, Entry] = {}
        self._names: dict[Hash, set[Name]] = {}
        """By id, those of `_waiting`."""
        self._ready: dict[Hash, Entry] = {}
        self._disputes: dict[Hash, Entry] = {}
        self._packed: dict[Hash, Entry] = {}
        self._bytes = 0
        self._senders: Counter[PublicKey] = Counter()
        self._sources: Counter[str] = Counter()
        self._packed_at_ms: int | None = None

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
        return self._disputes, self._ready, self._packed

    @property
    def size_bytes(self) -> int:
        """Bytes of all transactions here."""
        return self._bytes

    def take(
        self, transactions: Sequence[tuple[Hash, Transaction]], state: State, source: str, now_ms: int
    ) -> list[Entry]:
        """Check cheaply and take in all, or none. Returns those whose signatures are to be verified.

        Args:
            transactions: (id, transaction); those that are here or final already are passed over.
            state: The committed head.
            source: The connection or caller, empty if unknown.
            now_ms: Monotonic.

        Raises:
            Refused: ``pool_full``, ``too_large``, ``expired``, ``not_yet_valid`` or ``insufficient_balance``.
        """
        fresh: dict[Name, Entry] = {}
        for name, transaction in transactions:
            if self.is_here(name, transaction) or state.remembered(name):
                continue
            size = len(encode(transaction))
            admit(state, transaction, size)
            _check_weight(transaction, heaviest(state.parameters))
            payers = signers(transaction.payload)
            entry = Entry(name, transaction, size, payers[0] if payers else None, source, now_ms)
            fresh[entry.name] = entry
        self._check_room(list(fresh.values()))
        for entry in fresh.values():
            self._waiting[entry.name] = entry
            self._names.setdefault(entry.id, set()).add(entry.name)
            self._count(entry)
        return list(fresh.values())

    def verified(self, entry: Entry) -> None:
        """Its signatures are good: it may be packed."""
        if not self._wait_over(entry):
            return
        if entry.id in self:
            self._discount(entry)
        else:
            lane = self._disputes if is_dispute(entry.transaction) else self._ready
            lane[entry.id] = entry

    def reject(self, entry: Entry) -> bool:
        """Its signatures are not good: it leaves the pool. False if it was not there any more."""
        if not self._wait_over(entry):
            return False
        self._discount(entry)
        return True

    def pack_at_ms(self) -> int | None:
        """Monotonic time from which :meth:`pack` gives a batch; None with nothing to pack."""
        if not self._ready and not self._disputes:
            return None
        if self._packed_at_ms is None or self._disputes or len(self._ready) >= self._batch_transactions:
            return 0
        return self._packed_at_ms + self._limits.batch_delay_ms

    def pack(self, now_ms: int) -> tuple[Entry, ...]:
        """The next batch in order of arrival, disputes by themselves and first; empty if it is not time yet."""
        due = self.pack_at_ms()
        if due is None or now_ms < due:
            return ()
        self._packed_at_ms = now_ms
        lane = self._disputes or self._ready
        chosen: list[Entry] = []
        size = heavy = 0
        for entry in lane.values():
            size, heavy = size + entry.size, heavy + weight(entry.transaction)
            full = size > self._limits.batch_bytes or heavy > self._batch_weight
            if chosen and (full or len(chosen) == self._batch_transactions):
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
                    self._discount(entry)
            for waiting in tuple(self._names.get(name, ())):
                self.reject(self._waiting[waiting])

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
            self._discount(entry)
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

    def _check_room(self, entries: Sequence[Entry]) -> None:
        limits, ordinary = self._limits, any(not is_dispute(entry.transaction) for entry in entries)
        room = limits.transactions - (limits.reserved if ordinary else 0)
        count, size = len(self) + len(entries), self._bytes + sum(entry.size for entry in entries)
        check(count <= room, "pool_full", f"{count} transactions would wait here, at most {room} may; retry later")
        check(size <= limits.bytes, "pool_full", f"{size} bytes would wait here, at most {limits.bytes}; retry later")
        for sender, added in Counter(entry.sender for entry in entries if entry.sender).items():
            _check_share("account " + sender.hex(), self._senders[sender] + added, limits.per_sender)
        for source, added in Counter(entry.source for entry in entries if entry.source).items():
            _check_share("connection " + source, self._sources[source] + added, limits.per_source)

    def _count(self, entry: Entry) -> None:
        self._bytes += entry.size
        if entry.sender:
            self._senders[entry.sender] += 1
        if entry.source:
            self._sources[entry.source] += 1

    def _discount(self, entry: Entry) -> None:
        self._bytes -= entry.size
        _release(self._senders, entry.sender)
        _release(self._sources, entry.source)


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
    return not isinstance(transaction.payload, Transfer | Accusation) and not signers(transaction.payload)


def _check_weight(transaction: Transaction, most: int) -> None:
    if (carried := weight(transaction)) > most:
        raise Refused("too_large", f"the transaction carries {carried} signatures; at most {most} are taken")


def _check_share(name: str, count: int, most: int) -> None:
    if count > most:
        raise Refused("pool_full", f"{name} would have {count} transactions waiting here, at most {most}; retry later")


def _release(counter: Counter[Any], key: Hash | str | None) -> None:
    if key and (left := counter[key] - 1) >= 0:
        counter[key] = left
        if not left:
            del counter[key]

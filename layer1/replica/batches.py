"""Batches by digest: those that wait to become final.

Safety: a batch is good or bad for every replica alike, so no two of them disagree on a proposal because of it.

Form and signatures decide, and nothing that depends on this replica: the bounds here are constants of the protocol.
How many batches a peer may leave with us is our own affair, and never applies to one that a proposal made us fetch.

Source: docs/design/consensus.md, rule 3; "Mempool and batches".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from layer1.block import BATCH_FRAME_BYTES, MAX_BATCH_BYTES, MAX_BATCH_TRANSACTIONS, Batch, batch_digest
from layer1.codec import decode, encode
from layer1.crypto import Hash
from layer1.errors import RemoteError
from layer1.ledger.genesis import Parameters
from layer1.ledger.transactions import Transaction
from layer1.replica.lanes import Lane, PeerShares
from layer1.replica.mempool import is_dispute, room_of
from layer1.replica.shares import Room
from layer1.replica.weight import BUILD_WEIGHT, block_weight, bound, heaviest, total_weight, weight

MAX_NUMBER = 2**62
"""No replica has this number or above; whether it is one of the set, not all know at the same time."""
PREIMAGES_PART = BUILD_WEIGHT // 8
"""Weight of preimages in a block that goes before transfers: 400 of them, or some more, for a burst is over soon."""
KEPT_BAD = 1_000
"""Digests of bad batches that are remembered, so that a second look costs nothing."""


@dataclass(slots=True)
class Held:
    """One batch here."""

    digest: Hash
    encoded: bytes
    transactions: tuple[Transaction, ...]
    ids: tuple[Hash, ...]
    packer: int
    """Replica that packed it, by its own word."""
    source: int
    """Replica that it came from; this one's own index for its own."""
    arrived_ms: int
    """Monotonic."""
    good: bool = False
    """Every signature in it was verified here."""
    durable: bool = False
    """It is in the journal."""
    weight: int = field(init=False)
    """See :mod:`layer1.replica.weight`."""
    wanted: bool = False
    """A proposal made us fetch it: it takes nothing of anybody's share."""
    room: Room = field(init=False)
    """Of everything in it, if that is of one kind: disputes go first, preimages then."""
    last_valid_ms: int = field(init=False)
    """Ledger clock after which nothing of it can execute."""

    @property
    def is_dispute(self) -> bool:
        """Whether everything in it has a deadline to meet."""
        return self.room is Room.DISPUTES

    def __post_init__(self) -> None:
        self.weight = total_weight(self.transactions)
        self.room = room_of(self.transactions)
        self.last_valid_ms = max(transaction.valid_until_ms for transaction in self.transactions)


class BatchStore:
    """Batches that are not final yet. What is asked for each block or batch costs the same however many there are."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._held: dict[Hash, Held] = {}
        self._disputes: Lane[Held] = Lane()
        self._preimages: Lane[Held] = Lane()
        self._ordinary: Lane[Held] = Lane()
        """Good ones."""
        self._bad: dict[Hash, str] = {}
        self._verified: dict[Hash, Transaction] = {}
        self._hurried: set[Hash] = set()
        """Ids of what is in good batches of disputes."""
        self._shares = PeerShares()
        self._turn = 0
        """Of those who go first when a block is shared out."""
        self.version = 0
        """Rises with every change of what is pending."""

    def __len__(self) -> int:
        return len(self._held)

    def get(self, digest: Hash) -> Held | None:
        """The batch of this digest, verified or not."""
        return self._held.get(digest)

    def why_bad(self, digest: Hash) -> str | None:
        """Why this batch is refused, if it was."""
        return self._bad.get(digest)

    def is_verified(self, name: Hash, transaction: Transaction) -> bool:
        """Whether this very transaction, signatures included, was verified here already."""
        known = self._verified.get(name)
        return known is not None and known.signatures == transaction.signatures

    def is_on_its_way(self, name: Hash, transaction: Transaction) -> bool:
        """Whether this very transaction need not be packed here: a good batch has it, of disputes if it is one.

        In a batch with anything else a dispute would wait as long as that.
        """
        return self.is_verified(name, transaction) and (name in self._hurried or not is_dispute(transaction))

    def add(self, encoded: bytes, source: int, now_ms: int, *, wanted: bool) -> Held | None:
        """Take a batch in, not verified yet; None if it is here already.

        Raises:
            RemoteError: It breaks the bounds of the protocol; then its digest is bad.
            Untimely: The peer has too many here, maybe because we are behind.
        """
        digest = batch_digest(encoded)
        if digest in self._held:
            return None
        if (why := self._bad.get(digest)) is not None:
            raise RemoteError(why)
        if not wanted:
            self._shares.check(source, len(encoded))
        try:
            batch = self._decode(encoded)
        except RemoteError as error:
            self._note_bad(digest, str(error))
            raise
        if not wanted:
            self._shares.check_kind((source, batch.replica != source, room_of(batch.transactions)), len(encoded))
        ids = tuple(transaction.id for transaction in batch.transactions)
        held = Held(digest, encoded, batch.transactions, ids, batch.replica, source, now_ms, wanted=wanted)
        self._insert(held)
        return held

    def add_own(self, encoded: bytes, batch: Batch, ids: Sequence[Hash], now_ms: int) -> Held:
        """Take in a batch that this replica packed from verified transactions, or finds in its journal."""
        held = Held(
            batch_digest(encoded), encoded, batch.transactions, tuple(ids), batch.replica, batch.replica, now_ms
        )
        self._insert(held)
        self.accept(held)
        return held

    def accept(self, held: Held) -> None:
        """All signatures of it are good."""
        held.good = True
        self.version += 1
        self._lane_of(held).add(held)
        self._verified.update(zip(held.ids, held.transactions, strict=True))
        if held.is_dispute:
            self._hurried.update(held.ids)

    def refuse(self, held: Held, why: str) -> None:
        """A signature of it is bad: it is bad as a whole."""
        self._note_bad(held.digest, why)
        self._drop(held)

    def pending(self) -> Iterator[Held]:
        """Good batches, disputes first, then in the order in which they became good. Take as many as you need."""
        yield from self._disputes
        yield from self._preimages
        yield from self._ordinary

    def shared_out(self) -> Iterator[Held]:
        """Good batches for a block: disputes first; of each kind those of each replica in turn, by their weight.

        Preimages have the second claim, on a part of the block; the rest of them comes behind everything.
        """
        self._turn += 1
        yield from self._disputes.shared_out(self._turn)
        registrations, given = self._preimages.shared_out(self._turn), 0
        while given < PREIMAGES_PART and (batch := next(registrations, None)) is not None:
            given += batch.weight
            yield batch
        yield from self._ordinary.shared_out(self._turn)
        yield from registrations

    def oldest(self, included: Collection[Hash]) -> tuple[Held | None, Held | None]:
        """The first good batch of disputes that is not among those `included`, and the first of others."""
        dispute, preimages, ordinary = (
            next((held for held in lane if held.digest not in included), None)
            for lane in (self._disputes, self._preimages, self._ordinary)
        )
        others = [held for held in (preimages, ordinary) if held is not None]
        return dispute, min(others, key=lambda held: held.arrived_ms, default=None)

    def _lane_of(self, held: Held) -> Lane[Held]:
        return {Room.DISPUTES: self._disputes, Room.PREIMAGES: self._preimages}.get(held.room, self._ordinary)

    def durable(self) -> Iterator[Held]:
        """Those that are in the journal."""
        return (held for held in self._held.values() if held.durable)

    def remove(self, digests: Iterable[Hash]) -> None:
        """These are final."""
        for digest in digests:
            if (held := self._held.get(digest)) is not None:
                self._drop(held)

    def expire(self, clock_ms: int) -> None:
        """Drop good batches of which nothing can execute any more."""
        for held in [held for held in self.pending() if held.last_valid_ms < clock_ms]:
            self._drop(held)

    def _decode(self, encoded: bytes) -> Batch:
        most = max(MAX_BATCH_BYTES, self._parameters.max_transaction_bytes + BATCH_FRAME_BYTES)
        if len(encoded) > most:
            raise RemoteError(f"a batch of {len(encoded)} bytes; at most {most} are taken")
        batch = decode(encoded, Batch)
        if not 0 <= batch.replica < MAX_NUMBER:
            raise RemoteError(f"a batch of replica {batch.replica}; numbers are from 0 to below {MAX_NUMBER}")
        if not 1 <= len(batch.transactions) <= MAX_BATCH_TRANSACTIONS:
            raise RemoteError(
                f"a batch of {len(batch.transactions)} transactions; 1 to {MAX_BATCH_TRANSACTIONS} may be"
            )
        self._check_weight(batch.transactions)
        most = self._parameters.max_transaction_bytes
        if len(encoded) > most and (size := max(len(encode(item)) for item in batch.transactions)) > most:
            raise RemoteError(f"a transaction of {size} bytes in a batch; at most {most} are taken")
        return batch

    def _check_weight(self, transactions: Sequence[Transaction]) -> None:
        """A batch that no block can hold is bad, and so is a transaction with signatures that nobody asks for."""
        p = self._parameters
        most, size = min(MAX_BATCH_TRANSACTIONS, p.max_block_transactions), len(transactions)
        if size > most:
            raise RemoteError(f"a batch of {size} transactions; a block holds {most} of them at most")
        weights = [weight(transaction) for transaction in transactions]
        too_heavy = any(found > bound(item, p) for item, found in zip(transactions, weights, strict=True))
        if too_heavy or sum(weights) > batch_weight(p):
            raise RemoteError(
                f"a batch of {sum(weights)} signatures, {max(weights)} in one transaction; at most {batch_weight(p)}, "
                f"{heaviest(p)} in one about a group, are taken"
            )

    def _insert(self, held: Held) -> None:
        self._held[held.digest] = held
        if not held.wanted:
            self._shares.take(held)

    def _drop(self, held: Held) -> None:
        self.version += 1
        del self._held[held.digest]
        if not held.wanted:
            self._shares.leave(held)
        if held.good:
            self._lane_of(held).drop(held.digest)
            for name in held.ids:
                self._verified.pop(name, None)
                self._hurried.discard(name)

    def _note_bad(self, digest: Hash, why: str) -> None:
        self._bad[digest] = why
        while len(self._bad) > KEPT_BAD:
            del self._bad[next(iter(self._bad))]


def batch_weight(parameters: Parameters) -> int:
    """Most that one batch may weigh, by protocol: what fits into a block, and is verified in 70 ms."""
    return min(MAX_BATCH_TRANSACTIONS, block_weight(parameters))

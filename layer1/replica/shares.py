"""Who takes how much room in a replica's pool.

Safety: nobody's share is used up by what somebody else wrote or brought.

Disputes, preimages and all else have rooms of their own, in count and in bytes: no flood of the one keeps out the
other, for who is late with one of the first two loses money. Within them there are shares. A transaction counts for its
*senders*, the accounts that sign it, only once their signatures are verified: before that it may be in the name of
anybody, and a victim would be locked out by forgeries. From the start it counts for its *source*, the network address
that it came from, which nobody can feign over TCP. A connection is no source: one client opens hundreds.

Source: docs/design/consensus.md, "Mempool and batches"; decision 020.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from layer1.block import BATCH_FRAME_BYTES, MAX_BATCH_BYTES, MAX_BATCH_TRANSACTIONS
from layer1.crypto import PublicKey
from layer1.errors import Refused, check


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much a replica takes in before it answers ``pool_full`` or ``share_full``, and how it packs."""

    transactions: int = 50_000
    """In the pool at once, waiting for a final block."""
    bytes: int = 32 * 2**20
    """Of their encodings."""
    per_sender: int = 20_000
    """Signed by one account."""
    per_source: int = 20_000
    """From one network address, without disputes."""
    reserved: int = 10_000
    """Of `transactions`, for disputes alone: a flood of transfers cannot keep a report out, nor the other way round."""
    reserved_bytes: int = 8 * 2**20
    """Of `bytes`, for disputes alone: 800 for each of them."""
    disputes_per_source: int = 2_500
    """Disputes from one network address; nobody's account signs them."""
    preimages: int = 5_000
    """Transactions that register preimages, beside `transactions`: a flood of transfers cannot make them late."""
    preimages_bytes: int = 4 * 2**20
    """Of their encodings, beside `bytes`."""
    preimages_per_source: int = 1_250
    """Such transactions from one network address."""
    batch_transactions: int = 400
    """In one batch, or signatures in it: large enough to pay for its hash and frames, verified in 30 ms."""
    dispute_batch: int = 100
    """The same for disputes, or signatures in them: small, so that their part of a block among others' is exact."""
    batch_bytes: int = 128 * 1024
    """Encoded, in one batch."""
    batch_delay_ms: int = 8
    """Between two batches of one replica and lane. The first after a pause leaves at once: a lone one never waits."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"limits.{name} is {getattr(self, name)}; it must be at least 1")
        # Larger ones the peers refuse, and they cut off whoever sends them.
        for name, most in (
            ("batch_transactions", MAX_BATCH_TRANSACTIONS),
            ("dispute_batch", MAX_BATCH_TRANSACTIONS),
            ("batch_bytes", MAX_BATCH_BYTES - BATCH_FRAME_BYTES),
        ):
            if getattr(self, name) > most:
                raise ValueError(
                    f"limits.{name} is {getattr(self, name)}; no replica takes a batch of more than {most}"
                )
        for part, whole in (("reserved", "transactions"), ("reserved_bytes", "bytes")):
            if getattr(self, part) >= getattr(self, whole):
                raise ValueError(
                    f"limits.{part} is {getattr(self, part)}, limits.{whole} {getattr(self, whole)}: nothing would be "
                    "left for transfers; lower the first"
                )


class Room(Enum):
    """What is counted by itself."""

    TRANSACTIONS = "transactions"
    DISPUTES = "disputes"
    PREIMAGES = "registrations"


class Taken(Protocol):
    """What is counted of an entry of the pool."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def senders(self) -> tuple[PublicKey, ...]:
        """Accounts that sign it."""

    @property
    def source(self) -> str:
        """Network address that it came from; empty if unknown, for which there is no share."""

    @property
    def room(self) -> Room:
        """In which it is."""


class Shares:
    """Counts what is in a pool."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._rooms = {
            Room.TRANSACTIONS: (limits.transactions - limits.reserved, limits.bytes - limits.reserved_bytes),
            Room.DISPUTES: (limits.reserved, limits.reserved_bytes),
            Room.PREIMAGES: (limits.preimages, limits.preimages_bytes),
        }
        """Most transactions and bytes."""
        self._per_source = {
            Room.TRANSACTIONS: limits.per_source,
            Room.DISPUTES: limits.disputes_per_source,
            Room.PREIMAGES: limits.preimages_per_source,
        }
        self._count: Counter[Room] = Counter()
        self._bytes: Counter[Room] = Counter()
        self._sources: Counter[tuple[str, Room]] = Counter()
        self._senders: Counter[PublicKey] = Counter()

    @property
    def disputes(self) -> int:
        """How many are here."""
        return self._count[Room.DISPUTES]

    @property
    def size_bytes(self) -> int:
        """Of everything here."""
        return self._bytes.total()

    def check(self, entries: Sequence[Taken]) -> None:
        """Refuse these, all together, if one of them would find no room.

        Raises:
            Refused: ``pool_full`` or ``share_full``.
        """
        for room in Room:
            inside = [entry for entry in entries if entry.room is room]
            if inside:
                self._check_room(inside, room)
                self._check_sources(inside, room)
        for sender, added in Counter(sender for entry in entries for sender in set(entry.senders)).items():
            self._check_sender(sender, added)

    def refusal(self, entry: Taken) -> Refused | None:
        """``share_full`` if an account that signed this has its share here by now."""
        try:
            for sender in set(entry.senders):
                self._check_sender(sender, 1)
        except Refused as refusal:
            return refusal
        return None

    def take(self, entry: Taken) -> None:
        """It is in the pool."""
        self._count[entry.room] += 1
        self._bytes[entry.room] += entry.size
        if entry.source:
            self._sources[entry.source, entry.room] += 1

    def sign(self, entry: Taken) -> None:
        """Its signatures are verified: it counts for the accounts that made them."""
        self._senders.update(set(entry.senders))

    def leave(self, entry: Taken, *, signed: bool = False) -> None:
        """It has left the pool, and if it was `signed` for before, its accounts have room for another."""
        self._count[entry.room] -= 1
        self._bytes[entry.room] -= entry.size
        if entry.source:
            _release(self._sources, (entry.source, entry.room))
        for sender in set(entry.senders) if signed else ():
            _release(self._senders, sender)

    def _check_room(self, entries: Sequence[Taken], room: Room) -> None:
        what, (most, most_bytes) = room.value, self._rooms[room]
        count = self._count[room] + len(entries)
        size = self._bytes[room] + sum(entry.size for entry in entries)
        check(count <= most, "pool_full", f"{count} {what} would wait here, at most {most} may; {RETRY}")
        check(size <= most_bytes, "pool_full", f"{size} bytes of {what} would wait here, at most {most_bytes}; {RETRY}")

    def _check_sources(self, entries: Sequence[Taken], room: Room) -> None:
        most = self._per_source[room]
        for source, added in Counter(entry.source for entry in entries if entry.source).items():
            _check_share("address " + source, self._sources[source, room] + added, most)

    def _check_sender(self, sender: PublicKey, added: int) -> None:
        _check_share("account " + sender.hex(), self._senders[sender] + added, self._limits.per_sender)


RETRY = "retry in a second, or ask another replica"


def _check_share(name: str, count: int, most: int) -> None:
    if count > most:
        raise Refused("share_full", f"{name} would have {count} transactions waiting here, at most {most}; {RETRY}")


def _release(counter: Counter[Any], key: Hashable) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]

"""One committed state as pieces of bytes, for a checkpoint: taken at once, encoded a little at a time.

Safety: an image never changes, and what is put together from its pieces answers as the state did.

The pieces hold the records alone. Tree and indexes follow from them, so whoever puts a state together finds its root
anew and compares it with a finalized header.

Source: docs/design/consensus.md, "Execution and state".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar, assert_never

from layer1.codec import Struct, decode, encode
from layer1.crypto import HASH_BYTES, Hash, PublicKey
from layer1.errors import RemoteError
from layer1.ledger.records import Group, Head, Mark, Registration
from layer1.ledger.replicas import ReplicaSet
from layer1.ledger.shards import Image

V = TypeVar("V")

PIECE_ENTRIES = 1_000
"""Accounts or ids in a piece: a tenth of a millisecond to encode."""
PIECE_GROUPS = 20
"""Groups in a piece: each may hold a machine state of kilobytes."""
PIECE_VALUES = 100
"""Values of the ledger's own machine in a piece: each may have kilobytes."""


class Balances(Struct, tag=1):
    """Some accounts, minor units."""

    balances: dict[PublicKey, int]


class Groups(Struct, tag=2):
    """Some groups."""

    groups: tuple[Group, ...]


class Remembered(Struct, tag=3):
    """Some remembered transactions of one lot, in order of execution; those of the piece before come before them."""

    lot: int
    ids: bytes
    """Hashes, one behind the other."""


class Marks(Struct, tag=4):
    """All marks."""

    marks: tuple[Mark, ...]


class Replicas(Struct, tag=5):
    """Who certifies the next block."""

    replica_set: ReplicaSet


class Values(Struct, tag=6):
    """Some values of the state machine, by place in the tree."""

    values: dict[Hash, bytes]


class Heads(Struct, tag=7):
    """Some heads."""

    heads: tuple[Head, ...]


class Registrations(Struct, tag=8):
    """Some registered preimages."""

    registrations: tuple[Registration, ...]


Piece = Balances | Groups | Remembered | Marks | Replicas | Values | Heads | Registrations


@dataclass(frozen=True, slots=True)
class StateImage:
    """The records of a committed state. Made by :meth:`layer1.ledger.state.State.image`."""

    accounts: Image[int]
    groups: Image[Group]
    lots: Sequence[tuple[int, Sequence[Hash], int]]
    """Lots of remembered transactions: number, ids, and how many of them: the list may grow on."""
    marks: tuple[Mark, ...]
    replica_set: ReplicaSet
    values: Image[bytes]
    heads: Image[Head]
    registrations: Image[Registration]

    def pieces(self) -> Iterator[bytes]:
        """All records, each piece encoded when it is asked for."""
        for balances in _parts(self.accounts, PIECE_ENTRIES):
            yield encode(Balances(balances))
        for groups in _parts(self.groups, PIECE_GROUPS):
            yield encode(Groups(tuple(groups.values())))
        for number, ids, size in self.lots:
            for start in range(0, size, PIECE_ENTRIES):
                yield encode(Remembered(number, b"".join(ids[start : min(start + PIECE_ENTRIES, size)])))
        for values in _parts(self.values, PIECE_VALUES):
            yield encode(Values(values))
        for heads in _parts(self.heads, PIECE_ENTRIES):
            yield encode(Heads(tuple(heads.values())))
        for registrations in _parts(self.registrations, PIECE_ENTRIES):
            yield encode(Registrations(tuple(registrations.values())))
        yield encode(Marks(self.marks))
        yield encode(Replicas(self.replica_set))


@dataclass(slots=True)
class Records:
    """The records of a state, put together again."""

    accounts: dict[PublicKey, int] = field(default_factory=dict)
    groups: dict[Hash, Group] = field(default_factory=dict)
    lots: dict[int, list[Hash]] = field(default_factory=dict)
    """Remembered transactions by lot, in order of execution."""
    marks: dict[PublicKey, Mark] = field(default_factory=dict)
    replica_set: ReplicaSet | None = None
    values: dict[Hash, bytes] = field(default_factory=dict)
    heads: dict[PublicKey, Head] = field(default_factory=dict)
    registrations: dict[Hash, Registration] = field(default_factory=dict)


def collect(pieces: Iterable[bytes]) -> Records:
    """The records in these pieces.

    Raises:
        RemoteError: Something else is among them.
    """
    records = Records()
    for data in pieces:
        piece: Piece = decode(data, Piece)  # type: ignore[arg-type]  # a union is not a type
        match piece:
            case Balances():
                _check_names(piece.balances)
                records.accounts.update(piece.balances)
            case Groups():
                _check_names(group.group_id for group in piece.groups)
                records.groups.update((group.group_id, group) for group in piece.groups)
            case Remembered():
                if piece.lot < 0 or not piece.ids:
                    raise RemoteError(
                        f"lot {piece.lot} with {len(piece.ids)} bytes of ids; they count from 0, and hold some"
                    )
                records.lots.setdefault(piece.lot, []).extend(_hashes(piece.ids))
            case Marks():
                records.marks.update((mark.replica, mark) for mark in piece.marks)
            case Replicas():
                records.replica_set = piece.replica_set
            case Heads():
                _check_names(head.account for head in piece.heads)
                records.heads.update((head.account, head) for head in piece.heads)
            case Registrations():
                _check_names(each.hash for each in piece.registrations)
                records.registrations.update((each.hash, each) for each in piece.registrations)
            case Values():
                _check_names(piece.values)
                records.values.update(piece.values)
            case _:
                assert_never(piece)
    return records


def _check_names(names: Iterable[bytes]) -> None:
    """See that none is short: a small piece of many short ones would fill the memory."""
    for size in set(map(len, names)) - {HASH_BYTES}:
        raise RemoteError(f"a record is named by {size} bytes; each has {HASH_BYTES}")


def _hashes(joined: bytes) -> list[Hash]:
    if len(joined) % HASH_BYTES:
        raise RemoteError(f"{len(joined)} bytes of ids; each has {HASH_BYTES}")
    return [joined[start : start + HASH_BYTES] for start in range(0, len(joined), HASH_BYTES)]


def _parts(image: Image[V], size: int) -> Iterator[dict[bytes, V]]:
    """All entries, `size` at a time."""
    entries = (entry for shard in image for entry in shard.items())
    while part := dict(islice(entries, size)):
        yield part

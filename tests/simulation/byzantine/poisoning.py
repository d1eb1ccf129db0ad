"""A replica that lures those who are far behind into a state of its own: false snapshots, and promises of them.

Source: docs/design/consensus.md, "Catching up, joining, leaving"; decision 027.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from layer1.codec import decode, encode
from layer1.errors import RemoteError
from layer1.ledger.image import Balances, Piece, Remembered
from layer1.replica.messages import Blocks, Chunk, SnapshotOffer
from tests.simulation.byzantine.role import Role, read


class Poisoning(Role):
    """Spoils what it is asked for, now and then."""

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        if isinstance(message, SnapshotOffer):
            yield encode(self._promise(message))
        elif isinstance(message, Chunk):
            if not self.chance(0.1):
                yield encode(self._spoil(message))
        elif isinstance(message, Blocks) and self.chance(0.5):
            yield encode(Blocks(()))  # as if all were pruned
        else:
            yield data

    def _promise(self, offer: SnapshotOffer) -> SnapshotOffer:
        kind = self.random.randrange(5)
        if kind == 0:
            return structs.replace(offer, pieces=10**9, size_bytes=10**12)
        if kind == 1:
            return structs.replace(offer, size_bytes=offer.pieces)
        if kind == 2:
            height = offer.head.header.height + self.random.choice((-1, 1, 1_000))
            header = structs.replace(offer.head.header, height=height)
            return structs.replace(offer, head=structs.replace(offer.head, header=header))
        return offer

    def _spoil(self, answer: Chunk) -> Chunk:
        kind = self.random.randrange(6)
        if kind == 0:
            return structs.replace(answer, pieces=())
        if kind == 1:
            return structs.replace(answer, pieces=answer.pieces[:-1])
        if kind == 2:
            return structs.replace(answer, pieces=(*answer.pieces, b"x"))
        return structs.replace(answer, pieces=tuple(map(self._enrich, answer.pieces)) if kind < 5 else answer.pieces)

    def _enrich(self, piece: bytes) -> bytes:
        """Another piece of the same size, mostly: money moves, or a transaction is forgotten."""
        try:
            found: Piece = decode(piece, Piece)  # type: ignore[arg-type]  # a union is not a type
        except RemoteError:
            return piece
        match found:
            case Balances():
                names, units = sorted(found.balances), [found.balances[name] for name in sorted(found.balances)]
                return encode(Balances(dict(zip(names, [*units[1:], units[0]], strict=True))))
            case Remembered():
                return encode(Remembered(found.lot, bytes(len(found.ids))))
            case _:
                return piece

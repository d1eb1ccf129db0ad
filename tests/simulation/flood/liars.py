"""What a Byzantine replica does to disputes that it is not to hinder."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from layer1.block import Batch
from layer1.codec import encode
from layer1.header import BlockId
from layer1.ledger.transactions import Report, Wedge
from layer1.replica.application import Part
from layer1.replica.lanes import MAX_HELD_BESIDES
from layer1.replica.messages import BatchData
from layer1.replica.weight import block_weight, weight
from tests.simulation.flood.groups import Group, Wallets
from tests.simulation.flood.machine import BusyReplica


def flood(replica: BusyReplica, wallets: Wallets, own: Group) -> None:
    """Fill its peers with batches of disputes about nothing, of its own and as if it passed them on.

    No replica tries what a peer packed before it is in a block. These wedge a group of its own under a certificate
    whose last signature is bad: they cost it nothing, and the others the check of each signature, again and again.
    """
    assert own.wedge is not None
    wedge = _spoilt(own.wedge)
    size = min(block_weight(replica.genesis.parameters), 1_000) // weight(wallets.dispute(wedge))
    for packer in (replica.index, 0):
        sent_bytes = sent = 0
        while sent < MAX_HELD_BESIDES.batches and sent_bytes < MAX_HELD_BESIDES.bytes:
            batch = encode(Batch(packer, tuple(wallets.dispute(wedge) for _ in range(size))))
            sent, sent_bytes = sent + 1, sent_bytes + len(batch)
            replica.transmit(None, encode(BatchData(batch)))


def _spoilt(wedge: Wedge) -> Wedge:
    *good, _ = wedge.certificate.signatures
    return structs.replace(wedge, certificate=structs.replace(wedge.certificate, signatures=(*good, bytes(64))))


def censor(replica: BusyReplica) -> None:
    """As a leader, leave out every report; transfers, and even wedges, find room."""
    application = replica.core.application
    choose = application._choose

    def picky(parent: BlockId, candidates: Iterable[Part]) -> tuple[Part, ...]:
        return choose(parent, (part for part in candidates if not any(map(_is_report, part.transactions))))

    application._choose = picky  # type: ignore[method-assign]


def _is_report(transaction: object) -> bool:
    return isinstance(getattr(transaction, "payload", None), Report)

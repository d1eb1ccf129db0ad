"""A final block as it is stored, served and fetched: header, contents, outputs and certificate."""

from __future__ import annotations

from layer1.codec import Struct
from layer1.consensus.messages import Finalization
from layer1.crypto import Domain, Hash, digest
from layer1.header import Header
from layer1.ledger.events import Event, ReplicasChanged
from layer1.ledger.transactions import Output, Transaction

MAX_BATCH_TRANSACTIONS = 1_000
"""In one batch, by protocol: 70 ms of verification. Replicas pack fewer."""
MAX_BATCH_BYTES = 512 * 1024
"""Encoded, by protocol, or one transaction of full size if that is more."""
BATCH_FRAME_BYTES = 64
"""What encoding a batch adds to its transactions, at most."""


class Batch(Struct):
    """Transactions in the order in which one replica packed them; a proposal names them by digest."""

    replica: int
    """Who packed it."""
    transactions: tuple[Transaction, ...]


def batch_digest(encoded: bytes) -> Hash:
    """The name of an encoded batch."""
    return digest(Domain.BATCH, encoded)


class CommittedBlock(Struct):
    """One final block with all that executing it gave."""

    header: Header
    finalization: Finalization
    """Names this block or a descendant; `path` leads there."""
    path: tuple[Header, ...]
    """Headers between this block and the finalized one, oldest first, the finalized one last; empty if it is this.

    Those behind a boundary are filler: they made it final, and are no part of the ledger.
    """
    batches: tuple[bytes, ...]
    """Encoded batches, in the order of `batches_root`."""
    transactions: tuple[Transaction, ...]
    """Those that executed, in order (duplicates left out)."""
    outputs: tuple[Output, ...]
    """One per executed transaction."""
    events: tuple[Event, ...] = ()
    """What executing it did, settlements at the deadline among it; the store leaves out changes of accounts."""

    @property
    def is_boundary(self) -> bool:
        """Whether it is the last block of its epoch."""
        return any(isinstance(event, ReplicasChanged) for event in self.events)

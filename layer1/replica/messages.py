"""What replicas say to each other on a link, around the messages of consensus.

A link carries nothing but these, one per frame. Batches travel as the bytes that their digest is of, so nobody encodes
a batch twice. A greeting opens each direction of a link.

Source: docs/design/consensus.md, "Mempool and batches", "Catching up, joining, leaving", "Persist before sending".
"""

from __future__ import annotations

from layer1.codec import Struct
from layer1.consensus.messages import Certificate, Finalization, Message, View
from layer1.crypto import Hash
from layer1.header import Header
from layer1.proof import Handover
from layer1.replica.checkpoints import Head

WIRE_VERSION = 7
"""Rises with every change that an older replica would not understand."""


class Greeting(Struct):
    """The first thing on a link, vouched for by its handshake."""

    wire_version: int
    """Stands first in every version, so that another one can be told apart."""
    generation: int
    """Of the sender's journal: a lower one than before means that it runs on an old copy, and its votes don't count.

    0: it lost its journal, and asks for its generation; see `layer1.replica.rejoin`.
    """


class ConsensusMessage(Struct, tag=1):
    """A vote, a certificate, a proposal, or a question for one."""

    epoch: int
    """That the sender is in, or of the certificate if it ended that epoch."""
    message: Message


class BatchData(Struct, tag=2):
    """A batch, pushed once by whoever packed it, or in answer to `FetchBatch`."""

    batch: bytes
    """Encoded `Batch`; its digest is its name."""


class BatchAnnounce(Struct, tag=3):
    """Digests of batches that the sender packed and that are not final; sent when a link comes up."""

    digests: tuple[Hash, ...]


class FetchBatch(Struct, tag=4):
    """Ask for the batch of this digest."""

    digest: Hash


class BlocksRequest(Struct, tag=5):
    """Ask for final blocks from height `first` on, as many as fit into an answer.

    Where these are pruned, the answer is a `SnapshotOffer`.
    """

    first: int
    snapshot: bool = False
    """Whether the sender would rather start from a snapshot, if it is far behind."""


class FinalBlock(Struct):
    """A block as it is fetched: executing it gives the rest."""

    header: Header
    batches: tuple[bytes, ...]
    finalization: Finalization | None
    """None if a later block's finalization makes this one final; the next block that has one follows in the answer."""
    path: tuple[Header, ...] = ()
    """Of the last block of an epoch: the filler that leads to the finalized header."""


class Blocks(Struct, tag=6):
    """Final blocks, each the child of the one before, the last with its finalization; answers `BlocksRequest`."""

    blocks: tuple[FinalBlock, ...]
    """Oldest first; empty if the sender has none from there on."""


class Standing(Struct, tag=7):
    """The first message on every link, each way: what a receiver that lost its journal must know."""

    generation: int
    """The highest that the sender has seen of the receiver's journal; 0 for none."""
    view: View
    """That the sender is in; 0 if it rejoined itself and may not vote yet, or refuses the link."""
    proof: tuple[Certificate, ...]
    """By which one enters `view`; empty at the start of an epoch."""
    handovers: tuple[Handover, ...] = ()
    """All until now, for a receiver that lost everything; else none."""


class SnapshotOffer(Struct, tag=8):
    """The sender's newest checkpoint; answers `BlocksRequest`."""

    head: Head
    pieces: int
    """Behind the head."""
    size_bytes: int
    """Of these."""


class ChunkRequest(Struct, tag=9):
    """Ask for pieces of the snapshot of this height, from number `first` on, as many as fit into an answer."""

    height: int
    first: int
    """From 0; the head is not counted."""


class Chunk(Struct, tag=10):
    """Pieces of a snapshot, in order; answers `ChunkRequest`."""

    height: int
    first: int
    pieces: tuple[bytes, ...]
    """Empty if the sender has it no more."""


LinkMessage = (
    ConsensusMessage
    | BatchData
    | BatchAnnounce
    | FetchBatch
    | BlocksRequest
    | Blocks
    | Standing
    | SnapshotOffer
    | ChunkRequest
    | Chunk
)

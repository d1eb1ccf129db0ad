"""Messages and events in a few words, for readers of a trace."""

from __future__ import annotations

from layer1.block import batch_digest
from layer1.codec import decode
from layer1.consensus.messages import (
    Fetch,
    Finalization,
    Finalize,
    Message,
    Notarization,
    Notarize,
    Nullification,
    Nullify,
    Proposal,
)
from layer1.crypto import Hash
from layer1.errors import RemoteError
from layer1.replica.messages import (
    BatchAnnounce,
    BatchData,
    Blocks,
    BlocksRequest,
    Chunk,
    ChunkRequest,
    ConsensusMessage,
    FetchBatch,
    LinkMessage,
    SnapshotOffer,
    Standing,
)


def short(name: Hash) -> str:
    """The start of a hash: enough to tell two apart in one run."""
    return name.hex()[:6]


def link_message(data: bytes) -> str:
    """What a link carries."""
    try:
        message: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
    except RemoteError:
        return f"{len(data)} bytes that are no message"
    match message:
        case ConsensusMessage():
            later = f", epoch {message.epoch}" if message.epoch else ""
            return consensus(message.message) + later
        case BatchData():
            return f"batch {short(batch_digest(message.batch))}"
        case BatchAnnounce():
            return f"has batches {' '.join(map(short, message.digests))}"
        case FetchBatch():
            return f"wants batch {short(message.digest)}"
        case BlocksRequest():
            return f"wants blocks from {message.first}"
        case Blocks():
            return f"blocks {[block.header.height for block in message.blocks]}"
        case SnapshotOffer():
            return f"offers a snapshot of height {message.head.header.height}, {message.pieces} pieces"
        case ChunkRequest():
            return f"wants pieces of snapshot {message.height} from {message.first}"
        case Chunk():
            return f"pieces {message.first} to {message.first + len(message.pieces)} of snapshot {message.height}"
        case Standing():
            return f"stands in view {message.view}, knows generation {message.generation}"


def consensus(message: Message) -> str:
    """What consensus says."""
    match message:
        case Notarize() | Finalize():
            return f"{type(message).__name__}({message.view} {short(message.block)}) by {message.replica}"
        case Nullify():
            return f"Nullify({message.start}..) by {message.replica}"
        case Notarization() | Finalization():
            voters = "".join(str(replica) for replica, _ in message.signatures)
            return f"{type(message).__name__}({message.view} {short(message.block)}) of {voters}"
        case Nullification():
            return f"Nullification({message.view}..) of {' '.join(f'{r}:{s}' for r, s, _ in message.votes)}"
        case Proposal():
            header = message.header
            return (
                f"Proposal({header.view} {short(message.vote.block)} height {header.height} on {short(header.parent)}, "
                f"{len(message.batches)} batches) by {message.vote.replica}"
            )
        case Fetch():
            what = f"block {short(message.block)}" if message.block is not None else f"{message.first}..{message.last}"
            return f"Fetch({what})"

"""What a replica writes into its journal: enough to come back from, after a kill at any moment.

Safety: a block record stands before the vote for its block, in the same sync, and its batches before it.

The records of consensus are opaque here. Blocks and batches are kept once, by their names; a final record says which
of them are final, and by what. Replayed in order they give the state, the floor of consensus, and what was pending.

Source: docs/design/consensus.md, "Persist before sending".
"""

from __future__ import annotations

from layer1.codec import Struct, decode
from layer1.consensus.evidence import Evidence
from layer1.consensus.messages import Finalization, View
from layer1.crypto import Hash
from layer1.errors import LocalError, RemoteError
from layer1.header import BlockId, Header


class ConsensusRecord(Struct, tag=1):
    """A record of the consensus core, given back to it as it is."""

    record: bytes


class BatchRecord(Struct, tag=2):
    """An encoded batch whose signatures this replica verified, or which is part of a final block."""

    batch: bytes


class BlockRecord(Struct, tag=3):
    """A block that this replica built, validated or fetched, and the digests of its batches."""

    header: Header
    batches: tuple[Hash, ...]


class FinalRecord(Struct, tag=4):
    """These blocks became final, oldest first, by a certificate that names the last."""

    blocks: tuple[BlockId, ...]
    finalization: Finalization


class EvidenceRecord(Struct, tag=6):
    """Contradicting votes that this replica caught. The whole journal holds one per replica and kind."""

    evidence: Evidence


class PeerRecord(Struct, tag=5):
    """The highest generation that a peer's journal was seen with."""

    replica: int
    generation: int


class FenceRecord(Struct, tag=7):
    """This replica lost its journal in `epoch`, and voted in no view of it from `view` on.

    In earlier ones it votes no more. If the epoch ended before that view, it may have voted in a later one, too, and
    must ask again.
    """

    epoch: int
    view: View


class CheckpointRecord(Struct, tag=16):
    """Here begins a journal that was shortened: the state after this block is in a checkpoint, at least."""

    height: int
    block: BlockId
    epoch: int = 0
    """Of the block's children. What this replica voted in earlier ones is forgotten, and it votes there no more."""


Record = (
    ConsensusRecord
    | BatchRecord
    | BlockRecord
    | FinalRecord
    | PeerRecord
    | EvidenceRecord
    | FenceRecord
    | CheckpointRecord
)


def decode_record(data: bytes) -> Record:
    """Read one record.

    Raises:
        LocalError: The journal holds something else.
    """
    try:
        record: Record = decode(data, Record)  # type: ignore[arg-type]  # a union is not a type
    except RemoteError as error:
        raise LocalError(f"the journal holds a record that this version does not know: {error}") from error
    return record

"""The contract between the replica's core and its driver: events in, effects out, as in `layer1.consensus.events`.

The driver performs effects in order, with one freedom: all that a turn of its loop journals may become durable in one
sync, as long as nothing of that turn leaves before it.

Source: docs/design/style.md, "A core is a synchronous step"; consensus.md, "Persist before sending".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from layer1.block import CommittedBlock
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.transactions import Transaction

# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Begin:
    """The journal was replayed; links may come up."""

    generation: int = 1
    """Of the journal."""


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A link to a replica is open."""

    peer: int
    generation: int
    """Of its journal, from its greeting."""


@dataclass(frozen=True, slots=True)
class PeerDown:
    """The link to a replica has ended."""

    peer: int


@dataclass(frozen=True, slots=True)
class FromPeer:
    """One message on the link to a replica."""

    peer: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Submit:
    """Transactions from the API; taken all, or none (`Refused`)."""

    transactions: Sequence[tuple[Hash, Transaction]]
    """With their ids."""
    source: str = ""
    """Network address of whoever brings them, for its share of the pool; empty if unknown."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Answer to `Verify`."""

    job: int
    failures: tuple[tuple[int, Refused], ...]
    """Position and reason of each bad transaction; for a batch, of the first one at least."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Answer to `LoadBlocks`: as many as were found, oldest first."""

    peer: int
    first: int
    blocks: Sequence[CommittedBlock]


@dataclass(frozen=True, slots=True)
class Proceed:
    """Answer to `Again`."""


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """Answer to `TakeCheckpoint`: the checkpoint is durable, and so is every block up to it in storage."""

    height: int
    pieces: int
    """In it, the head not counted."""
    size_bytes: int
    """Of these."""


@dataclass(frozen=True, slots=True)
class ChunkLoaded:
    """Answer to `LoadChunk`: pieces from there on, some of them at least; none if that checkpoint is gone."""

    peer: int
    height: int
    first: int
    pieces: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class SnapshotChecked:
    """Answer to `CheckSnapshot`."""

    height: int
    fault: str | None
    """What is wrong with it; None if it can be installed."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of the last `Wake` has come. Spurious ones are harmless."""


Event = (
    Begin
    | PeerUp
    | PeerDown
    | FromPeer
    | Submit
    | Verified
    | Loaded
    | Proceed
    | Checkpointed
    | ChunkLoaded
    | SnapshotChecked
    | Tick
)

# --------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Journal:
    """Append a record. Unless it is lazy, nothing that stands after it leaves before it is durable."""

    record: bytes
    lazy: bool


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send on the link to one replica, if it is up."""

    peer: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TransmitAll:
    """Send on every link."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Verify:
    """Verify the account signatures of these, a little at a time, and answer `Verified`. Jobs go in order."""

    job: int
    transactions: tuple[Transaction, ...]
    source: int
    """Replica that they came from; our own index for those of our clients."""
    rehearse: bool = False
    """Ours to take in or not: also refuse a dispute that the last final state refuses. Never with a peer's batch."""


@dataclass(frozen=True, slots=True)
class Hurry:
    """A proposal waits for this job: do it next."""

    job: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """A block is final. In order of height, each once."""

    block: CommittedBlock


@dataclass(frozen=True, slots=True)
class Reject:
    """These transactions of ours will never be final."""

    ids: tuple[Hash, ...]
    refusal: Refused


@dataclass(frozen=True, slots=True)
class LoadBlocks:
    """Read final blocks from height `first` on from storage for a peer, and answer `Loaded`."""

    peer: int
    first: int


@dataclass(frozen=True, slots=True)
class Again:
    """More work is at hand: give the loop back, then send `Proceed`."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Send `Tick` at this monotonic time, ms. Replaces the wake-up asked for before; None cancels it."""

    monotonic_ms: int | None


@dataclass(frozen=True, slots=True)
class TakeCheckpoint:
    """Make every block up to `height` durable in storage, then put this checkpoint in place of the one before.

    In this order, each wholly or not at all; then answer `Checkpointed`. There is time: encode a piece now and then.
    """

    height: int
    pieces: Iterator[bytes]
    """Each encoded when it is asked for, in less than a millisecond; they give what they were when this was asked."""


@dataclass(frozen=True, slots=True)
class LoadChunk:
    """Read pieces of the checkpoint of this height, from number `first` on, for a peer; answer `ChunkLoaded`.

    The one before the newest is kept at hand, too: a peer may be in the middle of it.
    """

    peer: int
    height: int
    first: int


@dataclass(frozen=True, slots=True)
class SaveSnapshot:
    """Write these pieces of a snapshot behind those before, or begin a new file with them."""

    pieces: Sequence[bytes]
    begins: bool
    """Whether these are the first; a file that was begun before is dropped."""


@dataclass(frozen=True, slots=True)
class CheckSnapshot:
    """All of the snapshot is saved: put its state together, in a thread, and answer `SnapshotChecked`."""

    height: int


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """Put it in the place of checkpoint and blocks, and start again from there, with the same journal."""

    height: int


@dataclass(frozen=True, slots=True)
class Shorten:
    """Replace everything journaled before this effect, synced or not, by these records, wholly or not at all."""

    records: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """A peer broke the protocol; its message was dropped."""

    peer: int
    reason: str
    blamed: bool = True
    """Whether no correct replica does this, at any time: then it counts towards having its link cut."""


Effect = (
    Journal
    | Transmit
    | TransmitAll
    | Verify
    | Hurry
    | Deliver
    | Reject
    | LoadBlocks
    | Again
    | Wake
    | TakeCheckpoint
    | LoadChunk
    | SaveSnapshot
    | CheckSnapshot
    | InstallSnapshot
    | Shorten
    | Misbehaved
)

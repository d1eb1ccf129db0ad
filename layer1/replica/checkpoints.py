"""Checkpoints: the state after a final block on the local disk, so that a restart replays only what came after it.

Safety: a checkpoint is believed only under q signatures of its header and with the root that this header names; and
what the journal loses is in the checkpoint, in storage, or below what any vote of this replica can concern.

Now and then the core asks its driver for a checkpoint of the last final block. At that moment it notes all that a
restart from there needs (the *base*): batches and blocks that are not final yet, and what consensus must remember.
From then on it keeps a copy of every record that it journals (the *tail*). When the checkpoint is durable, and with it
every block up to there in storage, base and tail replace the journal in one step. A crash before that step finds the
old journal, whose records up to the checkpoint are passed over; a crash after it finds the new one.

The root is over all that executing the next block depends on, remembered transactions with it. So a checkpoint is as
good as the signatures of its header, wherever it was: peers that are far behind start from it as a *snapshot*.

Source: docs/design/consensus.md, "Persist before sending", "Execution and state"; decision 014.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from layer1.codec import Struct, decode, encode
from layer1.consensus.messages import Finalization
from layer1.crypto import Hash
from layer1.errors import LocalError, RemoteError
from layer1.header import Header
from layer1.ledger.genesis import Genesis
from layer1.ledger.image import collect
from layer1.ledger.state import State
from layer1.proof import Handover, HeadProof, Trust, verify_head
from layer1.replica.application import Floor
from layer1.statemachine import StateMachine

FORMAT_VERSION = 4
"""Rises with every change of what a checkpoint holds."""


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """When the next checkpoint is due: after so many blocks, or so much journal, whichever comes first.

    And when a peer is offered the last one instead of blocks.
    """

    blocks: int = 5_000
    """After so many blocks: small ones replay in about half a millisecond each."""
    journal_bytes: int = 32 * 2**20
    """Or after so many bytes of journal: large blocks replay at about 10 MiB per second."""
    offer_blocks: int = 10_000
    """A peer that lacks so many blocks below a checkpoint is offered it as a snapshot: executing them takes 5 s or
    more."""

    def __post_init__(self) -> None:
        for name in ("blocks", "journal_bytes", "offer_blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"checkpoints.{name} is {getattr(self, name)}; write 1 or more")


class Head(Struct):
    """The first piece of a checkpoint; the records of the state follow."""

    format_version: int
    chain_id: Hash
    handovers: tuple[Handover, ...]
    """All until now: whose certificate counts."""
    header: Header
    path: tuple[Header, ...]
    """Filler, if the block is a boundary."""
    finalization: Finalization
    """Names this header, or the last one of the path."""


def pieces(trust: Trust, floor: Floor) -> Iterator[bytes]:
    """A checkpoint of a final block as it is now, each piece encoded when it is asked for."""
    return chain((encode(head_of(trust, floor)),), floor.state.image().pieces())


def head_of(trust: Trust, floor: Floor) -> Head:
    """The first piece of a checkpoint of this final block."""
    assert floor.finalization is not None, "genesis needs no checkpoint"
    chain_id, handovers = trust.genesis.chain_id, tuple(trust.handovers)
    return Head(FORMAT_VERSION, chain_id, handovers, floor.header, floor.path, floor.finalization)


def read_head(found: Iterator[bytes]) -> Head:
    """The first piece, not judged.

    Raises:
        RemoteError: It is something else.
    """
    return decode(next(found, b""), Head)


def load(genesis: Genesis, found: Iterator[bytes], machine: StateMachine | None = None) -> tuple[Trust, Floor]:
    """The final block of a checkpoint and the state after it, and the replica sets until then.

    Raises:
        LocalError: It is damaged, of another version or ledger, not certified, or not the state that was certified.
    """
    try:
        head = read_head(found)
        trust = check_head(head, genesis)
        records, header = collect(found), head.header
    except RemoteError as error:
        raise LocalError(f"the checkpoint cannot be used: {error}") from error
    state = State.assemble(genesis, records, (header.height, header.clock, header.wall_time), machine)
    if state.replica_set != trust.replica_set:
        raise LocalError(
            f"the handovers of the checkpoint of block {header.height} lead to the set of epoch "
            f"{trust.replica_set.epoch}, its state holds that of epoch {state.replica_set.epoch}"
        )
    if state.root != header.state_root:
        raise LocalError(
            f"the checkpoint of block {header.height} holds a state with root {state.root.hex()}, but "
            f"{header.state_root.hex()} is certified"
        )
    return trust, Floor(header.id, header, head.finalization, state, head.path)


def fault_of(genesis: Genesis, found: Iterator[bytes], machine: StateMachine | None = None) -> str | None:
    """What is wrong with somebody's checkpoint; None if one may go on from it."""
    try:
        load(genesis, found, machine)
    except LocalError as error:
        return str(error)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return f"its records are those of no state: {error!r}"
    return None


def check_head(head: Head, genesis: Genesis) -> Trust:
    """See that a first piece is of this ledger, and its block certified; the replica sets until then.

    No root covers what it says. So it says no more than an honest one: each handover until this block and none after
    it, and filler behind a boundary alone. Filler itself is certified, too, and holds the boundary's root.

    Raises:
        RemoteError: It is not.
    """
    if head.format_version != FORMAT_VERSION:
        raise RemoteError(f"it has format {head.format_version}, this version reads {FORMAT_VERSION}")
    if head.chain_id != genesis.chain_id:
        raise RemoteError(f"it is of chain {head.chain_id.hex()}, this is {genesis.chain_id.hex()}")
    for epoch, handover in enumerate(head.handovers):  # before any signature is checked: thousands fit into a message
        if handover.replica_set.epoch != epoch + 1:
            raise RemoteError(f"handover {handover.replica_set.epoch - 1} stands where that of epoch {epoch} belongs")
    header, count = head.header, len(head.handovers)
    if count > header.epoch + 1:
        raise RemoteError(f"{count} handovers lead beyond block {header.height} of epoch {header.epoch}")
    trust = Trust(genesis, head.handovers)
    verify_head(trust, HeadProof(header, head.path, head.finalization))
    boundary = trust.boundary(header.epoch)
    if boundary is not None and boundary != header:
        raise RemoteError(f"{count} handovers lead beyond block {header.height} of epoch {header.epoch}")
    if boundary is None and head.path:
        raise RemoteError(f"{len(head.path)} headers behind block {header.height}, which ends no epoch")
    return trust


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that is durable, as peers are offered it."""

    head: Head
    pieces: int
    """Behind the head."""
    size_bytes: int
    """Of these."""

    @property
    def height(self) -> int:
        """Of its block."""
        return self.head.header.height


class Counted:
    """Pieces on their way, counted but for the head."""

    def __init__(self, found: Iterator[bytes]) -> None:
        self.pieces, self.size_bytes = -1, 0
        self._found = found

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._found)
        self.pieces += 1
        if self.pieces:
            self.size_bytes += len(piece)
        return piece


class Checkpoints:
    """When the next one is due, what the journal will be reduced to, and which one is there."""

    def __init__(self, policy: CheckpointPolicy) -> None:
        self._policy = policy
        self._height = 0
        self._journal_bytes = 0
        self._pending: Head | None = None
        self.published: Published | None = None
        """The newest; None if there is none, or it was passed over."""
        self._kept: list[bytes] = []
        """Base and tail of the pending checkpoint."""

    @property
    def height(self) -> int:
        """Of the last checkpoint; 0 if there is none."""
        return self._height

    def restored(self, height: int, journal_bytes: int) -> None:
        """This is where a restart found the last one, and the journal."""
        self._height, self._journal_bytes = height, journal_bytes

    def note(self, record: bytes) -> None:
        """A record is journaled."""
        self._journal_bytes += len(record)
        if self._pending is not None:
            self._kept.append(record)

    def offered_from(self, first: int) -> Published | None:
        """The newest, if who lacks the blocks from this height on is far behind it."""
        far = self.published is not None and self.published.height - first >= self._policy.offer_blocks
        return self.published if far else None

    def is_due(self, height: int) -> bool:
        """Whether to take one of this height now."""
        if self._pending is not None or height <= self._height:
            return False
        long = self._journal_bytes >= self._policy.journal_bytes
        return long or height >= self._height + self._policy.blocks

    def begin(self, head: Head, base: Sequence[bytes]) -> None:
        """One with this head is being taken; the journal will begin with `base`."""
        self._pending, self._kept = head, list(base)

    def finish(self, height: int, pieces: int, size_bytes: int) -> list[bytes] | None:
        """It is durable: what the journal is to hold from now on; None if it is not the one that was asked for."""
        head = self._pending
        if head is None or height != head.header.height:
            return None
        records, self._kept = self._kept, []
        self._height, self._pending, self.published = height, None, Published(head, pieces, size_bytes)
        self._journal_bytes = sum(map(len, records))
        return records

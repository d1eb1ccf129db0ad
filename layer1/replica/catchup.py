"""Catching up: final blocks fetched from peers, checked against their certificates, and executed one by one.

Safety: a fetched block is executed only under a finalization that was checked, so nobody can feed us another chain.

Consensus names a finalization whose ancestry is not here. From the floor on, one peer at a time is asked for the next
final blocks; one that does not answer, or answers wrongly, gives way to the next. Blocks come in segments: each ends
with a block that has its own finalization, which is checked before anything of the segment is executed. The last block
of an epoch may have that of filler behind it, and the filler's headers; no segment reaches beyond it. Account
signatures are not verified again: more than f honest replicas verified each before they finalized its block.

Source: docs/design/consensus.md, "Catching up, joining, leaving".
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from layer1 import merkle
from layer1.block import Batch, CommittedBlock, batch_digest
from layer1.codec import decode
from layer1.consensus.certificates import Checker
from layer1.consensus.messages import Finalization, View
from layer1.crypto import Hash
from layer1.errors import RemoteError
from layer1.header import Header
from layer1.proof import Trust, check_path
from layer1.replica.application import Part
from layer1.replica.messages import Blocks, BlocksRequest, FinalBlock

RETRY_MS = 1_000
"""After which the next peer is asked: time for an answer of full size over a slow link."""
MAX_BLOCKS = 64
"""In one answer, unless the last finalization among them lies further on."""
MAX_ANSWER_BYTES = 4 * 2**20
"""Of batches in one answer, likewise; a link carries four times as much."""
RECENT_BLOCKS = 128
"""Final blocks kept in memory for peers that are a little behind; older ones come from storage."""
RECENT_TRANSACTIONS = 20_000
"""In these blocks, or what makes a hundred blocks small under load would fill the memory."""


class RecentBlocks:
    """The newest final blocks, and their batches by digest."""

    def __init__(self) -> None:
        self._blocks: deque[CommittedBlock] = deque()
        self._batches: dict[Hash, bytes] = {}
        self._transactions = 0

    def add(self, block: CommittedBlock) -> None:
        """Add the next block; the oldest give way."""
        self._blocks.append(block)
        self._transactions += len(block.transactions)
        self._batches.update((batch_digest(batch), batch) for batch in block.batches)
        while len(self._blocks) > RECENT_BLOCKS or (self._transactions > RECENT_TRANSACTIONS and len(self._blocks) > 1):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._blocks.popleft()
        self._transactions -= len(oldest.transactions)
        for batch in oldest.batches:
            self._batches.pop(batch_digest(batch), None)

    def batch(self, digest: Hash) -> bytes | None:
        """An encoded batch that is final, for a peer that votes or executes a little later."""
        return self._batches.get(digest)

    def from_height(self, first: int) -> Sequence[CommittedBlock] | None:
        """All blocks from here on, or None if not all of them are here."""
        if not self._blocks or self._blocks[0].header.height > first:
            return None
        return self._blocks


@dataclass(frozen=True, slots=True)
class Segment:
    """Blocks up to one that has its own, checked, finalization."""

    blocks: tuple[FinalBlock, ...]
    finalization: Finalization
    sender: int

    @property
    def headers(self) -> tuple[Header, ...]:
        """Oldest first."""
        return tuple(block.header for block in self.blocks)

    @property
    def path(self) -> tuple[Header, ...]:
        """Filler, if the last block is a boundary that was made final by it."""
        return self.blocks[-1].path


class CatchUpState:
    """What is missing, who was asked, and what has come."""

    def __init__(self, trust: Trust, index: int) -> None:
        self._trust = trust
        self._checkers: dict[int, Checker] = {}
        """Of the epoch of the last segment."""
        self._peers = deque(number for number in trust.replica_set.numbers if number != index)
        """Members, and all that are linked: whoever has left the set still has its blocks."""
        self._linked: set[int] = set()
        self._target_view = 0
        self._asked: Counter[int] = Counter()
        """How often each may still answer: an answer that comes late, over a slow link, is as good as one in time."""
        self._retry_ms: int | None = None
        self._segments: deque[Segment] = deque()
        self._position = 0
        """Of the next block in the first segment."""
        self._empty = 0
        """Answers in a row that held nothing new."""
        self._fruitless = 0
        """Questions since the last blocks that came."""

    @property
    def active(self) -> bool:
        """Whether something is missing."""
        return self._retry_ms is not None

    @property
    def busy(self) -> bool:
        """Whether fetched blocks wait to be executed."""
        return bool(self._segments)

    @property
    def source(self) -> int:
        """Who sent the next block; of use only while :attr:`busy`."""
        return self._segments[0].sender if self._segments else -1

    def meet(self, peer: int) -> None:
        """A link with this peer is open: it may be asked."""
        self._linked.add(peer)
        if peer not in self._peers:
            self._peers.append(peer)

    def part(self, peer: int) -> None:
        """The link with a peer is gone; if it is not in the set, nobody expects it back."""
        self._linked.discard(peer)
        if peer in self._peers and peer not in self._trust.replica_set.numbers:
            self._peers.remove(peer)

    def members_changed(self, index: int) -> None:
        """Another set is in office; `index` is our own number."""
        wanted = (self._linked | set(self._trust.replica_set.numbers)) - {index}
        kept = [peer for peer in self._peers if peer in wanted]
        self._peers = deque([*kept, *sorted(wanted - set(kept))])

    def aim(self, view: View, sender: int, now_ms: int) -> None:
        """A block of this view is final, or may be, and not here; ask the sender first."""
        self._target_view = max(self._target_view, view)
        if self._retry_ms is None:
            self._retry_ms, self._empty = now_ms, 0
            self._prefer(sender)

    def _prefer(self, peer: int) -> None:
        if peer in self._peers:
            self._peers.remove(peer)
            self._peers.appendleft(peer)

    def request(self, floor: Header, now_ms: int, *, snapshot: bool = False) -> tuple[int, BlocksRequest] | None:
        """What to ask whom now; nothing while an answer is awaited or worked through, or when nothing is missing."""
        if self._retry_ms is None or self._segments:
            return None
        if floor.view >= self._target_view or self._empty >= len(self._peers):
            self._target_view = 0
            self._retry_ms = None
            return None
        if now_ms < self._retry_ms:
            return None
        peer, self._retry_ms = self._peers[0], now_ms + RETRY_MS
        self._asked[peer] += 1
        self._fruitless += 1
        self._peers.rotate(-1)
        return peer, BlocksRequest(floor.height + 1, snapshot)

    def wake_ms(self) -> int | None:
        """Monotonic time of the next question."""
        return None if self._segments else self._retry_ms

    def receive(self, sender: int, message: Blocks, floor: Header, now_ms: int) -> None:
        """Take an answer in; :meth:`next_block` gives what is in it.

        Nobody is at fault whose answer is not needed any more: it is passed over.

        Raises:
            RemoteError: Nobody asked it, or the blocks do not follow each other and the floor. Another peer is asked.
        """
        if not self.answered(sender, now_ms):
            return
        fresh = [block for block in message.blocks if block.header.height > floor.height]
        if fresh:
            self._segments.extend(_segments(fresh, floor, sender))
            self._prefer(sender)
            self._empty = self._fruitless = 0

    def answered(self, sender: int, now_ms: int) -> bool:
        """A peer answered, with blocks or with a snapshot; whether that is still of use. The next is asked.

        Raises:
            RemoteError: Nobody asked it.
        """
        if not self._asked[sender]:
            raise RemoteError(f"an answer from replica {sender}, which was not asked for blocks")
        self._asked[sender] -= 1
        if self._segments or self._retry_ms is None:
            return False
        self._retry_ms, self._empty = now_ms, self._empty + 1
        return True

    @property
    def is_fruitless(self) -> bool:
        """Whether every peer was asked twice since one last had blocks for us; some may lie, some may be away."""
        return self._fruitless >= 2 * len(self._peers)

    def next_block(self, floor: Header) -> tuple[FinalBlock, Segment | None] | None:
        """The next block to execute, its segment checked, and the segment if this is the last block of it.

        Raises:
            RemoteError: The finalization is not one, or what it names is filler; all that came with it is dropped.
        """
        if not self._segments:
            return None
        segment = self._segments[0]
        if not self._position:
            try:
                self._check(segment, floor)
            except RemoteError:
                self._segments.clear()
                self._peers.rotate(-1)
                raise
        block = segment.blocks[self._position]
        self._position += 1
        if self._position < len(segment.blocks):
            return block, None
        self._segments.popleft()
        self._position = 0
        return block, segment

    def _check(self, segment: Segment, floor: Header) -> None:
        last = segment.headers[-1]
        epoch = last.epoch
        if epoch < self._trust.replica_set.epoch and last.height > floor.height:
            raise RemoteError(f"block {last.height} is filler of epoch {epoch}, which is over at height {floor.height}")
        checker = self._checkers.get(epoch) or self._trust.checker(epoch)
        checker.certificate(segment.finalization)
        checker.forget_below(segment.finalization.view + 1)
        self._checkers = {epoch: checker}


def _segments(blocks: Sequence[FinalBlock], floor: Header, sender: int) -> list[Segment]:
    segments: list[Segment] = []
    collected: list[FinalBlock] = []
    parent, parent_id = floor, floor.id
    for block in blocks:
        header = block.header
        if (header.height, header.parent) != (parent.height + 1, parent_id):
            raise RemoteError(f"block {header.height} does not follow block {parent.height}")
        if header.batches_root != merkle.list_root([batch_digest(batch) for batch in block.batches]):
            raise RemoteError(f"the batches of block {header.height} are not those that its header names")
        parent, parent_id = header, header.id
        collected.append(block)
        if header.epoch != collected[0].header.epoch:
            raise RemoteError(f"block {header.height} is of epoch {header.epoch}, and nothing ends the one before")
        if block.finalization is not None:
            check_path(header, block.path, block.finalization)
            segments.append(Segment(tuple(collected), block.finalization, sender))
            collected = []
    if collected:
        raise RemoteError(f"nothing makes block {collected[-1].header.height} final")
    return segments


def parts_of(block: FinalBlock) -> tuple[Part, ...]:
    """The batches of a fetched block, decoded.

    Raises:
        RemoteError: One is no batch.
    """
    decoded = [(encoded, decode(encoded, Batch)) for encoded in block.batches]
    return tuple(Part(batch_digest(encoded), encoded, batch.transactions) for encoded, batch in decoded)


def answer(blocks: Sequence[CommittedBlock], first: int) -> Blocks:
    """The answer to a request from height `first` on, out of these blocks, oldest first: as many as fit."""
    chosen: list[FinalBlock] = []
    complete, size = 0, 0
    for block in blocks:
        if block.header.height < first:
            continue
        if complete and (complete >= MAX_BLOCKS or size >= MAX_ANSWER_BYTES):
            break
        size += sum(map(len, block.batches))
        is_last = not block.path or block.is_boundary
        path = block.path if is_last else ()
        chosen.append(FinalBlock(block.header, block.batches, block.finalization if is_last else None, path))
        if is_last:
            complete = len(chosen)
    return Blocks(tuple(chosen[:complete]))

"""Snapshots: the state after a final block, offered to peers that are far behind, fetched and checked by them.

Safety: nothing of a snapshot is used before all of it is here and hashes to the root that q replicas certified. So a
liar can cost a replica one download, of bounded size, and is then left out.

A snapshot is a replica's newest checkpoint (`layer1.replica.checkpoints`), piece by piece. Whoever asks for blocks
from a height on gets an *offer* instead if it is far behind and wants one, or if these blocks are pruned. The offer's
head is verified at once, by handovers from the genesis; its size is believed only up to twice the largest that not
just liars state: with l liars, the (l+1)-th largest of at least l+1 offers is at most an honest one. Pieces come one
chunk after the other from one peer, paced below what it serves; a peer that stops answering, answers too slowly, or has
a newer snapshot meanwhile, gives way to all others that offer one. What fails the check names its sender, for offers
are signed by nobody, but links are.

A replica that keeps its history asks for blocks as long as any peer has them: it takes a snapshot only when
it has asked everybody twice in vain. So a peer that is silent, or lies that it has none, does not keep it from that.

Source: docs/design/consensus.md, "Catching up, joining, leaving"; decision 027.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from layer1.codec import encode
from layer1.errors import RemoteError, Untimely
from layer1.ledger.genesis import Genesis
from layer1.replica.checkpoints import Published, check_head
from layer1.replica.events import CheckSnapshot, Effect, InstallSnapshot, Misbehaved, SaveSnapshot, SnapshotChecked
from layer1.replica.messages import Chunk, ChunkRequest, SnapshotOffer
from layer1.replica.serving import BYTES_PER_S

CHUNK_BYTES = 256 * 2**10
"""Of pieces in one answer, unless the first alone is larger."""
PACE_MS = 1_250 * CHUNK_BYTES // BYTES_PER_S
"""Between two questions, so that the peer's allowance for us (`layer1.replica.serving`) never runs out."""
RETRY_MS = 2_000
"""After which the same chunk is asked for again."""
ATTEMPTS = 5
"""For one chunk, before another peer's snapshot is fetched."""
SLOWEST_BYTES_PER_S = 1_000 * CHUNK_BYTES // (ATTEMPTS * RETRY_MS)
"""Of a whole download: as fast as chunks that all come at the last moment. Who sends a byte at a time is slower."""
SLACK_BYTES = 2**20
"""Added to what is believed of a size: small states differ by more than half."""


class FromSnapshot(StrEnum):
    """When a replica that lacks blocks starts from a snapshot."""

    FAR = "far"
    """Whenever it is far behind."""
    NEW = "new"
    """If it is far behind and has no block yet: later it keeps its history whole, if it can."""
    PRUNED = "pruned"
    """Only if no peer has the blocks any more."""


@dataclass(slots=True)
class Download:
    """One snapshot on its way."""

    peer: int
    offer: SnapshotOffer
    taken: int = 0
    """Pieces that are here."""
    taken_bytes: int = 0
    attempts: int = 0
    ask_at_ms: int = 0
    begun_ms: int = 0

    @property
    def height(self) -> int:
        """Of its block."""
        return self.offer.head.header.height

    @property
    def complete(self) -> bool:
        """Whether all of it is here, so that only its check is awaited."""
        return self.taken == self.offer.pieces

    def is_hopeless(self, now_ms: int) -> bool:
        """Whether its peer does not answer, or so slowly that another one is worth a try."""
        taken_ms = 1_000 * self.taken_bytes // SLOWEST_BYTES_PER_S
        too_slow = now_ms > self.begun_ms + ATTEMPTS * RETRY_MS + taken_ms
        return too_slow or (self.attempts >= ATTEMPTS and now_ms >= self.ask_at_ms)


class Snapshots:
    """What peers offer, and what of it is being fetched."""

    def __init__(self, genesis: Genesis) -> None:
        self._genesis = genesis
        self._offers: dict[int, SnapshotOffer] = {}
        """By peer."""
        self._liars: set[int] = set()
        """Peers whose snapshot was not what they said."""
        self._failures: Counter[int] = Counter()
        """By peer, downloads that came to nothing: who promises most gets no second turn before the others."""
        self.download: Download | None = None

    @property
    def active(self) -> bool:
        """Whether one is being fetched: then blocks need not be."""
        return self.download is not None

    def hear(self, peer: int, offer: SnapshotOffer, height: int) -> None:
        """Take in an offer, of use if it is above our height.

        Raises:
            RemoteError: It is not certified, or says nonsense.
        """
        if offer.pieces < 1 or offer.size_bytes < offer.pieces:
            raise RemoteError(f"a snapshot of {offer.pieces} pieces and {offer.size_bytes} bytes; each has some")
        check_head(offer.head, self._genesis)
        if peer in self._liars:
            raise Untimely(f"replica {peer} offers a snapshot, and its last one was false")
        if offer.head.header.height > height:
            self._offers[peer] = offer
        else:
            self._offers.pop(peer, None)

    def choose(self, height: int, liars: int, now_ms: int) -> None:
        """Begin a download if enough peers offer a snapshot above this height for a size to be believed.

        Args:
            height: Of our last final block.
            liars: How many replicas may lie.
            now_ms: Monotonic time.
        """
        if self.download is not None:
            return
        self._offers = {p: offer for p, offer in self._offers.items() if offer.head.header.height > height}
        unknown = max(0, liars - len(self._liars))
        if len(self._offers) <= unknown:
            return
        most = 2 * sorted((o.size_bytes for o in self._offers.values()), reverse=True)[unknown] + SLACK_BYTES
        fitting = {peer: offer for peer, offer in self._offers.items() if offer.size_bytes <= most}
        peer = max(fitting, key=lambda peer: (-self._failures[peer], fitting[peer].head.header.height, -peer))
        self.download = Download(peer, fitting[peer], ask_at_ms=now_ms, begun_ms=now_ms)

    def request(self, height: int, now_ms: int) -> tuple[int, ChunkRequest] | None:
        """What to ask whom now."""
        download = self.download
        if download is None or download.complete:
            return None
        if download.height <= height or download.is_hopeless(now_ms):
            self._give_up()
            return None
        if now_ms < download.ask_at_ms:
            return None
        download.attempts += 1
        download.ask_at_ms = now_ms + RETRY_MS
        return download.peer, ChunkRequest(download.height, download.taken)

    def on_chunk(self, peer: int, message: Chunk, now_ms: int) -> Sequence[Effect]:
        """Save what came, and have it checked when all of it is here.

        Raises:
            RemoteError: See :meth:`receive`.
        """
        pieces = self.receive(peer, message, now_ms)
        if not pieces or self.download is None:
            return ()
        save = SaveSnapshot(pieces, begins=message.first == 0)
        return (save, CheckSnapshot(self.download.height)) if self.download.complete else (save,)

    def on_checked(self, event: SnapshotChecked, height: int) -> Sequence[Effect]:
        """It is the ledger, and we go on from it, unless we have come as far by ourselves; or its sender lied."""
        download = self.download
        if download is None or not download.complete or download.height != event.height:
            return ()
        if event.fault is None and event.height > height:
            return (InstallSnapshot(event.height),)
        if event.fault is None:
            self._give_up()  # blocks were on their way; installed, it would lie below what our journal goes on from
            return ()
        return (Misbehaved(self.refuse(), f"its snapshot of height {event.height}: {event.fault}"),)

    def wake_ms(self) -> int | None:
        """Monotonic time of the next question."""
        return None if self.download is None or self.download.complete else self.download.ask_at_ms

    def receive(self, peer: int, chunk: Chunk, now_ms: int) -> Sequence[bytes]:
        """The new pieces in an answer, to be saved behind those before; the first ones with the head before them.

        Raises:
            RemoteError: They are more than what was offered, or than what one answer holds. That snapshot is not
                fetched any further.
        """
        download = self.download
        if download is None or (peer, chunk.height, chunk.first) != (download.peer, download.height, download.taken):
            return ()  # asked for twice, since it was late
        if not chunk.pieces:
            self._give_up()  # it has a newer one
            return ()
        fresh = sum(map(len, chunk.pieces))
        if len(chunk.pieces) > 1 and fresh > CHUNK_BYTES:
            self._give_up(false=True)
            raise RemoteError(f"{fresh} bytes of a snapshot in one answer; more than {CHUNK_BYTES} only as one piece")
        taken, size = download.taken + len(chunk.pieces), download.taken_bytes + fresh
        pieces, size_bytes = download.offer.pieces, download.offer.size_bytes
        if taken > pieces or size > size_bytes or (taken == pieces and size != size_bytes):
            self._give_up(false=True)
            raise RemoteError(
                f"a snapshot of {pieces} pieces and {size_bytes} bytes was offered, {taken} pieces have {size}"
            )
        first = download.taken == 0
        download.taken, download.taken_bytes = taken, size
        download.attempts, download.ask_at_ms = 0, now_ms + PACE_MS
        return (encode(download.offer.head), *chunk.pieces) if first else chunk.pieces

    def refuse(self) -> int:
        """What came is not what was certified: never fetch from its sender again. Who that is."""
        assert self.download is not None, "only what is complete is checked"
        peer = self.download.peer
        self._give_up(false=True)
        return peer

    def _give_up(self, *, false: bool = False) -> None:
        assert self.download is not None
        peer, self.download = self.download.peer, None
        self._offers.pop(peer, None)
        self._failures[peer] += 1
        if false:
            self._liars.add(peer)


def chunk(height: int, first: int, pieces: Sequence[bytes]) -> Chunk:
    """The answer to a question for pieces from number `first` on: as many of these as fit."""
    size, taken = 0, 0
    for piece in pieces:
        size += len(piece)
        if taken and size > CHUNK_BYTES:
            break
        taken += 1
    return Chunk(height, first, tuple(pieces[:taken]))


def offer_of(published: Published) -> SnapshotOffer:
    """What a peer is told of our newest checkpoint."""
    return SnapshotOffer(published.head, published.pieces, published.size_bytes)

"""What a replica answers to the questions of its peers: batches, final blocks, pieces of its newest checkpoint.

Safety: nothing is answered that the asker would have to believe: all of it is named by a hash or under a certificate.

Each peer has an allowance, and what it asks beyond that stays unanswered (`layer1.replica.serving`). Recent blocks come
from memory, older ones from storage. Who is far behind a checkpoint and would rather start from it, or asks for blocks
that are pruned, is offered that instead (`layer1.replica.snapshots`).

Source: docs/design/consensus.md, "Catching up, joining, leaving"; decisions 016 and 027.
"""

from __future__ import annotations

from collections.abc import Sequence

from layer1.codec import encode
from layer1.consensus.events import Now
from layer1.crypto import Hash
from layer1.replica import events
from layer1.replica.application import Application
from layer1.replica.batches import BatchStore
from layer1.replica.catchup import RecentBlocks, answer
from layer1.replica.checkpoints import Checkpoints
from layer1.replica.events import Effect
from layer1.replica.messages import BatchData, BlocksRequest, ChunkRequest, LinkMessage
from layer1.replica.serving import Allowances, Loads
from layer1.replica.snapshots import chunk, offer_of


class Answering:
    """Questions in, effects out."""

    def __init__(
        self, application: Application, batches: BatchStore, recent: RecentBlocks, checkpoints: Checkpoints
    ) -> None:
        self.allowances = Allowances()
        self.loads = Loads()
        self._application = application
        self._batches = batches
        self._recent = recent
        self._checkpoints = checkpoints

    def may_ask(self, peer: int, now: Now) -> bool:
        """Count a question; False if this peer has asked so much lately that it stays unanswered."""
        if not self.allowances.has(peer, now.monotonic_ms):
            return False
        self.allowances.use(peer, 0, now.monotonic_ms)
        return True

    def serve(self, peer: int, message: LinkMessage, now: Now) -> Effect:
        """Answer a question; it counts towards what this peer may ask for."""
        data = encode(message)
        self.allowances.use(peer, len(data), now.monotonic_ms)
        return events.Transmit(peer, data)

    def on_fetch(self, peer: int, digest: Hash, now: Now) -> Sequence[Effect]:
        """A peer lacks a batch."""
        if not self.may_ask(peer, now):
            return ()
        held = self._batches.get(digest)
        good = held.encoded if held is not None and held.good else None
        encoded = good or self._recent.batch(digest) or self._application.batch(digest)
        return () if encoded is None else (self.serve(peer, BatchData(encoded), now),)

    def on_blocks_request(self, peer: int, request: BlocksRequest, now: Now) -> Sequence[Effect]:
        """A peer lacks final blocks."""
        if not self.may_ask(peer, now):
            return ()
        first = request.first
        published = self._checkpoints.offered_from(first) if request.snapshot else None
        if published is not None:
            return (self.serve(peer, offer_of(published), now),)
        recent = self._recent.from_height(first)
        if recent is not None:
            return (self.serve(peer, answer(recent, first), now),)
        return (events.LoadBlocks(peer, first),) if self.loads.ask(peer, first) else ()

    def on_read(self, event: events.Loaded | events.ChunkLoaded, now: Now) -> Sequence[Effect]:
        """What a peer asked for was read from the disk."""
        if isinstance(event, events.Loaded):
            return self.on_loaded(event, now)
        return (self.serve(event.peer, chunk(event.height, event.first, event.pieces), now),)

    def on_loaded(self, event: events.Loaded, now: Now) -> Sequence[Effect]:
        """Storage has looked for blocks."""
        wanted = self.loads.loaded(event.peer, event.first)
        if wanted == event.first:
            return (self.serve(event.peer, self._answer_loaded(event), now),)
        return () if wanted is None else (events.LoadBlocks(event.peer, wanted),)

    def on_chunk_request(self, peer: int, request: ChunkRequest, now: Now) -> Sequence[Effect]:
        """A peer fetches a checkpoint."""
        return (events.LoadChunk(peer, request.height, request.first),) if self.may_ask(peer, now) else ()

    def _answer_loaded(self, event: events.Loaded) -> LinkMessage:
        """The blocks; or, if they are pruned, what one starts from without them."""
        blocks, published = event.blocks, self._checkpoints.published
        pruned = not blocks or blocks[0].header.height > event.first
        if pruned and published is not None and published.height >= event.first:
            return offer_of(published)
        return answer(() if pruned else blocks, event.first)

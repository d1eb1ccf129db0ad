"""Whose batches wait here, how many of each, and whose turn it is in the next block.

Safety: however much one replica packs, each other one has its part of every block that an honest leader builds, and of
the room that its batches wait in.

A batch carries no signature of its packer, so it counts for the peer that it came from: as the peer's *own* if it says
that this peer packed it, as *relayed* otherwise. Nobody can put anything into the own share of somebody else, and
what an honest peer passes on of others takes nothing of its own. Relayed ones, whoever they are from, have one turn
together. Disputes and all else have shares of their own: the backlog of transfers of a busy replica keeps out none of
its reports.

Without turns, one replica with 2,000 batches of disputes about nothing, which cost it no money, held every honest
report back for minutes: longer than short challenge periods (groups.md, rule 18).

Source: docs/design/consensus.md, "Mempool and batches"; decision 020.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from layer1.crypto import Hash
from layer1.errors import Untimely
from layer1.replica.shares import Room

RELAYED = -1
"""Stands for a source: of what peers pass on."""


class Waiting(Protocol):
    """A batch that waits here."""

    digest: Hash
    encoded: bytes
    packer: int
    source: int
    weight: int
    room: Room


B = TypeVar("B", bound=Waiting)
Kind = tuple[int, bool, Room]
"""From which peer, whether relayed, and of what."""


class Share(NamedTuple):
    """Room for the batches of one peer."""

    batches: int
    bytes: int
    """Encoded."""


MAX_HELD = Share(2_000, 64 * 2**20)
"""That a peer may have waiting here of its own, but disputes and preimages."""
MAX_HELD_BESIDES = Share(500, 16 * 2**20)
"""The same of disputes; of preimages; of what it relays, of each of the three."""


class PeerShares:
    """How much each peer has here."""

    def __init__(self) -> None:
        self._count: Counter[Kind] = Counter()
        self._bytes: Counter[Kind] = Counter()

    def check(self, source: int, size: int) -> None:
        """Refuse a batch of which nothing is known but its size, if it finds room in none of its peer's shares.

        Raises:
            Untimely: They are full. That is seen before anything is decoded.
        """
        kinds = [(source, relayed, room) for relayed in (False, True) for room in Room]
        if all(self._refusal(kind, size) for kind in kinds):
            raise Untimely(self._refusal(kinds[0], size))

    def check_kind(self, kind: Kind, size: int) -> None:
        """Refuse a batch for which the share of its kind has no room.

        Raises:
            Untimely: It has none.
        """
        if why := self._refusal(kind, size):
            raise Untimely(why)

    def take(self, batch: Waiting) -> None:
        """It waits here."""
        self._count[_kind(batch)] += 1
        self._bytes[_kind(batch)] += len(batch.encoded)

    def leave(self, batch: Waiting) -> None:
        """It waits no longer."""
        self._count[_kind(batch)] -= 1
        self._bytes[_kind(batch)] -= len(batch.encoded)

    def _refusal(self, kind: Kind, size: int) -> str:
        """Why not; empty if there is room."""
        source, relayed, room = kind
        most = MAX_HELD_BESIDES if relayed or room is not Room.TRANSACTIONS else MAX_HELD
        count, total = self._count[kind] + 1, self._bytes[kind] + size
        if count <= most.batches and total <= most.bytes:
            return ""
        return (
            f"replica {source} would have {count} batches of {total} bytes waiting here; at most {most.batches} of "
            f"{most.bytes} may; announce it again when some of them are final"
        )


class Lane(Generic[B]):
    """Good batches of one kind, in the order in which they became so, which is nearly that of their arrival."""

    def __init__(self) -> None:
        self._batches: dict[Hash, B] = {}
        self._queues: dict[int, dict[Hash, B]] = {}
        """By who has its turn with them; none is empty."""

    def __iter__(self) -> Iterator[B]:
        return iter(self._batches.values())

    def add(self, batch: B) -> None:
        """Behind those that are here."""
        self._batches[batch.digest] = batch
        self._queues.setdefault(_queue(batch), {})[batch.digest] = batch

    def drop(self, digest: Hash) -> None:
        """It leaves, if it is here."""
        batch = self._batches.pop(digest, None)
        if batch is not None:
            queue = self._queues[_queue(batch)]
            del queue[digest]
            if not queue:
                del self._queues[_queue(batch)]

    def shared_out(self, turn: int) -> Iterator[B]:
        """Each queue in its order, so that at any point all that go on have given about the same weight.

        Args:
            turn: Number of the block: who begins goes round, or somebody's batches might never fit beside others'.
        """
        sources = sorted(self._queues)
        start = turn % len(sources) if sources else 0
        queues = [iter(self._queues[source].values()) for source in (*sources[start:], *sources[:start])]
        heap = [(0, rank, next(queue), queue) for rank, queue in enumerate(queues)]
        while heap:
            given, rank, batch, queue = heap[0]
            yield batch
            following = next(queue, None)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (given + batch.weight, rank, following, queue))


def _kind(batch: Waiting) -> Kind:
    return batch.source, batch.packer != batch.source, batch.room


def _queue(batch: Waiting) -> int:
    return batch.source if batch.packer == batch.source else RELAYED

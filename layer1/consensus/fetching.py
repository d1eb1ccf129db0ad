"""What this replica lacks and whom it asks: one peer at a time, again after t_r, each time the next one.

Safety: none is needed; whatever comes back is checked like anything else.

Source: docs/design/consensus.md, rule 3 ("fetch and wait with the timers running").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from layer1.consensus.messages import Fetch, View
from layer1.header import BlockId

MAX_WANTS = 256
"""More than any ancestry worth fetching block by block: further behind, whole final blocks are fetched instead."""


@dataclass(slots=True)
class _Want:
    fetch: Fetch
    bound: View
    """What is wanted is of no view above this one: once that is final, nothing is wanted."""
    peer: int
    due_ms: int


class Wants:
    """Outstanding requests of replica ``index`` of ``replicas``."""

    def __init__(self, replicas: int, index: int, again_ms: int) -> None:
        self._replicas = replicas
        self._index = index
        self._is_alone = replicas == 1 and index == 0
        self._again_ms = again_ms
        self._wants: dict[BlockId | View, _Want] = {}

    def block(self, block: BlockId, bound: View, peer: int, due_ms: int) -> None:
        """Want the proposal of ``block``; ask ``peer`` first, at ``due_ms``."""
        self._add(block, _Want(Fetch(block, 0, 0), bound, peer, due_ms))

    def views(self, first: View, last: View, peer: int, due_ms: int) -> bool:
        """Want the certificates of these views; False if they are wanted already."""
        return self._add(first, _Want(Fetch(None, first, last), last, peer, due_ms))

    def _add(self, key: BlockId | View, want: _Want) -> bool:
        if key in self._wants or len(self._wants) >= MAX_WANTS or self._is_alone:
            return False
        self._wants[key] = want
        return True

    def due(self, now_ms: int, lacking: Callable[[Fetch], bool], floor: View) -> list[tuple[int, Fetch]]:
        """Whom to ask now for what; what has come meanwhile, or is below ``floor``, is forgotten."""
        asks: list[tuple[int, Fetch]] = []
        for key, want in list(self._wants.items()):
            if want.bound <= floor or not lacking(want.fetch):
                del self._wants[key]
            elif want.due_ms <= now_ms:
                peer = (want.peer + 1) % self._replicas if want.peer == self._index else want.peer
                asks.append((peer, want.fetch))
                want.peer, want.due_ms = (peer + 1) % self._replicas, now_ms + self._again_ms
        return asks

    @property
    def next_ms(self) -> int | None:
        """When something is due."""
        return min((want.due_ms for want in self._wants.values()), default=None)

    def __len__(self) -> int:
        return len(self._wants)

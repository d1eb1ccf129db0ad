"""Whether there is something to order that no block on its way holds: what makes consensus work (rule 9).

Source: docs/design/consensus.md, rules 6 and 9; docs/design/groups.md, rule 11 (deadlines).
"""

from __future__ import annotations

from collections.abc import Collection

from layer1.consensus.core import Consensus
from layer1.consensus.events import Now, WorkChanged
from layer1.crypto import Hash
from layer1.header import BlockId
from layer1.replica.application import Application, Executed
from layer1.replica.batches import BatchStore, Held


class WorkWatch:
    """Compares what is pending with the block that the next one most likely extends."""

    def __init__(self, application: Application, batches: BatchStore) -> None:
        self._application = application
        self._batches = batches
        self._tip: Executed | None = None
        self._head: tuple[BlockId, BlockId] | None = None
        """The block that the next one most likely extends, and the floor."""
        self._included: Collection[Hash] = ()
        self._version = -1
        self._told: tuple[bool, int | None] = (False, None)
        self._dispute: Held | None = None
        self._ordinary: Held | None = None
        """The oldest of their kinds of the batches that no block on its way holds."""
        self._no_room_ms = 0
        """Monotonic time of the last block that had no room for the ordinary one."""
        self._due_wall_ms: int | None = None

    def executed(self, executed: Executed) -> None:
        """A block was built or validated here."""
        if self._tip is None or executed.header.view > self._tip.header.view:
            self._tip = executed

    @property
    def oldest_ms(self) -> int | None:
        """Monotonic time at which the oldest batch arrived that no block on its way holds."""
        waiting = (self._dispute, self._ordinary)
        return min((held.arrived_ms for held in waiting if held is not None), default=None)

    def news(self, consensus: Consensus, now: Now) -> tuple[WorkChanged, ...]:
        """What consensus does not know yet; one item or none.

        It goes before the answer to `Build`, or a leader of several views would fill them with empty blocks.
        """
        tip, chain = self._tip, consensus.chain
        alive = tip is not None and (tip.header.view >= consensus.view or tip.id in chain.certified_views)
        head = tip.id if tip is not None and alive else chain.tip.id
        moved = self._head != (head, self._application.floor.id)
        if moved:
            self._head = head, self._application.floor.id
            self._included = self._application.included(head)
            self._due_wall_ms = self._due(head)
        if moved or self._version != self._batches.version:
            self._version = self._batches.version
            self._dispute, self._ordinary = self._batches.oldest(self._included)
        if moved:
            self._look_for_room(head, now)
        due = self._due_wall_ms is not None and now.wall_ms >= self._due_wall_ms
        passed_ms = self._passed_over_ms()
        told = (passed_ms is not None or due, passed_ms)
        if told == self._told:
            return ()
        self._told = told
        return (WorkChanged(*told),)

    def wake_ms(self, now: Now) -> int | None:
        """Monotonic time at which the next deadline falls due."""
        if self._due_wall_ms is None or now.wall_ms >= self._due_wall_ms:
            return None
        return now.monotonic_ms + self._due_wall_ms - now.wall_ms

    def _passed_over_ms(self) -> int | None:
        """Since when leaders leave something out that they had room for; None if nothing waits.

        Every block has room for a dispute: it goes before all else, and challenge periods reckon with the inclusion
        timeout (groups.md, rule 18). Other disputes are no excuse, or a leader could fill its blocks with its own.
        """
        passed: list[int] = []
        if self._dispute is not None:
            passed.append(self._dispute.arrived_ms)
        if self._ordinary is not None:
            passed.append(max(self._ordinary.arrived_ms, self._no_room_ms))
        return min(passed, default=None)

    def _look_for_room(self, head: BlockId, now: Now) -> None:
        """Hold it against no leader that a full block leaves something out: rule 6, "while blocks had room".

        A leader that fills blocks with what is younger is bounded by the longest term.
        """
        block, oldest = self._application.get(head), self._ordinary
        if block is None or oldest is None:
            return
        if not self._application.had_room(block, len(oldest.transactions), oldest.weight):
            self._no_room_ms = now.monotonic_ms

    def _due(self, head: BlockId) -> int | None:
        """Wall time at which a block on `head` would settle a group at its deadline (rule 11 of groups.md)."""
        header = self._application.header_of(head)
        if header is None:
            head, header = self._application.floor.id, self._application.floor.header
        deadline = self._application.state_after(head).next_deadline()
        return None if deadline is None else header.wall_time + max(0, deadline - header.clock)

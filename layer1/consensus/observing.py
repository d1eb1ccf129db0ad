"""What a replica sees of the others, counted for operators: who is slow, who is silent, and why views end.

Safety: none is needed; nothing here is ever asked by the protocol, and nothing of it is journaled.

A vote's delay is counted from the first notarize vote of its view that was seen here, which is the leader's proposal as
a rule: so it holds the network, the other's execution and its disk, and no clock but ours. Votes are counted when they
come over the link of the replica that cast them, also those that come too late to add to anything: the slow one's do.
Only views near ours count, so nobody fills the memory with others.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from layer1.consensus.messages import View

WINDOW_VIEWS = 64
"""Views before ours in which late votes still count."""


class Why(StrEnum):
    """Why this replica gave up on a leader (rules 3, 6 and 8)."""

    TIMEOUT = "timeout"
    """The view took too long."""
    INVALID = "invalid"
    """The proposal is invalid."""
    SILENT = "silent"
    """The leader said nothing for r views, while others did."""
    LONG_TERM = "long_term"
    """The term outlasts ``max_term``."""
    PASSED_OVER = "passed_over"
    """A transaction waited although blocks had room."""
    STALLED = "stalled"
    """A notarized block does not become final."""


class Observations:
    """Counters of one replica. Times are monotonic milliseconds."""

    def __init__(self, replicas: int) -> None:
        self.heard_ms: list[int | None] = [None] * replicas
        """By replica, when a message of consensus came from it last; None if none did since the start."""
        self.votes = [0] * replicas
        """By replica, notarize votes that came from it in time to be seen, one a view."""
        self.delay_ms = [0] * replicas
        """By replica, the sum of their delays."""
        self.nullified: Counter[tuple[Why, int]] = Counter()
        """Own nullify votes, by reason and the leader of the view."""
        self.nullified_view: dict[tuple[Why, int], View] = {}
        """The newest view of each of them."""
        self.nullifications: Counter[int] = Counter()
        """Terms that a quorum nullified, by their leader."""
        self._views: dict[View, tuple[int, set[int]]] = {}
        """Of each view near ours, when its first vote came, and whose came since."""

    def hear(self, replica: int, now_ms: int) -> None:
        """It said something."""
        self.heard_ms[replica] = now_ms

    def give_up(self, why: Why, leader: int, view: View) -> None:
        """We cast a nullify vote from this view on."""
        self.nullified[why, leader] += 1
        self.nullified_view[why, leader] = view

    def vote(self, replica: int, view: View, current: View, now_ms: int) -> None:
        """Its notarize vote came, or was cast."""
        if not max(0, current - WINDOW_VIEWS) < view < current + WINDOW_VIEWS:
            return
        if view not in self._views:
            for old in [known for known in self._views if known <= current - WINDOW_VIEWS]:
                del self._views[old]
            self._views[view] = now_ms, set()
        first_ms, voters = self._views[view]
        if replica in voters:
            return  # said again (rule 10)
        voters.add(replica)
        self.votes[replica] += 1
        self.delay_ms[replica] += now_ms - first_ms

"""What a replica's consensus core must know before it starts; relations between the numbers are checked here.

Source: docs/design/consensus.md, "Model", "Rules", "Time".
"""

from __future__ import annotations

from dataclasses import dataclass

from layer1.consensus import quorum
from layer1.consensus.quorum import FaultModel
from layer1.crypto import PUBLIC_KEY_BYTES, Hash, PublicKey

MIN_WINDOW = 8
"""Fewest views to buffer ahead and to keep behind: a replica one message behind must never be refused."""


@dataclass(frozen=True, slots=True)
class Config:
    """One epoch's constants. The first group must be equal on all replicas; times are milliseconds."""

    chain_id: Hash
    """Part of everything that is signed."""
    epoch: int
    replicas: tuple[PublicKey, ...]
    """Replica i signs with key i."""
    replica_set: Hash
    """What every header of this epoch names."""
    fault_model: FaultModel = "byzantine"
    term_views: int = 1
    """L: views in a row that one replica leads."""
    drift_bound_ms: int = 2_000
    max_step_ms: int = 60_000
    heartbeat_ms: int = 10_000
    view_timeout_ms: int = 1_000
    """First timeout of a view; doubles with each nullified term."""

    max_view_timeout_ms: int = 30_000
    """The bound of that doubling: long enough for any network that may be called partly synchronous."""
    rebroadcast_ms: int = 250
    """t_r: several round trips, well below a view timeout, so that a lost message does not cost a view."""
    stall_timeout_ms: int = 2_000
    """Rule 8: how long a notarized view of this term may stay unfinal."""
    inclusion_timeout_ms: int = 10_000
    """Rule 6: how long a leader may leave a transaction out."""
    max_term_ms: int = 60_000
    """Rule 6: how long a term may last while there is work; only for terms of several views."""
    silent_views: int = 3
    """r of rule 6. Not above n, or a dead leader of one-view terms costs a timeout each time it comes round."""
    ahead_views: int = 128
    """Rule 10: votes and proposals are buffered this far ahead, one of each kind per replica and view."""
    keep_views: int = 128
    """Blocks and certificates are kept this far below the last final block, for peers that are a little behind."""
    carried_certificates: int = 64
    """Most certificates in one proposal or one answer; the rest is fetched."""

    def __post_init__(self) -> None:
        if not self.replicas or len(set(self.replicas)) != len(self.replicas):
            raise ValueError(f"replicas: {len(set(self.replicas))} different keys among {len(self.replicas)}")
        if any(len(key) != PUBLIC_KEY_BYTES for key in self.replicas):
            raise ValueError(f"replicas: every key has {PUBLIC_KEY_BYTES} bytes")
        if self.term_views < 1:
            raise ValueError(f"term_views is {self.term_views}; a term has at least one view")
        for name in ("rebroadcast_ms", "heartbeat_ms", "silent_views"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, below 1")
        for name in ("ahead_views", "keep_views", "carried_certificates"):
            if getattr(self, name) < MIN_WINDOW:
                raise ValueError(f"{name} is {getattr(self, name)}, below {MIN_WINDOW}")
        self._not_above("rebroadcast_ms", "view_timeout_ms")
        self._not_above("view_timeout_ms", "max_view_timeout_ms")
        self._not_above("view_timeout_ms", "stall_timeout_ms")
        self._not_above("view_timeout_ms", "inclusion_timeout_ms")
        self._not_above("max_view_timeout_ms", "max_term_ms")
        needed = self.heartbeat_ms + (self.faulty + 1) * self.view_timeout_ms
        if self.max_step_ms < needed:
            raise ValueError(
                f"max_step_ms is {self.max_step_ms}, below heartbeat + (f+1) view timeouts = {needed}: "
                "the ledger clock would fall behind for ever"
            )

    def _not_above(self, low: str, high: str) -> None:
        if getattr(self, low) > getattr(self, high):
            raise ValueError(f"{low} is {getattr(self, low)}, above {high} = {getattr(self, high)}")

    @property
    def faulty(self) -> int:
        """f: the most replicas that may fail."""
        return quorum.faulty(len(self.replicas), self.fault_model)

    @property
    def liars(self) -> int:
        """The most replicas that may lie: one more of them that say the same are to be believed."""
        return quorum.liars(len(self.replicas), self.fault_model)

    @property
    def quorum(self) -> int:
        """q: votes in a certificate."""
        return quorum.quorum(len(self.replicas), self.fault_model)

    def leader(self, view: int) -> int:
        """Index of the replica that proposes in ``view``."""
        return quorum.leader(view, len(self.replicas), self.term_views)

    def term(self, view: int) -> int:
        """Term of ``view``."""
        return quorum.term_of(view, self.term_views)

    def first_view(self, view: int) -> int:
        """First view of the term of ``view``."""
        return quorum.first_view(self.term(view), self.term_views)

    def last_view(self, view: int) -> int:
        """Last view of the term of ``view``."""
        return quorum.last_view(self.term(view), self.term_views)

"""Generations of journals: the highest that was seen of each peer's, and whether ours is an old copy.

Safety: who runs on an old copy of its journal, and so may have forgotten votes, gets no link here.

Source: docs/design/consensus.md, "Persist before sending"; decision 015.
"""

from __future__ import annotations

from layer1.codec import encode
from layer1.errors import LocalError
from layer1.replica.messages import Standing
from layer1.replica.rejoin import REJOINING


class Generations:
    """What this replica knows of journals."""

    def __init__(self, liars: int) -> None:
        """Begin.

        Args:
            liars: The most replicas that may lie, see :func:`layer1.consensus.quorum.liars`.
        """
        self.own = 1
        """Of our journal."""
        self.peers: dict[int, int] = {}
        """The highest seen of each peer's."""
        self.liars = liars
        self._outdated_by: set[int] = set()
        """Peers that saw a higher generation of our journal."""

    def greet(self, peer: int, generation: int) -> bool:
        """A peer greets with this generation; whether it is one to remember."""
        if generation <= self.peers.get(peer, 0):
            return False
        self.peers[peer] = generation
        return True

    def refuse(self, peer: int, generation: int) -> bytes | None:
        """What to tell a peer that greets with this generation and gets no link; None if it gets one."""
        known = self.peers.get(peer, 0)
        if generation == REJOINING or generation >= known:
            return None
        return encode(Standing(known, 0, ()))

    def hear(self, peer: int, report: Standing) -> None:
        """More peers than may lie saw a newer journal of ours: this one is an old copy.

        Of three replicas with omission faults a single one may be there to say so, and need not be doubted.

        Raises:
            LocalError: It must not be used.
        """
        if report.generation <= self.own:
            self._outdated_by.discard(peer)
            return
        self._outdated_by.add(peer)
        if len(self._outdated_by) > self.liars:
            raise LocalError(
                f"this replica runs on an old copy of its journal: it has generation {self.own}, the replicas "
                f"{sorted(self._outdated_by)} saw a later one. What it signed since is not known here. Put the newest "
                "journal back, or start with --rejoin: then it asks its peers, and votes again where it cannot have "
                "voted before"
            )

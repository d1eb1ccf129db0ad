"""What a replica keeps of the ledger's past, as its operator chose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HistoryPolicy:
    """How many blocks stay on the disk, and what a replica does that is far behind."""

    keep_blocks: int = 0
    """How many blocks stay in the database below the newest checkpoint; older ones are deleted, for good. 0: all. What
    no replica keeps, nobody can look up any more: let some of a ledger's replicas keep all."""
    start_from_snapshot: bool = True
    """When far behind, take the state from a peer, verified against what a quorum signed, and go on from there without
    the blocks below. false: fetch and execute every block for as long as a peer has them."""

    def __post_init__(self) -> None:
        if self.keep_blocks < 0:
            raise ValueError(f"history.keep_blocks is {self.keep_blocks}; write how many to keep, or 0 for all")

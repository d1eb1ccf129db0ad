"""The block header: everything that a certificate of layer 1 vouches for.

Source: docs/design/consensus.md, "Objects"; architecture.md, "Time".
"""

from __future__ import annotations

from layer1.codec import Struct, encode
from layer1.crypto import Domain, Hash, digest

BlockId = Hash
"""BLAKE2b-256 of the encoded header, 32 bytes."""


class Header(Struct):
    """One block of the chain. Its roots are those *after* executing it."""

    epoch: int
    """Which replica set signs; 0 until the set changes."""
    view: int
    """View of the proposal; genesis is view 0, numbers never restart."""
    height: int
    """Number of ancestors; genesis is height 0."""
    parent: BlockId
    clock: int
    """Ledger clock, ms: ``parent.clock + clamp(wall_time - parent.wall_time, 0, max_step)``."""
    wall_time: int
    """The leader's clock, ms since 1970, never below the parent's."""
    batches_root: Hash
    """`merkle.list_root` of the batch digests, in the order of execution."""
    transactions_root: Hash
    """`merkle.list_root` of the ids of the executed transactions, in order."""
    state_root: Hash
    """Root of accounts, groups and replica set."""
    outputs_root: Hash
    """`merkle.list_root` of the hashed outputs, in the order of the transactions."""
    replica_set: Hash
    """Hash of the replica set that certifies this block."""

    @property
    def id(self) -> BlockId:
        """What votes and children name."""
        return digest(Domain.HEADER, encode(self))

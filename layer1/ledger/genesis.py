"""Genesis: the one thing that everybody must have and trusts; its hash is the chain id.

Source: docs/design/consensus.md, "Model" and "Time".
"""

from __future__ import annotations

from typing import Literal

from layer1.codec import Struct, encode
from layer1.crypto import Domain, Hash, PublicKey, digest

MAX_MONEY = 2**53 - 1
"""All money there may be, minor units: JSON readers in every language agree on integers up to here."""


class Currency(Struct):
    """What the minor units mean to people."""

    symbol: str
    """Two to eight capital letters, such as ``WDG``."""
    decimals: int
    """Digits behind the point, 0 to 8: 250 minor units with 2 decimals read 2.50."""


class Allocation(Struct):
    """Money that an account has from the start."""

    address: PublicKey
    amount: int
    """Minor units."""


class Parameters(Struct):
    """What all replicas must agree on. Times are milliseconds."""

    drift_bound_ms: int = 2_000
    """How far a leader's wall time may be ahead of, or behind, a voter's."""
    max_step_ms: int = 60_000
    """Most that the ledger clock advances in one block; at least heartbeat + (f+1) view timeouts."""
    heartbeat_ms: int = 10_000
    """An idle ledger makes an empty block this often."""
    view_timeout_ms: int = 1_000
    """First timeout of a view; doubles with each nullified term, up to a bound."""
    max_valid_ms: int = 600_000
    """How far ahead `valid_until` may lie, and so how long an id is remembered at most."""
    min_challenge_ms: int = 1_000
    max_challenge_ms: int = 90 * 24 * 3_600_000
    max_members: int = 16
    due_per_block: int = 1_000
    """Groups settled at their deadline per block; the rest is carried over in order."""
    max_block_transactions: int = 5_000
    max_transaction_bytes: int = 16_384
    term_views: int = 1
    """L: views in a row that one replica leads."""


class Genesis(Struct):
    """The first state of a chain."""

    name: str
    salt: bytes
    """16 random bytes, so that two ledgers of one configuration are two chains."""
    currency: Currency
    allocations: tuple[Allocation, ...]
    replicas: tuple[PublicKey, ...]
    """Replica i signs with key i."""
    fault_model: Literal["byzantine", "omission"]
    wall_time: int
    """Milliseconds since 1970; the genesis header's wall time. The ledger clock starts at 0."""
    parameters: Parameters = Parameters()

    @property
    def chain_id(self) -> Hash:
        """Hash of the whole genesis; part of everything that is signed."""
        return digest(Domain.GENESIS, encode(self))

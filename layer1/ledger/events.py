"""What a block did, for indexes and for readers who follow along. Not hashed, not signed: the records are the truth.

Source: docs/design/architecture.md, "Packages and the direction of imports".
"""

from __future__ import annotations

from layer1.codec import Struct
from layer1.crypto import Hash, PublicKey
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.records import Mark, Reason
from layer1.ledger.replicas import ReplicaSet


class AccountChanged(Struct, tag="account"):
    """An account's balance after the block differs from the one before it. One per account and block."""

    address: PublicKey
    balance: int
    """Minor units, after the block."""


class GroupOpened(Struct, tag="opened"):
    """Deposits and bonds are locked."""

    group_id: Hash
    transaction_id: Hash


class GroupChanged(Struct, tag="changed"):
    """An open group goes on in its next epoch, at version 0 (rules 24 and 25)."""

    group_id: Hash
    transaction_id: Hash
    epoch: int
    """The new one."""
    agreement: GroupAgreement
    """Its own: with the new allocation, and whoever is in it now."""


class GroupWedged(Struct, tag="wedged"):
    """The challenge period runs: whoever holds a higher version reports it before the deadline."""

    group_id: Hash
    transaction_id: Hash
    member: int
    """Index of the member whose claim wedged it."""
    version: int
    """Of the certificate that came with the wedge."""
    deadline_ms: int


class GroupReported(Struct, tag="reported"):
    """A wedged group's record changed: a higher version, a claim that counts, or a forfeit."""

    group_id: Hash
    transaction_id: Hash
    version: int
    """Highest accepted version now."""
    claimed: tuple[int, ...]
    """Members whose claim began to count."""
    forfeited: tuple[int, ...]
    """Members whose bond was forfeited."""


class GroupClosed(Struct, tag="closed"):
    """A group is paid out."""

    group_id: Hash
    transaction_id: Hash | None
    """None when the deadline did it."""
    reason: Reason
    version: int
    """Highest version accepted; it decided the payout unless the reason is ``final``."""
    payouts: tuple[int, ...]
    """Minor units per member."""


class ReplicaMarked(Struct, tag="marked"):
    """A replica was shown to have contradicted itself."""

    mark: Mark


class ReplicasChanged(Struct, tag="replicas"):
    """The block is the last of its epoch: it is the boundary to this set."""

    transaction_id: Hash
    replica_set: ReplicaSet


GroupEvent = GroupOpened | GroupChanged | GroupWedged | GroupReported | GroupClosed

Event = AccountChanged | GroupEvent | ReplicaMarked | ReplicasChanged

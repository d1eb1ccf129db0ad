"""What a block did, for indexes and for readers who follow along. Not hashed, not signed: the records are the truth.

Source: docs/design/architecture.md, "Packages and the direction of imports".
"""

from __future__ import annotations

from layer1.codec import Struct
from layer1.crypto import Hash, PublicKey
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.records import Bounty, ClosedLock, Mark, Reason
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
    """Index of the member whose claim or plea wedged it."""
    version: int
    """Of the certificate that came with the wedge; 0 with a plea."""
    deadline_ms: int | None
    """None in a witnessed group without a timeout."""


class GroupReported(Struct, tag="reported"):
    """A wedged group's record changed: a higher version, a claim that counts, a plea, a forfeit, a body."""

    group_id: Hash
    transaction_id: Hash | None
    """None when a deadline did it."""
    version: int
    """Highest accepted version now."""
    claimed: tuple[int, ...]
    """Members whose claim began to count."""
    forfeited: tuple[int, ...]
    """Members whose bond was forfeited."""
    deadline_ms: int | None
    """Ledger clock at which the next thing happens by itself, from now on."""
    revealing: Reason | None
    """Why the dispute is over, if the group waits for its body."""


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
    bounties: tuple[Bounty, ...] = ()
    """What delegates got."""
    locks: tuple[ClosedLock, ...] = ()
    """Of the state that it was closed on: those that are paid now, and those that pend."""


class LocksPaid(Struct, tag="locks"):
    """Locks of a closed group went to somebody: their preimage was registered in time, or their time is over."""

    group_id: Hash
    version: int
    """Of the state that they are of."""
    locks: tuple[ClosedLock, ...]
    """Those that did."""


class PreimageRegistered(Struct, tag="preimage"):
    """The ledger knows a preimage."""

    hash: Hash
    """SHA-256 of it."""
    transaction_id: Hash


class ReplicaMarked(Struct, tag="marked"):
    """A replica was shown to have contradicted itself."""

    mark: Mark


class ReplicasChanged(Struct, tag="replicas"):
    """The block is the last of its epoch: it is the boundary to this set."""

    transaction_id: Hash
    replica_set: ReplicaSet


GroupEvent = GroupOpened | GroupChanged | GroupWedged | GroupReported | GroupClosed | LocksPaid

Event = AccountChanged | GroupEvent | PreimageRegistered | ReplicaMarked | ReplicasChanged

"""What the ledger keeps, and where it stands in the authenticated tree.

Each record has one key in the tree and one value there, the hash of its encoding; an account without money has no
leaf, nor has a replica without a mark. Keys are hashes of a tag and a name, so that no account shares a key with a
group.

Safety: a record that hashes to the leaf under a finalized root is the ledger's own, at that height.

The codec has one encoding for each value, and hashes have domains: whoever shows another record under the same root
has found a collision.

Source: docs/design/consensus.md, "Execution and state"; architecture.md, "Believing an answer".
"""

from __future__ import annotations

from enum import StrEnum

from layer1.codec import Struct, encode
from layer1.consensus.evidence import EvidenceKind
from layer1.crypto import Domain, Hash, PublicKey, digest
from layer1.ledger.agreements import Body, Certificate, Claim, GroupAgreement, GroupHeader, Lock


class Status(StrEnum):
    """Where a group is: it goes forward only (rule 8)."""

    OPEN = "open"
    WEDGED = "wedged"
    CLOSED = "closed"


class Reason(StrEnum):
    """Why a group is closed."""

    FINAL = "final"
    """All members signed the payout (rule 7)."""
    CLAIMS = "claims"
    """All members claimed or concurred (rule 10); of a witnessed group, f + 1 of all places claimed."""
    DEADLINE = "deadline"
    """The challenge period ended (rule 11)."""


class Forfeit(StrEnum):
    """Why a member's bond is not returned."""

    LIE = "lie"
    """A signature of its own proves its claim false, or it signed twice (rule 15)."""
    SILENT = "silent"
    """It did not answer a plea (rule 13)."""
    HIDDEN = "hidden"
    """It signed the winning header, and neither revealed the body nor pleaded (rule 12)."""


class Account(Struct):
    """Money under one key. An account that nobody paid is an account of 0."""

    balance: int
    """Minor units, >= 0."""


class Delegate(Struct):
    """Who reported for a member (rule 17): the first of its delegates with this version."""

    account: PublicKey
    bounty: int
    """Minor units at most, as the member promised."""
    version: int
    """Of the certificate that it brought, then the highest accepted one."""


class Bounty(Struct):
    """What a delegate got."""

    member: int
    """Out of whose gain."""
    account: PublicKey
    units: int
    """Minor units."""


class Registration(Struct):
    """A preimage that was shown to the ledger (rule 21). The first time stands; a later one has it kept for longer."""

    hash: Hash
    """SHA-256 of the preimage."""
    preimage: bytes
    """32 bytes."""
    clock_ms: int
    """Ledger clock of the first block that showed it: by this alone is judged whether it came in time."""
    kept_from_ms: int
    """Ledger clock of the block that renewed it last, at first the same: by this alone it is forgotten."""


class ClosedLock(Struct):
    """A lock of the state that a group was closed on, and what became of it (rule 21)."""

    lock: Lock
    until_ms: int
    """Ledger clock: the last one at which a registration of its preimage is timely."""
    paid_to: int | None = None
    """Place of the member who got it; None while it pends."""
    clock_ms: int | None = None
    """Ledger clock of the block that paid it."""


class Group(Struct):
    """A group as layer 1 knows it. Members update theirs without layer 1: until a dispute this is version 0."""

    group_id: Hash
    agreement: GroupAgreement
    epoch: int
    """0 at first; each change of the open group begins the next one, with an agreement of its own."""
    status: Status
    opened_clock_ms: int
    """Ledger clock of the opening block."""
    origin: GroupHeader
    """Version 0 of this epoch: what needs no signatures."""
    certificate: Certificate
    """The highest accepted one (rule 14)."""
    body: Body | None
    """The state behind `certificate`, what settlement pays; None while nobody has revealed it (rule 12)."""
    claims: tuple[Claim | None, ...]
    """Per place, members first, the first claim that counted (rule 8)."""
    forfeits: tuple[Forfeit | None, ...]
    """Per member, why its bond is not returned; None if it is."""
    pleas: tuple[bool, ...]
    """Per member, whether it has pleaded (rule 13)."""
    concurs: tuple[bool, ...]
    """Per member, whether it concurred with the highest accepted version (rule 10)."""
    delegates: tuple[Delegate | None, ...]
    """Per member, who reported for it (rule 17)."""
    wedged_by: int | None = None
    """Index of the member whose claim or plea wedged the group."""
    deadline_ms: int | None = None
    """Ledger clock; a block at or past it settles the group, or ends the wait for its body. None if no clock does."""
    revealing: Reason | None = None
    """Why the dispute ended, if it did before the body was known: the group waits for it (rule 12)."""
    payouts: tuple[int, ...] = ()
    """Per member, what its payout account got: balance, bond, and its part of forfeited bonds, less the bounty that it
    promised. Empty until closed.
    """
    bounties: tuple[Bounty, ...] = ()
    """What delegates got, by member; beside the payouts."""
    reason: Reason | None = None
    """Why it is closed; None until then."""
    closed_clock_ms: int | None = None
    """Ledger clock of the closing block."""
    wedged_clock_ms: int | None = None
    """Ledger clock of the block that wedged it: whoever promised to watch had its time from then on (rule 17)."""
    locks: tuple[ClosedLock, ...] = ()
    """Of the state that it was closed on, paid beside the payouts, each at its time."""

    @property
    def forfeited(self) -> tuple[bool, ...]:
        """Per member, whether its bond is not returned."""
        return tuple(why is not None for why in self.forfeits)

    @property
    def version(self) -> int:
        """Version of the highest accepted certificate."""
        return self.certificate.header.version

    @property
    def pending(self) -> tuple[ClosedLock, ...]:
        """Of a closed group: locks that have yet to go to somebody."""
        return tuple(each for each in self.locks if each.paid_to is None)

    @property
    def due_ms(self) -> int | None:
        """Ledger clock from which a block does something by itself: at a deadline, or behind the end of a lock.

        None if none does. That a preimage is registered makes something due besides.
        """
        if self.status is Status.WEDGED:
            return self.deadline_ms
        return min((each.until_ms + 1 for each in self.pending), default=None) if self.locks else None

    @property
    def locked_units(self) -> int:
        """What the ledger holds for this group: deposits and bonds until it is closed, then its pending locks."""
        if self.status is Status.CLOSED:
            return sum(each.lock.amount for each in self.pending)
        return self.agreement.funding_units + self.agreement.bond_units


class Head(Struct):
    """Which process acts for an account: the account's own word, and layer 1 makes nothing else of it."""

    account: PublicKey
    term: int
    """How many were appointed so far."""
    head: Hash
    """Names the process."""


class Mark(Struct):
    """A replica was shown to have contradicted itself. There is one at most for each, and it stays."""

    replica: PublicKey
    """The key that signed both votes."""
    epoch: int
    """In which it did."""
    number: int
    """Its own for ever."""
    kind: EvidenceKind
    evidence_id: Hash
    transaction_id: Hash
    """The transaction that brought the evidence, and holds it."""
    clock_ms: int
    """Ledger clock of its block."""


def account_key(address: PublicKey) -> Hash:
    """Where an account stands in the tree."""
    return digest(Domain.STATE_KEY, b"account" + address)


def group_key(group_id: Hash) -> Hash:
    """Where a group stands in the tree."""
    return digest(Domain.STATE_KEY, b"group" + group_id)


def mark_key(replica: PublicKey) -> Hash:
    """Where the mark of the replica with this key stands in the tree."""
    return digest(Domain.STATE_KEY, b"mark" + replica)


def head_key(account: PublicKey) -> Hash:
    """Where the head of an account stands in the tree."""
    return digest(Domain.STATE_KEY, b"head" + account)


def preimage_key(hashed: Hash) -> Hash:
    """Where the registration of the preimage with this SHA-256 stands in the tree."""
    return digest(Domain.STATE_KEY, b"preimage" + hashed)


def machine_key(key: bytes) -> Hash:
    """Where the value of the state machine's `key` stands in the tree."""
    return digest(Domain.STATE_KEY, b"machine" + key)


REPLICA_SET_KEY: Hash = digest(Domain.STATE_KEY, b"replica_set")
"""Where the hash of the replica set stands in the tree."""
REMEMBERED_KEY: Hash = digest(Domain.STATE_KEY, b"remembered")
"""Where the hash over all remembered transactions stands, see `layer1.ledger.remembered`."""


def leaf_hash(record: Account | Group | Mark | Head | Registration | bytes | None) -> Hash | None:
    """What a proof must lead to: the record's hash, or None (proven absent) for no record and for an account of 0.

    A value of the state machine is a record as it is, bytes.
    """
    if record is None or (isinstance(record, Account) and record.balance == 0):
        return None
    return digest(Domain.RECORD, encode(record))

"""The contract between the group core and its driver: events in, effects out.

The driver performs effects in order. `Persist` is a barrier: what stands after it may leave only when the record is
durable. If the disk does not confirm, the driver drops what stands after it and steps the group with `DiskFailed`.

Source: docs/design/style.md, "A core is a synchronous step"; groups.md, rules 1 to 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from layer1.crypto import Hash, Signature
from layer1.errors import RemoteError
from layer1.ledger import records, transactions
from layer1.ledger.agreements import Body, Certificate, GroupAgreement, Lock, Payment
from layer2.messages import Batch, GroupMessage
from layer2.terms import Terms

# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Requested:
    """The user of this member issues commands; they get the numbers from `Group.next_number` on, in this order."""

    payloads: tuple[bytes, ...]
    salt: bytes
    """16 fresh random bytes, for the version that this may start."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message from `member`, which its link has authenticated. Nothing in it is checked yet."""

    member: int
    message: GroupMessage
    salt: bytes
    """16 fresh random bytes, for the version that this may start."""


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a new link to `member`; what was sent on an older one may or may not have arrived."""

    member: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The link to `member` is gone."""

    member: int


@dataclass(frozen=True, slots=True)
class CloseRequested:
    """The user wants the cooperative close (rule 7)."""


@dataclass(frozen=True, slots=True)
class WedgeRequested:
    """The user, or a policy, wants layer 1 to decide (rule 8); a member that lost data pleads (rule 13)."""


@dataclass(frozen=True, slots=True)
class PleaRequested:
    """The user says that data may be lost: the others must report (rule 13). No STATE and no CLAIM after it [F5]."""


@dataclass(frozen=True, slots=True)
class ConcurRequested:
    """The user of a member that lost data agrees to settle on what layer 1 shows (rule 10)."""


@dataclass(frozen=True, slots=True)
class Doubts:
    """This member's store is a copy, and may be older than what it signed: ask all others first [F5]."""


@dataclass(frozen=True, slots=True)
class Reminded:
    """Somebody who is in no session with us, such as a watchtower of ours, shows what it keeps for us."""

    who: str
    """For people."""
    certificate: Certificate
    body: Body | None = None
    """Behind it, if it is known."""


@dataclass(frozen=True, slots=True)
class Inquired:
    """The user wants to know whom the group waits for: what another member may know is asked of it."""


@dataclass(frozen=True, slots=True)
class DiskFailed:
    """A `Persist` was not confirmed (rule 6)."""

    reason: str


@dataclass(frozen=True, slots=True)
class LedgerSeen:
    """What layer 1, believed with proof, shows of this group now."""

    group: records.Group
    clock_ms: int = 0
    """Ledger clock of the block that proves it; 0 if it is not known."""
    salt: bytes = b""
    """16 fresh random bytes, for the version that this may start."""
    claiming: bool = True
    """Whether a first CLAIM may be signed now: not before our watchtowers were asked what they keep for us."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What layer 1 showed, with proof, of the preimage of a hash."""

    hash: Hash
    clock_ms: int
    """Ledger clock of the block that proves it."""
    registered_ms: int | None
    """Ledger clock of its registration; None if it was not registered then."""


@dataclass(frozen=True, slots=True)
class ClockSeen:
    """The ledger clock has moved, and this is what layer 1 shows of preimages (rule 21)."""

    clock_ms: int
    """Newest proven one, and what has passed since by our own clock: it should not be below the true one."""
    looked: tuple[Looked, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeWanted:
    """The user wants these terms, or agrees to them as it was asked (rules 24 and 25)."""

    terms: Terms
    clock_ms: int
    """Newest proven ledger clock: the terms expire within ten minutes of it."""


@dataclass(frozen=True, slots=True)
class ChangeRefused:
    """The user does not want what it was asked, or wants it no more. What is signed stays signed."""

    code: str
    message: str
    salt: bytes
    """16 fresh random bytes, for the version that this may start."""


@dataclass(frozen=True, slots=True)
class JoiningSigned:
    """Somebody who is no member yet has signed the change by which it joins; told to the primary."""

    signature: Signature


Event = (
    Requested
    | Received
    | Connected
    | Disconnected
    | CloseRequested
    | WedgeRequested
    | PleaRequested
    | ConcurRequested
    | Doubts
    | Reminded
    | Inquired
    | DiskFailed
    | LedgerSeen
    | ChangeWanted
    | ChangeRefused
    | JoiningSigned
    | ClockSeen
)

# --------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Persist:
    """Append to the journal; what stands after this effect leaves only when the record is durable."""

    record: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """To one member; may be lost, and then a new link's `Resume` mends it."""

    member: int
    message: GroupMessage


def ordinal(epoch: int, version: int) -> int:
    """Counts versions over all epochs."""
    return epoch << 40 | version


@dataclass(frozen=True, slots=True)
class Committed:
    """This member durably holds the certificate of `version`, which applied `batch` (rule 3)."""

    version: int
    batch: Batch
    balances: tuple[int, ...]
    """After it."""
    epoch: int = 0
    """In which it is `version`."""
    locks: tuple[Lock, ...] = ()
    """That stand after it, ascending by id: an offer of this batch is told from others by the id of its lock."""
    before: Any = None
    """The machine's state before it: with the batch it tells what became of each lock."""

    @property
    def ordinal(self) -> int:
        """Counts versions over all epochs, in order and with gaps; in epoch 0 the version."""
        return ordinal(self.epoch, self.version)


@dataclass(frozen=True, slots=True)
class PreimageSeen:
    """The payee of our lock has shown its preimage: it is ours to use from now on, whatever becomes of the claim."""

    lock: Lock
    preimage: bytes
    """32 bytes, of the lock's hash."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Our command `number` was not applied, and for certain never will be: it may be tried elsewhere."""

    number: int
    code: str
    message: str


Payload = (
    transactions.CloseGroup
    | transactions.Wedge
    | transactions.Report
    | transactions.Reveal
    | transactions.Plea
    | transactions.ChangeGroup
    | transactions.RegisterPreimages
)
"""What a group, or the wallet for it, brings to layer 1."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Bring this to layer 1, and again until layer 1 shows what it was for."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Advice:
    """The group cannot go on by itself; the user should close it, or wedge it."""

    code: str
    """``they_lost_data``, ``i_lost_data``, ``maybe_old``, ``confirmed``, ``recovered``, ``close_declined``."""
    message: str


@dataclass(frozen=True, slots=True)
class ChangeAsked:
    """A member wants these terms: answer with :class:`ChangeWanted` or :class:`ChangeRefused`."""

    member: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class ChangeEnded:
    """The change that our user wanted will not be: the group goes on as before."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class EpochBegan:
    """Layer 1 has changed the group: it goes on at version 0 of this epoch."""

    epoch: int
    before: GroupAgreement
    agreement: GroupAgreement
    balances: tuple[int, ...]
    deposits: tuple[Payment, ...]
    """What was paid in; none if this member forgot that it signed the change."""
    withdrawals: tuple[Payment, ...]


@dataclass(frozen=True, slots=True)
class LookNow:
    """Another member has seen something on layer 1 that we have not: look at this group now."""


@dataclass(frozen=True, slots=True)
class Blamed:
    """A member broke the protocol by what it sent a while ago: only what layer 1 shows now tells."""

    member: int
    error: RemoteError


@dataclass(frozen=True, slots=True)
class Frozen:
    """The disk did not confirm; the group signs and sends nothing until it is restored from the journal (rule 6)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Layer 1 closed the group; nothing more will come of it."""

    group_id: Hash
    payouts: tuple[int, ...]
    """Minor units per member."""
    settled: int | None = None
    """Ordinal (see :class:`Committed`) of the version that layer 1 paid on; what is above it never happened. None for
    the newest of all members, on which they signed the end together.
    """


Effect = (
    Persist
    | Send
    | Committed
    | PreimageSeen
    | Rejected
    | Submission
    | Advice
    | Frozen
    | Finished
    | ChangeAsked
    | ChangeEnded
    | EpochBegan
    | LookNow
    | Blamed
)

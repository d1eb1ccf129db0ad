"""The contract between the group core and its driver: events in, effects out.

The driver performs effects in order. `Persist` is a barrier: what stands after it may leave only when the record is
durable. If the disk does not confirm, the driver drops what stands after it and steps the group with `DiskFailed`.

Source: docs/design/style.md, "A core is a synchronous step"; groups.md, rules 1 to 10.
"""

from __future__ import annotations

from dataclasses import dataclass

from layer1.crypto import Hash
from layer1.ledger import records, transactions
from layer2.messages import Batch, GroupMessage

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
    """The user, or a policy, wants layer 1 to decide (rule 8)."""


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


Event = (
    Requested
    | Received
    | Connected
    | Disconnected
    | CloseRequested
    | WedgeRequested
    | Inquired
    | DiskFailed
    | LedgerSeen
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


@dataclass(frozen=True, slots=True)
class Committed:
    """This member durably holds the certificate of `version`, which applied `batch` (rule 3)."""

    version: int
    batch: Batch
    balances: tuple[int, ...]
    """After it."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Our command `number` was not applied, and for certain never will be: it may be tried elsewhere."""

    number: int
    code: str
    message: str


Payload = transactions.CloseGroup | transactions.Wedge | transactions.Report | transactions.Reveal
"""What a group brings to layer 1."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Bring this to layer 1, and again until layer 1 shows what it was for."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Advice:
    """The group cannot go on by itself; the user should close it, or wedge it."""

    code: str
    """``they_lost_data``, ``i_lost_data``, ``close_declined``."""
    message: str


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


Effect = Persist | Send | Committed | Rejected | Submission | Advice | Frozen | Finished

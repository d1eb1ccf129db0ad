"""The contract between the consensus core and its driver: events in, effects out.

The driver performs effects in order. `Persist` is a barrier: what stands after it may leave only when it is durable.
The core knows nothing of transactions: it asks the application to `Build` and to `Validate`, which answer with events.

Source: docs/design/style.md, "A core is a synchronous step"; consensus.md, rules 1 to 10.
"""

from __future__ import annotations

from dataclasses import dataclass

from layer1.consensus.certificates import Vote
from layer1.consensus.messages import Finalization, Message, Proposal, View
from layer1.crypto import Hash
from layer1.header import BlockId, Header


@dataclass(frozen=True, slots=True)
class Now:
    """The time of a step, as the driver reads it."""

    monotonic_ms: int
    """For timers; never goes back."""
    wall_ms: int
    """Since 1970; only compared with headers."""


# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Started:
    """The driver has replayed the journal and is ready."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message from an authenticated peer. Votes and certificates in it are not verified yet: the core does that."""

    sender: int
    """Index of the replica at the other end of the link, not necessarily the signer."""
    message: Message


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time of the last `WakeAt` has come. Spurious ones are harmless."""


@dataclass(frozen=True, slots=True)
class WorkChanged:
    """Whether there is something to order, now (rule 9)."""

    pending: bool
    """A transaction that the leader has had time to receive, or a deadline that is due."""
    passed_over_ms: int | None
    """Monotonic time since which leaders could have proposed the oldest pending transaction: when it arrived here, or,
    unless it is a dispute, when the last block was executed that had no room for it (rule 6)."""


@dataclass(frozen=True, slots=True)
class Built:
    """Answer to `Build`: an executed block on the asked-for parent, with the asked-for view and wall time.

    Its header and batches may not be durable yet: the core persists the header before its vote, and orders the
    batches durable through `PersistBatches`.
    """

    header: Header
    batches: tuple[Hash, ...]


@dataclass(frozen=True, slots=True)
class Validated:
    """Answer to `Validate`: the batches are here and executing them gives the header's roots, or they never will."""

    block: BlockId
    valid: bool
    reason: str = ""
    """Why it is invalid, for the log."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Finalized blocks were fetched, checked against their certificates and executed by the driver (catch-up)."""

    header: Header
    finalization: Finalization


Event = Started | Received | TimerFired | WorkChanged | Built | Validated | CaughtUp

# --------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Persist:
    """Append to the journal; what stands after this effect leaves only when the record is durable."""

    record: bytes


@dataclass(frozen=True, slots=True)
class PersistBatches:
    """Append these batches to the journal unless they are there already; same barrier as `Persist` (rule 3)."""

    digests: tuple[Hash, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """To one replica; may be lost."""

    receiver: int
    message: Message


@dataclass(frozen=True, slots=True)
class Broadcast:
    """To all replicas but this one; may be lost."""

    message: Message


@dataclass(frozen=True, slots=True)
class Build:
    """Make a block for `view` on `parent` (whose state the application has) and answer `Built`.

    The answer may hold no transactions: a heartbeat, a due deadline, or filler that makes a notarized block final.
    """

    view: View
    epoch: int
    parent: Header
    wall_time: int
    """max(now, parent.wall_time), ms."""


@dataclass(frozen=True, slots=True)
class Validate:
    """Get the batches of this proposal (the sender and the leader have them), execute on `parent`, answer `Validated`.

    The ancestry is complete: the application was given or built every block on the way to the last final one.
    """

    proposal: Proposal
    parent: Header
    sender: int


@dataclass(frozen=True, slots=True)
class Commit:
    """`headers` (oldest first, each the child of the one before) are final by `finalization`, which names the last."""

    headers: tuple[Header, ...]
    finalization: Finalization


@dataclass(frozen=True, slots=True)
class CatchUp:
    """`finalization` is valid, but its ancestry is not here: fetch blocks from peers, `sender` first."""

    finalization: Finalization
    sender: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send `TimerFired` at this monotonic time, ms. Replaces the wake-up asked for before; None cancels it."""

    monotonic_ms: int | None


@dataclass(frozen=True, slots=True)
class Accuse:
    """Two checked votes of one replica contradict each other: `layer1.consensus.evidence.pair` makes the proof."""

    replica: int
    first: Vote
    second: Vote


Effect = Persist | PersistBatches | Send | Broadcast | Build | Validate | Commit | CatchUp | WakeAt | Accuse

"""The contract between the forwarder's core and whoever drives it: events in, effects out.

Effects are performed in order. `Persist` is a barrier: what stands after it may leave only when the record is durable.
All other effects may be performed again, also after a restart: a group refuses a second claim, release or expiry of
one lock.

Source: docs/design/groups.md, rules 20 to 23; docs/design/style.md, "A core is a synchronous step".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from layer1.codec import Struct
from layer1.crypto import Hash, PublicKey
from layer1.ledger.agreements import Lock

# --------------------------------------------------------------------------------------------------------- records


class LockRef(Struct):
    """A lock of one of our groups."""

    group: Hash
    lock: int


class Passage(Struct, tag=1):
    """Durable before the offer leaves: this incoming lock becomes that outgoing one, same hash, same expiry."""

    number: int
    """Counts the passages of this wallet."""
    incoming: LockRef
    came: int
    """Minor units of the incoming lock."""
    peer: PublicKey
    """Who offered it to us."""
    hash: Hash
    expiry_ms: int
    """Ledger clock, of both locks (rule 22)."""
    outgoing: Hash
    """The group in which we offer."""
    amount: int
    """Minor units that we offer; what is left of `came` is our fee."""
    secret: bytes
    """Of the onion's layer: wraps a failure on its way back."""
    mark: bytes = b""
    """Of the packet that goes with the offer (:func:`mark_of`), by which our own offer is known again."""


def mark_of(packet: bytes) -> bytes:
    """16 bytes: no two offers of ours have the same packet."""
    return hashlib.sha256(packet).digest()[:16]


class Bound(Struct, tag=2):
    """Durable with our signature of the version that first holds it: the passage's outgoing lock has this id."""

    number: int
    lock: int


class Known(Struct, tag=3):
    """Durable before we sign what takes an outgoing lock away by a claim: the preimage of a hash."""

    preimage: bytes


class Gone(Struct, tag=4):
    """The passage's outgoing lock is gone for certain, unpaid: the incoming one may go back."""

    number: int
    reason: bytes
    """For the one before us, wrapped already."""


class Ended(Struct, tag=5):
    """Both locks of the passage have ended: nothing is left to do."""

    number: int


Record = Passage | Bound | Known | Gone | Ended

# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Way:
    """A channel with the next node, as it is now: certified, and everything that we signed or issued besides."""

    group: Hash
    can_send: int
    """Minor units."""
    ready: bool
    """Open, in step, not ending."""
    slots: int
    """Locks that may stand in it, as agreed."""
    slots_taken: int
    value: int
    """Units that all its locks may have together."""
    value_taken: int
    least: int
    """Units of one lock at least, as agreed."""


@dataclass(frozen=True, slots=True)
class Came:
    """A lock for us is committed (rule 23), and its packet says: offer this onward."""

    incoming: LockRef
    peer: PublicKey
    came: int
    hash: Hash
    expiry_ms: int
    amount: int
    """To be offered."""
    secret: bytes
    packet: bytes
    """For the next node."""
    ways: tuple[Way, ...]
    """All our channels with the next node."""
    clock_ms: int = 0
    """The ledger clock as the host reckons it, which may be ahead of the newest proven one."""


@dataclass(frozen=True, slots=True)
class Orphaned:
    """After a restart: a lock for us stands, of which there is no passage; its packet is no longer known."""

    incoming: LockRef


@dataclass(frozen=True, slots=True)
class Restored:
    """After a restart, before anything else of a group: the locks that stand in a version that we hold or signed."""

    group: Hash
    locks: tuple[Lock, ...]


@dataclass(frozen=True, slots=True)
class Stands:
    """A version that we are about to sign has the passage's lock: it is live from now on (rule 23)."""

    number: int
    lock: int


@dataclass(frozen=True, slots=True)
class OfferFailed:
    """No lock of the passage stands in a version that we hold or signed, and for certain none ever will.

    Its offer was refused for good; or, after a restart, the group has been in step since, so that no offer of before
    the crash can still enter; or layer 1 shows the group wedged without it. Of a passage that layer 1 may have paid,
    `PreimageSeen` comes first.
    """

    number: int
    away: bool
    """Whether the next node does not answer; else its group did not take it."""


@dataclass(frozen=True, slots=True)
class PreimageSeen:
    """Somebody showed a preimage: in a claim, committed or not, or in layer 1's registry."""

    preimage: bytes


@dataclass(frozen=True, slots=True)
class OutgoingEnded:
    """A passage's outgoing lock stands no more: claimed, released or expired, *committed*; or by layer 1.

    Layer 1 gave it to somebody, or settled on a state without it: our signature of a later one never became a
    certificate. If layer 1 paid it, `PreimageSeen` comes first.
    """

    outgoing: LockRef
    hash: Hash
    """Its own."""
    reason: bytes = b""
    """What the next node says, if it released the lock."""
    away: bool = False
    """Nobody released it: its time was over, or layer 1 gave it back."""


@dataclass(frozen=True, slots=True)
class IncomingEnded:
    """A passage's incoming lock stands no more: claimed, released or expired, committed; or layer 1 resolved it."""

    incoming: LockRef


@dataclass(frozen=True, slots=True)
class GroupWedged:
    """Layer 1 shows that a group takes no more states: its locks pend there. They do not fail (rule 23)."""

    group: Hash


@dataclass(frozen=True, slots=True)
class ClockSeen:
    """The newest proven ledger clock."""

    clock_ms: int


@dataclass(frozen=True, slots=True)
class Unregistered:
    """Proven: after the block with this clock, layer 1's registry does not have this hash."""

    hash: Hash
    clock_ms: int


Event = (
    Came
    | Orphaned
    | Restored
    | Stands
    | OfferFailed
    | PreimageSeen
    | OutgoingEnded
    | IncomingEnded
    | GroupWedged
    | ClockSeen
    | Unregistered
)

# --------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Persist:
    """Make it durable before anything that follows leaves."""

    record: Record


@dataclass(frozen=True, slots=True)
class MakeOffer:
    """Offer the passage's lock in its outgoing group. Once: the answer is :class:`Stands` or :class:`OfferFailed`."""

    passage: Passage
    packet: bytes


@dataclass(frozen=True, slots=True)
class MakeClaim:
    """Claim an incoming lock."""

    incoming: LockRef
    preimage: bytes


@dataclass(frozen=True, slots=True)
class MakeRelease:
    """Give an incoming lock back."""

    incoming: LockRef
    reason: bytes


@dataclass(frozen=True, slots=True)
class MakeExpire:
    """Take an outgoing lock back, whose time is over."""

    outgoing: LockRef


@dataclass(frozen=True, slots=True)
class Register:
    """Bring a preimage to layer 1's registry, and again until it is there."""

    preimage: bytes


@dataclass(frozen=True, slots=True)
class MakeWedge:
    """Let layer 1 end a group, whose other member keeps from us what a timely registration gives us."""

    group: Hash


@dataclass(frozen=True, slots=True)
class AskRegistry:
    """Find out, with proof, whether layer 1 has this hash: answered by PreimageSeen or Unregistered."""

    hash: Hash


Effect = Persist | MakeOffer | MakeClaim | MakeRelease | MakeExpire | Register | MakeWedge | AskRegistry

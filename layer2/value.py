"""One member's whole knowledge of its group, as an immutable value.

Safety: what a value says is signed or certified is durable before anything that follows from it is sent.

Source: docs/design/groups.md, "Objects"; style.md, "a group is an immutable value with replace".
"""

from __future__ import annotations

import msgspec

from layer1.crypto import Hash, Signature
from layer1.errors import Refused
from layer1.ledger import records as ledger
from layer1.ledger.agreements import Certificate, Claim, DoubleSignature, GroupHeader, Lock, PleaForData
from layer2.events import Looked
from layer2.messages import Acked, ChangeProposal, Command, Propose, Resume
from layer2.records import ChangeSigned, FinalSigned
from layer2.state import Pending, Place, State
from layer2.terms import Terms


class Wish(msgspec.Struct, frozen=True):
    """A change that is talked about: nobody has signed it."""

    terms: Terms
    agreed: frozenset[int]
    """Members whose users want it."""


class Group(msgspec.Struct, frozen=True):
    """A member's side of a group. Made by `create` or `restore`, changed by `step`, all in :mod:`layer2.group`.

    A struct, since replacing a field of it costs a tenth of what it does with a dataclass.
    """

    place: Place
    state: State
    """The newest that is certified and, unless a CLAIM came first or it is in `tail`, committed."""
    signatures: tuple[Signature, ...]
    """All members', of `state`; none at version 0."""
    pending: Pending | None = None
    """The version above, if this member signed it. Complete only after a CLAIM: layer 1 decides about it [F2]."""
    tail: tuple[Pending, ...] = ()
    """In a witnessed group: certified versions up to `state` that not all have acknowledged, the oldest first."""
    base: State | None = None
    """While there is a `tail`, the committed state before it."""
    acked: tuple[int, ...] = ()
    """In a witnessed group, per place: up to which version it is known here to hold the certificates durably."""
    acks: tuple[Acked | None, ...] = ()
    """In a witnessed group, per place: the newest signed ACK, to be passed on."""
    queue: tuple[Command, ...] = ()
    """At the primary: what no version holds yet."""
    outbox: tuple[Command, ...] = ()
    """At another member: its own commands whose fate is open."""
    spare_bytes: tuple[tuple[int, int], ...] = ()
    """By member, how many bytes more of its commands may wait here, at least: what left since the last count is not in
    it. Of this member itself, and at the primary of all."""
    next_number: int = 1
    """Of this member's next command."""
    in_step: frozenset[int] = frozenset()
    """Peers whose Resume was heard on the present link, and fits."""
    told_absent: frozenset[int] = frozenset()
    """At a member: who, by the primary's word, is not in step with it; everybody until it has said so on a new link.
    Nothing but our own commands waits for that.
    """
    foreign_version: int | None = None
    """The one version that may hold commands which a crash made us forget: what the primary had signed when we first
    heard from it after our start, -1 for none. None before that.
    """
    closing: bool = False
    """A cooperative close was asked for: no command is taken any more."""
    final: FinalSigned | None = None
    """What this member signed as the end (rule 7)."""
    claim: Claim | None = None
    """What this member claims (rule 8): stands until the end of the epoch."""
    lost: bool = False
    """This member lost data: it was shown its own signature above what it knew, or begins anew [F5]."""
    doubts: frozenset[int] = frozenset()
    """Places whose word this member awaits before it trusts its own store, which is a copy and may be old. While there
    are any it signs no STATE and no CLAIM, and says nothing of its own newest to them [F5].
    """
    shown_by: frozenset[int] = frozenset()
    """At a member that lost data: who has shown it the newest state since it started."""
    bereft: frozenset[int] = frozenset()
    """Other members that lost data: they sign no STATE in this epoch, so nobody does."""
    plea: PleaForData | None = None
    """What this member pleaded (rule 13): stands until the end of the epoch."""
    double: DoubleSignature | None = None
    """Proof that another member signed twice, for layer 1 (rule 15)."""
    ledger: ledger.Group | None = None
    """What layer 1 last showed, from the wedge on."""
    wish: Wish | None = None
    """Terms of a change that is talked about."""
    asked: ChangeProposal | None = None
    """At a member: a change that the primary has signed, and our user has yet to agree to."""
    change: ChangeSigned | None = None
    """The change that this member signed: it signs no STATE until layer 1 shows what became of it (rule 24)."""
    held: Propose | None = None
    """At a member: what the primary proposed since, knowing already that the change is dead."""
    packets: tuple[tuple[int, bytes], ...] = ()
    """By id, what came with committed offers to this member whose locks still stand: no state holds it."""
    clock_ms: int = 0
    """The ledger clock, as the host last reckoned it; 0 before it did."""
    looked: tuple[Looked, ...] = ()
    """What layer 1 last showed of the preimages of our locks."""
    doubted: Propose | None = None
    """At a member: what the primary proposed, and only a look at layer 1 tells whether it may be signed."""
    lagging: frozenset[int] = frozenset()
    """Members that may speak of an epoch that is over: their Resume of ours has yet to come."""
    early: tuple[tuple[int, Resume], ...] = ()
    """By member, its Resume of an epoch that layer 1 has yet to show us."""
    left: bool = False
    """A change has put somebody else in this member's seat."""
    frozen: str = ""
    """Why the disk cannot be relied on; empty while it can (rule 6)."""

    @property
    def epoch(self) -> int:
        """Which one the group is in, as far as this member was shown."""
        return self.state.header.epoch

    @property
    def locks(self) -> tuple[Lock, ...]:
        """That stand in the newest state that this member signed."""
        return (self.pending.state if self.pending is not None else self.state).body.locks

    @property
    def settled_wish(self) -> bool:
        """Whether all members want the same change: then the primary signs no further version before it."""
        return self.wish is not None and len(self.wish.agreed) == self.place.size

    @property
    def version(self) -> int:
        """s: of the newest certificate."""
        return self.state.header.version

    @property
    def certificate(self) -> Certificate:
        """The newest certificate."""
        return Certificate(self.state.header, self.signatures)

    @property
    def highest(self) -> GroupHeader:
        """header_k: the highest that this member ever signed."""
        return self.pending.state.header if self.pending is not None else self.state.header

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.place.group_id

    @property
    def others(self) -> tuple[int, ...]:
        """Indexes of the other members."""
        return self.place.others

    @property
    def committed(self) -> State:
        """The newest state that nothing can undo: what users are shown."""
        return self.base or self.state

    @property
    def connected(self) -> bool:
        """Whether this member can issue commands: everybody is in step, as far as it knows."""
        return self.place.needed <= self.in_step and not self.told_absent

    @property
    def together(self) -> bool:
        """Whether all members are in step, as far as this one knows: FINAL needs no witness (rule 7)."""
        return all(place >= self.place.size for place in self.absent)

    @property
    def absent(self) -> tuple[int, ...]:
        """Places that are not in step, as far as this member knows."""
        return tuple(sorted((self.place.needed - self.in_step) | self.told_absent))

    @property
    def has_spoken(self) -> bool:
        """Whether it signed a CLAIM or a plea: after that only layer 1 commits anything [F2], nor is it ACKed [F3]."""
        return self.claim is not None or self.plea is not None

    @property
    def informed(self) -> bool:
        """Whether it may say which state is the newest: it lost nothing, or all others have shown it theirs.

        A witness is not needed for that: it keeps nobody from closing together.
        """
        doubted = any(place < self.place.size for place in self.doubts)
        return not doubted and (not self.lost or self.shown_by >= frozenset(self.others))

    @property
    def closed(self) -> bool:
        """Whether layer 1 has paid it out, or paid us out of it."""
        return self.left or (self.ledger is not None and self.ledger.status is ledger.Status.CLOSED)

    @property
    def best(self) -> tuple[State, Certificate]:
        """The highest certificate here, for layer 1; with a CLAIM it may be one that nothing committed."""
        if self.pending is not None:
            signatures = tuple(s for s in self.pending.signatures if s is not None)
            if len(signatures) == self.place.size:
                return self.pending.state, Certificate(self.pending.state.header, signatures)
        return self.state, self.certificate

    @property
    def stopped(self) -> Refused | None:
        """Why this member signs no STATE any more; None while it does."""
        if (reason := self.ended) is not None:
            return reason
        if self.lost:
            return Refused("lost_data", "this member lost data of the group: close it, or move it to a new epoch")
        if self.bereft:
            return Refused("peer_lost_data", "another member lost data: close the group, or move it to a new epoch")
        return None

    @property
    def ended(self) -> Refused | None:
        """Why not even a new epoch can be agreed on; None while it can."""
        if self.frozen:
            return Refused("frozen", f"the disk did not confirm: {self.frozen}; look after it, then start again")
        if self.closed:
            return Refused("group_closed", "layer 1 has paid the group out: open another")
        if self.has_spoken or self.ledger is not None:
            return Refused("group_wedged", "the group is wedged: layer 1 decides; open another")
        if self.final is not None:
            return Refused("group_closing", "this member signed the group's end: open another")
        return None

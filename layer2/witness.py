"""The witness core: one group as its witness holds it, as a pure step from value to value.

Safety: what a witness has ACKed it claims, or something higher, if the group is ever wedged; and it ACKs nothing after.

It holds one certificate, the highest that a member brought, and is durable about it before it ACKs. It claims only on
layer 1's word that the group is wedged [F3], once in an epoch. It sees no body: what members leave with it is sealed.

Source: docs/design/groups.md, rule 3 and "Witnessed groups"; decision 033; van Renesse, Ho and Schiper, Byzantine Chain
Replication (2012).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec
from msgspec.structs import replace

from layer1.codec import Struct, decode, encode
from layer1.crypto import Hash, Signature, SigningKey
from layer1.errors import LocalError, RemoteError
from layer1.ledger import records as ledger
from layer1.ledger.agreements import (
    Certificate,
    Claim,
    GroupAgreement,
    GroupHeader,
    sign_claim,
    verify_state,
)
from layer1.ledger.transactions import Report
from layer2.committing import sign_ack
from layer2.events import Effect, Finished, LedgerSeen, Persist, Received, Send, Submission
from layer2.messages import Ack, Error, Held, Hold, Inquiry, require
from layer2.sealing import sealed_bytes

BODY_ROOM_BYTES = 64
"""Of an encoded body, beside its machine state and its amounts and numbers, at most."""
MEMBER_ROOM_BYTES = 18
"""Of an encoded body, for each member: an amount and a number."""


class Taken(Struct, tag=30):
    """The witness serves this group, in this epoch; precedes all other records of it, and replaces those before."""

    group_id: Hash
    agreement: GroupAgreement
    origin: GroupHeader
    """Version 0 of the epoch."""


class Kept(Struct, tag=31):
    """A member brought this certificate, and its sealed body."""

    member: int
    certificate: Certificate
    sealed: bytes

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.certificate.header.group_id


class WitnessClaimed(Struct, tag=32):
    """The witness signed its CLAIM."""

    claim: Claim

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.claim.group_id


class HoldingSnapshot(Struct, tag=33):
    """Everything at once, in place of all records of the group before it, the first one included."""

    taken: Taken
    certificate: Certificate
    sealed: tuple[tuple[int, bytes], ...]
    claim: Claim | None

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.taken.group_id


HoldingRecord = Taken | Kept | WitnessClaimed | HoldingSnapshot
"""What the `Persist` effects of a witness hold, and what begins a group."""


class Holding(msgspec.Struct, frozen=True):
    """One group, in one epoch, as its witness holds it. Made by :func:`take` or :func:`replay`."""

    key: SigningKey
    """Of the witness; the identity of its links."""
    taken: Taken
    place: int
    """Of the witness in the agreement: members count first."""
    certificate: Certificate
    """The highest that a member brought; of version 0 at first."""
    ack: Signature = b""
    """Its ACK of `certificate`; empty at version 0."""
    sealed: tuple[tuple[int, bytes], ...] = ()
    """Per member, the newest body that it left here: version and sealed bytes."""
    claim: Claim | None = None
    """Stands until the end of the epoch; nothing is ACKed after it [F3]."""
    closed: bool = False
    """Layer 1 has paid the group out."""

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.taken.group_id

    @property
    def agreement(self) -> GroupAgreement:
        """Of the epoch."""
        return self.taken.agreement

    @property
    def version(self) -> int:
        """Of the certificate."""
        return self.certificate.header.version


Step = tuple[Holding, list[Effect]]


def take(key: SigningKey, shown: ledger.Group) -> Step:
    """Serve a group that layer 1, believed with proof, shows; durable before anything else is said.

    Raises:
        LocalError: The key is not that of a witness of it.
    """
    return _fresh(key, Taken(shown.group_id, shown.agreement, shown.origin)), [
        Persist(encode(Taken(shown.group_id, shown.agreement, shown.origin)))
    ]


def step(holding: Holding, event: Received | LedgerSeen) -> Step:
    """Advance by one event.

    Raises:
        RemoteError: A member broke the protocol; nothing has changed.
    """
    match event:
        case Received(member, Hold() as message):
            return _receive_hold(holding, member, message)
        case Received(member, Inquiry()):
            return holding, [_show(holding, member)]
        case Received(member, Error()):
            return holding, []
        case Received(member, message):
            raise RemoteError(f"member {member} sent a witness {type(message).__name__}: bring a certificate")
        case LedgerSeen(shown):
            return _observe(holding, shown)
        case _ as never:
            assert_never(never)


def replay(key: SigningKey, holding: Holding | None, record: HoldingRecord) -> Holding:
    """One record of the journal after another.

    Raises:
        LocalError: It contradicts the records before it.
    """
    match record:
        case Taken():
            return _fresh(key, record)
        case HoldingSnapshot(taken, certificate, sealed, claim):
            return replace(_with_certificate(_fresh(key, taken), certificate), sealed=sealed, claim=claim)
        case Kept(member, certificate, sealed):
            holding = _known(holding, record)
            return _with_sealed(_with_certificate(holding, certificate), member, certificate.header.version, sealed)
        case WitnessClaimed(claim):
            return replace(_known(holding, record), claim=claim)
        case _ as never:
            assert_never(never)


def restore(key: SigningKey, records: Iterable[bytes]) -> Holding:
    """What the journal leaves of one group.

    Raises:
        LocalError: There is nothing of it, or the records contradict themselves.
    """
    holding: Holding | None = None
    for data in records:
        record: HoldingRecord = decode(data, HoldingRecord)  # type: ignore[arg-type]  # a union of structs
        holding = replay(key, holding, record)
    if holding is None:
        raise LocalError("the journal has no record of the group")
    return holding


def snapshot(holding: Holding) -> bytes:
    """One record that stands for all before it."""
    return encode(HoldingSnapshot(holding.taken, holding.certificate, holding.sealed, holding.claim))


def member_of(agreement: GroupAgreement, peer: bytes) -> int | None:
    """Which member has this identity on its links: the one whose account funded it."""
    return next((i for i, member in enumerate(agreement.members) if member.funding == peer), None)


def _fresh(key: SigningKey, taken: Taken) -> Holding:
    agreement = taken.agreement
    found = next((i for i, witness in enumerate(agreement.witnesses) if witness.key == key.public), None)
    if found is None:
        raise LocalError(f"group {taken.group_id.hex()} has {len(agreement.witnesses)} witnesses, this key is of none")
    members = len(agreement.members)
    return Holding(key, taken, members + found, Certificate(taken.origin, ()), sealed=((0, b""),) * members)


def _receive_hold(holding: Holding, member: int, message: Hold) -> Step:
    header, held = message.certificate.header, holding.certificate.header
    named = (header.chain_id, header.group_id, header.epoch) == (held.chain_id, held.group_id, held.epoch)
    require(named, f"a certificate of another chain, group or epoch than {held.group_id.hex()}, epoch {held.epoch}")
    limits, members = holding.agreement.limits, len(holding.agreement.members)
    most = sealed_bytes(limits.max_state_bytes + BODY_ROOM_BYTES + MEMBER_ROOM_BYTES * members)
    require(len(message.sealed) <= most, f"a sealed body of {len(message.sealed)} bytes; at most {most}")
    if holding.claim is not None:
        text = f"the group is wedged and this witness claimed version {holding.claim.version}: layer 1 decides"
        return holding, [Send(member, Error(holding.group_id, "witness_claimed", text))]
    if header.version < holding.version:
        return holding, [_show(holding, member)]
    new = header.version > holding.version
    if new:
        _check_certificate(holding, message.certificate)
    else:
        require(header == held, f"another header at version {header.version}", held, header)
    if header.version == 0:
        return holding, [_show(holding, member)]
    effects: list[Effect] = []
    if new or (message.sealed and holding.sealed[member][0] < header.version):
        effects.append(Persist(encode(Kept(member, message.certificate, message.sealed))))
        holding = _with_sealed(_with_certificate(holding, message.certificate), member, header.version, message.sealed)
    ack = Send(member, Ack(holding.group_id, header.epoch, header.version, holding.ack))
    # An ACK speaks of the certificate alone: if that was kept before, nobody waits for what this member left with it.
    return holding, [*effects, ack] if new else [ack, *effects]


def _check_certificate(holding: Holding, certificate: Certificate) -> None:
    header, held, members = certificate.header, holding.certificate.header, holding.agreement.members
    if header.version == held.version + 1:
        require(header.parent == held.hash, f"version {header.version} does not follow the {held.version} held", held)
    count = len(certificate.signatures)
    require(count == len(members), f"a certificate with {count} signatures of {len(members)}")
    for index, (each, signature) in enumerate(zip(members, certificate.signatures, strict=True)):
        require(verify_state(each, header, signature), f"member {index}'s signature in the certificate is wrong")


def _observe(holding: Holding, shown: ledger.Group) -> Step:
    """Claim, if layer 1 shows the group wedged; bring it there what it lacks, again until it is there."""
    if shown.group_id != holding.group_id:
        raise LocalError(f"layer 1's group {shown.group_id.hex()} is not {holding.group_id.hex()}")
    if holding.closed:
        return holding, []
    if shown.epoch > holding.taken.origin.epoch:
        return _next_epoch(holding, shown)
    match shown.status:
        case ledger.Status.OPEN:
            return holding, []
        case ledger.Status.CLOSED:
            return replace(holding, closed=True), [Finished(shown.group_id, shown.payouts)]
        case ledger.Status.WEDGED:
            return _observe_wedged(holding, shown)


def _observe_wedged(holding: Holding, shown: ledger.Group) -> Step:
    effects: list[Effect] = []
    if holding.claim is None:
        claim = sign_claim(holding.key, holding.place, holding.version, holding.certificate.header)
        holding = replace(holding, claim=claim)
        effects.append(Persist(encode(WitnessClaimed(claim))))
    assert holding.claim is not None
    newer = holding.version > shown.version
    claims = () if shown.claims[holding.place] is not None else (holding.claim,)
    if newer or claims:
        certificate = holding.certificate if newer else None
        effects.append(Submission(Report(holding.group_id, certificate, None, claims, None)))
    return holding, effects


def _next_epoch(holding: Holding, shown: ledger.Group) -> Step:
    """The group was changed on layer 1: serve it on, if this witness is still one of its (rules 24 and 25)."""
    if all(witness.key != holding.key.public for witness in shown.agreement.witnesses):
        return replace(holding, closed=True), [Finished(shown.group_id, ())]
    after, effects = take(holding.key, shown)
    if shown.status is ledger.Status.OPEN:
        return after, effects
    after, more = _observe(after, shown)
    return after, effects + more


def _show(holding: Holding, member: int) -> Send:
    version, sealed = holding.sealed[member]
    return Send(member, Held(holding.certificate, holding.ack, sealed, version))


def _with_certificate(holding: Holding, certificate: Certificate) -> Holding:
    if certificate.header.version <= holding.version:
        return holding
    return replace(holding, certificate=certificate, ack=sign_ack(holding.key, certificate.header))


def _with_sealed(holding: Holding, member: int, version: int, sealed: bytes) -> Holding:
    if not sealed:
        return holding
    kept = tuple((version, sealed) if i == member else each for i, each in enumerate(holding.sealed))
    return replace(holding, sealed=kept)


def _known(holding: Holding | None, record: Kept | WitnessClaimed) -> Holding:
    if holding is None:
        raise LocalError(f"the journal has records of group {record.group_id.hex()}, which it never took")
    return holding

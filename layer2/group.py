"""The group core: one member's side of a fault-safe replicated machine, as a pure step from value to value.

Safety: no two members ever hold different certified states at one version; what is committed is never lost unless
layer 1, having seen no newer certificate in the whole challenge period, settles on an older one.

All members sign every version, each at most once and only on the certificate before it; so certificates form one
chain. Every signature is durable before it is sent, so a crash forgets none. If anything is wrong, a member wedges:
its CLAIM is the last thing that it signs but FINAL, and layer 1 settles on the highest certificate.

Source: docs/design/groups.md; van Renesse, Ho and Schiper, Byzantine Chain Replication (2012), for the wedge.
Deviation: a refused command is named in the next version, whose certificate then proves that it never applies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import assert_never

from msgspec.structs import replace

from layer1.codec import decode, encode
from layer1.crypto import Hash, SigningKey
from layer1.errors import LocalError, RemoteError
from layer1.ledger.agreements import Certificate, GroupAgreement
from layer2 import changing, closing, reconnecting, recovering, standing, updating, watcher, witnesses
from layer2.committing import certified, commit_before
from layer2.events import (
    ChangeRefused,
    ChangeWanted,
    ClockSeen,
    CloseRequested,
    Committed,
    ConcurRequested,
    Connected,
    Disconnected,
    DiskFailed,
    Doubts,
    Effect,
    Event,
    Frozen,
    Inquired,
    JoiningSigned,
    LedgerSeen,
    PleaRequested,
    Received,
    Reminded,
    Requested,
    WedgeRequested,
)
from layer2.guarding import note_clock
from layer2.machine import StateMachine
from layer2.messages import (
    Accept,
    Ack,
    Acks,
    ChangeAccept,
    ChangeDecline,
    ChangeProposal,
    ChangeReady,
    ChangeWish,
    CloseRequest,
    Commit,
    Doubt,
    Error,
    FinalAccept,
    FinalProposal,
    FinalReady,
    Held,
    Hold,
    Inquiry,
    LostData,
    Newest,
    Propose,
    Resume,
    Standing,
    Submit,
    require,
)
from layer2.records import (
    Certified,
    ChangeDropped,
    ChangeSigned,
    Claimed,
    Confirmed,
    Doubted,
    EpochBegun,
    FinalSigned,
    Lost,
    Pleaded,
    Record,
    Recovered,
    Signed,
    Snapshot,
)
from layer2.state import KeyRing, Pending, Place, first_state, follow, state_of
from layer2.updating import Step
from layer2.value import Group

UpdateMessage = Newest | Submit | Propose | Accept | Commit | Inquiry | Standing

__all__ = ["Group", "Step", "create", "remember", "replay", "restore", "snapshot", "step"]


def create(
    agreement: GroupAgreement,
    group_id: Hash,
    index: int,
    key: SigningKey,
    machine: StateMachine,
    *,
    keys: KeyRing | None = None,
    margin_ms: int | None = None,
) -> Group:
    """A member's side of a new group, at version 0. A member that forgot the group begins with a `Lost` record.

    Args:
        agreement: As layer 1 holds it.
        group_id: Layer 1's name for it.
        index: Ours in the agreement.
        key: Ours for this agreement.
        machine: What the group replicates.
        keys: Finds our key for later epochs, if changes give us others.
        margin_ms: M of rule 22; None for a minute.

    Raises:
        LocalError: The key, or the machine, is not the one of the agreement.
    """
    place = Place(agreement, group_id, index, key, machine, keys)
    return _blank(place if margin_ms is None else dataclasses.replace(place, margin_ms=margin_ms))


def step(group: Group, event: Event) -> Step:
    """Advance by one event.

    Returns:
        The new value, and effects for the driver, to be performed in this order.

    Raises:
        Refused: A request of the user that is not possible now.
        RemoteError: A member broke the protocol; :func:`remember` what it carries.
    """
    if group.frozen:
        return _step_frozen(group, event)
    match event:
        case Requested(payloads, salt):
            return updating.send_commands(group, payloads, salt)
        case Received():
            return _receive(group, event)
        case Connected(member):
            connect = witnesses.connect if member in group.place.witnesses else reconnecting.connect
            return connect(group, member)
        case Disconnected(member):
            disconnect = witnesses.disconnect if member in group.place.witnesses else reconnecting.disconnect
            return disconnect(group, member)
        case CloseRequested():
            return closing.send_close(group)
        case WedgeRequested() | PleaRequested() | ConcurRequested() | Doubts() | Reminded():
            return _outside_sessions(group, event)
        case Inquired():
            return standing.send_inquiry(group)
        case DiskFailed(reason):
            return replace(group, frozen=reason), [Frozen(reason)]
        case LedgerSeen() | ClockSeen():
            return _see(group, event)
        case ChangeWanted() | ChangeRefused() | JoiningSigned():
            return _step_change(group, event)
        case _ as never:
            assert_never(never)


def remember(group: Group, error: RemoteError) -> Group:
    """Keep the proof of a double signature that an error of :func:`step` carries: layer 1 may want it (rule 15)."""
    return updating.keep_proof(group, error)


def restore(group: Group, records: Iterable[bytes]) -> tuple[Group, list[Committed]]:
    """What the journal leaves of a group.

    Args:
        group: As :func:`create` gives it.
        records: All that its effects persisted, in order, or a snapshot and all that came after it.

    Returns:
        The group, with no member connected, and the versions committed since the snapshot, for the history.

    Raises:
        LocalError: The records contradict themselves.
    """
    history: list[Committed] = []
    for data in records:
        try:
            record: Record = decode(data, Record)  # type: ignore[arg-type]  # a union of structs
        except RemoteError as error:
            raise LocalError(f"a record of group {group.group_id.hex()} does not decode: {error}") from error
        group, committed = replay(group, record)
        history += committed
    return group, history


def replay(group: Group, record: Record) -> tuple[Group, list[Committed]]:
    """One record of :func:`restore`, decoded.

    Raises:
        LocalError: It contradicts the records before it.
    """
    try:
        group, effects = _replay(group, record)
    except RemoteError as error:
        raise LocalError(f"the journal of group {group.group_id.hex()} does not replay: {error}") from error
    me, pending = group.place.index, group.pending
    newest = group.state if pending is None else pending.state
    group = replace(group, next_number=newest.body.applied[me] + 1)
    return group, [effect for effect in effects if isinstance(effect, Committed)]


def snapshot(group: Group) -> bytes:
    """One record that stands for all before it. The history in them is gone then."""
    pending, place = group.pending, group.place
    signed = None
    if pending is not None:
        own = pending.signatures[place.index]
        signed = Signed(pending.propose, b"" if place.is_primary or own is None else own)
    signatures = () if pending is None else pending.signatures
    base, state = group.certificate, group.committed
    if group.tail:
        base = Certificate(state.header, group.tail[0].propose.parent_signatures)
    tail = tuple((each.propose, tuple(s for s in each.signatures if s is not None)) for each in group.tail)
    agreement = None if place.first is None else place.agreement
    record = Snapshot(
        base, state.body, signed, signatures, group.final, group.claim, group.lost, tail, place.first, agreement,
        group.change, group.plea, bool(group.doubts), group.packets, group.left,
    )  # fmt: skip
    return encode(record)


def _see(group: Group, event: LedgerSeen | ClockSeen) -> Step:
    if isinstance(event, LedgerSeen):
        return watcher.observe(group, event.group, event.clock_ms, event.salt, claiming=event.claiming)
    return updating.look_again(note_clock(group, event))


def _outside_sessions(
    group: Group, event: WedgeRequested | PleaRequested | ConcurRequested | Doubts | Reminded
) -> Step:
    match event:
        case WedgeRequested():
            return closing.send_wedge(group)
        case PleaRequested():
            return recovering.plead(group)
        case ConcurRequested():
            return recovering.concur(group)
        case Doubts():
            return recovering.doubt(group)
        case Reminded():
            return recovering.receive_reminder(group, event)
        case _ as never:
            assert_never(never)


def _step_change(group: Group, event: ChangeWanted | ChangeRefused | JoiningSigned) -> Step:
    match event:
        case ChangeWanted(terms, clock_ms):
            return changing.send_wish(group, terms, clock_ms)
        case ChangeRefused(code, text, salt):
            return changing.send_decline(group, code, text, salt)
        case JoiningSigned(signature):
            return changing.add_joining(group, signature)
        case _ as never:
            assert_never(never)


def _step_frozen(group: Group, event: Event) -> Step:
    """Rule 6: it signs and sends nothing; only the user learns why."""
    if isinstance(event, Requested | CloseRequested | WedgeRequested | PleaRequested | ConcurRequested | ChangeWanted):
        assert group.stopped is not None
        raise group.stopped
    return group, []


def _receive(group: Group, event: Received) -> Step:
    member, message, salt = event.member, event.message, event.salt
    require(member in group.place.peers, f"member {group.place.index} has no session with member {member}")
    require(message.group_id == group.group_id, "a message of another group")
    if isinstance(message, Resume | LostData | Doubt):
        require(member not in group.place.witnesses, f"witness {member} sent a {type(message).__name__}")
        return reconnecting.receive_first(group, member, message, salt)
    if isinstance(message, Error):
        return group, []
    if changing.is_of_another_epoch(group, member):
        return group, []  # [F8]: of an epoch that is over, or of one that we have yet to see; its Resume mends it
    if isinstance(message, Ack | Acks | Hold | Held):
        return witnesses.receive(group, member, message, salt)
    require(member not in group.place.witnesses, f"witness {member} sent {type(message).__name__}")
    require(member in group.in_step, f"member {member} sent {type(message).__name__} before its Resume")
    if isinstance(message, ChangeWish | ChangeDecline | ChangeProposal | ChangeAccept | ChangeReady):
        return changing.receive(group, member, message, salt)
    if isinstance(message, CloseRequest | FinalProposal | FinalAccept | FinalReady):
        return _receive_end(group, member, message)
    return _receive_update(group, member, message, salt)


def _receive_update(group: Group, member: int, message: UpdateMessage, salt: bytes) -> Step:
    match message:
        case Newest():
            return recovering.receive_newest(group, member, message)
        case Submit():
            return updating.receive_submit(group, member, message, salt)
        case Propose():
            return updating.receive_propose(group, member, message)
        case Accept():
            after, effects = updating.receive_accept(group, member, message, salt)
            return _then_change(*_then_close(after, effects))
        case Commit():
            return updating.receive_commit(group, member, message)
        case Inquiry():
            return standing.receive_inquiry(group, member)
        case Standing():
            return standing.receive_standing(group, member, message)
        case _ as never:
            assert_never(never)


def _receive_end(group: Group, member: int, message: CloseRequest | FinalProposal | FinalAccept | FinalReady) -> Step:
    match message:
        case CloseRequest():
            return closing.receive_close(group, member)
        case FinalProposal():
            return closing.receive_final_proposal(group, member, message)
        case FinalAccept():
            return closing.receive_final_accept(group, member, message)
        case FinalReady():
            return closing.receive_final_ready(group, member, message)
        case _ as never:
            assert_never(never)


def _then_close(group: Group, effects: list[Effect]) -> Step:
    """A close that was asked for while a version was in flight."""
    if not group.closing or group.final is not None:
        return group, effects
    group, more = closing.propose_final(group)
    return group, effects + more


def _then_change(group: Group, effects: list[Effect]) -> Step:
    """A change that all wanted while a version was in flight."""
    if group.change is not None or not group.settled_wish:
        return group, effects
    group, more = changing.propose_change(group)
    return group, effects + more


def _replay(group: Group, record: Record) -> Step:
    match record:
        case Signed():
            return _replay_signed(group, record)
        case Certified():
            return _replay_certified(group, record)
        case FinalSigned():
            return replace(group, final=record, closing=True), []
        case Claimed(claim):
            return replace(group, claim=claim), []
        case Lost() | Doubted() | Confirmed() | Recovered() | Pleaded():
            return recovering.replay(group, record), []
        case ChangeSigned():
            return replace(group, change=record), []
        case ChangeDropped():
            return replace(group, change=None), []
        case EpochBegun():
            return replace(changing.begin(group, record), foreign_version=None), []
        case Snapshot():
            return _replay_snapshot(group, record), []
        case _ as never:
            assert_never(never)


def _replay_signed(group: Group, record: Signed) -> Step:
    place = group.place
    state, batch = follow(place, group.state, record.propose)
    found = {0: record.propose.signature, place.index: record.signature or record.propose.signature}
    signatures = tuple(found.get(i) for i in range(place.size))
    group, effects = commit_before(group, state.version)
    group = replace(group, pending=Pending(state, record.propose, batch, signatures))
    group, more = updating.settle_pending(group) if None not in signatures else (group, [])
    return group, effects + more


def _replay_certified(group: Group, record: Certified) -> Step:
    if group.pending is None or group.pending.state.version != record.version:
        raise LocalError(f"a certificate of version {record.version} in the journal, and no signature of it")
    return updating.settle_pending(replace(group, pending=replace(group.pending, signatures=record.signatures)))


def _replay_snapshot(group: Group, record: Snapshot) -> Group:
    place = group.place
    if record.first is not None and record.agreement is not None:
        later = place.following(record.agreement, record.first)
        if later is None:
            raise LocalError(f"a snapshot of epoch {record.first.epoch}, in which our seat is somebody else's")
        place = later
    state = state_of(place, record.certificate.header, record.body)
    group = replace(_blank(place), state=state, signatures=record.certificate.signatures, packets=record.packets)
    for propose, signatures in record.tail:
        after, batch = follow(place, group.state, propose)
        group, _ = certified(group, Pending(after, propose, batch, signatures))
    closing = record.final is not None
    group = replace(
        group, final=record.final, claim=record.claim, lost=record.lost, closing=closing, change=record.change
    )
    doubts = frozenset(place.peers) if record.doubted else frozenset[int]()
    group = replace(group, plea=record.plea, doubts=doubts, left=record.left)
    if record.pending is None:
        return group
    after, batch = follow(place, group.state, record.pending.propose)
    return replace(group, pending=Pending(after, record.pending.propose, batch, record.pending_signatures))


def _blank(place: Place) -> Group:
    """At version 0."""
    group = Group(place, first_state(place), ())
    return replace(group, acked=(0,) * place.places, acks=(None,) * place.places) if place.witnessed else group

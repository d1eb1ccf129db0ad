"""Committing: what nothing can undo, and in a witnessed group, what everybody has acknowledged (rule 3).

Safety: whatever settles a witnessed group by the claims of f + 1 of its 2f + 1, with f of them faulty, settles it on
every version that an honest member called committed, or on a later one.

An ACK means "I durably hold this certificate", and nothing is ACKed after a claim [F3]. So whoever is honest and ACKed
a committed version claims that one or a higher one, and of f + 1 who claim at least one is honest. After its own claim
a member calls nothing committed any more [F2]: those who claim with it may be others than those who ACK.

What proves to this member that another place holds Cert(s): its ACK of s or of a later version; a member's signature
of s + 1, which it makes on Cert(s) only; in a pair the second member's signature of s, which is the last that Cert(s)
lacked; what another member says itself, on its own link, that it holds.

Source: docs/design/groups.md, rule 3 and "Witnessed groups"; decision 033; van Renesse, Ho and Schiper (2012).
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from layer1.codec import encode
from layer1.crypto import Kind, PublicKey, Signature, SigningKey, verify
from layer1.ledger.agreements import GroupHeader
from layer2.events import Committed, Effect, Rejected, Send
from layer2.messages import Ack, Acked, Acks, require
from layer2.payments import MACHINE, Offer, lock_news
from layer2.state import Pending, State
from layer2.value import Group

Step = tuple[Group, list[Effect]]


def sign_ack(key: SigningKey, header: GroupHeader) -> Signature:
    """ACK: the signer durably holds the certificate of `header`."""
    return key.sign(Kind.ACK, header.chain_id, encode(header))


def verify_ack(key: PublicKey, header: GroupHeader, signature: Signature) -> bool:
    """Whether `signature` is an ACK of `header` by `key`."""
    return verify(key, signature, Kind.ACK, header.chain_id, encode(header))


def certified(group: Group, version: Pending) -> Step:
    """Make a version the newest one, given all its signatures, durable; commit it, or wait until all have ACKed it."""
    signatures = tuple(s for s in version.signatures if s is not None)
    before = group.committed
    group = replace(group, state=version.state, signatures=signatures, pending=None)
    if not group.place.witnessed:
        return commit(group, version, before)
    group = replace(group, base=before, tail=(*group.tail, version))
    return settle_tail(_note_signers(group))


def note(group: Group, place: int, version: int) -> Group:
    """That this place durably holds the certificates up to `version`."""
    if not group.acked or group.acked[place] >= version:
        return group
    return replace(group, acked=tuple(version if i == place else v for i, v in enumerate(group.acked)))


def note_signed(group: Group, member: int, version: int) -> Group:
    """That this member signed `version`: it did so on the certificate before. The last of a pair had the other's."""
    return note(group, member, version if group.place.size == 2 and member == 1 else version - 1)


def learn(group: Group, acks: Iterable[Acked]) -> Group:
    """Take ACKs that are new and of versions that this member holds and waits for; others are of no use here.

    Raises:
        RemoteError: There is no such place, or a signature is wrong.
    """
    for each in acks:
        require(0 <= each.place < group.place.places, f"an ACK of place {each.place} of {group.place.places}")
        header, held = _header_at(group, each.version), group.acks[each.place]
        if header is None or (held is not None and held.version >= each.version):
            continue
        good = verify_ack(group.place.agreement.key_of(each.place), header, each.signature)
        require(good, f"the ACK of version {each.version} by place {each.place} is wrong")
        acks_by_place = tuple(each if i == each.place else ack for i, ack in enumerate(group.acks))
        group = note(replace(group, acks=acks_by_place), each.place, each.version)
    return group


def settle_tail(group: Group) -> Step:
    """Commit what all have ACKed. The primary passes the ACKs on."""
    level = min(group.acked, default=0)
    if not group.tail or group.tail[0].state.version > level or group.has_spoken:  # [F2]
        return group, []
    effects: list[Effect] = []
    while group.tail and group.tail[0].state.version <= level:
        group, more = commit_oldest(group)
        effects += more
    return group, effects


def commit_oldest(group: Group) -> Step:
    """Commit the first of the tail."""
    version, rest, before = group.tail[0], group.tail[1:], group.committed
    return commit(replace(group, tail=rest, base=version.state if rest else None), version, before)


def commit_before(group: Group, version: int) -> Step:
    """Commit what is below a version that this member signed: it did so only when all had ACKed that. For replay."""
    effects: list[Effect] = []
    while group.tail and group.tail[0].state.version < version - 1:
        group, more = commit_oldest(group)
        effects += more
    return group, effects


def in_window(group: Group) -> bool:
    """Whether the next version may be signed: nothing but the newest certified one waits for ACKs."""
    return not group.tail or group.tail[0].state.version == group.version


def proof(group: Group) -> tuple[Acked, ...]:
    """What the next proposal carries: the witnesses' newest ACKs, of the version before the newest, at least."""
    if not group.place.witnessed or group.version < 2:
        return ()
    return tuple(ack for ack in group.acks[group.place.size :] if ack is not None)


def relay(group: Group, *members: int) -> list[Effect]:
    """At the primary: pass on the ACKs that are here."""
    acks = tuple(ack for ack in group.acks if ack is not None)
    if not group.place.is_primary or not acks:
        return []
    message = Acks(group.group_id, group.state.header.epoch, acks)
    return [Send(member, message) for member in members or group.others if member in group.in_step]


def acknowledge(group: Group) -> list[Effect]:
    """At a member with others beside the primary: say that the newest certificate is durable here (rule 3).

    Not after a claim [F3]. After FINAL it is said again: nothing is certified above the version that FINAL pays, so it
    is the ACK of that one, byte for byte, and nothing more is signed (rule 7). Others may have forgotten it in a crash.
    """
    place, header = group.place, group.state.header
    silent = not place.witnessed or place.is_primary or place.size == 2 or header.version == 0
    if silent or group.has_spoken or group.lost:
        return []
    return [Send(0, Ack(group.group_id, header.epoch, header.version, sign_ack(place.key, header)))]


def unacknowledged(group: Group) -> tuple[int, ...]:
    """Places whose ACK of the oldest version that waits for ACKs is not known here."""
    if not group.tail:
        return ()
    return tuple(i for i, version in enumerate(group.acked) if version < group.tail[0].state.version)


def commit(group: Group, version: Pending, before: State) -> Step:
    """Tell of a version that nothing can undo, and of our commands whose fate it decides.

    What it refutes comes first: a command that a crash made us forget may have the number of a later one of ours, and
    whoever waits for that number waits for the later one.
    """
    state, batch, me = version.state, version.batch, group.place.index
    committed = Committed(
        state.version, batch, state.body.balances, state.header.epoch, state.body.locks, before.machine_state
    )
    if state.machine_state is not before.machine_state:
        group = replace(group, packets=_packets(group, before, version))
    applied = state.body.applied[me]
    if group.next_number <= applied:
        group = replace(group, next_number=applied + 1)
    if not group.outbox:
        return group, [committed]
    dead = [command for command in group.outbox if command.number <= applied]
    group = replace(group, outbox=group.outbox[len(dead) :])
    done = {command.number: command for command in batch.commands if command.member == me}
    reasons = {refusal.number: refusal for refusal in batch.refusals if refusal.member == me}
    effects: list[Effect] = []
    for command in dead:
        if done.get(command.number) == command:
            continue
        reason = reasons.get(command.number)
        code, text = (reason.code, reason.message) if reason else ("superseded", "a later command took its place")
        effects.append(Rejected(command.number, code, text))
    return group, [*effects, committed]


def _packets(group: Group, before: State, version: Pending) -> tuple[tuple[int, bytes], ...]:
    """What comes with offers to us, for as long as their locks stand."""
    body, me = version.state.body, group.place.index
    ours = {lock.id for lock in body.locks if lock.payee == me}
    found = dict(group.packets)
    if ours - found.keys() and group.place.machine.name == MACHINE:
        for lock, _, command in lock_news(before.machine_state, version.batch.commands):
            if isinstance(command, Offer):
                found[lock.id] = command.packet
    return tuple((number, packet) for number, packet in found.items() if number in ours)


def _note_signers(group: Group) -> Group:
    """What the newest certificate says of those who signed it, and that it is durable here."""
    for member in range(group.place.size):
        group = note_signed(group, member, group.version)
    return note(group, group.place.index, group.version)


def _header_at(group: Group, version: int) -> GroupHeader | None:
    states: Iterable[State] = (*(each.state for each in group.tail), group.state)
    return next((state.header for state in states if state.version == version), None)

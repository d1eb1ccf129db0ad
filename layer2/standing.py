"""Whom a group waits for: the member that has not signed, or is not there.

Safety: nothing here makes anybody sign; what the primary tells of others' signatures counts only once verified.

The primary knows who has signed. Another member knows only what it was shown, so the primary tells it, with the
signatures as proof of who did sign. Who did not is the primary's word: it may keep a signature back, and the one who
waits cannot tell its silence from the member's. For people, therefore; a wedge needs no culprit (rule 8).

Source: docs/design/groups.md, rules 2, 3 and 7; decision 028.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from layer1.crypto import Signature
from layer1.ledger.agreements import verify_final, verify_state
from layer2.closing import with_final_signatures
from layer2.committing import relay, unacknowledged
from layer2.events import Effect, Send
from layer2.holding import send_hold
from layer2.messages import Inquiry, Standing, require
from layer2.updating import Step, certify
from layer2.value import Group

Signatures = tuple[Signature | None, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a group does not go on, as far as this member knows. Members are indexes of the agreement."""

    version: int
    """That lacks signatures: in flight, or the one that FINAL pays out. The newest certified one if only somebody is
    absent.
    """
    unsigned: tuple[int, ...]
    """Members whose signature of it is not here."""
    absent: tuple[int, ...]
    """Members that are not in step: until they are, no further version is signed."""
    final: bool = False
    """Whether it is FINAL that they have not signed (rule 7)."""
    unacknowledged: tuple[int, ...] = ()
    """In a witnessed group: places whose ACK of the oldest version that is not committed is not here (rule 3)."""


def waiting(group: Group) -> Waiting | None:
    """Whom this member waits for now, or None. Normal for the time of a round trip; a stuck group stays so."""
    final, pending, version = group.final, group.pending, group.version
    if group.closed:
        return None
    if final is not None and None in final.signatures:
        return Waiting(version, _lacking(final.signatures), group.absent, final=True)
    if final is not None or group.stopped is not None:
        return None  # layer 1 has what it needs to end it, or decides; or our own disk is what is missing
    holders = unacknowledged(group)
    if pending is not None and None in pending.signatures:
        return Waiting(version + 1, _lacking(pending.signatures), group.absent, unacknowledged=holders)
    if holders:
        return Waiting(group.tail[0].state.version, (), group.absent, unacknowledged=holders)
    if group.absent:
        return Waiting(version, (), group.absent)
    if group.outbox and group.pending is None:
        return Waiting(version + 1, (0,), ())  # our commands are there, and no proposal came
    return None


def send_inquiry(group: Group) -> Step:
    """Ask the primary, if it may know more than this member does; a witness that has not ACKed gets it once more."""
    found, place = waiting(group), group.place
    if found is None:
        return group, []
    silent = [witness for witness in found.unacknowledged if witness in place.witnesses]
    effects = send_hold(group, *silent) if silent else []
    unclear = any(member != 0 for member in found.unsigned + found.unacknowledged if member != place.index)
    if place.is_primary or not unclear or 0 not in group.in_step:
        return group, effects
    return group, [*effects, Send(0, Inquiry(group.group_id))]


def receive_inquiry(group: Group, member: int) -> Step:
    """At the primary: tell who asks."""
    place = group.place
    require(place.is_primary, f"member {member} inquires of member {place.index}: ask the primary")
    return group, [Send(member, standing(group)), *relay(group, member)]


def standing(group: Group) -> Standing:
    """At the primary: whom the group waits for, with the signatures that are here."""
    pending, final = group.pending, group.final
    version, signatures = (0, ()) if pending is None else (pending.state.version, pending.signatures)
    told = () if final is None else final.signatures
    return Standing(group.group_id, group.absent, group.closing or bool(group.bereft), version, signatures, told)


def tell_news(before: Group, group: Group, member: int) -> list[Effect]:
    """At the primary, after a Resume of `member` or the end of its link: what the others cannot know of each other.

    Who says its Resume gets an answer. The others hear of changes only: one that repeats itself costs them nothing.
    """
    if not group.place.is_primary or not group.place.primary_relays:
        return []
    same = (before.in_step, before.closing, before.bereft) == (group.in_step, group.closing, group.bereft)
    message = standing(group)
    told = [member] if same and member < group.place.size else [] if same else group.others
    return [Send(each, message) for each in told if each in group.in_step]


def receive_standing(group: Group, member: int, message: Standing) -> Step:
    """At a member: keep who is absent, and the signatures that are new; with all of them the version is certified.

    Raises:
        RemoteError: It names nobody's place, or a signature is wrong.
    """
    place = group.place
    require(member == 0 and not place.is_primary, f"member {member} tells where the group stands: the primary does")
    known = all(0 < each < place.places and each != place.index for each in message.absent)
    require(known, f"of {place.places} places {message.absent} would be absent, by what member {place.index} is told")
    if group.closed:
        return group, []
    after = replace(group, told_absent=frozenset(message.absent), closing=group.closing or message.closing)
    after, effects = _with_state_signatures(after, message)
    after, more = _with_final_signatures(after, message)
    return after, effects + more


def _with_state_signatures(group: Group, message: Standing) -> Step:
    pending, members = group.pending, group.place.agreement.members
    if pending is None or pending.state.version != message.version:
        return group, []  # of another version than ours: it crossed what we said
    merged = _merge(group, pending.signatures, message.signatures)
    for member in _changed(pending.signatures, merged):
        good = verify_state(members[member], pending.state.header, merged[member] or b"")
        require(good, f"member {member}'s signature of version {message.version} is wrong")
    if merged == pending.signatures:
        return group, []
    group = replace(group, pending=replace(pending, signatures=merged))
    return certify(group, b"") if None not in merged else (group, [])


def _with_final_signatures(group: Group, message: Standing) -> Step:
    if group.final is None or not message.final_signatures:
        return group, []
    agreement, held = group.place.agreement, group.final.signatures
    merged = _merge(group, held, message.final_signatures)
    for member in _changed(held, merged):
        good = verify_final(agreement.members[member], agreement.chain_id, group.final.final, merged[member] or b"")
        require(good, f"member {member}'s signature of FINAL is wrong")
    return with_final_signatures(group, {i: signature for i, signature in enumerate(merged) if signature is not None})


def _merge(group: Group, held: Signatures, shown: Signatures) -> Signatures:
    """What is here already stays."""
    size = group.place.size
    require(len(shown) == size, f"{len(shown)} signatures are told of {size} members")
    return tuple(mine or theirs for mine, theirs in zip(held, shown, strict=True))


def _changed(before: Signatures, after: Signatures) -> list[int]:
    return [i for i, signature in enumerate(after) if signature != before[i]]


def _lacking(signatures: Signatures) -> tuple[int, ...]:
    return tuple(i for i, signature in enumerate(signatures) if signature is None)

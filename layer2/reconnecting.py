"""What the primary and a member say first on a new link, and the one answer to each of six cases (rule 5).

Safety: after any crash and any loss of messages, the members go on from one version, or not at all.

A Resume shows the newest certificate and the signature above it. Either both fit into one chain at most one apart,
which the certificate itself mends; or a signature exists that its signer does not know of: then it lost data, or lies.

Members other than the primary have no session with each other: what one says would race what both say to the primary,
and an old Resume would pass for lost data.

Source: docs/design/groups.md, rule 5 and "Coming back from nothing" [F5]; decision 028.
"""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from msgspec.structs import replace

from layer1.codec import encode
from layer1.ledger.agreements import verify_state
from layer2 import changing
from layer2.closing import propose_final
from layer2.committing import acknowledge, note, relay, settle_tail
from layer2.events import Advice, Persist, Send
from layer2.messages import Accept, CloseRequest, Resume, Submit, require
from layer2.records import Lost
from layer2.standing import tell_news
from layer2.updating import (
    Step,
    adopt,
    check_certificate,
    check_not_double,
    drop_unsigned,
    known_signature,
    propose,
    receive_accept,
    resume,
)
from layer2.value import Group


class Case(Enum):
    """How another member's store stands to ours. The sixth case, a lie, is a RemoteError."""

    IN_STEP = "in step"
    THEY_ARE_BEHIND = "they are behind by one"
    I_AM_BEHIND = "I am behind by one"
    THEY_LOST_DATA = "they lost data"
    I_LOST_DATA = "I lost data"


def connect(group: Group, member: int) -> Step:
    """A new link: forget what the old one may have carried, and say where we stand."""
    group, effects = disconnect(group, member)
    return group, [*effects, Send(member, resume(group))]


def disconnect(group: Group, member: int) -> Step:
    """The link is gone. A member submits again on the next one, so the primary forgets what it has not signed."""
    place = group.place
    require(member in place.peers, f"member {place.index} has no session with member {member}")
    queue = tuple(command for command in group.queue if command.member != member)
    after = replace(group, in_step=group.in_step - {member}, queue=queue, told_absent=frozenset())
    after, effects = changing.forget_wish(changing.spoken(after, member))
    return after, effects + (tell_news(group, after, member) if member in group.in_step else [])


def receive_resume(group: Group, member: int, message: Resume, salt: bytes) -> Step:
    """Mend the difference and go on, or stop (rule 5).

    Raises:
        RemoteError: It contradicts itself, or what its sender signed before.
    """
    epoch = message.certificate.header.epoch
    if epoch != group.epoch:
        if epoch < group.epoch:
            return changing.earlier_resume(group, member)
        return changing.later_resume(group, member, message)
    after, effects = _answer(changing.spoken(group, member), member, message, salt)
    return after, effects + tell_news(group, after, member)


def _answer(group: Group, member: int, message: Resume, salt: bytes) -> Step:
    match compare(group, member, message):
        case Case.IN_STEP | Case.THEY_ARE_BEHIND:  # our Resume, or a Commit after it, shows the certificate they miss
            return _go_on(group, member, message, salt)
        case Case.I_AM_BEHIND:
            group, effects = adopt(group, message.certificate)
            group, more = _go_on(group, member, message, salt)
            return group, effects + more
        case Case.THEY_LOST_DATA:
            theirs = message.highest.version if message.highest else message.certificate.header.version
            text = f"member {member} knows version {theirs}, and signed {group.version}: close together, or wedge"
            return _end_with(group, member, text)
        case Case.I_LOST_DATA:
            group, effects = lose(group, f"member {member} shows version {message.certificate.header.version}")
            return replace(group, in_step=group.in_step | {member}), effects
        case _ as never:
            assert_never(never)


def compare(group: Group, member: int, message: Resume) -> Case:
    """Check a Resume whole and tell the case."""
    certificate, ours = message.certificate, group.state.header
    theirs = certificate.header
    if theirs != ours or (certificate.signatures != group.signatures and theirs.version > 0):
        _check_base(group, message)
    _check_highest(group, member, message)
    if theirs.version > ours.version:
        fits = group.pending is not None and group.pending.state.header == theirs
        return Case.I_AM_BEHIND if fits else Case.I_LOST_DATA
    if theirs.version == ours.version:
        return Case.IN_STEP
    if message.highest == ours:
        return Case.THEY_ARE_BEHIND
    return Case.THEY_LOST_DATA


def lose(group: Group, shown: str) -> Step:
    """This member was shown its own signature above its k: no STATE and no CLAIM any more [F5]."""
    if group.lost:
        return group, []
    text = f"{shown}, signed by this member, whose newest is {group.highest.version}: it lost data; close together"
    group, effects = drop_unsigned(group, "lost_data", text)
    return replace(group, lost=True), [Persist(encode(Lost(group.group_id))), *effects, Advice("i_lost_data", text)]


def _check_base(group: Group, message: Resume) -> None:
    if message.certificate.header.version > 0:
        check_certificate(group, message.certificate)
        for index, signature in enumerate(message.certificate.signatures):
            if index != group.place.index:
                check_not_double(group, index, message.certificate.header, signature)
        return
    require(
        message.certificate == group.place.initial, "version 0 is the agreement's own allocation, without signatures"
    )


def _check_highest(group: Group, member: int, message: Resume) -> None:
    highest, base = message.highest, message.certificate.header
    if highest is None:
        require(message.signature is None, "a Resume with a signature of nothing")
        return
    follows = highest.version == base.version + 1 and highest.parent == base.hash
    named = (highest.chain_id, highest.group_id, highest.epoch) == (base.chain_id, base.group_id, base.epoch)
    require(follows and named, f"a Resume whose version {highest.version} does not follow its {base.version}")
    signature = message.signature or b""
    good = verify_state(group.place.agreement.members[member], highest, signature)
    require(good, f"member {member}'s signature of version {highest.version} is wrong")
    check_not_double(group, member, highest, signature)
    mine = known_signature(group, group.place.index, highest.version)
    known = not group.place.is_primary or highest.version <= group.version or (mine is not None and mine[0] == highest)
    require(known, f"member {member} signed version {highest.version}, which was never proposed to it")


def _end_with(group: Group, member: int, text: str) -> Step:
    """A member that lost data signs no STATE, so neither do we: only FINAL, or a wedge, is left.

    What the primary has not signed, nobody will. What a member has submitted, its primary may have signed: that stays
    open until the end is signed, for after a restart this member would still know it as its own.
    """
    group, effects = drop_unsigned(group, "they_lost_data", text) if group.place.is_primary else (group, [])
    group = replace(group, closing=True, in_step=group.in_step | {member})
    again = propose_final(group)[1] if group.final is not None and group.place.is_primary else []
    return group, [*effects, *again, Advice("they_lost_data", text)]


def _go_on(group: Group, member: int, message: Resume, salt: bytes) -> Step:
    group = replace(group, in_step=group.in_step | {member})
    group, effects = settle_tail(note(group, member, message.certificate.header.version))
    if not group.place.is_primary:
        group, more = _go_on_as_member(group, message)
        return group, effects + more
    effects += relay(group, member)
    pending, highest, signature = group.pending, message.highest, message.signature
    if pending is not None and pending.signatures[member] is None:
        if highest == pending.state.header and signature is not None:
            accept = Accept(group.group_id, highest.version, signature)
            group, more = receive_accept(group, member, accept, salt)
            effects += more
        else:
            effects.append(Send(member, pending.propose))  # rule 5: the identical bytes
    effects += changing.show_again(group, member)
    group, more = propose_final(group)
    effects += more
    group, more = changing.propose_change(group) if group.change is None else (group, [])
    effects += more
    group, more = propose(group, salt)
    return group, effects + more


def _go_on_as_member(group: Group, message: Resume) -> Step:
    highest = message.highest
    unknown = frozenset(range(1, group.place.places)) - {group.place.index}
    group = replace(group, told_absent=unknown)  # until the primary tells who is there
    if group.foreign_version is None:  # what we forgot and it has not signed is dead from here on
        group = replace(group, foreign_version=highest.version if highest is not None else -1)
    effects = acknowledge(group)
    if group.outbox and group.stopped is None:
        effects.append(Send(0, Submit(group.group_id, group.outbox)))
    if group.closing and group.final is None:
        effects.append(Send(0, CloseRequest(group.group_id)))
    effects += changing.wish_again(group)
    return group, effects

"""What the primary and a member say first on a new link, and the one answer to each of six cases (rule 5).

Safety: after any crash and any loss of messages, the members go on from one version, or not at all.

A Resume shows the newest certificate and the signature above it. Either both fit into one chain at most one apart,
which the certificate itself mends; or a signature exists that its signer does not know of: then it lost data, or lies.

Members other than the primary have no session with each other: what one says would race what both say to the primary,
and an old Resume would pass for lost data.

A member whose store is a copy says a `Doubt`, and its Resume when it has heard the other's: who does not know how
old the copy is cannot pretend to know as little.

Source: docs/design/groups.md, rule 5 and "Coming back from nothing" [F5]; decision 028.
"""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from msgspec.structs import replace

from layer1.ledger.agreements import verify_state
from layer2 import changing
from layer2.closing import propose_final
from layer2.committing import acknowledge, note, relay, settle_tail
from layer2.events import Effect, LookNow, Send
from layer2.messages import Accept, CloseRequest, Doubt, LostData, Resume, Submit, require
from layer2.recovering import ask, bereave, dispel, first_word, lose, receive_doubt, receive_lost_data, show
from layer2.standing import tell_news
from layer2.updating import (
    Step,
    adopt,
    check_certificate,
    check_not_double,
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
    return group, [*effects, Send(member, first_word(group, member))]


def disconnect(group: Group, member: int) -> Step:
    """The link is gone. A member submits again on the next one, so the primary forgets what it has not signed."""
    place = group.place
    require(member in place.peers, f"member {place.index} has no session with member {member}")
    queue = tuple(command for command in group.queue if command.member != member)
    after = replace(group, in_step=group.in_step - {member}, queue=queue, told_absent=frozenset())
    after, effects = changing.forget_wish(changing.spoken(after, member), member)
    return after, effects + (tell_news(group, after, member) if member in group.in_step else [])


def receive_first(group: Group, member: int, message: Resume | LostData | Doubt, salt: bytes) -> Step:
    """What opens a session: mend the difference and go on, or stop (rule 5).

    Raises:
        RemoteError: It contradicts itself, or what its sender signed before.
    """
    if group.closed:
        return replace(group, in_step=group.in_step | {member}), []  # layer 1 has decided what there was to compare
    if isinstance(message, LostData):
        return _hear_of_loss(group, member, message)
    if isinstance(message, Doubt):
        return receive_doubt(group, member, message)
    epoch = message.certificate.header.epoch
    if epoch != group.epoch:
        if epoch < group.epoch:
            return changing.earlier_resume(group, member)
        return changing.later_resume(group, member, message)
    after, effects = _answer(changing.spoken(group, member), member, message, salt)
    return after, effects + tell_news(group, after, member)


def _hear_of_loss(group: Group, member: int, message: LostData) -> Step:
    if message.epoch < group.epoch:
        return changing.earlier_resume(group, member)
    if message.epoch > group.epoch:
        return group, [LookNow()]  # then our Resume of that epoch has it ask again
    after, effects = receive_lost_data(changing.spoken(group, member), member, message)
    return after, [*effects, *_final_again(after), *tell_news(group, after, member)]


def _answer(group: Group, member: int, message: Resume, salt: bytes) -> Step:
    if group.lost:
        return _answer_bereft(group, member, message)
    case = compare(group, member, message)
    if member not in group.doubts or case is Case.I_LOST_DATA:
        return _mend(group, member, message, case, salt)
    first: list[Effect] = [Send(member, resume(group))]  # it has said where it stands: now we do
    group, effects = dispel(group, member) if case is not Case.THEY_LOST_DATA else (group, [])
    group, more = _mend(group, member, message, case, salt)
    return group, [*effects, *first, *more]


def _mend(group: Group, member: int, message: Resume, case: Case, salt: bytes) -> Step:
    match case:
        case Case.IN_STEP | Case.THEY_ARE_BEHIND:  # our Resume, or a Commit after it, shows the certificate they miss
            return _go_on(group, member, message, salt)
        case Case.I_AM_BEHIND:
            group, effects = adopt(group, message.certificate)
            group, more = _go_on(group, member, message, salt)
            return group, effects + more
        case Case.THEY_LOST_DATA:
            theirs = message.highest.version if message.highest else message.certificate.header.version
            text = f"member {member} knows version {theirs}, and signed {group.version}: close together, or wedge"
            group, effects = bereave(group, member, text)
            return group, effects + _final_again(group)
        case Case.I_LOST_DATA:
            version = message.highest.version if message.highest else message.certificate.header.version
            group, effects = lose(group, f"member {member} shows version {version}")
            return replace(group, in_step=group.in_step | {member}), [*effects, Send(member, ask(group))]
        case _ as never:
            assert_never(never)


def _final_again(group: Group) -> list[Effect]:
    return propose_final(group)[1] if group.final is not None and group.place.is_primary else []


def _answer_bereft(group: Group, member: int, message: Resume) -> Step:
    """At a member that lost data, and has said so: where the other stands. What it holds comes as `Newest`."""
    theirs = message.certificate.header
    if theirs.version >= group.version:
        _check_base(group, message)
    group = replace(group, in_step=group.in_step | {member})
    if not group.place.is_primary:
        group = replace(group, told_absent=frozenset())
    fits = theirs.version >= group.version or message.highest == group.state.header
    effects: list[Effect] = [] if fits else [show(group, member)]
    return group, effects if member in group.shown_by else [Send(member, ask(group)), *effects]


def compare(group: Group, member: int, message: Resume) -> Case:
    """Check a Resume whole and tell the case."""
    certificate, ours = message.certificate, group.state.header
    theirs = certificate.header
    if theirs != ours or (certificate.signatures != group.signatures and theirs.version > 0):
        _check_base(group, message)
    _check_highest(group, member, message)
    if _is_forgotten(group, message):
        return Case.I_LOST_DATA
    if theirs.version > ours.version:
        fits = group.pending is not None and group.pending.state.header == theirs
        return Case.I_AM_BEHIND if fits else Case.I_LOST_DATA
    if theirs.version == ours.version:
        return Case.IN_STEP
    if message.highest == ours:
        return Case.THEY_ARE_BEHIND
    return Case.THEY_LOST_DATA


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
    require(
        _was_proposed(group, message), f"member {member} signed version {highest.version}, which was never proposed"
    )


def _was_proposed(group: Group, message: Resume) -> bool:
    """Nobody but the primary proposes: it knows what a member has signed, or the member shows that it forgot it."""
    place, highest = group.place, message.highest
    if not place.is_primary or highest is None or highest.version <= group.version:
        return True
    mine = known_signature(group, place.index, highest.version)
    return (mine is not None and mine[0] == highest) or _is_forgotten(group, message)


def _is_forgotten(group: Group, message: Resume) -> bool:
    """At the primary: the member shows our own signature of a version that we do not know of [F5]."""
    place, highest, proposal = group.place, message.highest, message.proposal
    if not place.is_primary or highest is None or proposal is None or highest.version <= group.version:
        return False
    mine = known_signature(group, place.index, highest.version)
    known = mine is not None and mine[0] == highest
    return not known and verify_state(place.agreement.members[place.index], highest, proposal)


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

"""Changing an open group: agreed among all, signed on the newest state, decided by layer 1 (rules 24 and 25).

Safety: while a change may still become the next epoch, no member that signed it signs any state above its base; so
whichever of change and wedge layer 1 takes first, what is committed is in it.

First all say that they want the same terms, which binds nobody. Then the primary, with nothing in flight, signs the one
successor that follows from the newest state; the others check it against their own, and sign. A signature is durable
before it is sent, and ends with a proven record of layer 1 only: the next epoch, or the old one at a clock past the
expiry. In the next epoch all begins anew, at version 0: versions, numbers of commands, claims; and every message that
could be of another epoch is told apart by the Resume before it.

Source: docs/design/groups.md, rules 24 and 25 [F8]; decisions 030 and 034.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from layer1.codec import encode
from layer1.crypto import Signature, SigningKey
from layer1.errors import Refused, check
from layer1.ledger import records as ledger
from layer1.ledger.agreements import (
    Successor,
    change_kind,
    initial_body,
    initial_certificate,
    sign_successor,
    verify_successor,
)
from layer1.ledger.changing import joining
from layer1.ledger.transactions import ChangeGroup
from layer2.committing import commit_oldest
from layer2.events import (
    ChangeAsked,
    ChangeEnded,
    Effect,
    EpochBegan,
    Finished,
    LookNow,
    Persist,
    Rejected,
    Send,
    Submission,
)
from layer2.guarding import locks_text
from layer2.messages import (
    ChangeAccept,
    ChangeDecline,
    ChangeProposal,
    ChangeReady,
    ChangeWish,
    Resume,
    require,
)
from layer2.records import ChangeDropped, ChangeSigned, EpochBegun, Lost
from layer2.recovering import first_to_witness, first_word
from layer2.state import state_of
from layer2.terms import Terms, check_window, successor_of
from layer2.updating import Step, adopt, answer_late, propose
from layer2.value import Group, Wish

ChangeMessage = ChangeWish | ChangeDecline | ChangeProposal | ChangeAccept | ChangeReady

# ------------------------------------------------------------------------------------------------------- agreeing


def send_wish(group: Group, terms: Terms, clock_ms: int) -> Step:
    """Our user wants these terms, of its own accord or because it was asked.

    Raises:
        Refused: Why the group has stopped, ``group_changing``, ``group_closing``, ``not_connected``, ``policy``, or why
            no successor follows from the newest state.
    """
    _check_may_change(group)
    check(group.together, "not_connected", "another member is not connected: wait for it")  # rule 25: members alone
    check_window(terms, clock_ms)
    successor_under(group, terms)  # as things stand now
    wish = group.wish
    if wish is None or wish.terms != terms:
        check(wish is None, "group_changing", "another change is being talked about: try again in a moment")
        wish = Wish(terms, frozenset())
    wish = replace(wish, agreed=wish.agreed | {group.place.index})
    group = replace(group, wish=wish)
    if not group.place.is_primary:
        if group.asked is not None:
            return receive_proposal(group, 0, group.asked)
        return group, [Send(0, ChangeWish(group.group_id, terms))]
    silent = [member for member in group.others if member not in wish.agreed]
    if silent:
        return group, [Send(member, ChangeWish(group.group_id, terms)) for member in silent]
    return propose_change(group)


def receive_wish(group: Group, member: int, message: ChangeWish) -> Step:
    """Somebody agrees to these terms; our user is asked, unless it does too."""
    terms, place = message.terms, group.place
    require(place.is_primary or member == 0, f"member {member} wants a change: it tells the primary")
    try:
        _check_may_change(group)
        successor_under(group, terms)
    except Refused as refusal:
        return group, [_decline(group, member, terms, refusal.code, refusal.message)]
    wish = group.wish
    if wish is not None and wish.terms != terms:
        if place.is_primary:  # whose word stands, when two want different things at once
            text = "another change is being talked about: try again in a moment"
            return group, [_decline(group, member, terms, "group_changing", text)]
        group, effects = _give_up(group, "group_changing", "the primary wants another change: try again in a moment")
        group, more = receive_wish(group, member, message)
        return group, effects + more
    known = wish is not None and (place.index in wish.agreed or member in wish.agreed)
    wish = wish or Wish(terms, frozenset())
    group = replace(group, wish=replace(wish, agreed=wish.agreed | {member}))
    if place.is_primary and place.index in wish.agreed:
        return propose_change(group)
    return group, [] if known else [ChangeAsked(member, terms)]


def send_decline(group: Group, code: str, text: str, salt: bytes) -> Step:
    """Our user does not want what is talked about, or no more. What is signed stays signed."""
    if group.wish is None or group.change is not None:
        return group, []
    terms, place = group.wish.terms, group.place
    whom = group.others if place.is_primary else (0,)
    group = replace(group, wish=None, asked=None)
    group, effects = propose(group, salt)
    return group, [*(_decline(group, member, terms, code, text) for member in whom), *effects]


def receive_decline(group: Group, member: int, message: ChangeDecline, salt: bytes) -> Step:
    """Somebody does not want it: then nobody gets it."""
    if group.wish is None or group.change is not None or group.wish.terms.agreement.hash != message.terms:
        return group, []
    place, terms = group.place, group.wish.terms
    group, effects = _give_up(group, message.code, message.message)
    if place.is_primary:
        effects += [
            _decline(group, other, terms, message.code, message.message) for other in group.others if other != member
        ]
        group, more = propose(group, salt)
        effects += more
    return group, effects


def forget_wish(group: Group, gone: int) -> Step:
    """At the primary, when the link to `gone` ends: what was only talked about begins anew, and the others learn it."""
    if group.wish is None or group.change is not None:
        return group, []
    if not group.place.is_primary:  # what our own user wants is said again on the next link
        mine = group.place.index in group.wish.agreed
        return replace(
            group, wish=replace(group.wish, agreed=frozenset({group.place.index})) if mine else None, asked=None
        ), []
    terms = group.wish.terms
    group, effects = _give_up(group, "not_connected", "a member is gone: try again when it is back")
    others = (other for other in group.others if other != gone)  # on a new link to it a Resume comes first
    return group, effects + [_decline(group, i, terms, "not_connected", "another member is gone") for i in others]


# -------------------------------------------------------------------------------------------------------- signing


def propose_change(group: Group) -> Step:
    """At the primary: sign the successor, when all want it and nothing is in flight (rule 24)."""
    if group.change is not None:
        return group, _show(group)
    wish = group.wish
    if not group.place.is_primary or wish is None or len(wish.agreed) < group.place.size or group.pending is not None:
        return group, []
    try:
        _check_may_change(group)
        successor = successor_under(group, wish.terms)
    except Refused as refusal:
        terms = wish.terms
        group, effects = _give_up(group, refusal.code, refusal.message)
        return group, effects + [_decline(group, i, terms, refusal.code, refusal.message) for i in group.others]
    change = _signed(group, wish.terms, successor, {})
    group = replace(group, change=change, wish=None)
    return group, [Persist(encode(change)), *_show(group)]


def receive_proposal(group: Group, member: int, message: ChangeProposal) -> Step:
    """Sign the successor, if our user wants it, k = base, and no other is outstanding (rule 24)."""
    place = group.place
    require(member == 0 and not place.is_primary, f"member {member} proposes a change: the primary does")
    if group.change is not None:
        same = group.change.terms == message.terms
        require(same, "another change is signed already", group.change.terms, message.terms)
        return group, [_accept(group)]
    if group.ended is not None or not group.informed:
        return group, []
    if group.pending is not None and group.pending.state.header == message.certificate.header:
        group, effects = adopt(group, message.certificate)
    else:
        effects = []
    require(group.pending is None, f"a change while version {group.version + 1} is in flight")
    try:
        successor = successor_under(group, message.terms)
    except Refused as refusal:
        require(False, f"a change that does not follow from version {group.version}: {refusal.message}")
        raise
    kind = change_kind(place.agreement, successor.agreement)
    good = verify_successor(place.agreement.members[0], kind, successor, message.signature)
    require(good, f"the primary's signature of the change is wrong, or is not for version {group.version}")
    if group.wish is None or group.wish.terms != message.terms or place.index not in group.wish.agreed:
        known = group.asked == message
        group = replace(group, wish=Wish(message.terms, frozenset({0})), asked=message)
        return group, effects if known else [*effects, ChangeAsked(0, message.terms)]
    new = joining(place.agreement, successor.agreement)
    require(len(message.joining) == len(new), f"{len(message.joining)} signatures of who joins, {len(new)} do")
    for each, found in zip(new, message.joining, strict=True):
        good = found is None or verify_successor(each, kind, successor, found)
        require(good, f"a signature of the change is not by key {each.key.hex()}")
    change = _signed(group, message.terms, successor, {0: message.signature}, message.joining)
    group = replace(group, change=change, wish=None, asked=None)
    return group, [*effects, Persist(encode(change)), _accept(group), *_submit(group)]


def receive_accept(group: Group, member: int, message: ChangeAccept) -> Step:
    """At the primary: a member's signatures; with all of them everybody can bring it to layer 1."""
    change = group.change
    require(group.place.is_primary, f"member {member} accepts a change: it tells the primary")
    if change is None or change.terms.agreement.hash != message.terms:
        return group, []  # it was over for us before this arrived
    signatures = tuple(message.signature if i == member else s for i, s in enumerate(change.signatures))
    return _with_signatures(group, signatures, _merged(change.joining, message.joining))


def receive_ready(group: Group, member: int, message: ChangeReady) -> Step:
    """At a member: everybody's signatures."""
    require(member == 0 and not group.place.is_primary, f"member {member} completes a change: the primary does")
    if group.change is None:
        return group, []  # it was over for us before this arrived
    return _with_signatures(group, tuple(message.signatures), tuple(message.joining))


def add_joining(group: Group, signature: Signature) -> Step:
    """At the primary: the signature of somebody who is no member yet, brought by the user.

    Raises:
        Refused: ``no_change``, or ``bad_signature``: it is of nobody who joins.
    """
    change, before = group.change, group.place.agreement
    if change is None or not group.place.is_primary:
        raise Refused("no_change", "no change is signed here that anybody could join")
    successor = change.successor
    kind, new = change_kind(before, successor.agreement), joining(before, successor.agreement)
    seat = next((i for i, m in enumerate(new) if verify_successor(m, kind, successor, signature)), None)
    if seat is None:
        raise Refused("bad_signature", "this is the signature of nobody who joins the group by the change")
    found = tuple(signature if i == seat else s for i, s in enumerate(change.joining))
    return _with_signatures(group, change.signatures, found)


def payload_of(group: Group) -> ChangeGroup | None:
    """What begins the next epoch, when all have signed."""
    change = group.change
    if change is None or None in change.signatures or None in change.joining:
        return None
    signatures, also = (tuple(s for s in each if s is not None) for each in (change.signatures, change.joining))
    return ChangeGroup(change.successor, signatures, also)


def receive(group: Group, member: int, message: ChangeMessage, salt: bytes) -> Step:
    """One message about a change.

    Raises:
        RemoteError: It is not for that member to say, or a signature is wrong.
    """
    match message:
        case ChangeWish():
            return receive_wish(group, member, message)
        case ChangeDecline():
            return receive_decline(group, member, message, salt)
        case ChangeProposal():
            return receive_proposal(group, member, message)
        case ChangeAccept():
            return receive_accept(group, member, message)
        case ChangeReady():
            return receive_ready(group, member, message)
        case _ as never:
            assert_never(never)


# ------------------------------------------------------------------------------------------- what layer 1 has decided


def lapse(group: Group, salt: bytes) -> Step:
    """Layer 1 will never take the change: go on in the old epoch with what was held back, if there is a salt for it."""
    change = group.change
    assert change is not None
    text = f"the change expired at ledger clock {change.terms.expires_ms} ms, or the group was wedged before it"
    effects: list[Effect] = [Persist(encode(ChangeDropped(group.group_id))), ChangeEnded("expired", text)]
    held, group = group.held, replace(group, change=None, asked=None, held=None)
    if held is not None and salt:
        group, more = answer_late(group, held)
        return group, effects + more
    group, more = propose(group, salt) if salt else (group, [])
    return group, effects + more


def enter(group: Group, shown: ledger.Group) -> Step:
    """Layer 1 shows a later epoch: begin it, if it is the one that we signed; or else we forgot something [F5]."""
    change, epoch = group.change, group.state.header.epoch
    ours = change is not None and shown.epoch == epoch + 1 and shown.agreement == change.successor.agreement
    if ours:
        assert change is not None
        begun = epoch_of(change.successor)
    elif shown.body is not None:
        begun = EpochBegun(shown.group_id, shown.agreement, shown.origin, shown.certificate, shown.body, lost=True)
    else:  # who knows the state behind the header? We do not: say no more
        return (group, []) if group.lost else (replace(group, lost=True), [Persist(encode(Lost(group.group_id)))])
    before = group
    group, effects = _finish_epoch(group)
    after = begin(group, begun)
    effects = [Persist(encode(begun)), *effects]
    if after.left:
        return after, [*effects, Finished(group.group_id, _paid_out(before))]
    withdrawals = change.successor.withdrawals if ours and change is not None else ()
    deposits = change.successor.deposits if ours and change is not None else ()
    balances = after.state.body.balances
    effects.append(
        EpochBegan(begun.first.epoch, before.place.agreement, begun.agreement, balances, deposits, withdrawals)
    )
    members = [each for each in after.place.peers if each not in after.place.witnesses]
    effects.extend(Send(member, first_word(after, member)) for member in members)
    return after, effects + [effect for witness in after.place.witnesses for effect in first_to_witness(after, witness)]


def epoch_of(successor: Successor) -> EpochBegun:
    """The beginning of the epoch that a change leads to."""
    agreement, state, name = successor.agreement, successor.machine_state, successor.group_id
    first = initial_certificate(agreement, name, successor.epoch + 1, successor.base, state)
    return EpochBegun(name, agreement, first.header, first, initial_body(agreement, state), lost=False)


def begin(group: Group, begun: EpochBegun) -> Group:
    """The group as it begins an epoch; nothing signed before it counts any more."""
    place = group.place.following(begun.agreement, begun.first)
    if place is None:
        return replace(group, left=True, change=None, pending=None, queue=(), outbox=(), in_step=frozenset())
    fresh = Group(place, state_of(place, begun.certificate.header, begun.body), begun.certificate.signatures)
    if place.witnessed:
        fresh = replace(fresh, acked=(0,) * place.places, acks=(None,) * place.places)
    return replace(
        fresh,
        lost=begun.lost,
        doubts=frozenset(place.peers) if group.doubts and not begun.lost else frozenset(),
        foreign_version=None if begun.lost else -1,
        closing=group.closing,
        lagging=(group.in_step | group.lagging) - frozenset(place.witnesses),  # they say of which epoch they speak
        early=group.early,
    )


def later_resume(group: Group, member: int, message: Resume) -> Step:
    """A member is in an epoch that layer 1 has not shown us yet: look, and take its Resume then."""
    known = dict(group.early)
    early = tuple({**known, member: message}.items())
    after = replace(group, early=early, in_step=group.in_step - {member})
    return after, [] if member in known else [LookNow()]


def earlier_resume(group: Group, member: int) -> Step:
    """A member has not seen our epoch yet: what it says until its next Resume is of an epoch that is over."""
    return replace(group, lagging=group.lagging | {member}, in_step=group.in_step - {member}), []


def spoken(group: Group, member: int) -> Group:
    """What this member says from here on is of our epoch, or begins with another Resume."""
    if member not in group.lagging and not group.early:
        return group
    early = tuple(each for each in group.early if each[0] != member)
    return replace(group, lagging=group.lagging - {member}, early=early)


def wish_again(group: Group) -> list[Effect]:
    """At a member, on a new link: what its own user wants, the primary may have forgotten."""
    wish = group.wish
    mine = wish is not None and group.place.index in wish.agreed and group.change is None
    return [Send(0, ChangeWish(group.group_id, wish.terms))] if mine and wish is not None else []


def is_of_another_epoch(group: Group, member: int) -> bool:
    """Whether what this member says now may be of another epoch than ours: its Resume of ours has yet to come."""
    return member in group.lagging or any(member == each for each, _ in group.early)


# --------------------------------------------------------------------------------------------------------- helpers


def _check_may_change(group: Group) -> None:
    if group.ended is not None:
        raise group.ended
    check(group.informed, "lost_data", "this member has not been shown the newest state by all others yet: wait")
    check(not group.closing and group.final is None, "group_closing", "the group is being closed")
    check(group.change is None, "group_changing", "another change is signed and not decided yet: wait for its end")


def successor_under(group: Group, terms: Terms) -> Successor:
    """What all members would sign under these terms, as things stand now. Raises as `layer2.terms.successor_of`."""
    if group.state.body.locks:
        raise Refused("locks_pending", locks_text(group.state.body.locks))
    successor = successor_of(terms, group.place.agreement, group.state.header, group.state.body, _machine_state(group))
    most, size = terms.agreement.limits.max_state_bytes, len(successor.machine_state)
    check(size <= most, "bad_terms", f"the machine's state has {size} bytes; the terms allow {most}")
    return successor


def _machine_state(group: Group) -> bytes:
    return group.place.machine.encode(group.state.machine_state)


def _signed(
    group: Group,
    terms: Terms,
    successor: Successor,
    found: dict[int, Signature],
    also: tuple[Signature | None, ...] = (),
) -> ChangeSigned:
    place = group.place
    kind, new = change_kind(place.agreement, successor.agreement), joining(place.agreement, successor.agreement)
    found = {**found, place.index: sign_successor(place.key, kind, successor)}
    key = place.next_key(successor.agreement)
    own = tuple(_join(key, member.key, kind, successor) for member in new)
    return ChangeSigned(
        terms, successor, tuple(found.get(i) for i in range(place.size)), _merged(own, also or (None,) * len(new))
    )


def _join(key: SigningKey | None, wanted: bytes, kind: object, successor: Successor) -> Signature | None:
    return sign_successor(key, kind, successor) if key is not None and key.public == wanted else None  # type: ignore[arg-type]


def _merged(mine: tuple[Signature | None, ...], theirs: tuple[Signature | None, ...]) -> tuple[Signature | None, ...]:
    require(len(mine) == len(theirs), f"{len(theirs)} signatures of who joins, {len(mine)} do")
    return tuple(a or b for a, b in zip(mine, theirs, strict=True))


def _with_signatures(
    group: Group, signatures: tuple[Signature | None, ...], also: tuple[Signature | None, ...]
) -> Step:
    """Take signatures that are new, verified; with all of them the change goes to layer 1."""
    change, before = group.change, group.place.agreement
    assert change is not None
    successor = change.successor
    kind, new = change_kind(before, successor.agreement), joining(before, successor.agreement)
    for members, mine, theirs in ((before.members, change.signatures, signatures), (new, change.joining, also)):
        require(len(theirs) == len(members), f"a change with {len(theirs)} signatures of {len(members)}")
        for member, old, found in zip(members, mine, theirs, strict=True):
            good = found == old or (found is not None and verify_successor(member, kind, successor, found))
            require(good, f"a signature of the change is not by key {member.key.hex()}")
    after = replace(change, signatures=signatures, joining=also)
    if after == change:
        return group, []
    group = replace(group, change=after)
    return group, [Persist(encode(after)), *(_show(group) if group.place.is_primary else []), *_submit(group)]


def _show(group: Group) -> list[Effect]:
    """At the primary: the proposal to whose signature is not here; all signatures, once they are, to everybody."""
    change = group.change
    if change is None or not group.place.is_primary:
        return []
    mine, payload = change.signatures[0], payload_of(group)
    assert mine is not None
    if payload is not None:
        ready = ChangeReady(group.group_id, payload.signatures, payload.joining)
        return [Send(member, ready) for member in group.others if member in group.in_step]
    message = ChangeProposal(group.group_id, change.terms, mine, change.joining, group.certificate)
    lacking = [i for i in group.others if change.signatures[i] is None and i in group.in_step]
    return [Send(member, message) for member in lacking]


def show_again(group: Group, member: int) -> list[Effect]:
    """At the primary, when a member comes into step: the identical bytes (rule 5)."""
    return [effect for effect in _show(group) if isinstance(effect, Send) and effect.member == member]


def _accept(group: Group) -> Effect:
    change, me = group.change, group.place.index
    assert change is not None
    mine = change.signatures[me]
    assert mine is not None
    return Send(0, ChangeAccept(group.group_id, change.terms.agreement.hash, mine, change.joining))


def _submit(group: Group) -> list[Effect]:
    payload = payload_of(group)
    return [] if payload is None else [Submission(payload)]


def _decline(group: Group, member: int, terms: Terms, code: str, text: str) -> Effect:
    return Send(member, ChangeDecline(group.group_id, terms.agreement.hash, code[:100], text[:500]))


def _give_up(group: Group, code: str, text: str) -> Step:
    """Nothing is signed; our user, if it wanted it, learns why it is not."""
    wish, me = group.wish, group.place.index
    told: list[Effect] = [ChangeEnded(code, text)] if wish is not None and me in wish.agreed else []
    return replace(group, wish=None, asked=None), told


def _finish_epoch(group: Group) -> Step:
    """What the ending epoch leaves open: what is certified is in its base; commands that no version holds are dead."""
    effects: list[Effect] = []
    while group.tail:
        group, more = commit_oldest(group)
        effects += more
    me = group.place.index
    waiting = [command.number for command in (*group.queue, *group.outbox) if command.member == me]
    text = "the group has changed before this was signed: issue it again"
    effects += [Rejected(number, "group_changed", text) for number in waiting]
    return replace(group, queue=(), outbox=()), effects


def _paid_out(group: Group) -> tuple[int, ...]:
    """What each member of the ending epoch got from the change."""
    if group.change is None:
        return ()
    units = {payment.account: payment.units for payment in group.change.successor.withdrawals}
    return tuple(units.get(member.payout, 0) for member in group.place.agreement.members)

"""Coming back after a loss of data: ask first, believe only what all signed, say nothing that might be false (rule 13).

Safety: a member that lost data signs no STATE and no CLAIM in the epoch, so no signature that it forgot can contradict
one that it makes, and no bond of an honest member is lost by it.

A member that has only its phrase knows that it lost data. One whose files are a copy knows that it *may* have: it says
nothing of its own newest, and signs nothing, before each with whom it speaks has shown where it stands. One that came
back with an old copy and does not know that it is one learns it when it is shown its own signature above its k: by a
Resume, a witness, a watchtower, or layer 1. Then all are alike. They ask the others for
the newest certificate, which carries their own signature, and for the body behind it; with that they may agree on
the end (FINAL), or plead, and concur. That what they are shown is the *newest*, nobody can prove to them: a plea makes
the others say so at the price of their bonds, and gives everybody who may know better two periods to report.

Source: docs/design/groups.md, rules 5, 10, 12, 13 and "Coming back from nothing" [F5]; decision 035.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from layer1.codec import encode
from layer1.errors import Refused, RemoteError, check
from layer1.ledger import records as ledger
from layer1.ledger.agreements import Body, Certificate, Concur, PleaForData, sign_concur, sign_plea
from layer1.ledger.transactions import Plea, Report
from layer2.events import Advice, Effect, Persist, Reminded, Send, Submission
from layer2.holding import send_hold
from layer2.messages import Doubt, Held, Inquiry, LostData, Newest, Resume, require
from layer2.records import Confirmed, Doubted, Lost, Pleaded, Recovered
from layer2.sealing import open_body
from layer2.state import state_of
from layer2.updating import Step, adopt, check_certificate, check_not_double, drop_unsigned, resume
from layer2.value import Group

# ----------------------------------------------------------------------------------------------------- being bereft


def lose(group: Group, shown: str) -> Step:
    """This member was shown its own signature above its k: no STATE and no CLAIM any more [F5]."""
    if group.lost:
        return group, []
    text = f"{shown}, signed by this member, whose newest is {group.highest.version}: it lost data, and asks for it"
    group, effects = drop_unsigned(group, "lost_data", text)
    group = replace(group, lost=True, doubts=frozenset())
    return group, [Persist(encode(Lost(group.group_id))), *effects, Advice("i_lost_data", text)]


def doubt(group: Group) -> Step:
    """This member's store is a copy: all with whom it speaks must be heard before it trusts it [F5].

    What signs nothing more needs no doubt: a claim, a plea or a FINAL is the last word of a member in the epoch.
    """
    if group.lost or group.closed or group.has_spoken or group.final is not None:
        return group, []
    group = replace(group, doubts=frozenset(group.place.peers))
    text = (
        "this wallet's files are a copy, perhaps an old one: it pays and claims nothing here before the others of the "
        "channel have shown what they hold. If they stay away, it can only plead (`wallet channel close ID --force`)"
    )
    return group, [Persist(encode(Doubted(group.group_id))), Advice("maybe_old", text)]


def dispel(group: Group, place: int) -> Step:
    """Somebody has shown that it holds nothing which this member does not know."""
    if place not in group.doubts:
        return group, []
    group = replace(group, doubts=group.doubts - {place})
    if group.doubts:
        return group, []
    text = "this wallet's files are a copy, and none of the others knows of anything newer: it goes on"
    return group, [Persist(encode(Confirmed(group.group_id))), Advice("confirmed", text)]


def receive_doubt(group: Group, member: int, message: Doubt) -> Step:
    """It has our first word already, or hears it now; unless both doubt: then neither can tell which of them is older.

    Then both are members that lost data: each shows what it holds, and they close, or begin a new epoch.
    """
    if member not in group.doubts or message.epoch != group.epoch:
        return group, []
    group, effects = lose(group, f"member {member} comes from a copy as well, so nobody can say that nothing is newer")
    return group, [*effects, Send(member, ask(group))]


def receive_reminder(group: Group, message: Reminded) -> Step:
    """A watchtower of ours keeps what it was entrusted with: if that is above all that we know, we lost data.

    Raises:
        RemoteError: A signature is wrong, or the body is not the certified one.
    """
    header, body = message.certificate.header, message.body
    named = (header.chain_id, header.group_id, header.epoch)
    known = group.state.header
    if named != (known.chain_id, known.group_id, known.epoch) or header.version <= known.version or group.closed:
        return group, []
    if group.pending is not None and group.pending.state.header == header:
        return adopt(group, message.certificate)
    check_certificate(group, message.certificate)
    if body is None:
        return lose(group, f"{message.who} holds version {header.version}")
    require(body.hash == header.body_hash, f"the body shown is not that of version {header.version}")
    return take_over(group, message.certificate, body, message.who)


def ask(group: Group) -> LostData:
    """What a member that lost data says first on a link."""
    return LostData(group.group_id, group.state.header.epoch)


def first_word(group: Group, member: int) -> Resume | LostData | Doubt:
    """What a member says first on a link, and in an epoch."""
    if group.lost:
        return ask(group)
    return Doubt(group.group_id, group.epoch) if member in group.doubts else resume(group)


def first_to_witness(group: Group, witness: int) -> list[Effect]:
    """The newest certificate; or, by a member that lost data or may have, the question what the witness holds."""
    if group.lost or witness in group.doubts:
        return [Send(witness, Inquiry(group.group_id))]
    return send_hold(group, witness)


def receive_lost_data(group: Group, member: int, message: LostData) -> Step:
    """Another member lost data: that is no lie. Show it the newest; no version is signed with it in this epoch."""
    version = group.version
    text = f"member {member} lost data, and was shown version {version}: close together, or move on to a new epoch"
    if group.pending is not None:
        text = f"member {member} lost data while version {version + 1} was in flight: wedge, and it can concur"
    return bereave(group, member, text)


def bereave(group: Group, member: int, text: str) -> Step:
    """Sign no STATE any more, since that member cannot: only FINAL, a change, or a wedge is left. Show it our newest.

    What the primary has not signed, nobody will. What a member has submitted, its primary may have signed: that stays
    open until the end is signed, for after a restart this member would still know it as its own.
    """
    if member in group.bereft:
        return replace(group, in_step=group.in_step | {member}), [show(group, member)]
    group, effects = drop_unsigned(group, "they_lost_data", text) if group.place.is_primary else (group, [])
    group = replace(group, bereft=group.bereft | {member}, in_step=group.in_step | {member})
    return group, [show(group, member), *effects, Advice("they_lost_data", text)]


def show(group: Group, member: int) -> Send:
    """The newest that this member knows: others' signatures prove it, so it may be shown by whoever has it."""
    return Send(member, Newest(group.certificate, group.state.body))


# ------------------------------------------------------------------------------------------------- being shown things


def receive_newest(group: Group, member: int, message: Newest) -> Step:
    """Another member shows what it holds: take over what is newer, and know from then on that data was lost.

    Raises:
        RemoteError: A signature is wrong, or the body is not the certified one.
    """
    header, ours = message.certificate.header, group.state.header
    if header.epoch != ours.epoch or group.closed:
        return group, []
    if header.version < ours.version:  # it does not know yet that it is the one who lost data, or lost more than we did
        return replace(group, shown_by=group.shown_by | {member}), [show(group, member)]
    _check_newest(group, message)
    group, effects = take_over(group, message.certificate, message.body, f"member {member}")
    return replace(group, shown_by=group.shown_by | {member}), effects


def take_over(group: Group, certificate: Certificate, body: Body, who: str) -> Step:
    """Go on from a certificate that was checked, if it is above our own."""
    version, effects = certificate.header.version, list[Effect]()
    if version <= group.version:
        return group, []
    if group.pending is not None and group.pending.state.header == certificate.header:
        return adopt(group, certificate)
    group, effects = lose(group, f"{who} shows version {version}")
    group = recovered(group, Recovered(certificate, body))
    text = f"recovered version {version}, which {who} showed: close the group, or move it to a new epoch"
    return group, [*effects, Persist(encode(Recovered(certificate, body))), Advice("recovered", text)]


def recovered(group: Group, record: Recovered) -> Group:
    """The group with what it was shown in place of what it knew."""
    certificate = record.certificate
    state = state_of(group.place, certificate.header, record.body)
    applied = state.body.applied[group.place.index]
    group = replace(group, state=state, signatures=certificate.signatures, pending=None, tail=(), base=None)
    return replace(group, next_number=max(group.next_number, applied + 1))


def replay(group: Group, record: Lost | Doubted | Confirmed | Recovered | Pleaded) -> Group:
    """What the journal says of a loss, in memory."""
    match record:
        case Lost():
            return replace(group, lost=True, doubts=frozenset())
        case Doubted():
            return replace(group, doubts=frozenset(group.place.peers))
        case Confirmed():
            return replace(group, doubts=frozenset())
        case Recovered():
            return recovered(group, record)
        case Pleaded(plea):
            return replace(group, plea=plea)
        case _ as never:
            assert_never(never)


def body_of_held(group: Group, message: Held) -> Body | None:
    """What a witness keeps for us: the body behind the certificate that it holds, if it is that one's."""
    header = message.certificate.header
    if not message.sealed or message.sealed_version != header.version:
        return None
    try:
        return open_body(group.place.key, header, message.sealed)
    except RemoteError:
        return None  # the certificate counts all the same; the body may be had from others


def _check_newest(group: Group, message: Newest) -> None:
    certificate, body = message.certificate, message.body
    header, ours = certificate.header, group.state.header
    require(body.hash == header.body_hash, f"the body shown is not that of version {header.version}")
    if header == ours:
        return
    check_certificate(group, certificate)
    for index, signature in enumerate(certificate.signatures):
        if index != group.place.index:
            check_not_double(group, index, header, signature)
    require(header.version > ours.version, f"version {header.version} is shown with another header than ours")


# ----------------------------------------------------------------------------------------------------- before layer 1


def plead(group: Group) -> Step:
    """Say to layer 1 that data may be lost: the others must report what they hold (rule 13). The same when repeated.

    Raises:
        Refused: ``frozen``, ``group_closed``, or ``claim_stands``: this member said already what it holds.
    """
    check(not group.closed, "group_closed", "layer 1 has paid the group out")
    check(not group.frozen, "frozen", f"the disk did not confirm: {group.frozen}; look after it, then start again")
    claimed = _has_claimed(group)
    check(not claimed, "claim_stands", "this member has claimed what it holds; a plea cannot follow a claim")
    effects: list[Effect] = []
    if group.plea is None:
        place = group.place
        bare = PleaForData(group.group_id, group.state.header.epoch, place.index)
        plea = sign_plea(place.key, place.agreement.chain_id, bare)
        group, effects = _give_up(group)
        group = replace(group, plea=plea)
        effects = [Persist(encode(Pleaded(plea))), *effects]
    assert group.plea is not None
    return group, [*effects, Submission(Plea(group.plea))]


def _has_claimed(group: Group) -> bool:
    """Whether its claim counts on layer 1, or still may: not if the dispute ended before it came."""
    shown = group.ledger
    if shown is not None and shown.revealing is not None:
        return shown.claims[group.place.index] is not None
    return group.claim is not None


def _give_up(group: Group) -> Step:
    """A plea says that data may be lost: then nothing is signed that a forgotten signature could contradict."""
    group, rejected = drop_unsigned(group, "group_wedged", "the group is wedged: open another")
    known: list[Effect] = [] if group.lost else [Persist(encode(Lost(group.group_id)))]
    return replace(group, lost=True, doubts=frozenset()), [*known, *rejected]


def concur(group: Group) -> Step:
    """Agree to settle on what layer 1 shows, instead of waiting for the deadline (rule 10).

    Raises:
        Refused: ``not_wedged``, ``claims`` if this member claims instead, ``witnessed``, or ``too_early``: others have
            not said what they hold.
    """
    shown, me = group.ledger, group.place.index
    if shown is None or shown.status is not ledger.Status.WEDGED or shown.revealing is not None:
        raise Refused("not_wedged", "layer 1 shows no dispute that could be ended by agreeing")
    check(group.lost and group.claim is None, "claims", "this member lost nothing: it claims what it holds")
    check(not group.place.witnessed, "witnessed", "a witnessed group settles on claims alone")
    silent = [i for i in group.others if shown.claims[i] is None and not shown.concurs[i]]
    check(not silent, "too_early", f"members {silent} have not said yet what they hold: wait for their reports")
    version = max(shown.version, group.version)
    chain_id = group.place.agreement.chain_id
    word = sign_concur(group.place.key, chain_id, Concur(group.group_id, group.state.header.epoch, me, version))
    if group.version > shown.version:
        return group, [Submission(Report(group.group_id, group.certificate, group.state.body, concurs=(word,)))]
    return group, [Submission(Report(group.group_id, None, None, concurs=(word,)))]


def answer_dispute(group: Group, shown: ledger.Group, *, holds_body: bool) -> Step:
    """Plead, if we did and layer 1 lacks it (rule 13), or if it waits for a body that we do not hold (rule 12).

    Such a body may be of an old version, when our own claim came too late: what was not counted, a plea does not deny.
    Who may not claim pleads also when another member does: it would forfeit its bond for silence otherwise.
    """
    if _has_claimed(group) or shown.pleas[group.place.index] or shown.forfeits[group.place.index] is not None:
        return group, []
    missing = shown.revealing is not None and not holds_body and shown.deadline_ms is not None
    asked = any(shown.pleas) and (group.lost or bool(group.doubts))
    if (missing and shown.version > 0) or ((group.plea is not None or asked) and shown.revealing is None):
        return plead(group)
    return group, []

"""The end of a group: together by FINAL, or by layer 1 after a wedge (rules 7, 8 and 10).

Safety: after FINAL a member signs nothing but a CLAIM, after a CLAIM nothing but FINAL, and a member whose store is
known to be old signs no CLAIM at all.

Only the primary proposes FINAL, when nothing is in flight; so FINAL and a proposal never cross each other. A member
signs it on its own newest state only, and in a dispute only if no outcome that its signatures allow pays it more.

Source: docs/design/groups.md, rules 7, 8 and 10.
"""

from __future__ import annotations

from msgspec.structs import replace

from layer1.codec import encode
from layer1.crypto import Signature
from layer1.errors import Refused
from layer1.ledger.agreements import Final, sign_claim, sign_final, verify_final
from layer1.ledger.disputes import is_false
from layer1.ledger.records import Forfeit
from layer1.ledger.settlement import entitlements
from layer1.ledger.transactions import CloseGroup, Wedge
from layer2.events import Advice, Effect, Persist, Send, Submission
from layer2.guarding import locks_text
from layer2.messages import CloseRequest, FinalAccept, FinalProposal, FinalReady, require
from layer2.records import Claimed, FinalSigned
from layer2.recovering import plead, take_over
from layer2.updating import Step, adopt, check_certificate, drop_unsigned
from layer2.value import Group


def send_close(group: Group) -> Step:
    """Take no more commands, and end the group when nothing is in flight (rule 7).

    Raises:
        Refused: ``frozen``, ``group_closed``, ``not_connected``, or ``lost_data`` at a primary.
    """
    if group.frozen or group.closed:
        assert group.stopped is not None
        raise group.stopped
    if not group.together:
        raise Refused("not_connected", "another member is not connected: wait for it, or wedge the group")
    if group.locks and not group.has_spoken:
        raise Refused("locks_pending", locks_text(group.locks))
    if not group.place.is_primary:
        return replace(group, closing=True), [Send(0, CloseRequest(group.group_id))]
    if not group.informed:
        raise Refused("lost_data", "this member has not been shown the newest state by all others yet: wait, or plead")
    return propose_final(replace(group, closing=True))


def receive_close(group: Group, member: int) -> Step:
    """At the primary: a member wants the end; it gets what the newest state says."""
    require(group.place.is_primary, f"member {member} asks member {group.place.index} to close: ask the primary")
    if group.closed:
        return group, []
    return propose_final(replace(group, closing=True))


def propose_final(group: Group) -> Step:
    """At the primary: sign FINAL once nothing is in flight; send it again to whose signature is not here."""
    if not group.closing or group.pending is not None or group.closed or not group.informed:
        return group, []
    place, state = group.place, group.state
    effects: list[Effect] = []
    if state.body.locks:  # rule 7: no locks; they are resolved first, and commands go on
        return replace(group, closing=False), [Advice("locks_pending", locks_text(state.body.locks))]
    if group.final is None:
        final = Final(group.group_id, state.header.epoch, state.header.hash, state.version, state.body.balances)
        if not _pays_enough(group, final):
            return replace(group, closing=False), [_declined()]
        signature = sign_final(place.key, place.agreement.chain_id, final)
        group = replace(group, final=FinalSigned(final, (signature, *(None for _ in group.others))))
        group, effects = drop_unsigned(group, "group_closing", "the group is being closed: open another")
        effects.insert(0, Persist(encode(group.final)))
    assert group.final is not None
    mine = group.final.signatures[0]
    assert mine is not None
    message = FinalProposal(group.final.final, mine, group.certificate, state.body)
    missing = [i for i in group.others if group.final.signatures[i] is None]
    effects.extend(Send(member, message) for member in missing)
    return group, effects


def receive_final_proposal(group: Group, member: int, message: FinalProposal) -> Step:
    """Sign the end, if it is the newest state's and nothing is in flight (rule 7)."""
    place = group.place
    require(member == 0 and not place.is_primary, f"member {member} proposes a FINAL: the primary does")
    if group.closed:
        return group, []
    if group.final is not None:
        require(group.final.final == message.final, "another FINAL is signed already", group.final.final, message.final)
        mine = group.final.signatures[place.index]
        assert mine is not None
        return group, [Send(0, FinalAccept(group.group_id, mine))]
    good = verify_final(place.agreement.members[0], place.agreement.chain_id, message.final, message.signature)
    require(good, "the primary's signature of FINAL is wrong")
    group, effects = _reach_base(group, message)
    if group.pending is not None and (member in group.bereft or group.has_spoken):
        return group, [*effects, _unfinished(group)]
    _check_final(group, message)
    if not _pays_enough(group, message.final):  # who proposes it may not have seen yet what a third member claimed
        return group, [*effects, _declined()]
    mine = sign_final(place.key, place.agreement.chain_id, message.final)
    signatures = tuple({0: message.signature, place.index: mine}.get(i) for i in range(place.size))
    group = replace(group, closing=True, final=FinalSigned(message.final, signatures))
    group, rejected = drop_unsigned(group, "group_closing", "the group is being closed: open another")
    effects += [Persist(encode(group.final)), *rejected, Send(0, FinalAccept(group.group_id, mine))]
    return group, effects + _submit_final(group)


def receive_final_accept(group: Group, member: int, message: FinalAccept) -> Step:
    """At the primary: with all signatures the end goes to layer 1."""
    require(group.place.is_primary and group.final is not None, f"member {member} accepts a FINAL that is not proposed")
    assert group.final is not None
    if group.final.signatures[member] == message.signature:
        return group, []
    agreement = group.place.agreement
    good = verify_final(agreement.members[member], agreement.chain_id, group.final.final, message.signature)
    require(good, f"member {member}'s signature of FINAL is wrong")
    return with_final_signatures(group, {member: message.signature})


def receive_final_ready(group: Group, member: int, message: FinalReady) -> Step:
    """At a member that lacks others' signatures: all of the FINAL."""
    agreement = group.place.agreement
    require(group.final is not None, f"member {member} completes a FINAL that this member has not signed")
    assert group.final is not None
    require(len(message.signatures) == group.place.size, f"FINAL with {len(message.signatures)} signatures")
    for each, signature in zip(agreement.members, message.signatures, strict=True):
        good = verify_final(each, agreement.chain_id, group.final.final, signature)
        require(good, "a signature of FINAL is wrong")
    return with_final_signatures(group, dict(enumerate(message.signatures)))


def final_payload(group: Group) -> CloseGroup | None:
    """What closes the group at once, when all have signed FINAL."""
    if group.final is None:
        return None
    signatures = tuple(s for s in group.final.signatures if s is not None)
    return CloseGroup(group.final.final, signatures) if len(signatures) == group.place.size else None


def claim(group: Group) -> Step:
    """Sign CLAIM(s, header_k), once; nothing but FINAL is signed in the epoch from then on (rule 8).

    Raises:
        Refused: ``frozen``, or ``lost_data``: a false claim would forfeit the bond.
    """
    if group.claim is not None:
        return group, []
    if group.frozen:
        raise Refused("frozen", f"the disk did not confirm: {group.frozen}; look after it, then start again")
    if group.lost:
        raise Refused("lost_data", "this member lost data: a claim might be false and cost the bond; plead instead")
    if group.doubts:
        raise Refused("maybe_old", "this member's store may be old: a claim might be false and cost the bond")
    signed = sign_claim(group.place.key, group.place.index, group.version, group.highest)
    group, rejected = drop_unsigned(group, "group_wedged", "the group is wedged: open another")
    return replace(group, claim=signed), [Persist(encode(Claimed(signed))), *rejected]


def send_wedge(group: Group) -> Step:
    """Stop the group and bring its newest certificate to layer 1; the same again when repeated (rule 8).

    A member that lost data, or may have, pleads: a claim might be false (rule 13).
    """
    if group.closed:
        raise Refused("group_closed", "layer 1 has paid the group out")
    if (group.lost or group.doubts) and group.claim is None:
        return plead(group)
    group, effects = claim(group)
    return group, [*effects, Submission(wedge_payload(group))]


def wedge_payload(group: Group) -> Wedge:
    """Certificate, body and claim, as of the claim, and the proof that another member lied, if there is one."""
    assert group.claim is not None
    return Wedge(group.certificate, group.state.body, group.claim, group.double)


def _submit_final(group: Group) -> list[Effect]:
    payload = final_payload(group)
    return [] if payload is None else [Submission(payload)]


def with_final_signatures(group: Group, found: dict[int, Signature]) -> Step:
    """Remember signatures of the FINAL, verified; with all of them the end goes to layer 1."""
    assert group.final is not None
    signatures = tuple(found.get(i, s) for i, s in enumerate(group.final.signatures))
    if signatures == group.final.signatures:
        return group, []
    group = replace(group, final=FinalSigned(group.final.final, signatures))
    effects: list[Effect] = [Persist(encode(group.final)), *_submit_final(group)]
    payload = final_payload(group)
    if payload is not None and group.place.is_primary and group.place.primary_relays:
        effects.extend(Send(member, FinalReady(group.group_id, payload.signatures)) for member in group.others)
    return group, effects


def _reach_base(group: Group, message: FinalProposal) -> Step:
    """The newest certificate, which the proposal carries, may complete what we signed, or replace what we lost."""
    pending, certificate = group.pending, message.certificate
    if pending is not None and pending.state.header == certificate.header:
        return adopt(group, certificate)
    if group.lost and certificate.header.version > group.version:
        check_certificate(group, certificate)
        require(message.body.hash == certificate.header.body_hash, "the body is not the certified one")
        return take_over(group, certificate, message.body, "the primary")
    return group, []


def _check_final(group: Group, message: FinalProposal) -> None:
    final, header = message.final, group.state.header
    require(group.pending is None, f"FINAL while version {header.version + 1} is in flight")
    base = (final.group_id, final.epoch, final.base, final.base_version)
    ours = (header.group_id, header.epoch, header.hash, header.version)
    require(base == ours, f"FINAL on version {final.base_version}, our newest is {header.version}")
    require(not group.state.body.locks, f"FINAL on a state with {len(group.state.body.locks)} locks")
    require(final.payout == group.state.body.balances, f"FINAL pays {final.payout}, not {group.state.body.balances}")


def _unfinished(group: Group) -> Advice:
    """No fault of the primary's: it lost data, and does not know what it signed [F5]; or we have spoken before it."""
    text = f"version {group.version + 1} was in flight when the primary lost data, or we claimed: layer 1 decides"
    return Advice("close_declined", text)


def _declined() -> Advice:
    text = "another outcome of this dispute pays us more than what FINAL would: wait for layer 1"
    return Advice("close_declined", text)


def _pays_enough(group: Group, final: Final) -> bool:
    """Rule 7: in a dispute, only if no possible outcome pays more."""
    if group.claim is None and group.ledger is None:
        return True
    agreement, me = group.place.agreement, group.place.index
    shown, size = group.ledger, group.place.size
    forfeits = shown.forfeits if shown else (None,) * size
    claims = shown.claims[:size] if shown else (None,) * size
    pleas = shown.pleas if shown else (False,) * size
    provable = tuple(
        done or (Forfeit.LIE if claim is not None and is_false(claim, group.best[1]) else None)
        for done, claim in zip(forfeits, claims, strict=True)
    )
    together = entitlements(agreement, final.payout, forfeits, pleas)[me]
    return together >= entitlements(agreement, group.best[0].body.balances, provable, pleas)[me]

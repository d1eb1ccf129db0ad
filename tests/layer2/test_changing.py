"""Rules 24 and 25 in layer 2: who signs a change when, what is signed beside it, and how a group goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import structs
from msgspec.structs import replace

from layer1.codec import encode
from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import GroupAgreement, Payment, Witness, change_kind, sign_successor
from layer1.ledger.changing import MAX_CHANGE_MS
from layer1.ledger.records import Status
from layer1.ledger.transactions import ChangeGroup, Wedge
from layer2 import changing, group, state, terms, updating, watcher
from layer2.events import (
    ChangeAsked,
    ChangeEnded,
    ChangeRefused,
    ChangeWanted,
    CloseRequested,
    Connected,
    EpochBegan,
    Finished,
    JoiningSigned,
    LedgerSeen,
    LookNow,
    Persist,
    Send,
    Submission,
    WedgeRequested,
)
from layer2.messages import ChangeDecline, ChangeProposal, ChangeReady, Propose, Resume
from layer2.payments import pay
from layer2.records import ChangeSigned
from layer2.terms import Terms, change_amounts, change_members, check_unasked
from layer2.value import Wish
from tests.layer2.harness import BOND, Court, Party, Wire, agreement, key, pair, trio_of

LIFE_MS = 60_000
"""Of a change, on the ledger clock."""


def amounts(party: Party, *units: int, expires_ms: int = 61_000, salt: bytes = b"s" * 16) -> Terms:
    return change_amounts(party.group.place.agreement, party.group.epoch, units, expires_ms, salt)


def rekeyed(party: Party, seat: int, name: str, **others: Any) -> Terms:
    before = party.group.place.agreement
    member = structs.replace(before.members[seat], key=key(name).public, **others)
    sums = [0] * len(before.members)
    return change_members(before, party.group.epoch, {seat: member}, sums, expires_ms=61_000, salt=b"s" * 16)


def want(party: Party, wanted: Terms, clock_ms: int = 1_000) -> None:
    party.step(ChangeWanted(wanted, clock_ms))


def agree_all(parties: Sequence[Party], wire: Wire, wanted: Terms) -> None:
    """The first asks, the others agree when they are asked."""
    want(parties[0], wanted)
    for _ in range(len(parties)):
        wire.run()
        for party in parties[1:]:
            if any(isinstance(effect, ChangeAsked) for effect in party.others):
                party.others[:] = [effect for effect in party.others if not isinstance(effect, ChangeAsked)]
                want(party, wanted)
    wire.run()


def brought(party: Party) -> list[Any]:
    """What it wants to bring to layer 1."""
    found = [effect.payload for effect in party.others if isinstance(effect, Submission)]
    party.others[:] = [effect for effect in party.others if not isinstance(effect, Submission)]
    return found


def look(parties: Sequence[Party], court: Court, wire: Wire | None = None) -> None:
    for party in parties:
        party.step(LedgerSeen(court.group, court.clock_ms, party.salt()))
    if wire is not None:
        wire.run()


def changed(parties: Sequence[Party], wire: Wire, court: Court, wanted: Terms) -> None:
    """The whole way into the next epoch."""
    agree_all(parties, wire, wanted)
    court.bring(brought(parties[0])[0])
    assert not court.refused, court.refused
    look(parties, court, wire)


def change_of(party: Party) -> ChangeSigned | None:
    """What it has signed, and layer 1 has not decided."""
    return party.group.change


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("first", [0, 1])
def test_topping_up_gives_more_to_pay_with(count: int, first: int) -> None:
    """Rule 24: RESIZE tops up; then the group goes on in the next epoch, and may spend more than before."""
    *parties, wire = trio_of(count)
    court = Court(parties[0].terms)
    parties[0].request(pay(1, 300))
    wire.run()
    ordered = [parties[first], *(p for p in parties if p.index != first)]
    units = [0] * count
    units[first] = 500
    changed(ordered, wire, court, amounts(parties[0], *units))
    balances = [700, 1300, *[1000] * (count - 2)]
    balances[first] += 500
    assert court.group.epoch == 1 and court.group.agreement.funding_units == 1000 * count + 500
    assert court.group.certificate.header == parties[0].group.state.header
    for party in parties:
        assert party.group.epoch == 1 and party.group.version == 0 and party.group.connected
        assert party.group.state.body.balances == tuple(balances)
        assert [e.epoch for e in party.others if isinstance(e, EpochBegan)] == [1]
    parties[first].request(pay((first + 1) % count, balances[first]))
    wire.run()
    assert all(p.group.version == 1 and p.group.state.body.balances[first] == 0 for p in parties)
    assert not wire.errors


def test_withdrawing_pays_out_and_the_group_goes_on() -> None:
    """Rule 24: RESIZE withdraws, to the payout account; bonds and the other's balance stay."""
    a, b, wire = pair()
    court = Court(a.terms)
    agree_all([a, b], wire, amounts(a, -400, 0))
    (payload,) = brought(a)
    assert payload.successor.withdrawals == (Payment(key("payout 0").public, 400),)
    assert payload.successor.deposits == () and brought(b) == [payload]
    court.bring(payload)
    look([a, b], court, wire)
    assert a.group.state.body.balances == b.group.state.body.balances == (600, 1000)
    assert court.group.agreement.bond_units == 2 * BOND


def test_no_more_is_taken_out_than_there_is() -> None:
    """A member takes out of its own balance alone."""
    a, b, wire = pair()
    with pytest.raises(Refused, match="1001 units would be taken out of a balance of 1000"):
        want(a, amounts(a, -1001, 0))
    want(b, amounts(b, 0, -1000))
    a.request(pay(1, 10))  # commands go on while it is talked about
    b.request(pay(0, 5))
    wire.run()
    want(a, amounts(b, 0, -1000))
    wire.run()
    assert a.group.change is not None and b.group.change is not None
    assert a.group.change.successor.agreement.members[1].deposit == 5
    assert not wire.errors


def test_rule_24_it_is_signed_on_the_newest_state_with_nothing_in_flight() -> None:
    """Rule 24: sign it only if k = base: what is in flight is finished first, and no other version is signed."""
    a, b, wire = pair()
    want(b, amounts(b, 0, 100))
    wire.run()
    a.request(pay(1, 1))  # in flight
    want(a, amounts(b, 0, 100))
    assert change_of(a) is None and a.group.settled_wish
    with pytest.raises(Refused, match="being changed"):
        a.request(pay(1, 1))
    wire.run()
    assert a.group.version == b.group.version == 1
    assert a.group.change is not None and a.group.change.successor.base == b.group.state.header.hash
    assert b.group.change is not None and b.group.change.signatures == a.group.change.signatures


def test_rule_24_a_change_of_another_base_is_not_signed() -> None:
    """Rule 24: k = base, at the member too: a primary that proposes it on an older version is at fault."""
    a, b, wire = pair()
    old = a.group
    wanted = amounts(a, 100, 0)
    a.request(pay(1, 1))
    wire.run()
    want(b, wanted)
    forged = replace(old, wish=Wish(wanted, frozenset({0, 1})))
    _, effects = changing.propose_change(forged)
    (message,) = [effect.message for effect in effects if isinstance(effect, Send)]
    with pytest.raises(RemoteError, match="not for version 1"):
        b.hear(0, encode(message))
    assert change_of(b) is None


def test_rule_24_no_other_is_outstanding() -> None:
    """Rule 24: sign it only if no other is outstanding."""
    a, b, wire = pair()
    agree_all([a, b], wire, amounts(a, 100, 0))
    with pytest.raises(Refused, match="another change is signed"):
        want(a, amounts(a, 200, 0, salt=b"t" * 16))
    other = amounts(a, 200, 0, salt=b"t" * 16)
    forged = replace(a.group, change=None, wish=Wish(other, frozenset({0, 1})))
    _, effects = changing.propose_change(forged)
    (message,) = [effect.message for effect in effects if isinstance(effect, Send)]
    before = b.group.change
    with pytest.raises(RemoteError, match="another change is signed already"):
        b.hear(0, encode(message))
    assert b.group.change == before


def test_rule_24_no_state_is_signed_while_a_change_is_outstanding() -> None:
    """Rule 24: then no STATE, at the primary and at members, before and after all have signed."""
    a, b, wire = pair()
    want(b, amounts(b, 0, 100))
    wire.run()
    b.request(pay(0, 7))  # waits at the primary from here on
    want(a, amounts(b, 0, 100))
    assert a.group.change is not None and None in a.group.change.signatures
    assert a.group.pending is None or a.group.pending.state.version == 1
    wire.run()
    for party in (a, b):
        with pytest.raises(Refused, match="being changed"):
            party.request(pay(1 - party.index, 1))
    assert a.group.version == b.group.version and a.group.pending is None


def proposed_above(a: Party, units: int) -> Propose:
    """What a primary that overlooks its own change would send."""
    _, effects = updating.send_commands(replace(a.group, change=None), (pay(1, units),), a.salt())
    (message,) = [effect.message for effect in effects if isinstance(effect, Send)]
    assert isinstance(message, Propose)
    return message


def test_rule_24_a_member_signs_no_state_before_it_sees_the_expiry_itself() -> None:
    """Rule 24: until a final header shows a clock past the expiry; the primary may have seen it earlier."""
    a, b, wire = pair()
    court = Court(a.terms)
    agree_all([a, b], wire, amounts(a, 100, 0))
    brought(a)
    b.others.clear()
    b.hear(0, encode(proposed_above(a, 3)))
    assert b.group.pending is None and any(isinstance(effect, LookNow) for effect in b.others)
    court.clock_ms = 60_999
    look([b], court)
    assert b.group.change is not None and b.group.version == 0
    court.clock_ms = 61_000
    look([b], court)
    assert change_of(b) is None and b.group.version == 1
    assert [e.code for e in b.others if isinstance(e, ChangeEnded)] == ["expired"]


def test_rule_24_after_the_expiry_the_old_epoch_goes_on() -> None:
    """Rule 24: a clock past the expiry, proven; what was held back is signed then, and nothing is lost."""
    a, b, wire = pair()
    court = Court(a.terms)
    want(b, amounts(b, 0, 100))
    wire.run()
    b.request(pay(0, 7))
    want(a, amounts(b, 0, 100))
    wire.run()
    court.clock_ms = 61_000
    look([b, a], court, wire)
    assert a.group.epoch == b.group.epoch == 0 and a.group.version == b.group.version
    assert a.group.state.body.balances == (1007, 993)
    court.bring(brought(a)[0])
    assert court.refused.pop().code == "agreement_expired"
    changed([a, b], wire, court, amounts(a, 50, 0, expires_ms=court.clock_ms + LIFE_MS, salt=b"u" * 16))
    assert b.group.state.body.balances == (1057, 993) and not wire.errors


def test_an_unproven_clock_is_no_clock() -> None:
    """Rule 24: only a final header counts; a record without its clock shows nothing of the expiry."""
    a, b, wire = pair()
    court = Court(a.terms)
    agree_all([a, b], wire, amounts(a, 100, 0))
    a.step(LedgerSeen(court.group))
    assert a.group.change is not None


@pytest.mark.parametrize("wedger", [0, 1])
@pytest.mark.parametrize("first", ["change", "wedge"])
def test_rule_24_the_first_of_resize_and_wedge_wins(wedger: int, first: str) -> None:
    """Rule 24, [F8]: whichever layer 1 takes first; what was committed is in it, and nobody loses a bond."""
    a, b, wire = pair()
    court = Court(a.terms)
    a.request(pay(1, 300))
    wire.run()
    agree_all([a, b], wire, amounts(a, 500, 0))
    change, party = brought(a)[0], (a, b)[wedger]
    party.step(WedgeRequested())
    (wedge,) = [payload for payload in brought(party) if isinstance(payload, Wedge)]
    for payload in [change, wedge] if first == "change" else [wedge, change]:
        court.bring(payload)
    assert [refusal.code for refusal in court.refused] == ["bad_claim" if first == "change" else "group_wedged"]
    for _ in range(3):
        look([a, b], court, wire)
        for each in (a, b):
            for payload in brought(each):
                court.bring(payload)
    if first == "change":
        assert court.group.status is Status.OPEN and court.group.epoch == 1
        assert a.group.claim is None and a.group.state.body.balances == (1200, 1300)
        a.request(pay(1, 1200))
        wire.run()
        assert b.group.state.body.balances == (0, 2500)
    else:
        assert court.end().payouts == (700 + BOND, 1300 + BOND)
        assert court.group.forfeited == (False, False)
    assert not wire.errors


def test_an_old_claim_says_nothing_in_the_next_epoch() -> None:
    """[F8]: "wedged" is per epoch: whoever claimed in the old one signs on in the new one, and claims anew there."""
    a, b, wire = pair()
    court = Court(a.terms)
    agree_all([a, b], wire, amounts(a, 500, 0))
    b.step(WedgeRequested())
    court.bring(brought(a)[0])
    look([a, b], court, wire)
    a.request(pay(1, 1))
    wire.run()
    assert b.group.version == 1 and b.group.claim is None
    b.step(WedgeRequested())
    (wedge,) = brought(b)[-1:]
    assert wedge.claim.epoch == 1 and wedge.claim.version == 1
    court.bring(wedge)
    assert court.group.status is Status.WEDGED


def test_what_the_peer_says_of_another_epoch_is_neither_believed_nor_its_fault() -> None:
    """[F8]: members see the change at different times; what crosses it changes nothing, and blames nobody."""
    a, b, wire = pair()
    court = Court(a.terms)
    agree_all([a, b], wire, amounts(a, 500, 0))
    court.bring(brought(a)[0])
    b.step(CloseRequested())  # of the old epoch, still on its way
    look([a], court)
    assert (a.group.epoch, a.group.connected) == (1, False)
    b.others.clear()
    wire.run()  # b hears the Resume of an epoch that it has not seen
    assert [(p.group.epoch, p.group.connected) for p in (a, b)] == [(1, False), (0, False)]
    assert any(isinstance(effect, LookNow) for effect in b.others)
    wire.cut()
    wire.connect()
    wire.run()
    assert not any(p.group.connected for p in (a, b)) and not wire.errors
    look([b], court, wire)
    assert all(p.group.connected for p in (a, b)) and not wire.errors
    wire.run()
    assert a.group.final is not None and a.group.final.final.epoch == 1  # the close that was asked for goes on


def test_a_lost_proposal_or_answer_is_sent_again_in_identical_bytes() -> None:
    """Rule 5 for changes: on reconnect the identical bytes, at every step of it."""
    for survivors in range(6):
        a, b, wire = pair()
        wanted = amounts(a, 100, 0)
        want(a, wanted)
        want(b, wanted)
        a.out.clear()
        b.out.clear()
        wire.cut()
        wire.connect()
        for _ in range(survivors):
            for line in list(wire.lines):
                wire.deliver(*line)
        wire.run() if survivors == 5 else None
        signed = [encode(p.group.change) for p in (a, b) if p.group.change is not None]
        wire.cut()
        for party in (a, b):
            party.restart()
        wire.connect()
        for party in (a, b):
            if party.group.change is None:
                want(party, wanted) if party.group.connected else None
        agree_again(a, b, wire, wanted)
        assert a.group.change is not None and a.group.change == b.group.change
        assert changing.payload_of(a.group) is not None
        assert not wire.errors
        for data in signed:
            assert data[:40] == encode(a.group.change)[:40]


def agree_again(a: Party, b: Party, wire: Wire, wanted: Terms) -> None:
    wire.run()
    for _ in range(3):
        for party in (b, a):
            if party.group.change is None and party.group.connected:
                want(party, wanted)
        wire.run()


@pytest.mark.parametrize("crash", [0, 1])
@pytest.mark.parametrize("effects", range(8))
def test_a_crash_between_any_two_effects_forgets_no_signature(crash: int, effects: int) -> None:
    """Persisted before sent: whoever comes back knows what it signed, and the change is completed or talked of anew."""
    from tests.layer2.test_stateful import Crash, Fragile

    terms_of = agreement()
    parties = (Fragile(terms_of, 0), Fragile(terms_of, 1))
    wire = Wire(*parties)
    wire.connect()
    wire.run()
    a, b = parties
    wanted = amounts(a, 100, 0)
    parties[crash].effects_left = effects
    try:
        agree_all([a, b], wire, wanted)
    except Crash:
        wire.collect()
        for line in [line for line in wire.lines if line[0] == crash]:
            while wire.deliver(*line):
                pass
    party = parties[crash]
    party.effects_left = None
    shown = a.group.change if crash == 1 else b.group.change
    party.restart()
    if shown is not None and shown.signatures[crash] is not None:
        assert party.group.change is not None, "it forgot what it signed"
    wire.cut()
    wire.connect()
    agree_again(a, b, wire, wanted)
    assert a.group.change is not None and a.group.change == b.group.change and not wire.errors


@pytest.mark.parametrize("compacted", [False, True])
def test_a_restart_in_any_epoch_knows_where_it_was(compacted: bool) -> None:
    """Journal, snapshot and replay carry the epoch, an outstanding change, and version 0."""
    a, b, wire = pair()
    court = Court(a.terms)
    a.request(pay(1, 300))
    wire.run()

    def restart() -> None:
        for party in (a, b):
            before = party.group
            party.compact() if compacted else None
            party.committed.clear()
            party.restart()
            assert party.group.state == before.state and party.group.change == before.change
            assert party.group.place.agreement == before.place.agreement
            assert party.group.place.initial == before.place.initial
        wire.cut()
        wire.connect()
        wire.run()

    agree_all([a, b], wire, amounts(a, 500, 0))
    payload = brought(a)[0]
    restart()
    assert changing.payload_of(a.group) == changing.payload_of(b.group) == payload
    court.bring(payload)
    look([a, b], court, wire)
    restart()
    assert a.group.connected
    b.request(pay(0, 1300))
    wire.run()
    restart()
    assert a.group.state.body.balances == (2500, 0) and a.group.epoch == 1 and a.group.version == 1
    a.request(pay(1, 1))
    wire.run()
    assert b.group.version == 2 and not wire.errors


def test_a_command_of_an_epoch_that_is_over_is_known_no_more() -> None:
    """[F8]: a primary that plays an old command again, after its issuer came back from its disk, is found out."""
    a, b, wire = pair()
    court = Court(a.terms)
    b.request(pay(0, 300))
    wire.run()
    (old,) = b.committed[1].batch.commands
    changed([a, b], wire, court, amounts(a, 500, 0))
    b.committed.clear()
    b.restart()
    from tests.layer2.test_updating import forge

    message = forge(a, a.group, (old,))
    wire.cut()
    wire.connect()
    wire.lines[0, 1].clear()
    b.hear(0, encode(Resume(a.name, a.group.certificate, message.header, message.signature)))
    assert b.group.foreign_version == 1  # what we forgot might be in that one
    with pytest.raises(RemoteError, match="not one that it issued"):
        b.hear(0, encode(message))


def test_what_waits_is_refused_for_certain_when_the_epoch_ends() -> None:
    """No version holds it, and none of the old epoch will be signed: it may be issued again."""
    a, b, wire = pair()
    court = Court(a.terms)
    want(b, amounts(b, 0, 100))
    wire.run()
    wanted = amounts(b, 0, 100)
    a.request(pay(1, 1))
    b.request(pay(0, 7))
    a.step(ChangeWanted(wanted, 1_000))
    wire.run()
    assert a.group.change is not None and not b.rejected
    waiting = [command.number for command in b.group.outbox]
    court.bring(brought(a)[0])
    look([a, b], court, wire)
    assert [(n, b.rejected[n].code) for n in waiting] == [(n, "group_changed") for n in waiting]
    assert sum(b.group.state.body.balances) == 2100


def test_a_member_that_declines_ends_it_and_nobody_has_signed() -> None:
    """Both sides agree before anybody signs: a no costs no waiting."""
    *parties, wire = trio_of(3)
    a, b, c = parties
    want(b, amounts(b, 0, 100, 0))
    wire.run()
    assert [type(e) for e in a.others] == [ChangeAsked]
    want(a, amounts(b, 0, 100, 0))
    wire.run()
    c.step(ChangeRefused("policy", "not with me", c.salt()))
    wire.run()
    for party in (a, b):
        assert [(e.code, e.message) for e in party.others if isinstance(e, ChangeEnded)] == [("policy", "not with me")]
    assert all(p.group.change is None and p.group.wish is None for p in parties)
    a.request(pay(2, 1))
    wire.run()
    assert c.group.version == 1 and not wire.errors


def test_an_acceptance_that_comes_late_is_nobodys_fault() -> None:
    """A slow disk: the primary has given the change up, or signed another, when a member's signature arrives."""
    a, b, wire = pair()
    court = Court(a.terms)
    want(b, amounts(a, 100, 0))
    wire.run()
    want(a, amounts(a, 100, 0))
    wire.run(lambda: b.group.change is not None)
    court.clock_ms = 61_000
    look([a], court)
    assert change_of(a) is None
    wire.run()
    look([b], court, wire)
    late = changing._accept(group_with(b, amounts(a, 100, 0)))
    assert isinstance(late, Send)
    agree_all([a, b], wire, amounts(a, 50, 0, expires_ms=121_000, salt=b"t" * 16))
    a.hear(1, encode(late.message))
    assert changing.payload_of(a.group) is not None and not wire.errors


def group_with(party: Party, wanted: Terms) -> group.Group:
    """The member as it was when it had signed a change that is over by now."""
    before = replace(party.group, wish=Wish(wanted, frozenset({0, 1})))
    successor = changing.successor_under(before, wanted)
    return replace(before, change=changing._signed(before, wanted, successor, {}))


def test_of_two_wishes_at_once_the_primarys_stands() -> None:
    """Both ask at the same time for different things: one is asked again, the other told to try again."""
    a, b, wire = pair()
    want(a, amounts(a, 100, 0))
    want(b, amounts(b, 0, 200, salt=b"t" * 16))
    wire.run()
    assert [e.code for e in b.others if isinstance(e, ChangeEnded)] == ["group_changing"]
    want(b, amounts(a, 100, 0))
    wire.run()
    assert a.group.change is not None and a.group.change == b.group.change and not wire.errors


def test_a_member_that_is_gone_ends_what_was_only_talked_about() -> None:
    """The primary forgets it; who wanted it says so again on the next link."""
    a, b, wire = pair()
    wanted = amounts(b, 0, 100)
    want(b, wanted)
    wire.cut()
    wire.connect()
    wire.run()
    assert [e.terms for e in a.others if isinstance(e, ChangeAsked)] == [wanted]
    want(a, wanted)
    wire.run()
    assert a.group.change is not None and a.group.change == b.group.change


def test_a_new_link_begins_with_a_resume_also_while_a_change_is_talked_about() -> None:
    """Decision 028: who hears anything before a Resume takes the other for a liar."""
    a, _b, _c, wire = trio_of(3)
    want(a, amounts(a, 10, 0, 0))
    wire.run()
    effects = a.step(Connected(2))
    said = [e.message for e in effects if isinstance(e, Send) and e.member == 2]
    assert isinstance(said[0], Resume) and not any(isinstance(message, ChangeDecline) for message in said)
    told = [e.message for e in effects if isinstance(e, Send) and e.member == 1]
    assert [m.code for m in told if isinstance(m, ChangeDecline)] == ["not_connected"]


def test_after_final_no_change_is_signed_and_beside_a_change_final_is() -> None:
    """Rule 7: after FINAL nothing is signed but a CLAIM; both are of one base, and layer 1 takes one of them."""
    a, b, wire = pair()
    court = Court(a.terms)
    agree_all([a, b], wire, amounts(a, 100, 0))
    change = brought(a)[0]
    a.step(CloseRequested())
    wire.run()
    (final,) = brought(b)[-1:]
    court.bring(change)
    court.bring(final)
    assert [refusal.code for refusal in court.refused] == ["wrong_epoch"]
    c, _, wire = pair()
    c.step(CloseRequested())
    wire.run()
    with pytest.raises(Refused, match="end"):
        want(c, amounts(c, 100, 0))


def test_a_member_gets_another_key() -> None:
    """Rule 25: RECONFIGURE, signed with the old key and with the new one; then only the new one counts."""
    a, b, wire = pair()
    court = Court(a.terms)
    changed([b, a], wire, court, rekeyed(b, 1, "group 1'"))
    assert court.group.agreement.members[1].key == b.group.place.key.public == key("group 1'").public
    a.request(pay(1, 1))
    wire.run()
    assert b.group.version == 1 and not wire.errors
    b.compact()
    b.committed.clear()
    b.restart()
    b.step(WedgeRequested())
    (wedge,) = brought(b)[-1:]
    court.bring(wedge)
    assert court.group.status is Status.WEDGED


def test_a_member_is_replaced() -> None:
    """Rule 25: who is replaced is paid out and leaves; who joins signs, pays, and gets the group from the change."""
    *parties, wire = trio_of(3)
    a, b, c = parties
    court = Court(a.terms)
    a.request(pay(2, 300))
    wire.run()
    before = a.group.place.agreement
    newcomer = structs.replace(
        before.members[2],
        key=key("group 2'").public,
        funding=key("newcomer").public,
        payout=key("newcomer").public,
    )
    wanted = change_members(before, 0, {2: newcomer}, [0, 0, 40], expires_ms=61_000, salt=b"s" * 16)
    agree_all(parties, wire, wanted)
    assert a.group.change is not None and None not in a.group.change.signatures
    assert changing.payload_of(a.group) is None and brought(a) == []
    successor = a.group.change.successor
    kind = change_kind(before, successor.agreement)
    with pytest.raises(Refused, match="nobody who joins"):
        a.step(JoiningSigned(sign_successor(key("stranger"), kind, successor)))
    a.step(JoiningSigned(sign_successor(key("group 2'"), kind, successor)))
    wire.run()
    (payload,) = brought(b)
    assert payload.successor.deposits == (Payment(key("newcomer").public, 40 + BOND),)
    assert payload.successor.withdrawals == (Payment(key("payout 2").public, 1300 + BOND),)
    court.bring(payload)
    look([a, b, c], court)
    assert c.group.left and c.group.closed
    assert [e.payouts for e in c.others if isinstance(e, Finished)] == [(0, 0, 1300 + BOND)]
    c.restart()
    assert c.group.closed
    c.compact()
    c.restart()
    assert c.group.left and c.group.closed, "a snapshot knows that the seat is somebody else's"
    d = joined(successor.agreement, payload, a.name)
    wire = Wire(a, b, d)
    wire.connect()
    wire.run()
    assert d.group.state.body.balances == (700, 1000, 40)
    d.request(pay(0, 40))
    wire.run()
    assert a.group.state.body.balances == (740, 1000, 0) and not wire.errors


def joined(after: GroupAgreement, payload: ChangeGroup, name: bytes) -> Party:
    """A member that joins by a change: its journal begins with the epoch."""

    class Newcomer(Party):
        def _blank(self) -> group.Group:
            return group.create(self.terms, self.name, self.index, key("group 2'"), self.machine)

    party = Newcomer(after, 2, name=name)
    party.disk.records.append(encode(changing.epoch_of(payload.successor)))
    party.restart()
    return party


def test_an_epoch_that_we_never_signed_means_that_we_lost_data() -> None:
    """[F5]: a member from an old disk claims nothing in an epoch whose beginning it forgot, and signs nothing."""
    a, b, wire = pair()
    court = Court(a.terms)
    old = list(b.disk.records)
    changed([a, b], wire, court, amounts(a, 500, 0))
    b.disk.records = old
    b.restart()
    wire.cut()
    look([b], court)
    assert b.group.epoch == 1 and b.group.lost
    wire.connect()
    wire.run()
    with pytest.raises(Refused, match="lost data"):
        b.request(pay(0, 1))
    b.step(WedgeRequested())
    assert b.group.claim is None and b.group.plea is not None


@pytest.mark.parametrize("bereft", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
def test_f5_who_lost_data_goes_on_in_a_new_epoch(bereft: int, first: int) -> None:
    """RESIZE with the same amounts: no STATE in the old epoch, any number of them in the new one."""
    a, b, wire = pair()
    court = Court(a.terms)
    a.request(pay(1, 300))
    wire.run()
    wire.cut()
    parties = [a, b]
    parties[bereft].forget()
    with pytest.raises(Refused):
        parties[bereft].step(ChangeWanted(amounts(a, 0, 0), 1_000))
    wire.connect()
    wire.run()
    changed([parties[first], parties[1 - first]], wire, court, amounts(parties[bereft], 0, 0))
    assert court.group.epoch == 1 and not any(party.group.lost or party.group.bereft for party in parties)
    b.request(pay(0, 7))
    wire.run()
    assert not wire.errors and a.group.state.body.balances == (707, 1293) == b.group.state.body.balances
    for party in parties:
        party.restart()
        assert party.group.version == 1 and not party.group.lost


def test_f5_one_that_begins_anew_finds_its_way_into_a_later_epoch() -> None:
    """It has the first agreement and its phrase; layer 1 shows the epoch, the other member the state."""
    a, b, wire = pair()
    court = Court(a.terms)
    changed([a, b], wire, court, amounts(a, 500, 0))
    a.request(pay(1, 40))
    wire.run()
    wire.cut()
    b.forget()
    wire.connect()
    wire.run()
    look([b], court, wire)
    assert not wire.errors and b.group.lost and b.group.epoch == 1
    assert b.group.state == a.group.state


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("our own part", lambda a: amounts(a, 100, 50)),
        ("our own part", lambda a: rekeyed(a, 1, "stranger")),
        ("somebody else", lambda a: rekeyed(a, 0, "stranger", funding=key("stranger").public)),
        ("bond would fall", lambda a: rekeyed(a, 0, "group 0'", bond=BOND - 1)),
        ("more than members' parts", lambda a: longer(amounts(a, 100, 0))),
        ("expire", lambda a: amounts(a, 100, 0, expires_ms=1_001 + MAX_CHANGE_MS)),
        ("expire", lambda a: amounts(a, 100, 0, expires_ms=1_000)),
        ("", lambda a: amounts(a, 100, 0)),
        ("", lambda a: amounts(a, -100, 0)),
        ("", lambda a: rekeyed(a, 0, "group 0'", bond=BOND + 1)),
    ],
)
def test_what_may_be_signed_unasked(name: str, wanted: Callable[[Party], Terms]) -> None:
    """A member signs unasked what changes nothing for it; all else is for its user to decide."""
    a, b, _ = pair()
    if not name:
        check_unasked(wanted(a), b.group.place.agreement, 1, 1_000)
        return
    with pytest.raises(Refused, match=name):
        check_unasked(wanted(a), b.group.place.agreement, 1, 1_000)


def test_another_witness_is_accepted_unasked_only_if_its_user_named_it() -> None:
    """Two of the three, if both are dishonest, take all: so none that a user does not trust itself."""
    a, b, *_ = pair(witnessed=True)
    before = b.group.place.agreement
    there, other = Witness(key("another witness").public, "host:1"), key("nobody").public
    wanted = amounts(a, 0, 0)
    wanted = structs.replace(wanted, agreement=structs.replace(wanted.agreement, witnesses=(there,)))
    for accepted in ((), (other,)):
        with pytest.raises(Refused, match="witnesses"):
            check_unasked(wanted, before, 1, 1_000, witnesses=accepted)
    check_unasked(wanted, before, 1, 1_000, witnesses=(other, there.key))
    longer_too = structs.replace(wanted, agreement=structs.replace(wanted.agreement, challenge_period_ms=120_000))
    with pytest.raises(Refused, match="period"):
        check_unasked(longer_too, before, 1, 1_000, witnesses=(there.key,))


def longer(wanted: Terms) -> Terms:
    return structs.replace(wanted, agreement=structs.replace(wanted.agreement, challenge_period_ms=120_000))


@pytest.mark.parametrize(
    ("match", "tamper"),
    [
        ("wrong", lambda m: structs.replace(m, signature=bytes(64))),
        ("signatures of who joins", lambda m: structs.replace(m, joining=(None,))),
        ("ends epoch 1", lambda m: structs.replace(m, terms=structs.replace(m.terms, epoch=1))),
        ("deposits", lambda m: structs.replace(m, terms=with_deposit(m.terms))),
    ],
)
def test_a_proposal_that_is_wrong_changes_nothing(match: str, tamper: Callable[[Any], Any]) -> None:
    a, b, wire = pair()
    wanted = amounts(a, 100, 0)
    want(b, wanted)
    wire.run()
    want(a, wanted)
    (message,) = [m for _, m in ((0, decode(data)) for _, data in a.out) if isinstance(m, ChangeProposal)]
    before = b.group
    with pytest.raises(RemoteError, match=match):
        b.hear(0, encode(tamper(message)))
    assert b.group == before


def test_a_signature_of_who_joins_is_checked_before_it_is_kept() -> None:
    """One that is wrong would stay: nobody could complete the change with the right one any more."""
    a, b, wire = pair()
    wanted = rekeyed(a, 0, "group 0'")
    want(b, wanted)
    wire.run()
    want(a, wanted)
    (message,) = [m for m in (decode(data) for _, data in a.out) if isinstance(m, ChangeProposal)]
    assert len(message.joining) == 1
    for wrong in ((bytes(64),), (None, None)):
        before, kept = b.group, len(b.disk.records)
        with pytest.raises(RemoteError, match=r"by key|who joins"):
            b.hear(0, encode(structs.replace(message, joining=wrong)))
        assert b.group == before and len(b.disk.records) == kept
    b.hear(0, encode(message))
    assert b.group.change is not None


def with_deposit(wanted: Terms) -> Terms:
    first, *rest = wanted.agreement.members
    members = (structs.replace(first, deposit=7), *rest)
    return structs.replace(wanted, agreement=structs.replace(wanted.agreement, members=members))


def decode(data: bytes) -> Any:
    from layer2.messages import decode_message

    return decode_message(data)


def test_a_ready_with_a_wrong_signature_is_not_believed() -> None:
    a, b, wire = pair()
    wanted = amounts(a, 100, 0)
    agree_all([a, b], wire, wanted)
    assert b.group.change is not None
    good = tuple(s for s in b.group.change.signatures if s is not None)
    with pytest.raises(RemoteError, match="not by key"):
        b.hear(0, encode(ChangeReady(b.name, (bytes(64), good[1]), ())))


# ------------------------------------------------------------------------------------------------------------ mutants


def signs_with_a_version_in_flight(patch: pytest.MonkeyPatch) -> None:
    """Rule 24 without k = base."""
    original = changing.propose_change

    def mutant(before: Any) -> Any:
        after, effects = original(replace(before, pending=None))
        return replace(after, pending=before.pending), effects

    patch.setattr(changing, "propose_change", mutant)


def signs_whatever_base_is_proposed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changing, "verify_successor", lambda *_: True)


def signs_another_beside_it(patch: pytest.MonkeyPatch) -> None:
    """Rule 24 without "and no other is outstanding"."""
    for name in ("receive_proposal", "send_wish"):
        original = getattr(changing, name)
        patch.setattr(
            changing, name, lambda before, *args, original=original: original(replace(before, change=None), *args)
        )


def proposes_beside_a_change(patch: pytest.MonkeyPatch) -> None:
    """Rule 24 without "then no STATE", at the primary."""
    original = updating.propose

    def mutant(before: Any, salt: bytes) -> Any:
        after, effects = original(replace(before, change=None, wish=None), salt)
        return replace(after, change=before.change, wish=before.wish), effects

    for module in (updating, changing):
        patch.setattr(module, "propose", mutant)


def accepts_beside_a_change(patch: pytest.MonkeyPatch) -> None:
    """The same at a member."""
    original = updating.receive_propose

    def mutant(before: Any, member: int, message: Any) -> Any:
        after, effects = original(replace(before, change=None), member, message)
        return replace(after, change=before.change), effects

    patch.setattr(updating, "receive_propose", mutant)


def gives_up_before_the_expiry(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(watcher, "_is_dead", lambda change, shown, clock_ms: clock_ms >= change.terms.expires_ms - 1)


def never_gives_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(watcher, "_is_dead", lambda change, shown, clock_ms: False)


def believes_no_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(watcher, "_is_dead", lambda change, shown, clock_ms: not 0 < clock_ms < change.terms.expires_ms)


def keeps_its_claim(patch: pytest.MonkeyPatch) -> None:
    """[F8]: wedged once, wedged for ever."""
    original = changing.begin
    patch.setattr(changing, "begin", lambda before, begun: replace(original(before, begun), claim=before.claim))


def hears_every_epoch(patch: pytest.MonkeyPatch) -> None:
    """[F8]: what is said before a Resume of this epoch, is of this epoch."""
    patch.setattr(changing, "is_of_another_epoch", lambda before, member: False)


def forgets_early_resumes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changing, "later_resume", lambda before, member, message: (before, [LookNow()]))


def tags_every_epoch_alike(patch: pytest.MonkeyPatch) -> None:
    """[F8]: one handwriting for all epochs."""
    patch.setattr(state.Place, "epoch", property(lambda self: 0))


def forgets_its_change(patch: pytest.MonkeyPatch) -> None:
    original = group._replay

    def mutant(before: Any, record: Any) -> Any:
        after, effects = original(before, record)
        return replace(after, change=None), effects

    patch.setattr(group, "_replay", mutant)


def sends_before_it_persists(patch: pytest.MonkeyPatch) -> None:
    for name in ("propose_change", "receive_proposal"):
        original = getattr(changing, name)

        def mutant(*args: Any, original: Any = original) -> Any:
            after, effects = original(*args)
            return after, sorted(effects, key=lambda effect: isinstance(effect, Persist))

        patch.setattr(changing, name, mutant)


def compacts_the_change_away(patch: pytest.MonkeyPatch) -> None:
    original = group.snapshot
    patch.setattr(group, "snapshot", lambda before: original(replace(before, change=None)))


def trusts_an_epoch_it_forgot(patch: pytest.MonkeyPatch) -> None:
    original = changing.begin
    patch.setattr(changing, "begin", lambda before, begun: replace(original(before, begun), lost=False))


def drops_what_waits(patch: pytest.MonkeyPatch) -> None:
    original = changing._finish_epoch
    patch.setattr(changing, "_finish_epoch", lambda before: (original(before)[0], []))


def agrees_for_its_user(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(terms, "stays", lambda old, new: True)


def two_in_one_step(wedger: int = 0) -> None:
    test_rule_24_the_first_of_resize_and_wedge_wins(wedger, "change")


def any_crash() -> None:
    for crash in (0, 1):
        for effects in range(8):
            test_a_crash_between_any_two_effects_forgets_no_signature(crash, effects)


def compacted() -> None:
    test_a_restart_in_any_epoch_knows_where_it_was(True)


def somebody_else() -> None:
    test_what_may_be_signed_unasked(
        "somebody else", lambda a: rekeyed(a, 0, "stranger", funding=key("stranger").public)
    )


def model() -> None:
    """The property test of two members that change their group, always on the same examples."""
    from hypothesis import Phase

    from tests.layer2.test_stateful import TwoThatChange, run_model

    run_model(TwoThatChange, 300, derandomize=True, database=None, phases=[Phase.generate])


FOUND_BY_CHANCE = (
    proposes_beside_a_change,
    accepts_beside_a_change,
    hears_every_epoch,
    forgets_its_change,
    compacts_the_change_away,
    never_gives_up,
)

MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]] = [
    (signs_with_a_version_in_flight, test_rule_24_it_is_signed_on_the_newest_state_with_nothing_in_flight),
    (signs_whatever_base_is_proposed, test_rule_24_a_change_of_another_base_is_not_signed),
    (signs_another_beside_it, test_rule_24_no_other_is_outstanding),
    (proposes_beside_a_change, test_rule_24_no_state_is_signed_while_a_change_is_outstanding),
    (accepts_beside_a_change, test_rule_24_a_member_signs_no_state_before_it_sees_the_expiry_itself),
    (gives_up_before_the_expiry, test_rule_24_a_member_signs_no_state_before_it_sees_the_expiry_itself),
    (never_gives_up, test_rule_24_after_the_expiry_the_old_epoch_goes_on),
    (believes_no_clock, test_an_unproven_clock_is_no_clock),
    (keeps_its_claim, two_in_one_step),
    (keeps_its_claim, test_an_old_claim_says_nothing_in_the_next_epoch),
    (hears_every_epoch, test_what_the_peer_says_of_another_epoch_is_neither_believed_nor_its_fault),
    (forgets_early_resumes, test_what_the_peer_says_of_another_epoch_is_neither_believed_nor_its_fault),
    (tags_every_epoch_alike, test_a_command_of_an_epoch_that_is_over_is_known_no_more),
    (forgets_its_change, any_crash),
    (sends_before_it_persists, any_crash),
    (compacts_the_change_away, compacted),
    (trusts_an_epoch_it_forgot, test_an_epoch_that_we_never_signed_means_that_we_lost_data),
    (drops_what_waits, test_what_waits_is_refused_for_certain_when_the_epoch_ends),
    (agrees_for_its_user, somebody_else),
]


@pytest.mark.parametrize(("mutate", "kill"), MUTANTS, ids=lambda each: each.__name__)
def test_a_broken_core_is_noticed(mutate: Callable[[pytest.MonkeyPatch], None], kill: Callable[[], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        with pytest.raises(BaseException) as death:
            kill()
    assert not isinstance(death.value, KeyboardInterrupt | TypeError | NameError), "the mutant does not even run"


@pytest.mark.slow
@pytest.mark.parametrize("mutate", FOUND_BY_CHANCE, ids=lambda each: each.__name__)
def test_the_model_notices(mutate: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        with pytest.raises(BaseException) as death:
            model()
    assert not isinstance(death.value, KeyboardInterrupt | TypeError | NameError), "the mutant does not even run"

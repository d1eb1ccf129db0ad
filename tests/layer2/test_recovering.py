"""Rules 12, 13 and "Coming back from nothing" [F5]: who lost data asks, says nothing that might be false, and loses no
bond for it.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from layer1.codec import encode
from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import PleaForData, sign_plea, sign_state
from layer1.ledger.records import Forfeit, Reason, Status
from layer1.ledger.transactions import Plea, Report, Reveal, Wedge
from layer2.events import (
    Advice,
    CloseRequested,
    ConcurRequested,
    Connected,
    LedgerSeen,
    PleaRequested,
    Received,
    WedgeRequested,
)
from layer2.messages import Accept, Commit, Inquiry, LostData, Newest, Propose, Resume, Submit
from layer2.payments import pay
from tests.layer2.harness import BOND, Party, Wire, key, trio_of
from tests.layer2.test_disputes import Chain, old_copy, play, settle, submissions, watch, world

SALT = b"s" * 16


def bereft(index: int, versions: int = 4) -> tuple[Chain, list[Party], Wire]:
    """A pair in step; then this member loses everything but its phrase."""
    chain, parties, wire = world()
    play(parties, wire, versions)
    wire.cut()
    parties[index].forget()
    return chain, parties, wire


def newest(party: Party) -> Newest:
    return Newest(party.group.certificate, party.group.state.body)


@pytest.mark.parametrize("index", [0, 1])
def test_f5_it_asks_before_it_says_anything_about_its_own(index: int) -> None:
    """No Resume, so nobody learns how old its store is and could show it something older still."""
    _, parties, wire = bereft(index)
    wire.connect()
    (first,) = _said(wire, index)
    assert first == LostData(parties[0].name, 0)


def _said(wire: Wire, index: int) -> list[Any]:
    from layer2.messages import decode_message

    return [decode_message(data) for data in wire.lines[index, 1 - index]]


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("versions", [0, 1, 4])
def test_f5_it_gets_back_what_the_other_holds_and_both_close(index: int, versions: int) -> None:
    """From nothing but the phrase: state, balances, the cooperative end."""
    chain, parties, wire = bereft(index, versions)
    wire.connect()
    wire.run()
    it, other = parties[index], parties[1 - index]
    assert it.group.state == other.group.state and it.group.lost and not other.group.lost
    assert not wire.errors, "losing data is no lie"
    assert [e.code for e in other.others if isinstance(e, Advice)] == ["they_lost_data"]
    parties[index].step(CloseRequested())
    wire.run()
    chain.block(*submissions(parties[0]))
    closed = chain.group(it.name)
    assert closed.reason is Reason.FINAL
    assert closed.payouts == tuple(units + BOND for units in other.group.state.body.balances)


@pytest.mark.parametrize("index", [0, 1])
def test_f5_it_signs_no_state_and_no_claim_and_nobody_signs_with_it(index: int) -> None:
    _, parties, wire = bereft(index)
    before = len(wire.heard)
    wire.connect()
    wire.run()
    for party in parties:
        for amount in (1, 2):
            with pytest.raises(Refused) as refusal:
                party.request(pay(1 - party.index, amount))
        assert refusal.value.code == ("lost_data" if party.index == index else "peer_lost_data")
    parties[index].step(WedgeRequested())
    assert parties[index].group.claim is None
    assert not any(isinstance(message, Propose | Accept | Submit) for message in wire.heard[before:])


@pytest.mark.parametrize("index", [0, 1])
def test_f5_the_loss_and_what_was_recovered_survive_restarts(index: int) -> None:
    _, parties, wire = bereft(index)
    wire.connect()
    wire.run()
    it = parties[index]
    it.step(PleaRequested())
    before = it.group
    for compacted in (False, True):
        if compacted:
            it.compact()
        it.restart()
        assert (it.group.state, it.group.lost, it.group.plea) == (before.state, True, before.plea)
        assert it.group.signatures == before.signatures


def test_f5_a_restored_member_that_nobody_has_answered_is_still_lost_after_a_restart() -> None:
    _, parties, _ = bereft(1)
    parties[1].restart()
    assert parties[1].group.lost and parties[1].group.version == 0


def test_f5_nobody_says_which_state_is_the_newest_before_it_was_shown() -> None:
    """A primary that lost data proposes no FINAL on what it happens to know."""
    _, parties, wire = bereft(0)
    wire.connect()
    wire.run(until=lambda: parties[0].group.connected)
    assert not parties[0].group.shown_by
    with pytest.raises(Refused, match="newest"):
        parties[0].step(CloseRequested())


@pytest.mark.parametrize("both", [False, True])
def test_both_may_have_lost_data(both: bool) -> None:
    """What either still holds is shown; with nothing on either side nothing can be closed but by layer 1."""
    _, parties, wire = bereft(0)
    if both:
        parties[1].forget()
    else:
        parties[1].roll_back(2)
        parties[1].step(PleaRequested())
    wire.connect()
    wire.run()
    assert not wire.errors and parties[0].group.state == parties[1].group.state
    assert (parties[0].group.version > 0) is not both


def test_an_old_copy_meets_one_that_recovered_and_learns_that_it_is_the_older() -> None:
    """Who lost data still shows what it was shown: the other's signature is in it."""
    _, parties, wire = bereft(0)
    wire.connect()
    wire.run()
    wire.cut()
    parties[1].roll_back(2)
    wire.connect()
    wire.run()
    assert not wire.errors and all(party.group.lost and party.group.version == 4 for party in parties)


def test_f5_a_final_of_a_primary_that_forgot_what_is_in_flight_is_no_lie() -> None:
    """It was shown all that the others hold; that they have signed one more, nobody can tell it."""
    a, b, _c, wire = trio_of(3)
    a.request(pay(1, 5))
    wire.run()
    a.request(pay(1, 6))
    wire.run(until=lambda: b.group.pending is not None)
    wire.cut()
    a.forget()
    wire.connect()
    wire.run()
    assert a.group.informed and b.group.pending is not None
    a.step(CloseRequested())
    wire.run()
    assert not wire.errors and b.group.final is None
    assert [e.code for e in b.others if isinstance(e, Advice)] == ["they_lost_data", "close_declined"]


def test_f5_a_commit_of_a_primary_that_lost_data_is_no_lie() -> None:
    """Its old copy may hold what completes a version that all others have left behind."""
    a, b, _c, wire = trio_of(3)
    a.request(pay(1, 5))
    wire.run()
    first = b.group.certificate
    a.request(pay(1, 6))
    wire.run()
    wire.cut()
    a.forget()
    wire.connect()
    wire.run()
    assert 0 in b.group.bereft and b.group.version == 2
    assert b.step(Received(0, Commit(first), SALT)) == []


def test_f5_a_primary_of_three_is_shown_its_own_signature_in_a_members_resume() -> None:
    """It forgot a version that has no certificate yet: else it would propose another one at that number."""
    a, b, _c, wire = trio_of(3)
    a.request(pay(1, 5))
    wire.run()
    a.request(pay(1, 6))
    wire.run(until=lambda: b.group.pending is not None)
    wire.cut()
    a.roll_back(len(a.disk.records) - 1)
    assert a.group.version == 1 and a.group.pending is None and b.group.pending is not None
    wire.connect()
    wire.run()
    assert a.group.lost and not wire.errors
    with pytest.raises(Refused, match="lost"):
        a.request(pay(2, 7))


def test_what_is_shown_is_checked() -> None:
    """A forged certificate, another body, another header at our version: refused, and nothing changes."""
    _, parties, wire = bereft(1)
    wire.connect()
    b, good = parties[1], newest(parties[0])
    b.hear(0, encode(Resume(b.name, parties[0].group.certificate)))
    header = good.certificate.header
    above = structs.replace(header, version=9)
    signed = (sign_state(key("group 0"), above), bytes(64))
    bad = [
        structs.replace(good, body=structs.replace(good.body, balances=(2000, 0))),
        structs.replace(good, certificate=structs.replace(good.certificate, header=above)),
        structs.replace(good, certificate=structs.replace(good.certificate, header=above, signatures=signed)),
        structs.replace(
            good, certificate=structs.replace(good.certificate, signatures=good.certificate.signatures[:1])
        ),
        structs.replace(good, certificate=structs.replace(good.certificate, signatures=())),
        structs.replace(good, certificate=structs.replace(good.certificate, header=structs.replace(header, version=0))),
    ]
    before = b.group
    for message in bad:
        with pytest.raises(RemoteError):
            b.step(Received(0, message, SALT))
        assert b.group == before
    b.step(Received(0, good, SALT))
    assert b.group.state == parties[0].group.state


def test_of_another_epoch_nothing_is_taken() -> None:
    _, parties, wire = bereft(1)
    wire.connect()
    b, good = parties[1], newest(parties[0])
    b.hear(0, encode(Resume(b.name, parties[0].group.certificate)))
    other = structs.replace(good.certificate.header, epoch=1)
    before = b.group
    b.step(Received(0, structs.replace(good, certificate=structs.replace(good.certificate, header=other)), SALT))
    parties[0].step(Received(1, LostData(b.name, 1), SALT))
    assert b.group == before and not parties[0].group.bereft


# -------------------------------------------------------------------------------------------------- before layer 1


@pytest.mark.parametrize("index", [0, 1])
def test_rule_13_a_plea_doubles_the_period_and_the_others_report(index: int) -> None:
    """Everybody has its balance and its bond back, though the pleader knew nothing at all."""
    chain, parties, _ = bereft(index)
    it, other = parties[index], parties[1 - index]
    it.step(WedgeRequested())
    chain.block(*submissions(it))
    shown = chain.group(it.name)
    assert shown.status is Status.WEDGED and shown.version == 0
    assert shown.deadline_ms == chain.state.clock + 2 * it.terms.challenge_period_ms
    closed = settle(chain, it, other)
    assert closed.version == 4 and not any(closed.forfeits) and closed.reason is Reason.DEADLINE
    assert closed.payouts == tuple(units + BOND for units in other.group.state.body.balances)
    assert not chain.refused


def test_rule_13_who_does_not_answer_a_plea_loses_its_bond() -> None:
    chain, parties, _ = bereft(1)
    parties[1].step(WedgeRequested())
    chain.block(*submissions(parties[1]))
    closed = settle(chain, parties[1])
    assert closed.forfeits == (Forfeit.SILENT, None) and closed.payouts == (1000, 1000 + 2 * BOND)


def test_rule_13_a_plea_is_no_claim_and_no_claim_follows_it() -> None:
    """Also of a member that lost nothing, as far as it knows: its user fears that its copy is old."""
    _, parties, wire = world()
    play(parties, wire, 2)
    b = parties[1]
    b.step(PleaRequested())
    with pytest.raises(Refused, match="wedged"):
        b.request(pay(0, 1))
    b.step(WedgeRequested())
    assert b.group.claim is None and {type(payload) for payload in submissions(b)} == {Plea}
    b.restart()
    assert b.group.lost and b.group.plea is not None
    parties[0].step(WedgeRequested())
    with pytest.raises(Refused) as refusal:
        parties[0].step(PleaRequested())
    assert refusal.value.code == "claim_stands"


def test_rule_13_a_plea_that_was_lost_on_its_way_is_brought_again() -> None:
    chain, parties, _ = bereft(1)
    parties[1].step(WedgeRequested())
    submissions(parties[1])
    parties[1].restart()
    watch(chain, parties[1])
    assert chain.group(parties[1].name).pleas == (False, True)


def test_rule_13_a_plea_that_comes_second_joins_the_dispute() -> None:
    chain, parties, _ = bereft(1)
    parties[1].step(WedgeRequested())
    submissions(parties[1])
    parties[0].step(WedgeRequested())
    chain.block(*submissions(parties[0]))
    watch(chain, parties[1])
    assert chain.group(parties[1].name).pleas == (False, True)
    assert not chain.refused


def test_rule_3_after_a_plea_nothing_becomes_committed() -> None:
    """[F2], as after a CLAIM."""
    _, parties, wire = world()
    a, b = parties
    a.request(pay(1, 5))
    wire.run(until=lambda: b.group.version == 1)
    a.step(PleaRequested())
    wire.run()
    assert a.group.version == 0 and not a.committed


@pytest.mark.parametrize("index", [0, 1])
def test_rule_10_who_recovered_may_concur_and_layer_1_settles_at_once(index: int) -> None:
    chain, parties, wire = bereft(index)
    wire.connect()
    wire.run()
    it, other = parties[index], parties[1 - index]
    other.step(WedgeRequested())
    chain.block(*submissions(other))
    watch(chain, it)
    assert chain.group(it.name).status is Status.WEDGED, "it waits: somebody may still know better"
    it.step(ConcurRequested())
    chain.block(*submissions(it))
    closed = chain.group(it.name)
    assert closed.reason is Reason.CLAIMS and closed.version == 4 and not any(closed.forfeits)


def test_rule_10_nobody_concurs_before_the_others_have_spoken_nor_who_may_claim() -> None:
    chain, parties, _ = bereft(1)
    b = parties[1]
    with pytest.raises(Refused) as early:
        b.step(ConcurRequested())
    b.step(WedgeRequested())
    chain.block(*submissions(b))
    watch(chain, b)
    with pytest.raises(Refused) as alone:
        b.step(ConcurRequested())
    parties[0].step(LedgerSeen(chain.group(b.name)))
    with pytest.raises(Refused) as whole:
        parties[0].step(ConcurRequested())
    codes = [refusal.value.code for refusal in (early, alone, whole)]
    assert codes == ["not_wedged", "too_early", "claims"]


def test_rule_14_who_recovered_reports_a_stale_wedge_without_a_claim() -> None:
    """Others' certificates prove themselves: the liar pays, and the one that lost data keeps its bond."""
    chain, parties, wire = bereft(1)
    wire.connect()
    wire.run()
    liar = old_copy(parties[0], 1)
    liar.step(WedgeRequested())
    chain.block(*submissions(liar))
    closed = settle(chain, parties[1])
    assert closed.version == 4 and closed.forfeits == (Forfeit.LIE, None)


def test_rule_12_whoever_holds_the_body_reveals_it() -> None:
    """A header alone wins the dispute: an honest member does not lose its bond for hiding."""
    chain, parties, wire = world()
    play(parties, wire, 3)
    a, b = parties
    a.step(WedgeRequested())
    (wedge,) = submissions(a)
    assert isinstance(wedge, Wedge)
    chain.block(structs.replace(wedge, body=None))
    b.step(LedgerSeen(chain.group(b.name)))
    assert any(isinstance(payload, Reveal) for payload in submissions(b))
    closed = settle(chain, b)
    assert closed.version == 3 and not any(closed.forfeits)


def test_rule_12_who_lost_the_body_pleads_and_keeps_its_bond() -> None:
    """The liar holds the body for ransom: it pays for it, not the one that cannot show what it lost."""
    chain, parties, wire = world()
    play(parties, wire, 3)
    a, b = parties
    a.step(WedgeRequested())
    (wedge,) = submissions(a)
    assert isinstance(wedge, Wedge)
    b.forget()
    chain.block(structs.replace(wedge, body=None))
    for _ in range(20):
        watch(chain, b)
        chain.block(after_ms=10_000)
    shown = chain.group(b.name)
    assert shown.forfeits == (Forfeit.HIDDEN, None) and shown.pleas == (False, True)
    a.step(LedgerSeen(shown))
    chain.block(*submissions(a))
    assert chain.group(b.name).status is Status.CLOSED


def test_rule_12_who_came_too_late_with_its_claim_pleads_for_a_body_it_has_no_more() -> None:
    """Of an old version that liars brought by its header: the claim can count no more, so a plea denies nothing."""
    chain, parties, wire = world((1000, 1000, 1000))
    play(parties, wire, 3)
    honest, liar, helper = parties[0], old_copy(parties[1], 1), parties[2]
    liar.step(WedgeRequested())
    (wedge,) = submissions(liar)
    assert isinstance(wedge, Wedge)
    chain.block(structs.replace(wedge, body=None))
    honest.step(LedgerSeen(chain.group(honest.name)))
    assert honest.group.claim is not None
    submissions(honest)  # lost on their way, or a moment after the deadline
    while chain.group(honest.name).revealing is None:
        chain.block(after_ms=10_000)
    bare = PleaForData(honest.name, 0, 2)
    chain.block(Plea(sign_plea(helper.group.place.key, helper.terms.chain_id, bare)))
    for _ in range(20):
        watch(chain, honest)
        honest.restart()
        chain.block(after_ms=10_000)
    shown = chain.group(honest.name)
    assert shown.pleas == (True, False, True) and shown.forfeits == (None, Forfeit.HIDDEN, None)


def test_f5_a_witness_is_asked_too() -> None:
    a, b, witness, wire = trio_of(2, witnessed=True)
    a.request(pay(1, 7))
    wire.run()
    b.forget()
    b.step(Connected(2))
    b.step(Connected(0))
    wire.collect()
    messages = {line: [type(_decoded(data)) for data in wire.lines[line]] for line in ((1, 2), (1, 0))}
    assert messages == {(1, 2): [Inquiry], (1, 0): [LostData]}
    while wire.deliver(1, 2) or wire.deliver(2, 1):
        pass
    assert b.group.state == a.group.state and witness.holding.version == 1


def _decoded(data: bytes) -> Any:
    from layer2.messages import decode_message

    return decode_message(data)


def test_rule_13_a_plea_is_signed_for_this_group_and_epoch_alone() -> None:
    _, parties, _ = bereft(1)
    b = parties[1]
    b.step(PleaRequested())
    expected = sign_plea(key("group 1"), b.terms.chain_id, PleaForData(b.name, 0, 1))
    assert submissions(b) == [Plea(expected)]


def test_reports_of_a_bereft_member_hold_no_claim() -> None:
    chain, parties, wire = bereft(1)
    wire.connect()
    wire.run()
    liar = old_copy(parties[0], 1)
    liar.step(WedgeRequested())
    chain.block(*submissions(liar))
    parties[1].step(LedgerSeen(chain.group(liar.name)))
    (report,) = submissions(parties[1])
    assert isinstance(report, Report) and report.claims == () and report.certificate == parties[1].group.certificate

"""[F5] for a store that is a copy, perhaps an old one: it asks first, and until all have answered it signs nothing that
might be false.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from layer1.errors import Refused, RemoteError
from layer1.ledger.records import Reason, Status
from layer1.ledger.transactions import Plea
from layer2 import closing, reconnecting, recovering, updating
from layer2.events import (
    Advice,
    CloseRequested,
    Connected,
    Doubts,
    LedgerSeen,
    PleaRequested,
    Received,
    Reminded,
    Submission,
    WedgeRequested,
)
from layer2.messages import Accept, Doubt, Propose, Resume, decode_message
from layer2.payments import pay
from tests.layer2.harness import BOND, Party, Wire, trio_of
from tests.layer2.test_disputes import Chain, play, settle, submissions, watch, world

SALT = b"s" * 16


def copied(index: int, lost_records: int = 0, versions: int = 4) -> tuple[Chain, list[Party], Wire]:
    """A pair in step; then this member goes on from a copy of its disk that lacks some records, and knows that."""
    chain, parties, wire = world()
    play(parties, wire, versions)
    wire.cut()
    it = parties[index]
    it.roll_back(len(it.disk.records) - lost_records)
    it.step(Doubts())
    return chain, parties, wire


def said(wire: Wire, sender: int, receiver: int) -> list[Any]:
    return [decode_message(data) for data in wire.lines[sender, receiver]]


@pytest.mark.parametrize("index", [0, 1])
def test_a_copy_that_is_as_good_as_the_original_goes_on_when_the_other_has_shown_where_it_stands(index: int) -> None:
    """Whoever moved its home to another machine loses nothing by it."""
    _, parties, wire = copied(index)
    wire.connect()
    assert said(wire, index, 1 - index) == [Doubt(parties[0].name, 0)]
    wire.run()
    it = parties[index]
    assert it.group.doubts == frozenset() and not it.group.lost and not wire.errors
    assert [e.code for e in it.others if isinstance(e, Advice)] == ["maybe_old", "confirmed"]
    it.restart()
    wire.connect()
    wire.run()
    it.request(pay(1 - index, 1))
    wire.run()
    assert [party.group.version for party in parties] == [5, 5]


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("lost_records", [1, 2, 3])
def test_an_old_copy_says_nothing_of_its_own_before_it_learns_that_it_is_old(index: int, lost_records: int) -> None:
    _, parties, wire = copied(index, lost_records)
    before = len(wire.heard)
    wire.connect()
    wire.run()
    it, other = parties[index], parties[1 - index]
    resumes = [m for m in wire.heard[before:] if isinstance(m, Resume)]
    own = [m for m in resumes if m.certificate.header.version < other.group.version]
    assert it.group.state == other.group.state and not wire.errors
    assert it.group.lost or lost_records == 1, "the last record alone may be a certificate, which the other completes"
    assert not it.group.lost or not own, "its Resume would have said how old it is"


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("pretended", [0, 1, 2, 4])
def test_a_peer_that_pretends_to_know_less_gets_no_second_signature(index: int, pretended: int) -> None:
    """Decision 035 knew of no answer: who hears an old copy's Resume first can show what fits it."""
    chain, parties, wire = world()
    play(parties, wire, 5)
    it, liar = parties[index], parties[1 - index]
    signed = {party.index: party.group.version for party in parties}
    liar_then = Party(liar.terms, liar.index, name=liar.name)
    for count in range(len(liar.disk.records) + 1):
        liar_then.disk.records = liar.disk.records[:count]
        liar_then.restart()
        if liar_then.group.version == pretended and liar_then.group.pending is None:
            break
    wire.cut()
    while it.group.version > 3 or it.group.pending is not None:
        it.roll_back(len(it.disk.records) - 1)
    it.step(Doubts())
    both = sorted((it, liar_then), key=lambda party: party.index)
    lying = Wire(*both)
    lying.connect()
    lying.run()
    before = len(lying.heard)
    for party in both:
        try:
            party.request(pay(1 - party.index, 1))
        except Refused:
            continue
        lying.run()
    again = [m for m in lying.heard[before:] if isinstance(m, Propose | Accept)]
    assert not again and it.group.version < signed[index] and chain.group(it.name).status is Status.OPEN


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("lost_records", [0, 3])
def test_it_pleads_instead_of_claiming_and_loses_no_bond(index: int, lost_records: int) -> None:
    """Issue: "an old backup is harmless", also while its peer is away."""
    chain, parties, _ = copied(index, lost_records)
    it, other = parties[index], parties[1 - index]
    it.step(WedgeRequested())
    payloads = submissions(it)
    assert {type(payload) for payload in payloads} == {Plea} and it.group.claim is None
    chain.block(*payloads)
    closed = settle(chain, other, it)
    assert not any(closed.forfeits) and closed.version == 4
    assert closed.payouts == tuple(units + BOND for units in other.group.state.body.balances)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("lost_records", [0, 3])
def test_in_a_dispute_it_reports_what_it_has_and_claims_nothing(index: int, lost_records: int) -> None:
    chain, parties, _ = copied(index, lost_records)
    it, other = parties[index], parties[1 - index]
    other.step(WedgeRequested())
    chain.block(*submissions(other))
    watch(chain, it)
    assert it.group.claim is None
    closed = settle(chain, it)
    assert closed.version == 4 and not any(closed.forfeits) and closed.reason is Reason.DEADLINE


@pytest.mark.parametrize("how", ["doubts", "lost"])
def test_who_may_not_claim_pleads_when_the_other_pleads(how: str) -> None:
    """Rule 13: "one that has not [reported] at the end forfeits its bond to the pleader"; it may say nothing else."""
    chain, parties, _ = copied(1)
    if how == "lost":
        parties[1].forget()
    parties[0].step(PleaRequested())
    chain.block(*submissions(parties[0]))
    closed = settle(chain, parties[0], parties[1])
    assert all(closed.pleas) and not any(closed.forfeits)
    assert closed.payouts == tuple(units + BOND for units in parties[0].group.state.body.balances)


@pytest.mark.parametrize("older", [0, 1])
def test_if_both_are_copies_both_are_members_that_lost_data(older: int) -> None:
    """Neither can say that nothing is newer; each shows what it has, and they close on the newer."""
    _, parties, wire = copied(older, 3)
    parties[1 - older].step(Doubts())
    wire.connect()
    wire.run()
    assert all(party.group.lost and party.group.version == 4 for party in parties) and not wire.errors
    parties[0].step(CloseRequested())
    wire.run()
    assert parties[0].group.final is not None and None not in parties[0].group.final.signatures


@pytest.mark.parametrize("compacted", [False, True])
def test_the_doubt_survives_restarts_and_so_does_its_end(compacted: bool) -> None:
    _, parties, wire = copied(1)
    it = parties[1]

    def again() -> frozenset[int]:
        if compacted:
            it.compact()
        it.restart()
        return it.group.doubts

    assert again() == {0}
    wire.connect()
    wire.run()
    assert again() == frozenset()


def test_what_said_its_last_word_in_the_epoch_needs_no_doubt() -> None:
    """Behind a CLAIM or a FINAL nothing was signed that a copy could have forgotten."""
    for last in (WedgeRequested(), CloseRequested()):
        _, parties, wire = world()
        play(parties, wire, 2)
        parties[1].step(last)
        wire.run()
        parties[1].step(Doubts())
        assert not parties[1].group.doubts


def test_a_primary_of_three_asks_every_member() -> None:
    a, b, c, wire = trio_of(3)
    a.request(pay(1, 5))
    wire.run()
    wire.cut()
    a.step(Doubts())
    wire.connect(1)
    wire.run()
    assert a.group.doubts == {2}
    a.step(WedgeRequested())
    assert {type(payload) for payload in submissions(a)} == {Plea}
    assert not b.group.lost and not c.group.lost


def test_a_primary_in_doubt_says_nothing_to_a_member_before_its_resume() -> None:
    """What the first one completes, the other hears by that Resume, once it has shown where it stands itself."""
    a, b, c, wire = trio_of(3)
    a.request(pay(1, 5))
    wire.run(until=lambda: c.group.version == 1)
    wire.cut()
    a.roll_back(len(a.disk.records) - 1)
    assert (a.group.version, a.group.highest.version) == (0, 1)
    a.step(Doubts())
    wire.connect()
    while wire.deliver(2, 0):
        pass
    assert a.group.version == 1 and a.group.doubts == {1}
    assert {type(message) for message in said(wire, 0, 1)} == {Doubt}
    wire.run()
    assert [party.group.version for party in (a, b, c)] == [1, 1, 1] and not wire.errors


# --------------------------------------------------------------------------------------------------- others' word


def witnessed_copy(pretended: int) -> tuple[Party, Party, Any, Wire]:
    """Member 1 from a copy at version 2, its peer pretending to stand there as well; the witness holds version 5."""
    a, b, witness, wire = trio_of(2, witnessed=True)
    thens = [a.group]
    for i in range(5):
        a.request(pay(1, 10 + i))
        wire.run()
        thens.append(a.group)
    wire.cut()
    a.group = thens[pretended]
    while b.group.version > pretended or b.group.pending is not None:
        b.roll_back(len(b.disk.records) - 1)
    b.step(Doubts())
    return a, b, witness, Wire(a, b, witness)


def test_a_witness_may_know_what_a_lying_peer_hides() -> None:
    """It is asked as well, and nothing is signed before it has answered."""
    a, b, _, wire = witnessed_copy(2)
    b.step(Received(0, Resume(a.name, a.group.certificate), SALT))
    assert b.group.doubts == {2}
    a.request(pay(1, 99))
    (proposal,) = {m for m in (decode_message(data) for _, data in a.out) if isinstance(m, Propose)}
    b.step(Received(0, proposal, SALT))
    assert b.group.pending is None and b.group.held == proposal, "held back: the witness has not spoken"
    a.out.clear()
    wire.lines = {(1, 2): deque(), (2, 1): deque()}
    b.step(Connected(2))
    wire.run()
    assert b.group.lost and b.group.version == 5 and b.group.pending is None


def test_a_copy_with_a_witness_goes_on_when_both_have_answered() -> None:
    a, b, _, wire = witnessed_copy(5)
    wire.connect()
    wire.run()
    assert not b.group.doubts and not b.group.lost and not wire.errors
    for party in (a, b):
        party.request(pay(1 - party.index, 1))
    wire.run()
    assert b.group.committed.version == a.group.committed.version > 5


@pytest.mark.parametrize("with_body", [False, True])
def test_a_watchtower_that_holds_something_newer_ends_all_claims(with_body: bool) -> None:
    """Its header carries our own signature: a claim below it would be provably false."""
    chain, parties, _ = copied(1, 3)
    it, other = parties[1], parties[0].group
    it.step(Reminded("a watchtower", other.certificate, other.state.body if with_body else None))
    assert it.group.lost and not it.group.doubts
    assert it.group.version == (4 if with_body else it.group.version)
    it.step(WedgeRequested())
    chain.block(*submissions(it))
    closed = settle(chain, parties[0], it)
    assert closed.version == 4 and not any(closed.forfeits)


def test_what_a_watchtower_shows_is_checked() -> None:
    _, parties, _ = copied(1, 3)
    it, good = parties[1], parties[0].group
    cert, body, header = good.certificate, good.state.body, good.state.header
    before = it.group
    bad = [
        (structs.replace(cert, header=structs.replace(header, version=9)), None),
        (structs.replace(cert, signatures=cert.signatures[:1]), None),
        (cert, structs.replace(body, salt=bytes(16))),
    ]
    for certificate, shown in bad:
        with pytest.raises(RemoteError):
            it.step(Reminded("a watchtower", certificate, shown))
        assert it.group == before
    for unrelated in (structs.replace(header, epoch=3), structs.replace(header, group_id=bytes(32))):
        it.step(Reminded("a watchtower", structs.replace(cert, header=unrelated), None))
        assert it.group == before


def test_the_certificate_of_what_it_signed_last_is_no_loss() -> None:
    """A crash before the disk had the last certificate: whoever kept it gives it back."""
    _, parties, wire = world()
    play(parties, wire, 2)
    parties[0].request(pay(1, 5))
    wire.run(until=lambda: parties[1].group.version == 3)
    wire.cut()
    a, b = parties
    a.step(Reminded("a watchtower", b.group.certificate, b.group.state.body))
    assert a.group.version == 3 and not a.group.lost


def test_no_first_claim_before_the_watchtowers_were_asked() -> None:
    chain, parties, _ = copied(1)
    a = parties[0]
    parties[1].step(WedgeRequested())
    chain.block(*submissions(parties[1]))
    a.step(LedgerSeen(chain.group(a.name), 0, SALT, claiming=False))
    assert a.group.claim is None and submissions(a), "what it holds is reported all the same"
    a.step(LedgerSeen(chain.group(a.name), 0, SALT))
    assert a.group.claim is not None


# --------------------------------------------------------------------------------------------------------- mutants


def claims_in_doubt(patch: pytest.MonkeyPatch) -> None:
    true_claim = closing.claim
    patch.setattr(closing, "claim", lambda group: true_claim(structs.replace(group, doubts=frozenset())))

    def send_wedge(group: Any) -> Any:
        after, effects = closing.claim(group)
        return after, [*effects, Submission(closing.wedge_payload(after))]

    patch.setattr(closing, "send_wedge", send_wedge)


def speaks_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reconnecting, "first_word", lambda group, member: updating.resume(group))


def forgets_its_doubt(patch: pytest.MonkeyPatch) -> None:
    true_replay = recovering.replay
    patch.setattr(
        recovering, "replay", lambda group, record: structs.replace(true_replay(group, record), doubts=frozenset())
    )


def keeps_silent_to_a_plea(patch: pytest.MonkeyPatch) -> None:
    from layer2 import watcher

    true_answer = recovering.answer_dispute

    def answer(group: Any, shown: Any, *, holds_body: bool) -> Any:
        bare = structs.replace(group, lost=False, doubts=frozenset())
        return true_answer(bare, shown, holds_body=holds_body) if group.plea is None else (group, [])

    patch.setattr(watcher, "answer_dispute", answer)


def trusts_a_copy_that_trusts_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reconnecting, "receive_doubt", lambda group, member, message: (group, []))


def signs_before_all_have_answered(patch: pytest.MonkeyPatch) -> None:
    true_receive = updating.receive_propose

    def receive(at: Any, member: int, message: Propose) -> Any:
        after, effects = true_receive(structs.replace(at, doubts=frozenset()), member, message)
        return structs.replace(after, doubts=at.doubts), effects

    patch.setattr(updating, "receive_propose", receive)


def believes_towers_blindly(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovering, "check_certificate", lambda *_, **__: None)


MUTANTS: dict[Callable[[pytest.MonkeyPatch], None], Callable[[], None]] = {
    claims_in_doubt: lambda: test_it_pleads_instead_of_claiming_and_loses_no_bond(1, 3),
    speaks_first: lambda: test_an_old_copy_says_nothing_of_its_own_before_it_learns_that_it_is_old(1, 3),
    forgets_its_doubt: lambda: test_the_doubt_survives_restarts_and_so_does_its_end(compacted=False),
    keeps_silent_to_a_plea: lambda: test_who_may_not_claim_pleads_when_the_other_pleads("doubts"),
    trusts_a_copy_that_trusts_nobody: lambda: test_if_both_are_copies_both_are_members_that_lost_data(0),
    signs_before_all_have_answered: test_a_witness_may_know_what_a_lying_peer_hides,
    believes_towers_blindly: test_what_a_watchtower_shows_is_checked,
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.__name__))
def test_each_wording_has_a_mutant_that_dies(mutant: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            MUTANTS[mutant]()
    MUTANTS[mutant]()

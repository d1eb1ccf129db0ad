"""What is the same for groups of all sizes, and what only larger ones need (rules 2 to 5, 7, 10; decision 028)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from layer1.codec import encode
from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import Certificate, sign_state, verify_state
from layer1.ledger.genesis import MAX_MONEY, REPORT_ROOM_BYTES, Parameters
from layer1.ledger.records import Reason, Status
from layer1.ledger.settlement import shares
from layer1.ledger.transactions import Transaction
from layer2 import updating
from layer2.events import (
    Advice,
    CloseRequested,
    Committed,
    Connected,
    Effect,
    Inquired,
    LedgerSeen,
    Persist,
    Received,
    Send,
    Submission,
    WedgeRequested,
)
from layer2.messages import Accept, Commit, FinalAccept, Inquiry, Propose, Resume, Standing
from layer2.payments import pay
from layer2.standing import Waiting, waiting
from layer2.updating import resume
from tests.layer2.harness import BOND, Court, Party, Wire, trio_of

SIZES = [2, 3, 5, 8]
SALT = b"s" * 16


def group_of(size: int, **terms: Any) -> tuple[list[Party], Wire]:
    *parties, wire = trio_of(size, **terms)
    return parties, wire


def pairs(sizes: list[int], first: int = 0) -> list[tuple[int, int]]:
    """Each size with each seat in it."""
    return [(size, seat) for size in sizes for seat in range(first, size)]


def run_without(wire: Wire, silent: int) -> None:
    """Deliver everything but what one member says."""
    for _ in range(50):
        wire.collect()
        for sender, receiver in list(wire.lines):
            if sender != silent:
                wire.deliver(sender, receiver)


def bring(court: Court, party: Party) -> None:
    for effect in [effect for effect in party.others if isinstance(effect, Submission)]:
        court.bring(effect.payload)
    party.others.clear()


def look(court: Court, *parties: Party) -> None:
    for party in parties:
        party.step(LedgerSeen(court.group))
        bring(court, party)


# ------------------------------------------------------------------------------------------------------- updating


@pytest.mark.parametrize("size", SIZES)
def test_rule_4_what_a_version_costs(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "Each state still costs each member one signature made, f verified"; a pair has two messages and three syncs."""
    parties, wire = group_of(size)
    made, verified = [0] * size, [0] * size
    at = 0
    sign, verify = sign_state, verify_state

    def counted_sign(*args: Any) -> Any:
        made[at] += 1
        return sign(*args)

    def counted_verify(*args: Any) -> Any:
        verified[at] += 1
        return verify(*args)

    monkeypatch.setattr(updating, "sign_state", counted_sign)
    monkeypatch.setattr(updating, "verify_state", counted_verify)
    before, wire.heard = [len(party.disk.records) for party in parties], []
    parties[0].request(pay(1, 5))
    wire.collect()
    while any(wire.lines.values()):
        for sender, receiver in list(wire.lines):
            at = receiver
            wire.deliver(sender, receiver)
    assert made == [1] * size and verified == [size - 1] * size
    kinds = [type(message) for message in wire.heard]
    others = size - 1
    assert (kinds.count(Propose), kinds.count(Accept)) == (others, others)
    assert len(kinds) == (2 if size == 2 else 3 * others)
    records = [len(party.disk.records) - count for party, count in zip(parties, before, strict=True)]
    assert records == [2, *([1] if size == 2 else [2] * others)]


@pytest.mark.parametrize("size", SIZES)
def test_all_members_pay_and_all_agree(size: int) -> None:
    parties, wire = group_of(size)
    for party in parties:
        party.request(pay((party.index + 1) % size, 10 + party.index))
    wire.run()
    states = [party.group.state for party in parties]
    assert all(state == states[0] for state in states) and not wire.errors
    assert states[0].body.balances == tuple(1000 + (9 + (i or size)) - (10 + i) for i in range(size))
    assert all(party.committed == parties[0].committed for party in parties)


@pytest.mark.parametrize("size", SIZES[1:])
def test_rule_3_a_member_commits_only_on_the_certificate(size: int) -> None:
    """ "Committed for a member = it durably holds the certificate", whatever its own signature would complete."""
    parties, wire = group_of(size)
    parties[1].request(pay(2, 5))
    last = size - 1
    run_without(wire, last)
    assert [party.group.version for party in parties] == [0] * size and not any(party.committed for party in parties)
    wire.deliver(last, 0)
    assert set(parties[0].committed) == {1}
    (data,) = wire.lines[0, 1]
    assert [type(effect) for effect in parties[1].hear(0, data)] == [Persist, Committed]


@pytest.mark.parametrize("size", SIZES[1:])
def test_rule_3_under_load_the_next_proposal_is_the_commit(size: int) -> None:
    parties, wire = group_of(size)
    parties[0].request(pay(1, 5))
    for amount in (1, 2, 3):
        parties[0].request(pay(1, amount))
    wire.run()
    assert {party.group.version for party in parties} == {2}
    assert sum(isinstance(message, Commit) for message in wire.heard) == size - 1
    assert [len(event.batch.commands) for event in parties[-1].committed.values()] == [1, 3]


@pytest.mark.parametrize("wrong", range(3))
def test_rule_3_a_commit_is_believed_by_its_signatures(wrong: int) -> None:
    """Its own and the primary's, which it has seen before, among them."""
    parties, wire = group_of(3)
    parties[0].request(pay(1, 5))
    wire.run(until=lambda: parties[0].group.version == 1)
    good = parties[0].group.signatures
    bad = tuple(bytes(64) if i == wrong else signature for i, signature in enumerate(good))
    before = parties[1].group
    for signatures in (bad, good[:2], ()):
        message = Commit(Certificate(parties[0].group.state.header, signatures))
        with pytest.raises(RemoteError):
            parties[1].step(Received(0, message, SALT))
    assert parties[1].group == before


@pytest.mark.parametrize(("size", "seat"), pairs(SIZES))
def test_rule_5_all_go_on_after_any_one_restarts(size: int, seat: int) -> None:
    parties, wire = group_of(size)
    parties[1].request(pay(0, 5))
    wire.run(until=lambda: parties[-1].group.highest.version == 1)
    parties[seat].restart()
    members = [seat] if seat else []
    wire.cut(*members)
    wire.connect(*members)
    wire.run()
    assert {party.group.version for party in parties} == {1} and not wire.errors
    parties[seat].request(pay((seat + 1) % size, 1))
    wire.run()
    assert {party.group.version for party in parties} == {2}


def test_members_have_sessions_with_the_primary_alone() -> None:
    """What two of them said to each other would race what both say to the primary: an old Resume looks like a loss."""
    (a, b, c), wire = group_of(3)
    old = resume(b.group)
    for _ in range(3):
        a.request(pay(1, 5))
        wire.run()
    assert (a.group.place.peers, b.group.place.peers, c.group.place.peers) == ((1, 2), (0,), (0,))
    before = c.group
    for event in (Connected(1), Received(1, old, SALT)):
        with pytest.raises(RemoteError, match="no session"):
            c.step(event)
    assert c.group == before and not c.group.closing


# -------------------------------------------------------------------------------------------------------- waiting


@pytest.mark.parametrize(("size", "seat"), pairs(SIZES, first=1))
def test_a_stuck_group_names_the_member_that_has_not_signed(size: int, seat: int) -> None:
    """At the primary at once; at the others when they ask."""
    parties, wire = group_of(size)
    assert all(waiting(party.group) is None for party in parties)
    parties[0].request(pay(1, 5))
    run_without(wire, seat)
    for party in parties:
        if party.index != seat:
            party.step(Inquired())
    run_without(wire, seat)
    for party in parties:
        if party.index != seat:
            assert waiting(party.group) == Waiting(1, (seat,), ())
    stopped = parties[0].group
    parties[0].step(WedgeRequested())
    assert waiting(parties[0].group) is None, "layer 1 decides now"
    parties[0].group = stopped
    wire.run()
    assert all(waiting(party.group) is None for party in parties) and {p.group.version for p in parties} == {1}


def test_a_member_of_a_pair_asks_nobody() -> None:
    """It knows all that its primary does."""
    (a, b), wire = group_of(2)
    b.request(pay(0, 5))
    assert waiting(b.group) == Waiting(1, (0,), ())
    assert b.step(Inquired()) == a.step(Inquired()) == []
    wire.cut()
    assert waiting(b.group) == Waiting(0, (), (0,)) and waiting(a.group) == Waiting(0, (), (1,))


@pytest.mark.parametrize("size", SIZES[1:])
def test_a_member_that_is_gone_is_named_to_all_and_stops_new_commands(size: int) -> None:
    """So that nobody's command waits in vain; what comes back goes on."""
    parties, wire = group_of(size)
    gone = size - 1
    wire.cut(gone)
    wire.run()
    for party in parties[:-1]:
        assert waiting(party.group) == Waiting(0, (), (gone,))
        with pytest.raises(Refused) as refusal:
            party.request(pay(1 - min(party.index, 1), 5))
        assert refusal.value.code == "not_connected"
    assert waiting(parties[gone].group) == Waiting(0, (), (0,))
    wire.connect(gone)
    wire.run()
    parties[1].request(pay(0, 5))
    wire.run()
    assert {party.group.version for party in parties} == {1}


def test_nobody_counts_as_there_before_the_primary_has_said_so() -> None:
    """On a new link a command was taken that could not be signed, and waited."""
    (a, b, _), wire = group_of(3)
    wire.cut()
    wire.connect(1)
    wire.deliver(0, 1)
    assert b.group.in_step == {0} and waiting(b.group) == Waiting(0, (), (2,))
    with pytest.raises(Refused, match="not connected"):
        b.request(pay(0, 5))
    wire.run()
    assert b.group.absent == a.group.absent == (2,)
    wire.connect(2)
    wire.run()
    b.request(pay(0, 5))


def test_a_member_that_repeats_itself_costs_the_others_nothing() -> None:
    """Each Resume of one member was told to all."""
    (a, b, _), wire = group_of(3)
    before = a.group
    for _ in range(3):
        effects = a.step(Received(1, resume(b.group), SALT))
        assert [effect.member for effect in effects if isinstance(effect, Send)] == [1]
    assert a.group == before and not wire.errors


@pytest.mark.parametrize("size", SIZES)
def test_who_has_not_signed_final_is_named(size: int) -> None:
    parties, wire = group_of(size)
    last = size - 1
    parties[0].step(CloseRequested())
    run_without(wire, last)
    for party in parties[:-1]:
        party.step(Inquired())
    run_without(wire, last)
    assert {waiting(party.group) for party in parties[:-1]} == {Waiting(0, (last,), (), final=True)}
    wire.run()
    assert all(waiting(party.group) is None for party in parties)
    assert [len([e for e in party.others if isinstance(e, Submission)]) for party in parties] == [1] * size


def test_an_inquiry_completes_what_a_lost_commit_left_open() -> None:
    """The signatures that the primary shows are a certificate like any other, durable before it is committed."""
    (a, b, _), wire = group_of(3)
    a.request(pay(1, 5))
    run_without(wire, 1)
    wire.lines[1, 0].clear()  # the Accept of member 1 never arrives, so the primary lacks it alone
    b.step(Inquired())
    wire.run()
    assert b.group.version == 1 and a.group.version == 0 and not wire.errors
    wire.cut(1)
    wire.connect(1)
    wire.run()
    assert a.group.certificate == b.group.certificate and set(a.committed) == {1}


def lies(a: Party) -> list[tuple[str, dict[str, Any]]]:
    assert a.group.pending is not None
    mine = a.group.pending.signatures[0]
    return [
        ("a signature that is wrong", {"signatures": (mine, None, bytes(64))}),
        ("too few", {"signatures": (mine, None)}),
        ("none at all", {"signatures": ()}),
        ("nobody's place", {"absent": (3,)}),
        ("a place below the first", {"absent": (-1,)}),
        ("the one who hears it", {"absent": (1,)}),
        ("the one who says it", {"absent": (0,)}),
    ]


@pytest.mark.parametrize("row", range(7))
def test_what_the_primary_tells_is_checked(row: int) -> None:
    (a, b, c), wire = group_of(3)
    a.request(pay(1, 5))
    run_without(wire, 2)
    what, change = lies(a)[row]
    good = Standing(a.name, (), False, 1, (None, None, None))
    before = b.group
    with pytest.raises(RemoteError):
        b.step(Received(0, structs.replace(good, **change), SALT))
    assert b.group == before, what
    assert b.step(Received(0, good, SALT)) == [] and b.group == before
    for sender, receiver in ((2, 0), (1, 0)):  # and only the primary tells
        with pytest.raises(RemoteError, match="the primary does"):
            (a, b, c)[receiver].step(Received(sender, good, SALT))
    with pytest.raises(RemoteError, match="ask the primary"):
        b.step(Received(0, Inquiry(b.name), SALT))


def test_what_crossed_is_no_fault() -> None:
    """A Standing of a version that the member is not waiting for any more, or not yet."""
    (_, b, _), wire = group_of(3)
    before = b.group
    assert b.step(Received(0, Standing(b.name, (), False, 7, (bytes(64),) * 3, (bytes(64),) * 3), SALT)) == []
    assert b.group == before and not wire.errors


# -------------------------------------------------------------------------------------------------------- closing


@pytest.mark.parametrize("size", SIZES)
def test_rule_7_all_sign_the_end_and_anybody_brings_it(size: int) -> None:
    parties, wire = group_of(size)
    parties[-1].request(pay(0, 9))
    wire.run()
    parties[-1].step(CloseRequested())
    wire.run()
    for party in parties:
        court = Court(party.terms)
        bring(court, party)
        assert court.group.reason is Reason.FINAL
        assert court.group.payouts == tuple(1000 + BOND + 9 * ((i == 0) - (i == size - 1)) for i in range(size))


def test_rule_7_a_member_that_missed_the_last_signature_gets_it_on_the_next_link() -> None:
    """Else only the primary could close the group that all have signed the end of."""
    (a, b, c), wire = group_of(3)
    a.step(CloseRequested())
    wire.run(until=lambda: b.group.final is not None)
    wire.deliver(1, 0)
    wire.cut(1)
    wire.run()
    wire.connect(1)
    wire.run()
    found = [[effect for effect in party.others if isinstance(effect, Submission)] for party in (a, b, c)]
    assert all(each and each[-1] == found[0][-1] for each in found) and not wire.errors


def test_one_that_lost_data_ends_the_group_and_all_learn_of_it() -> None:
    """The others' commands wait for nothing that could still come."""
    (a, b, c), wire = group_of(3)
    for _ in range(3):
        a.request(pay(1, 1))
        wire.run()
    c.disk.records, c.committed = c.disk.records[:2], {}
    c.restart()
    wire.cut(2)
    wire.connect(2)
    wire.run()
    assert c.group.lost and a.group.stopped is not None and b.group.closing
    with pytest.raises(Refused) as refusal:
        b.request(pay(0, 1))
    assert refusal.value.code == "group_closing"
    b.step(CloseRequested())
    wire.run()
    assert not wire.errors and {party.group.final.final.payout for party in (a, b, c)} == {(997, 1003, 1000)}  # type: ignore[union-attr]


@pytest.mark.parametrize("size", SIZES)
def test_rule_10_layer_1_settles_when_the_last_member_has_claimed(size: int) -> None:
    """And not before: a claim less is a vote less against an old certificate."""
    parties, wire = group_of(size)
    parties[0].request(pay(1, 7))
    wire.run()
    court = Court(parties[0].terms)
    parties[-1].step(WedgeRequested())
    bring(court, parties[-1])
    for party in parties[:-1]:
        assert court.group.status is Status.WEDGED
        look(court, party)
    assert court.group.reason is Reason.CLAIMS and court.group.version == 1 and not any(court.group.forfeited)


def test_what_the_largest_group_brings_to_layer_1_fits_there() -> None:
    """Its wedge takes most room: certificate, body and claim."""
    parties, wire = group_of(Parameters().max_members, deposits=(MAX_MONEY // 20,) * Parameters().max_members)
    for party in parties:
        party.request(pay((party.index + 1) % len(parties), 2**40))
    wire.run()
    parties[-1].step(WedgeRequested())
    (wedge,) = [effect.payload for effect in parties[-1].others if isinstance(effect, Submission)]
    size = len(encode(Transaction(wedge, MAX_MONEY, bytes(16)))) - len(parties[-1].group.state.body.machine_state)
    assert 64 * len(parties) < size <= REPORT_ROOM_BYTES
    court = Court(parties[0].terms)
    court.bring(wedge)
    assert court.group.version > 0 and not court.refused


@pytest.mark.parametrize(("size", "liar"), pairs([3, 5]))
def test_rule_14_and_15_a_stale_wedge_by_any_member_loses_and_pays_all_others(size: int, liar: int) -> None:
    parties, wire = group_of(size)
    kept: list[bytes] = []
    for count in range(4):
        if count == 2:
            kept = list(parties[liar].disk.records)
        parties[0].request(pay(1, 7))
        wire.run()
    twin = Party(parties[0].terms, liar)
    twin.disk.records = kept
    twin.restart()
    assert twin.group.version == 2
    court = Court(twin.terms)
    twin.step(WedgeRequested())
    bring(court, twin)
    honest = [party for party in parties if party.index != liar]
    look(court, *honest)
    closed = court.end()
    gains = dict(zip((party.index for party in honest), shares(BOND, size - 1), strict=True))
    balances = parties[0].group.state.body.balances
    expected = tuple(units + (0 if i == liar else BOND + gains[i]) for i, units in enumerate(balances))
    assert (closed.version, closed.payouts) == (4, expected)
    assert closed.forfeited == tuple(i == liar for i in range(size))


def test_rule_7_who_declines_a_final_blames_nobody() -> None:
    """A third member lied on layer 1, and the primary has not seen it yet: it was charged with a fault."""
    (a, b, c), wire = group_of(3)
    for _ in range(3):
        a.request(pay(1, 7))
        wire.run()
    liar = Party(c.terms, 2)
    liar.disk.records = c.disk.records[:2]
    liar.restart()
    liar.step(WedgeRequested())
    court = Court(a.terms)
    bring(court, liar)
    b.step(LedgerSeen(court.group))
    records = len(b.disk.records)
    a.step(CloseRequested())
    wire.run()
    assert a.group.final is not None and b.group.final is None and not wire.errors
    assert [effect.code for effect in b.others if isinstance(effect, Advice)] == ["close_declined"]
    assert len(b.disk.records) == records
    bring(court, b)
    look(court, a, b)
    assert court.end().forfeited == (False, False, True) and court.group.version == 3


def test_rule_15_two_that_were_shown_different_bodies_lose_nothing() -> None:
    """ "Claims of different members that differ prove nothing": a primary that signs twice stops the group, no more."""
    (a, b, c), wire = group_of(3)
    other = Party(a.terms, 0)
    both = Wire(other, b, c)
    a.request(pay(1, 5))
    wire.run()
    assert b.group.version == 1
    other.disk.records = list(a.disk.records)
    other.restart()
    a.request(pay(1, 5))
    first = a.group.pending
    both.connect()
    both.run()
    other.request(pay(2, 9))
    second = other.group.pending
    assert first is not None and second is not None
    b.step(Received(0, first.propose, SALT))
    c.step(Received(0, second.propose, SALT))
    court = Court(a.terms)
    for party in (b, c):
        party.step(WedgeRequested())
        bring(court, party)
    look(court, b, c)
    assert court.end().version == 1 and court.group.forfeited == (False, False, False)


def sent(effects: list[Effect]) -> list[Any]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def test_a_final_accept_of_a_stranger_changes_nothing() -> None:
    (a, _, _), wire = group_of(3)
    a.step(CloseRequested())
    before = a.group
    with pytest.raises(RemoteError):
        a.step(Received(2, FinalAccept(a.name, bytes(64)), SALT))
    assert a.group == before
    wire.cut(2)
    [message] = sent(a.step(Connected(2)))
    assert isinstance(message, Resume)


def test_f2_a_final_that_meets_a_claim_with_a_version_in_flight_is_no_lie() -> None:
    """The primary holds the certificate, and has not seen yet that another member went to layer 1 without it."""
    a, b, _c, wire = trio_of(3)
    a.request(pay(1, 5))
    wire.run(until=lambda: a.group.version == 1)
    assert b.group.version == 0 and b.group.pending is not None
    wire.cut(1)
    b.step(WedgeRequested())
    wire.connect(1)
    wire.run()
    a.step(CloseRequested())
    wire.run()
    assert not wire.errors and b.group.final is None and b.group.claim is not None
    assert [e.code for e in b.others if isinstance(e, Advice)] == ["close_declined"]

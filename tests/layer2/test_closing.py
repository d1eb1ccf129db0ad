"""Rules 7, 8 and 10."""

from __future__ import annotations

import pytest
from msgspec import structs
from msgspec.structs import replace

from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import Final, sign_final, verify_claim, verify_final
from layer1.ledger.transactions import CloseGroup, Wedge
from layer2.events import CloseRequested, Received, Send, Submission, WedgeRequested
from layer2.messages import FinalAccept, FinalProposal, Propose
from layer2.payments import pay
from tests.layer2.harness import CHAIN, Party, key, pair, trio_of

SALT = b"s" * 16


def submitted(party: Party) -> list[object]:
    return [effect.payload for effect in party.others if isinstance(effect, Submission)]


def closing_base(party: Party) -> int | None:
    return party.group.final.final.base_version if party.group.final is not None else None


@pytest.mark.parametrize("who", [0, 1])
def test_rule_7_final_pays_the_newest_state_and_is_signed_by_all(who: int) -> None:
    """ "FINAL(base certificate, payout), no locks, signed by all"."""
    a, b, wire = pair()
    a.request(pay(1, 10))
    wire.run()
    (a, b)[who].step(CloseRequested())
    wire.run()
    for party in (a, b):
        (payload,) = submitted(party)
        assert isinstance(payload, CloseGroup)
        assert payload.final.payout == (990, 1010) and payload.final.base == a.group.state.header.hash
        for member, signature in zip(party.terms.members, payload.signatures, strict=True):
            assert verify_final(member, CHAIN, payload.final, signature)
        party.restart()
        assert party.group.final is not None and None not in party.group.final.signatures


def test_rule_7_only_with_nothing_in_flight() -> None:
    a, b, wire = pair()
    a.request(pay(1, 10))
    a.step(CloseRequested())
    assert closing_base(a) is None
    wire.run()
    assert closing_base(a) == 1 and a.group.final == b.group.final


@pytest.mark.parametrize("who", [0, 1])
def test_rule_7_after_final_it_signs_nothing_more_but_a_claim(who: int) -> None:
    """ "It may be left alone with its signature [F7]"."""
    a, b, wire = pair()
    a.step(CloseRequested())
    wire.run(until=lambda: b.group.final is not None)
    party = (a, b)[who]
    with pytest.raises(Refused):
        party.request(pay(1 - who, 1))
    party.restart()
    assert party.group.stopped is not None
    party.step(WedgeRequested())
    assert party.group.claim is not None


def test_rule_7_a_member_that_signed_final_answers_no_proposal() -> None:
    a, b, wire = pair()
    twin = Party(a.terms, 0)
    twin.disk.records = list(a.disk.records)
    a.step(CloseRequested())
    wire.run()
    twin.group = replace(twin.group, in_step=frozenset(twin.group.others))
    effects = twin.request(pay(1, 1))
    (proposal,) = [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, Propose)]
    assert b.step(Received(0, proposal, SALT)) == []
    assert b.group.version == 0


@pytest.mark.parametrize(
    "change",
    [{"payout": (1001, 999)}, {"base_version": 0}, {"base": bytes(32)}, {"epoch": 1}],
    ids=str,
)
def test_rule_7_a_final_on_anything_but_our_newest_is_refused(change: dict[str, object]) -> None:
    a, b, wire = pair()
    a.request(pay(1, 10))
    wire.run()
    header = a.group.state.header
    final = structs.replace(Final(a.name, 0, header.hash, 1, (990, 1010)), **change)
    message = FinalProposal(final, sign_final(key("group 0"), CHAIN, final), a.group.certificate, a.group.state.body)
    before = b.group
    with pytest.raises(RemoteError):
        b.step(Received(0, message, SALT))
    with pytest.raises(RemoteError, match="signature"):
        b.step(Received(0, structs.replace(message, signature=bytes(64)), SALT))
    assert b.group == before


def test_rule_7_a_wrong_final_accept_changes_nothing() -> None:
    a, b, wire = pair()
    with pytest.raises(RemoteError):
        a.step(Received(1, FinalAccept(a.name, bytes(64)), SALT))
    a.step(CloseRequested())
    before = a.group
    with pytest.raises(RemoteError):
        a.step(Received(1, FinalAccept(a.name, bytes(64)), SALT))
    assert a.group == before
    wire.run()
    (proposal,) = [m for m in wire.heard if isinstance(m, FinalProposal)]
    b.out.clear()
    b.step(Received(0, proposal, SALT))
    assert len(b.out) == 1 and len(b.disk.records) == 1
    with pytest.raises(RemoteError, match="another FINAL"):
        b.step(Received(0, structs.replace(proposal, final=structs.replace(proposal.final, epoch=1)), SALT))


def test_rule_7_commands_that_no_version_holds_are_dead() -> None:
    a, b, wire = pair()
    b.request(pay(0, 1))
    a.step(CloseRequested())
    wire.run()
    assert b.rejected[1].code == "group_closing" and a.group.version == 0


def test_rule_7_three_members_close_together() -> None:
    *parties, wire = trio_of(3)
    parties[2].request(pay(0, 9))
    wire.run()
    parties[1].step(CloseRequested())
    wire.run()
    payloads = [submitted(party) for party in parties]
    assert payloads[0] == payloads[1] == payloads[2] and len(payloads[0]) == 1
    assert not wire.errors


def test_rule_8_a_wedge_carries_the_newest_certificate_and_the_claim() -> None:
    """ "CLAIM(s, header_k) ... k is s or s+1"."""
    a, b, wire = pair()
    a.request(pay(1, 10))
    wire.run()
    a.request(pay(1, 10))
    for party, k in ((a, 2), (b, 1)):
        party.step(WedgeRequested())
        (wedge,) = submitted(party)
        assert isinstance(wedge, Wedge)
        assert wedge.certificate == party.group.certificate and wedge.body == party.group.state.body
        assert (wedge.claim.version, wedge.claim.highest.version) == (1, k)
        assert verify_claim(party.terms.members[party.index], CHAIN, wedge.claim)


def test_rule_8_nothing_is_signed_after_a_claim_and_the_first_one_stands() -> None:
    a, b, wire = pair()
    a.request(pay(1, 10))
    wire.run()
    b.step(WedgeRequested())
    claim = b.group.claim
    a.request(pay(1, 10))
    wire.run()
    assert b.group.version == 1
    b.step(WedgeRequested())
    b.restart()
    b.step(WedgeRequested())
    assert b.group.claim == claim and len(b.disk.records) == 2
    wire.connect()
    wire.run()
    assert b.group.version == 1 and a.group.pending is not None


def test_rule_8_a_wedge_rejects_what_no_version_holds_and_leaves_the_rest_open() -> None:
    a, _, _ = pair()
    a.request(pay(1, 1))
    a.request(pay(1, 2))
    a.step(WedgeRequested())
    assert set(a.rejected) == {2}

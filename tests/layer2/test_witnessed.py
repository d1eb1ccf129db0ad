"""Witnessed groups: what is committed, what is ACKed, and what a witness does (rule 3; "Witnessed groups")."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from msgspec.structs import replace

from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import Certificate, Witness, sign_claim
from layer1.ledger.records import Forfeit, Reason, Status
from layer1.ledger.transactions import ChangeGroup, Report, Wedge
from layer2 import witness as witness_core
from layer2.committing import sign_ack, verify_ack
from layer2.events import (
    ChangeWanted,
    CloseRequested,
    Connected,
    Finished,
    Inquired,
    LedgerSeen,
    Persist,
    Received,
    Submission,
    WedgeRequested,
)
from layer2.messages import Ack, Acks, Commit, Error, Held, Hold, Propose, decode_message
from layer2.payments import pay
from layer2.sealing import open_body
from layer2.standing import waiting
from layer2.terms import Terms
from tests.layer2.harness import BOND, Court, Party, Wire, WitnessParty, key, trio_of

SIZES = [2, 3]
"""2 + 1 and 3 + 2."""


def group_of(size: int, **terms: Any) -> tuple[list[Party], list[WitnessParty], Wire]:
    *parties, wire = trio_of(size, witnessed=True, **terms)
    return parties[:size], parties[size:], wire


def run_without(wire: Wire, *silent: int) -> None:
    """Deliver everything but what these say."""
    for _ in range(60):
        wire.collect()
        for sender, receiver in list(wire.lines):
            if sender not in silent:
                wire.deliver(sender, receiver)


@pytest.mark.parametrize("size", SIZES)
def test_all_members_pay_and_all_commit(size: int) -> None:
    members, witnesses, wire = group_of(size)
    for party in members:
        party.request(pay((party.index + 1) % size, 10 + party.index))
    wire.run()
    assert not wire.errors
    states = [party.group.state for party in members]
    assert all(state == states[0] for state in states) and states[0].version > 0
    assert all(party.committed == members[0].committed and not party.group.tail for party in members)
    assert set(members[0].committed) == set(range(1, states[0].version + 1))
    assert all(party.holding.certificate.header == states[0].header for party in witnesses)


@pytest.mark.parametrize(("size", "silent"), [(2, 2), (3, 3), (3, 4)])
def test_rule_3_committed_needs_the_ack_of_every_witness(size: int, silent: int) -> None:
    """ "Committed = certificate plus ACKs from all 2f+1"; the stuck group names who has not ACKed."""
    members, _, wire = group_of(size)
    members[0].request(pay(1, 5))
    run_without(wire, silent)
    for party in members:
        assert party.group.version == 1 and not party.committed
        assert party.group.committed.version == 0, "users are shown what is committed"
        party.step(Inquired())
    run_without(wire, silent)
    for party in members:
        found = waiting(party.group)
        assert found is not None and found.unacknowledged == (silent,) and not found.unsigned
    wire.run()
    assert all(set(party.committed) == {1} for party in members) and not wire.errors


@pytest.mark.parametrize("silent", [1, 2])
def test_rule_3_committed_needs_the_ack_of_every_member(silent: int) -> None:
    """In a group of three a member's signature of s does not say that it holds Cert(s): it did not have the third."""
    members, _, wire = group_of(3)
    members[0].request(pay(1, 5))
    wire.run(until=lambda: members[0].group.version == 1)
    run_without(wire, silent)
    for party in members:
        assert not party.committed or party.index == silent
    assert waiting(members[0].group).unacknowledged == (silent,)  # type: ignore[union-attr]
    wire.run()
    assert all(set(party.committed) == {1} for party in members)


def test_rule_3_in_a_pair_the_second_signature_is_its_ack_and_the_commit_the_primarys() -> None:
    """ "A witness costs at most one more round trip", for either payer: counted in hops on the way to its commit."""
    members, _, wire = group_of(2)
    for payer, hops in ((0, 4), (1, 4)):
        members[payer].request(pay(1 - payer, 5))
        version = max(members[payer].committed, default=0) + 1
        took = 0
        while version not in members[payer].committed:
            wire.collect()
            for line, count in [(line, len(content)) for line, content in wire.lines.items()]:
                for _ in range(count):
                    wire.deliver(*line)
            took += 1
        assert took <= hops, f"member {payer} waits {took} hops; without a witness {2} and {2}"
        wire.run()


def test_rule_1_the_next_version_is_signed_while_acks_are_on_their_way() -> None:
    """ "A member's Accept is its ACK of s"; under load one version takes one round trip, as without witnesses."""
    members, _, wire = group_of(3)
    members[0].request(pay(1, 1))
    run_without(wire, 3, 4)
    members[0].request(pay(1, 2))
    run_without(wire, 3, 4)
    assert [party.group.version for party in members] == [2, 2, 2] and not members[0].committed
    members[0].request(pay(1, 3))
    run_without(wire, 3, 4)
    assert members[0].group.version == 2 and members[0].group.pending is None, "two wait for ACKs: no third is signed"
    wire.run()
    assert all(set(party.committed) == {1, 2, 3} for party in members) and not wire.errors
    third = [m for m in wire.heard if isinstance(m, Propose) and m.header.version == 3]
    assert third and all({each.place for each in m.acks} == {3, 4} for m in third)


def test_a_proposal_that_proves_no_acks_is_refused() -> None:
    """A primary that goes on without a witness is stopped by the first honest member."""
    members, _, wire = group_of(2)
    for amount in (1, 2, 3):
        members[0].request(pay(1, amount))
        wire.run()
    forged = []
    members[0].request(pay(1, 4))
    wire.collect()
    (data,) = wire.lines[0, 1]
    proposal: Any = decode_message(data)
    # the member did not hear the witness, and the proposal brings nothing, or lies
    members[1].group = replace(members[1].group, **_unheard(members[1]))
    bad = replace(proposal.acks[0], signature=bytes(64))
    for acks in ((), (bad,)):
        with pytest.raises(RemoteError) as error:
            members[1].step(Received(0, replace(proposal, acks=acks), b""))
        forged.append(str(error.value))
    assert "not all have acknowledged version 2" in forged[0] and "ACK of version 3 by place 2 is wrong" in forged[1]
    assert members[1].hear(0, data), "the true one is fine"


def _unheard(party: Party) -> dict[str, Any]:
    """As if this member's own link to the witness had been cut since before version 2."""
    records = list(party.disk.records)
    restored = Party(party.terms, party.index)
    restored.disk.records = records
    restored.restart()
    return {"tail": restored.group.tail, "base": restored.group.base, "acked": (3, 3, 0), "acks": restored.group.acks}


@pytest.mark.parametrize("size", SIZES)
def test_f3_nothing_is_acked_after_a_claim(size: int) -> None:
    members, _witnesses, wire = group_of(size)
    members[0].request(pay(1, 5))
    wire.run(until=lambda: members[0].group.version == 1)
    last = members[-1]
    wire.collect()
    before = last.group.version
    last.step(WedgeRequested())
    wire.heard = []
    for sender, receiver in list(wire.lines):
        if receiver == last.index:
            while wire.deliver(sender, receiver):
                pass
    wire.collect()
    said = [decode_message(data) for line, content in wire.lines.items() if line[0] == last.index for data in content]
    assert last.group.version == before
    if size == 3:
        assert not [message for message in said if isinstance(message, Ack)]
    assert not last.committed, "[F2]: after its claim nothing becomes committed except by layer 1"


def test_f2_an_ack_that_arrives_after_the_claim_commits_nothing() -> None:
    members, _, wire = group_of(2)
    members[0].request(pay(1, 5))
    run_without(wire, 2)
    members[0].step(WedgeRequested())
    wire.run()
    assert not members[0].committed and set(members[1].committed) == {1}


def test_rule_3_the_primary_says_so_only_when_it_is_durable() -> None:
    """The Commit is its ACK: it follows the record of the certificate."""
    members, _, wire = group_of(2)
    members[0].request(pay(1, 5))
    wire.run(until=lambda: bool(wire.lines[1, 0]))
    (data,) = wire.lines[1, 0]
    kinds = [type(effect) for effect in members[0].hear(1, data)]
    assert kinds[0] is Persist
    wire.collect()
    assert any(isinstance(decode_message(each), Commit) for each in wire.lines[0, 1])


@pytest.mark.parametrize("size", SIZES)
def test_after_a_restart_all_is_known_again(size: int) -> None:
    """ACKs are promises of others: they are asked for again, and what was certified becomes committed then."""
    members, witnesses, wire = group_of(size)
    members[0].request(pay(1, 5))
    run_without(wire, *range(size, 2 * size - 1))
    assert not any(party.committed for party in members)
    everybody: list[Party | WitnessParty] = [*members, *witnesses]
    for party in everybody:
        party.restart()
        party.compact()
        party.restart()
    wire.connect()
    wire.run()
    assert all(set(party.committed) == {1} and not party.group.tail for party in members) and not wire.errors
    members[0].request(pay(1, 6))
    wire.run()
    assert all(set(party.committed) == {1, 2} for party in members)


def test_rule_7_behind_final_an_ack_is_said_again_byte_for_byte() -> None:
    """It is no new signature. The two who forgot it in a crash hear it, and know what is committed before layer 1."""
    members, _, wire = group_of(3)
    members[0].request(pay(1, 5))
    wire.run()
    before = _acks_of(members[2], wire)
    members[1].step(CloseRequested())
    wire.run()
    for party in members[:2]:
        party.restart()
        assert [version.state.version for version in party.group.tail] == [1], "a journal keeps no ACKs of others"
    wire.heard.clear()
    wire.connect()
    wire.run()
    assert all(not party.group.tail and party.group.final for party in members) and not wire.errors
    assert len(before) == 1 and _acks_of(members[2], wire) == before


def test_f3_nor_is_it_said_again_after_a_claim_behind_final() -> None:
    members, _, wire = group_of(3)
    members[0].request(pay(1, 5))
    wire.run()
    members[1].step(CloseRequested())
    wire.run()
    members[2].step(WedgeRequested())
    members[0].restart()
    wire.heard.clear()
    wire.connect()
    wire.run()
    assert not _acks_of(members[2], wire) and 2 in members[0].group.in_step and not wire.errors


def _acks_of(party: Party, wire: Wire) -> set[bytes]:
    """What it signed as such, of all that was heard."""
    said = {message for message in wire.heard if isinstance(message, Ack)}
    public, header = party.group.place.key.public, party.group.state.header
    return {ack.signature for ack in said if verify_ack(public, header, ack.signature)}


def test_a_member_without_a_link_to_the_witness_hears_by_the_primary() -> None:
    members, _, wire = group_of(2)
    for pair in ((1, 2), (2, 1)):
        del wire.lines[pair]
    for amount in (1, 2, 3, 4):
        members[amount % 2].request(pay(1 - amount % 2, amount))
        wire.run()
    assert set(members[1].committed) == set(members[0].committed) and max(members[1].committed) >= 4
    assert not wire.errors


def test_who_is_without_its_witness_takes_no_command() -> None:
    """A witness that stops halts updates, and the user is told at once."""
    members, _, wire = group_of(2)
    wire.cut(2)
    wire.run()
    for party in members:
        with pytest.raises(Refused) as refusal:
            party.request(pay(1 - party.index, 5))
        assert refusal.value.code == "not_connected" and party.group.absent == (2,)
    wire.connect(2)
    wire.run()
    members[1].request(pay(0, 5))
    wire.run()
    assert set(members[1].committed) == {1}


def test_an_inquiry_brings_the_certificate_to_a_witness_once_more() -> None:
    members, _, wire = group_of(2)
    members[0].request(pay(1, 5))
    wire.collect()
    run_without(wire, 2)
    wire.lines[2, 0].clear()
    wire.lines[2, 1].clear()
    members[0].step(Inquired())
    wire.run()
    assert set(members[0].committed) == set(members[1].committed) == {1}


# ------------------------------------------------------------------------------------------------- the witness's core


def certified(count: int = 2) -> tuple[list[Party], WitnessParty, Wire]:
    members, (witness,), wire = group_of(2)
    for amount in range(1, count + 1):
        members[0].request(pay(1, amount))
        wire.run()
    return members, witness, wire


def test_a_witness_persists_before_it_acks() -> None:
    members, (witness,), wire = group_of(2)
    members[0].request(pay(1, 5))
    wire.run(until=lambda: bool(wire.lines[1, 2]))
    data = wire.lines[1, 2][0]
    effects = witness.hear(1, data)
    assert next(type(effect) for effect in effects) is Persist
    ack = effects[-1].message  # type: ignore[union-attr]
    assert isinstance(ack, Ack)
    assert verify_ack(witness.holding.key.public, witness.holding.certificate.header, ack.signature)
    witness.restart()
    assert witness.holding.version == 1


def test_a_witness_keeps_one_certificate_and_each_members_sealed_body() -> None:
    members, witness, _ = certified(3)
    assert witness.holding.version == 3
    for member, (version, sealed) in enumerate(witness.holding.sealed):
        assert version == 3
        body = open_body(key(f"group {member}"), witness.holding.certificate.header, sealed)
        assert body == members[0].group.state.body
        with pytest.raises(RemoteError):
            open_body(key(f"group {1 - member}"), witness.holding.certificate.header, sealed)
    witness.compact()
    size = len(witness.disk.records[0])
    before = witness.holding
    witness.restart()
    assert replace(witness.holding, key=before.key) == before and size < 4_096


def wrong(hold: Hold, what: str) -> Hold:
    certificate = hold.certificate
    match what:
        case "signature":
            return replace(hold, certificate=replace(certificate, signatures=(bytes(64), certificate.signatures[1])))
        case "count":
            return replace(hold, certificate=replace(certificate, signatures=certificate.signatures[:1]))
        case "epoch" | "group" | "chain":
            name = {"epoch": "epoch", "group": "group_id", "chain": "chain_id"}[what]
            field: dict[str, Any] = {name: 1 if what == "epoch" else bytes(32)}
            return replace(hold, certificate=replace(certificate, header=replace(certificate.header, **field)))
        case "sealed":
            return replace(hold, sealed=bytes(100_000))
        case _:
            raise AssertionError(what)


@pytest.mark.parametrize("what", ["signature", "count", "epoch", "group", "chain", "sealed"])
def test_a_witness_checks_what_it_acks(what: str) -> None:
    members, (witness,), wire = group_of(2)
    members[0].request(pay(1, 5))
    wire.run(until=lambda: bool(wire.lines[1, 2]))
    hold: Any = decode_message(wire.lines[1, 2][0])
    before = witness.holding
    with pytest.raises(RemoteError):
        witness.step(Received(1, wrong(hold, what), b""))
    assert witness.holding == before and len(witness.disk.records) == 1


def test_a_witness_shows_what_it_holds_to_who_is_behind_and_the_version_never_falls() -> None:
    members, witness, wire = certified(2)
    old = members[0].group.tail or None
    assert old is None
    first: Any = next(m for m in wire.heard if isinstance(m, Hold) and m.certificate.header.version == 1)
    (effect,) = witness.step(Received(0, first, b""))
    held = effect.message  # type: ignore[union-attr]
    assert isinstance(held, Held) and held.certificate == members[0].group.certificate
    assert witness.holding.version == 2


def test_f5_a_member_that_its_witness_knows_better_has_lost_data() -> None:
    members, _witness, wire = certified(2)
    members[1].disk.records.clear()
    members[1].restart()
    members[1].step(Connected(2))
    wire.collect()
    for line in ((1, 2), (2, 1)):
        while wire.deliver(*line):
            pass
    assert members[1].group.lost and members[1].group.state == members[0].group.state, "its own sealed body came back"
    members[1].step(WedgeRequested())
    assert members[1].group.claim is None and members[1].group.plea is not None


def test_acks_of_others_are_checked() -> None:
    members, _, wire = group_of(2)
    members[0].request(pay(1, 5))
    run_without(wire, 2)
    header = members[0].group.state.header
    liar = sign_ack(key("group 0"), header)
    for message in (Ack(header.group_id, 0, 1, liar), Ack(header.group_id, 0, 1, bytes(64))):
        with pytest.raises(RemoteError):
            members[0].step(Received(2, message, b""))
    assert not members[0].committed
    with pytest.raises(RemoteError):
        members[0].step(Received(1, Acks(header.group_id, 0, ()), b""))


# --------------------------------------------------------------------------------------------------- in a dispute


def wedged(versions: int = 2) -> tuple[list[Party], WitnessParty, Court]:
    """The second member wedges, with all that it has."""
    members, witness, _ = certified(versions)
    court = Court(members[0].terms)
    members[1].step(WedgeRequested())
    bring(court, members[1])
    assert court.group.status is Status.WEDGED
    return members, witness, court


def bring(court: Court, party: Party | WitnessParty) -> list[Any]:
    payloads = [effect.payload for effect in party.others if isinstance(effect, Submission)]
    party.others.clear()
    for payload in payloads:
        court.bring(payload)
    return payloads


def test_a_witness_claims_only_on_layer_1s_word_that_the_group_is_wedged() -> None:
    members, witness, _ = certified(2)
    court = Court(members[0].terms)
    before = witness.holding
    assert witness.step(LedgerSeen(court.group)) == [] and witness.holding == before
    members[1].step(WedgeRequested())
    bring(court, members[1])
    effects = witness.step(LedgerSeen(court.group))
    assert [type(effect) for effect in effects] == [Persist, Submission], "it is durable before it leaves"
    assert witness.holding.claim is not None and witness.holding.claim.version == 2
    bring(court, witness)
    assert court.group.status is Status.CLOSED and court.group.reason is Reason.CLAIMS, "two of three have claimed"
    assert court.clock_ms < 1_000 + 60_000, "and nobody waited for the challenge period"


def test_f3_a_witness_acks_nothing_after_its_claim() -> None:
    members, (witness,), wire = group_of(2)
    members[0].request(pay(1, 5))
    wire.run()
    members[0].request(pay(1, 5))
    wire.run(until=lambda: bool(wire.lines[1, 2]))
    data = wire.lines[1, 2][0]
    court = Court(members[0].terms)
    members[0].step(WedgeRequested())
    bring(court, members[0])
    witness.step(LedgerSeen(court.group))
    for _ in range(2):  # also after a restart
        (effect,) = witness.hear(1, data)
        answer = effect.message  # type: ignore[union-attr]
        assert isinstance(answer, Error) and answer.code == "witness_claimed"
        assert witness.holding.version == 1 and witness.holding.claim is not None
        witness.restart()


def test_a_lost_claim_is_brought_again_and_stands() -> None:
    _, witness, court = wedged()
    witness.restart()
    witness.step(LedgerSeen(court.group))
    assert witness.holding.claim is not None and witness.holding.claim.version == 2, "what it ACKed"
    first = [effect.payload for effect in witness.others if isinstance(effect, Submission)]
    witness.others.clear()
    witness.restart()
    witness.step(LedgerSeen(court.group))
    assert [effect.payload for effect in witness.others if isinstance(effect, Submission)] == first
    bring(court, witness)
    assert witness.step(LedgerSeen(court.group))[-1] == Finished(court.group.group_id, court.group.payouts)


def test_a_witness_brings_the_header_that_layer_1_lacks_and_a_member_its_body() -> None:
    """A stale wedge: rule 12 and rule 10 together, without any clock."""
    members, witness, _ = certified(2)
    court = Court(members[0].terms)
    claim = sign_claim(key("group 1"), 1, 0, court.group.origin)
    court.bring(Wedge(court.group.certificate, court.group.body, claim))
    witness.step(LedgerSeen(court.group))
    (report,) = bring(court, witness)
    assert report.certificate == members[0].group.certificate and report.body is None
    assert court.group.revealing is Reason.CLAIMS and court.group.forfeits[1] is Forfeit.LIE
    members[0].step(LedgerSeen(court.group))
    bring(court, members[0])
    assert court.group.status is Status.CLOSED and court.group.version == 2
    assert court.group.payouts[0] == members[0].group.state.body.balances[0] + 2 * BOND


def test_what_layer_1_settles_below_is_undone_and_its_commands_are_rejected_then() -> None:
    """A version that waits for ACKs is nothing that anybody was promised."""
    members, (witness,), wire = group_of(2)
    members[0].request(pay(1, 5))
    wire.run()
    members[0].request(pay(1, 7))
    run_without(wire, 2)
    assert [party.group.version for party in members] == [2, 2] and not members[0].rejected
    court = Court(members[0].terms)
    one, two = members
    for party in (one, two):
        assert party.group.committed.version == 1
    certificate, body = _committed(one)
    court.bring(Wedge(certificate, body, sign_claim(key("group 1"), 1, 1, certificate.header)))
    del witness.disk.records[3:]  # it lies: it forgot the second
    witness.restart()
    witness.step(LedgerSeen(court.group))
    bring(court, witness)
    assert court.group.status is Status.CLOSED and court.group.version == 1
    one.step(LedgerSeen(court.group))
    assert set(one.committed) == {1} and one.rejected[2].code == "group_closed"
    assert one.group.state.body.balances == (995, 1005) and not one.group.tail


def _committed(party: Party) -> tuple[Certificate, Any]:
    version = party.group.tail[0]
    return Certificate(party.group.committed.header, version.propose.parent_signatures), party.group.committed.body


def test_two_of_three_that_collude_take_what_the_third_has() -> None:
    """The limit, stated when a user picks a witness: "two faulty of three break it"."""
    members, witness, _ = certified(0)
    wire = Wire(*members, witness)
    wire.connect()
    wire.run()
    members[0].request(pay(1, 400))
    wire.run()
    assert members[1].committed[1].balances == (600, 1400), "the payee was told: committed"
    court = Court(members[0].terms)
    origin = court.group.origin
    court.bring(Wedge(court.group.certificate, court.group.body, sign_claim(key("group 0"), 0, 0, origin)))
    lie = sign_claim(key("witness 2"), 2, 0, origin)
    court.bring(Report(court.group.group_id, None, None, (lie,), None))
    assert court.group.status is Status.CLOSED and court.group.version == 0
    assert court.group.payouts[1] == 1000 + BOND, "400 are gone, before the honest member could look"


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_one_of_three_that_lies_takes_nothing(liar: int) -> None:
    """The same lie of any one of them, and the two others, honest, look once each."""
    members, witness, _ = certified(0)
    wire = Wire(*members, witness)
    wire.connect()
    wire.run()
    members[0].request(pay(1, 400))
    wire.run()
    court = Court(members[0].terms)
    origin = court.group.origin
    if liar < 2:
        claim = sign_claim(key(f"group {liar}"), liar, 0, origin)
        court.bring(Wedge(court.group.certificate, court.group.body, claim))
    else:
        members[0].step(WedgeRequested())
        bring(court, members[0])
        lie = sign_claim(key("witness 2"), 2, 0, origin)
        court.bring(Report(court.group.group_id, None, None, (lie,), None))
    everybody: list[Party | WitnessParty] = [witness, *members]
    for party in [each for each in everybody if each.index != liar] * 2:
        party.step(LedgerSeen(court.group))
        bring(court, party)
    assert court.group.status is Status.CLOSED and court.group.version == 1
    paid = [party.group.state.body.balances[party.index] + BOND for party in members]
    assert all(court.group.payouts[i] >= paid[i] for i in range(2) if i != liar)


def test_final_pays_at_once_when_the_witness_is_gone() -> None:
    """All members sign it: a dead witness keeps nobody from closing together, also not what waits for its ACK."""
    members, _, wire = group_of(2)
    members[0].request(pay(1, 5))
    run_without(wire, 2)
    wire.cut(2)
    members[1].step(CloseRequested())
    wire.run()
    court = Court(members[0].terms)
    bring(court, members[1])
    assert court.group.reason is Reason.FINAL and court.group.payouts == (995 + BOND, 1005 + BOND)
    for party in members:
        party.step(LedgerSeen(court.group))
        assert set(party.committed) == {1}


# ------------------------------------------------------------------------------------------------ another witness


def changed(
    members: list[Party], wire: Wire, court: Court, *, seen_by: list[Party] | None = None, **change: Any
) -> None:
    """All members want the same, and layer 1 takes it; all see that, or only some."""
    before = members[0].group.place.agreement
    blank = tuple(structs.replace(member, deposit=0) for member in before.members)
    after = structs.replace(before, members=blank, open_before_ms=61_000, salt=b"s" * 16, **change)
    terms = Terms(members[0].group.epoch, after, (0,) * len(members))
    for party in members:
        party.step(ChangeWanted(terms, 1_000))
        wire.run()
    payload = next(e.payload for e in members[0].others if isinstance(e, Submission))
    assert isinstance(payload, ChangeGroup)
    court.bring(payload)
    assert court.group.epoch == 1 and not court.refused
    for party in members if seen_by is None else seen_by:
        party.others.clear()
        party.step(LedgerSeen(court.group))
    if seen_by is None:
        wire.run()


def test_rule_25_members_alone_replace_a_dead_witness() -> None:
    """ "Signed by old and new *members*": also while a version waits for its ACK, which the change then commits."""
    members, _, wire = group_of(2)
    members[0].request(pay(1, 5))
    run_without(wire, 2)
    wire.cut(2)
    court = Court(members[0].terms)
    changed(members, wire, court, witnesses=(Witness(key("another witness").public),))
    for party in members:
        assert party.group.epoch == 1 and set(party.committed) == {1} and not party.group.tail
        assert party.group.state.body.balances == (995, 1005)
    another = WitnessParty(members[0].terms, 2)
    another.disk.records.clear()
    another.holding, effects = witness_core.take(key("another witness"), court.group)
    another.perform(effects)
    wire.parties = (*members, another)
    members[0].committed.clear()
    members[1].committed.clear()
    wire.connect(2)
    wire.run()
    members[1].request(pay(0, 7))
    wire.run()
    assert all(len(party.committed) == 1 and not party.group.tail for party in members) and not wire.errors
    assert another.holding.version == 1 and another.holding.certificate.header.epoch == 1


def test_a_witness_that_stays_follows_a_change_on_layer_1s_word() -> None:
    """Its ACKs and its claim are per epoch: a signature of one verifies in no other."""
    members, (witness,), wire = group_of(2)
    members[0].request(pay(1, 5))
    wire.run()
    court = Court(members[0].terms)
    changed(members, wire, court)
    assert witness.holding.version == 1 and witness.holding.taken.origin.epoch == 0, "members' word is not enough"
    witness.step(LedgerSeen(court.group))
    assert witness.holding.version == 0 and witness.holding.taken.origin == court.group.origin
    witness.restart()
    assert witness.holding.taken.origin.epoch == 1
    for party in members:
        party.committed.clear()
    wire.errors.clear()
    wire.connect()
    wire.run()
    members[0].request(pay(1, 7))
    wire.run()
    assert all(len(party.committed) == 1 for party in members) and not wire.errors
    assert witness.holding.version == 1


def test_f8_an_ack_of_an_epoch_that_is_over_is_nobodys_fault() -> None:
    """The primary has seen the next epoch on layer 1, and the member that sent it has not yet."""
    members, _, wire = group_of(3)
    members[0].request(pay(1, 5))
    wire.run()
    court = Court(members[0].terms)
    changed(members, wire, court, seen_by=members[:1])
    assert members[0].group.epoch == 1 and members[1].group.epoch == 0
    header = members[1].group.state.header
    late = Ack(header.group_id, 0, 1, sign_ack(members[1].group.place.key, header))
    assert members[0].step(Received(1, late, b"s" * 16)) == []

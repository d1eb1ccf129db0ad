"""Rules 1 to 6, sentence by sentence."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from layer1.codec import encode
from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import DoubleSignature, Limits, sign_state
from layer1.link import LinkLimits
from layer2 import group as core
from layer2 import updating
from layer2.events import Committed, DiskFailed, Persist, Received, Rejected, Requested, Send, WedgeRequested
from layer2.messages import (
    MAX_COMMAND_BYTES,
    MAX_QUEUED,
    MAX_QUEUED_BYTES,
    Accept,
    Batch,
    Command,
    Propose,
    Refusal,
    Resume,
    Submit,
    decode_message,
)
from layer2.payments import pay
from layer2.state import advance, apply_batch
from layer2.value import Group
from tests.layer2.harness import Party, key, pair, trio_of

SALT = b"s" * 16


def forge(a: Party, base: Group, commands: tuple[Command, ...], refusals: tuple[Refusal, ...] = ()) -> Propose:
    """A proposal by a primary that signs whatever it likes; its batch has to apply, by some rule."""
    place, batch = a.group.place, Batch(commands, refusals)
    try:
        outcome = apply_batch(place, base.state, batch)
    except RemoteError:
        outcome = (base.state.body.balances, None)
    applied = Batch(*(tuple(e for e in part if 0 <= e.member < place.size) for part in (commands, refusals)))  # type: ignore[arg-type]
    state = advance(place, base.state, applied, encoded=encode(batch), salt=SALT, outcome=outcome)
    return Propose(state.header, encode(batch), SALT, sign_state(place.key, state.header), base.signatures)


def own(number: int, payload: bytes) -> Command:
    return Command(0, number, payload, b"")


def test_rule_1_one_round_trip_and_two_syncs_until_the_payee_is_sure() -> None:
    """ "It ... signs version s+1, persists, sends Propose"; one record at the payee."""
    a, b, wire = pair()
    first, second = a.request(pay(1, 10))
    assert isinstance(first, Persist) and isinstance(second, Send) and isinstance(second.message, Propose)
    wire.collect()
    (data,) = wire.lines[0, 1]
    kinds = [type(effect) for effect in b.hear(0, data)]
    assert kinds == [Persist, Send, Committed]
    wire.run()
    assert a.committed[1] == b.committed[1]
    assert a.group.state == b.group.state and a.group.certificate == b.group.certificate


def test_rule_1_what_is_queued_meanwhile_forms_the_next_batch() -> None:
    """ "One version in flight. Commands that arrive meanwhile form the next batch."."""
    a, b, wire = pair()
    a.request(pay(1, 1))
    for _ in range(5):
        assert a.request(pay(1, 1)) == []
    b.request(pay(0, 3))
    wire.run()
    assert [len(a.committed[v].batch.commands) for v in sorted(a.committed)] == [1, 6]
    assert a.group.state.body.balances == (1000 - 6 + 3, 1000 + 6 - 3) == b.group.state.body.balances


def test_rule_1_it_signs_the_next_only_while_holding_the_certificate() -> None:
    """ "It signs s+1 only while holding Cert(s)."."""
    a, _, _ = pair()
    a.request(pay(1, 1))
    before = a.group.pending
    a.request(pay(1, 1))
    assert a.group.pending == before and len(a.group.queue) == 1


def test_rule_1_a_batch_is_bounded() -> None:
    a, b, wire = pair(limits=Limits(max_batch=3))
    a.request(*[pay(1, 1)] * 8)
    wire.run()
    assert [len(a.committed[v].batch.commands) for v in sorted(a.committed)] == [3, 3, 2]
    assert b.group.state.body.balances == (992, 1008)


def test_rule_1_a_refused_command_is_dead_by_certificate() -> None:
    """A command that the machine refuses is answered to its issuer, and its number can never be used again."""
    a, b, wire = pair()
    b.request(pay(0, 5000), pay(0, 2))
    wire.run()
    assert b.rejected[1].code == "insufficient_balance" and b.group.outbox == ()
    assert a.group.state.body.applied == (0, 2) and b.group.state.body.balances == (1002, 998)


def test_rule_1_the_primarys_own_refused_command_makes_no_version() -> None:
    a, _, wire = pair()
    effects = a.request(pay(1, 5000))
    wire.run()
    assert [type(e) for e in effects] == [Rejected] and a.group.version == 0


def test_rule_1_later_commands_see_earlier_ones_of_the_batch() -> None:
    a, b, wire = pair(deposits=(10, 0))
    a.request(pay(1, 10), pay(1, 1))
    wire.run()
    assert a.rejected[2].code == "insufficient_balance" and a.group.state.body.balances == (0, 10)
    assert b.group.state == a.group.state


TAG = bytes(16)
BAD_PROPOSALS: list[tuple[str, Any, str]] = [
    ("a command of the member that it never issued", (Command(1, 1, pay(0, 5), TAG),), "not one that it issued"),
    ("more than the payer has", (own(1, pay(1, 1001)),), "does not apply"),
    ("one command twice", (own(1, pay(1, 1)), own(1, pay(1, 1))), "out of order"),
    ("a number that was applied", (own(0, pay(1, 1)),), "out of order"),
    ("numbers in the wrong order", (own(2, pay(1, 1)), own(1, pay(1, 1))), "out of order"),
    ("a member that does not exist", (Command(2, 1, pay(1, 1), TAG),), "out of order"),
    ("a negative member", (Command(-1, 1, pay(0, 1), TAG),), "out of order"),
    ("a number beyond all counting", (own(2**60, pay(1, 1)),), "out of order"),
    ("no command", (), "a batch of 0"),
    ("bytes that are no command", (own(1, b"\xff"),), "does not apply"),
]


@pytest.mark.parametrize(("what", "commands", "text"), BAD_PROPOSALS, ids=[row[0] for row in BAD_PROPOSALS])
def test_rule_2_a_member_checks_the_whole_batch(what: str, commands: tuple[Command, ...], text: str) -> None:
    """ "A member checks: ... applying the batch to its own copy gives body_hash; its own balance falls only by
    commands that it issued itself; limits hold."
    """
    a, b, _ = pair()
    before = b.group
    with pytest.raises(RemoteError, match=text):
        b.step(Received(0, forge(a, b.group, commands), SALT))
    assert b.group == before and b.disk.records == []


def test_rule_2_a_command_of_ours_under_another_content_is_refused() -> None:
    a, b, _ = pair()
    b.request(pay(0, 5))
    for payload, tag in [(pay(0, 6), b.group.outbox[0].tag), (pay(0, 5), TAG)]:
        with pytest.raises(RemoteError, match="not one that it issued"):
            b.step(Received(0, forge(a, b.group, (Command(1, 1, payload, tag),)), SALT))


def test_rule_2_a_tagged_command_is_ours_only_where_a_crash_explains_it() -> None:
    """A command that we forgot is signed in the version that was in flight, and in no later one."""
    a, b, wire = pair()
    b.request(pay(0, 5))
    b.restart()
    wire.connect()
    wire.run()
    old = Command(1, 1, pay(0, 5), b.group.place.tag(1, pay(0, 5)))
    proposal = forge(a, b.group, (old,))
    late = Resume(a.name, a.group.certificate, proposal.header, proposal.signature)
    b.step(Received(0, late, SALT))
    with pytest.raises(RemoteError, match="not one that it issued"):
        b.step(Received(0, proposal, SALT))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"epoch": 1},
        {"group_id": bytes(32)},
        {"chain_id": bytes(32)},
        {"parent": bytes(32)},
        {"log_root": bytes(32)},
        {"body_hash": bytes(32)},
    ],
    ids=str,
)
def test_rule_2_the_header_must_follow(change: dict[str, Any]) -> None:
    """ "Parent and version follow the certificate it was sent"."""
    a, b, _ = pair()
    good = forge(a, b.group, (own(1, pay(1, 1)),))
    header = structs.replace(good.header, **change)
    bad = structs.replace(good, header=header, signature=sign_state(a.group.place.key, header))
    before = b.group
    with pytest.raises(RemoteError):
        b.step(Received(0, bad, SALT))
    assert b.group == before


def test_rule_2_the_signature_must_be_the_primarys() -> None:
    a, b, _ = pair()
    good = forge(a, b.group, (own(1, pay(1, 1)),))
    with pytest.raises(RemoteError, match="signature"):
        b.step(Received(0, structs.replace(good, signature=sign_state(key("thief"), good.header)), SALT))
    with pytest.raises(RemoteError, match="certificate"):
        b.step(Received(0, structs.replace(good, parent_signatures=(bytes(64),)), SALT))
    with pytest.raises(RemoteError, match="salt"):
        b.step(Received(0, structs.replace(good, salt=b""), SALT))


def test_rule_2_a_refusal_of_what_is_not_open_is_refused() -> None:
    a, b, wire = pair()
    b.request(pay(0, 1))
    wire.run()
    for refusal in [
        Refusal(1, 1, "x", "y"),
        Refusal(2, 1, "x", "y"),
        Refusal(1, 2**60, "x", "y"),
        Refusal(1, 2, "x", "y" * 501),
    ]:
        with pytest.raises(RemoteError):
            b.step(Received(0, forge(a, b.group, (own(1, pay(1, 1)),), (refusal,)), SALT))


def test_rule_3_the_primary_persists_before_it_says_committed() -> None:
    """ "The primary persists the Accepts before it says committed"."""
    a, b, wire = pair()
    b.request(pay(0, 1))
    wire.run(until=lambda: b.group.version == 1)
    wire.collect()
    (data,) = wire.lines[1, 0]
    assert [type(e) for e in a.hear(1, data)] == [Persist, Committed]


def test_rule_3_in_a_larger_group_the_members_get_a_certificate() -> None:
    """A member of three is not sure before it durably holds the certificate."""
    a, b, c, wire = trio_of(3)
    b.request(pay(2, 5))
    wire.run(until=lambda: b.group.pending is not None)
    assert not b.committed and b.group.version == 0
    wire.run()
    assert {1} == set(a.committed) == set(b.committed) == set(c.committed)
    assert a.group.certificate == b.group.certificate == c.group.certificate
    assert not wire.errors


def test_rule_3_after_a_claim_nothing_becomes_committed() -> None:
    """ "After signing a CLAIM ... nothing becomes committed except by layer 1 [F2]": the certificate is kept, to
    report it.
    """
    a, b, wire = pair()
    a.request(pay(1, 10))
    wire.run(until=lambda: b.group.version == 1)
    a.step(WedgeRequested())
    wire.run()
    assert not a.committed and a.group.version == 0
    assert a.group.best[1] == b.group.certificate
    a.restart()
    assert not a.committed and a.group.best[1] == b.group.certificate


def test_rule_3_a_wrong_accept_changes_nothing() -> None:
    a, _, _ = pair()
    a.request(pay(1, 10))
    before = a.group
    for message in [Accept(a.name, 1, bytes(64)), Accept(a.name, 2, bytes(64)), Accept(a.name, 0, bytes(64))]:
        with pytest.raises(RemoteError):
            a.step(Received(1, message, SALT))
    assert a.group == before and not a.committed


def test_rule_5_never_sign_two_bodies_at_one_version() -> None:
    """A second proposal at a signed version is answered by the proof of the primary's fault."""
    a, b, _ = pair()
    first, second = (forge(a, b.group, (own(1, pay(1, amount)),)) for amount in (1, 2))
    b.step(Received(0, first, SALT))
    with pytest.raises(RemoteError) as error:
        b.step(Received(0, second, SALT))
    (proof,) = error.value.evidence
    assert isinstance(proof, DoubleSignature) and proof.first == first.header and proof.second == second.header
    assert b.group.version == 1 and b.group.double == proof
    assert len(b.disk.records) == 1


def test_rule_5_the_same_proposal_again_gets_the_identical_accept() -> None:
    """ "Resend the identical bytes"."""
    a, b, _ = pair()
    message = forge(a, b.group, (own(1, pay(1, 1)),))
    b.step(Received(0, message, SALT))
    b.step(Received(0, message, SALT))
    assert b.out[0] == b.out[1] and len(b.disk.records) == 1


def test_rule_5_a_restart_forgets_no_signature() -> None:
    """ "Never forget what was signed"; the proposal after the restart is the one before it."""
    a, b, wire = pair()
    a.request(pay(1, 10))
    wire.collect()
    (sent,) = wire.lines[0, 1]
    a.restart()
    wire.connect()
    wire.run(until=lambda: any(isinstance(m, Propose) for m in wire.heard))
    assert decode_message(sent) == next(m for m in wire.heard if isinstance(m, Propose))
    wire.run()
    assert a.committed == b.committed and set(a.committed) == {1}


def test_rule_5_a_compacted_journal_forgets_no_signature() -> None:
    a, b, wire = pair()
    a.request(pay(1, 10))
    wire.run()
    a.request(pay(1, 10))
    b.request(pay(0, 1))
    for party in (a, b):
        before = party.group
        party.compact()
        party.restart()
        assert (party.group.state, party.group.signatures) == (before.state, before.signatures)
        assert party.group.pending == before.pending
    wire.connect()
    wire.run()
    assert a.group.state == b.group.state and a.group.version == 2


def test_rule_6_a_disk_that_does_not_confirm_freezes_the_group() -> None:
    """ "It never leads to a wedge or to a signature"."""
    a, b, wire = pair()
    a.persist_budget = 0
    a.request(pay(1, 10))
    wire.run()
    assert a.out == [] and b.group.version == 0 and a.group.frozen
    for event in (Requested((pay(1, 1),), SALT), WedgeRequested()):
        with pytest.raises(Refused) as refusal:
            a.step(event)
        assert refusal.value.code == "frozen"
    frozen = a.group
    assert core.step(frozen, Received(1, Accept(a.name, 1, bytes(64)), SALT)) == (frozen, [])
    assert core.step(frozen, DiskFailed("again")) == (frozen, [])


def large(count: int, size: int = MAX_COMMAND_BYTES) -> tuple[bytes, ...]:
    return (bytes(size),) * count


def size_refused(party: Party, payloads: tuple[bytes, ...]) -> str:
    before = party.group
    with pytest.raises(Refused) as refusal:
        party.step(Requested(payloads, SALT))
    assert party.group == before
    return refusal.value.code


@pytest.mark.parametrize("size", [1, 500, MAX_COMMAND_BYTES])
def test_all_that_waits_fits_into_one_message_of_a_link(size: int) -> None:
    """20,000 commands of 4 KiB were taken. Their `Submit`, of 80 MiB, was an error that took its whole turn with it."""
    most = min(MAX_QUEUED_BYTES // size, MAX_QUEUED)
    _, b, wire = pair()
    b.request(*large(most - 1, size))
    b.request(*large(1, size))
    assert size_refused(b, large(1, size)) == "too_many"
    wire.cut()
    wire.connect()
    wire.collect()
    [resume] = wire.lines[0, 1]
    [sent] = [encode(effect.message) for effect in b.hear(0, resume) if isinstance(effect, Send)]
    assert most * size < len(sent) < LinkLimits().max_message_bytes


def test_the_primarys_own_commands_are_bounded_in_bytes_too() -> None:
    a, _, _ = pair()
    a.request(pay(1, 1))
    a.request(*large(MAX_QUEUED_BYTES // MAX_COMMAND_BYTES))
    assert size_refused(a, large(1)) == "too_many"


def test_a_member_that_submits_too_many_bytes_breaks_the_protocol() -> None:
    a, _, _ = pair()
    a.request(pay(1, 1))  # in flight: what comes now waits
    payload, half = bytes(MAX_COMMAND_BYTES), MAX_QUEUED_BYTES // MAX_COMMAND_BYTES // 2
    runs = [[Command(1, n, payload, TAG) for n in range(first, first + half + 1)] for first in (1, half + 2)]
    a.step(Received(1, Submit(a.name, tuple(runs[0])), SALT))
    before = a.group
    with pytest.raises(RemoteError, match="bytes too many wait"):
        a.step(Received(1, Submit(a.name, tuple(runs[1])), SALT))
    assert a.group == before


def test_the_primary_has_a_share_of_its_own() -> None:
    """A member that filled the queue used up what the primary itself may let wait."""
    a, b, wire = pair()
    a.request(pay(1, 1))
    wire.collect()
    full = large(MAX_QUEUED_BYTES // MAX_COMMAND_BYTES)
    b.request(*full)
    a.step(Received(1, Submit(a.name, b.group.outbox), SALT))
    a.request(*full)
    assert size_refused(a, large(1)) == "too_many"


def test_one_command_costs_the_same_however_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that waits was added up for each: a payer of 12,000 single payments spent most of its time there."""
    _, b, _ = pair()
    b.request(*large(3_000, 32))
    monkeypatch.setattr(updating, "_size_of", pytest.fail)
    for _ in range(100):
        b.request(*large(1, 32))
    assert len(b.group.outbox) == 3_100


def test_a_member_is_not_blamed_for_what_the_others_let_wait() -> None:
    """In a larger group each may have as much waiting at the primary as in a pair."""
    a, b, c, wire = trio_of(3)
    a.request(pay(1, 1))
    wire.collect()
    for party in (a, b, c):
        party.request(*large(MAX_QUEUED_BYTES // MAX_COMMAND_BYTES))
    for party in (b, c):
        a.step(Received(party.group.place.index, Submit(a.name, party.group.outbox), SALT))
    assert len(a.group.queue) == 3 * MAX_QUEUED_BYTES // MAX_COMMAND_BYTES


BAD_SUBMITS: list[tuple[str, Any]] = [
    ("of another member", Command(0, 1, pay(1, 1), TAG)),
    ("without a tag", Command(1, 1, pay(0, 1), b"")),
    ("number 0", Command(1, 0, pay(0, 1), TAG)),
    ("far ahead", Command(1, 10**9, pay(0, 1), TAG)),
    ("too large", Command(1, 1, bytes(5000), TAG)),
]


@pytest.mark.parametrize(("what", "command"), BAD_SUBMITS, ids=[row[0] for row in BAD_SUBMITS])
def test_a_malformed_command_is_dropped(what: str, command: Command) -> None:
    a, _, _ = pair()
    before = a.group
    with pytest.raises(RemoteError):
        a.step(Received(1, Submit(a.name, (command,)), SALT))
    assert a.group == before


def test_nothing_is_heard_before_a_resume() -> None:
    a, b, wire = pair()
    wire.cut()
    with pytest.raises(RemoteError, match="before its Resume"):
        b.step(Received(0, forge(a, b.group, (own(1, pay(1, 1)),)), SALT))
    with pytest.raises(Refused, match="not connected"):
        a.request(pay(1, 1))
    with pytest.raises(RemoteError):
        b.step(Received(1, Submit(b.name, ()), SALT))
    with pytest.raises(RemoteError):
        b.step(Received(0, Submit(bytes(32), ()), SALT))

"""Rule 5: each of {in step, they are behind by one, I am behind by one, they lost data, I lost data, they lie} has one
answer.
"""

from __future__ import annotations

import pytest
from msgspec import structs

from layer1.codec import encode
from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import DoubleSignature, initial_certificate, sign_state
from layer2.events import (
    Advice,
    CloseRequested,
    Committed,
    Connected,
    Effect,
    Event,
    Persist,
    Received,
    Rejected,
    Send,
)
from layer2.messages import CloseRequest, Propose, Resume, Submit
from layer2.payments import pay
from layer2.reconnecting import Case, compare
from layer2.updating import resume
from tests.layer2.harness import Party, Wire, key, pair, trio_of

SALT = b"s" * 16


def played(versions: int) -> tuple[Party, Party, Wire]:
    a, b, wire = pair()
    for _ in range(versions):
        a.request(pay(1, 1))
        wire.run()
    return a, b, wire


def behind_by_one() -> tuple[Party, Party, Wire]:
    """The member has signed version 3; its Accept was lost."""
    a, b, wire = played(2)
    a.request(pay(1, 1))
    wire.run(until=lambda: b.group.version == 3)
    wire.cut()
    return a, b, wire


def test_in_step() -> None:
    a, b, wire = played(3)
    wire.cut()
    assert compare(a.group, 1, resume(b.group)) is Case.IN_STEP
    assert compare(b.group, 0, resume(a.group)) is Case.IN_STEP
    wire.connect()
    wire.run()
    assert a.group.connected and b.group.connected and not wire.errors


def test_in_step_while_a_proposal_was_lost() -> None:
    """The primary sends the identical bytes again."""
    a, b, wire = played(2)
    a.request(pay(1, 1))
    wire.cut()
    sent = a.group.pending
    assert sent is not None and compare(b.group, 0, resume(a.group)) is Case.IN_STEP
    wire.connect()
    wire.run()
    assert [m for m in wire.heard if isinstance(m, Propose)][-1] == sent.propose
    assert a.group.version == b.group.version == 3


def test_they_are_behind_by_one_and_i_am() -> None:
    """The certificate in the Resume is the answer; nothing is signed again."""
    a, b, wire = behind_by_one()
    assert compare(b.group, 0, resume(a.group)) is Case.THEY_ARE_BEHIND
    assert compare(a.group, 1, resume(b.group)) is Case.I_AM_BEHIND
    a.step(Connected(1))
    effects = a.step(Received(1, resume(b.group), SALT))
    assert [type(e) for e in effects] == [Persist, Committed]
    assert a.group.state == b.group.state
    wire.connect()
    wire.run()
    assert not wire.errors


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_member_lost_data(kept: int) -> None:
    """Who lost data signs no STATE and no CLAIM; it may be closed with (FINAL)."""
    a, b, wire = played(4)
    b.roll_back(kept)
    assert compare(a.group, 1, resume(b.group)) is Case.THEY_LOST_DATA
    assert compare(b.group, 0, resume(a.group)) is Case.I_LOST_DATA
    wire.connect()
    wire.run()
    assert [e.code for e in a.others if isinstance(e, Advice)] == ["they_lost_data"]
    assert [e.code for e in b.others if isinstance(e, Advice)] == ["i_lost_data", "recovered"]
    assert b.group.state == a.group.state and b.group.lost
    for party in (a, b):
        with pytest.raises(Refused):
            party.request(pay(1 - party.index, 1))
    a.step(CloseRequested())
    wire.run()
    assert not wire.errors and b.group.final is not None
    assert b.group.final.final.payout == (996, 1004)


def test_each_side_finds_the_loss_by_itself() -> None:
    """Whichever of the two Resumes is lost on its way."""
    a, b, _ = played(4)
    b.roll_back(1)
    b.step(Connected(0))
    theirs, ours = resume(b.group), resume(a.group)
    b.step(Received(0, ours, SALT))
    a.step(Received(1, theirs, SALT))
    assert b.group.lost and a.group.bereft == {1}


def test_behind_by_one_is_no_loss() -> None:
    a, b, _ = behind_by_one()
    b.step(Connected(0))
    b.step(Received(0, resume(a.group), SALT))
    assert not b.group.bereft and b.group.connected


def test_a_loss_is_remembered() -> None:
    """A further restart does not make the old store good again."""
    _, b, wire = played(4)
    b.roll_back(1)
    wire.connect()
    wire.run()
    b.restart()
    assert b.group.lost
    b.compact()
    b.restart()
    assert b.group.lost


def test_the_primary_lost_data() -> None:
    a, b, wire = played(4)
    a.roll_back(2)
    assert compare(a.group, 1, resume(b.group)) is Case.I_LOST_DATA
    assert compare(b.group, 0, resume(a.group)) is Case.THEY_LOST_DATA
    wire.connect()
    wire.run()
    assert a.group.lost and not b.group.lost and a.group.informed
    a.step(CloseRequested())
    wire.run()
    assert not wire.errors and b.group.final is not None and b.group.final.final.base_version == 4


def test_a_primary_that_feigns_loss_revives_no_refused_command() -> None:
    """Only what this member will never sign is refused: a restart forgets what was heard, not what is one's own."""
    a, b, wire = played(1)
    b.request(pay(0, 5))
    wire.run(until=lambda: a.group.pending is not None)
    wire.cut()
    b.step(Connected(0))
    b.hear(0, encode(Resume(b.name, initial_certificate(b.terms, b.name))))
    assert [e.code for e in b.others if isinstance(e, Advice)] == ["they_lost_data"]
    assert not b.rejected and b.group.outbox
    wire.cut()
    b.restart()
    wire.connect()
    wire.run()
    assert not wire.errors and b.group.state.body.applied == (1, 1) and not b.rejected


def test_they_lie_with_another_header_that_they_signed() -> None:
    """The proof is in the Resume itself."""
    a, b, _ = behind_by_one()
    assert a.group.pending is not None
    other = structs.replace(a.group.pending.state.header, log_root=bytes(32))
    lie = structs.replace(resume(a.group), highest=other, signature=sign_state(key("group 0"), other))
    b.step(Connected(0))
    with pytest.raises(RemoteError) as error:
        b.step(Received(0, lie, SALT))
    assert isinstance(error.value.evidence[0], DoubleSignature)


LIES = ["certificate", "forged", "version", "highest", "unproposed", "nothing", "group"]


@pytest.mark.parametrize("lie", LIES)
def test_they_lie(lie: str) -> None:
    """A Resume that contradicts itself changes nothing."""
    a, b, wire = played(2)
    wire.cut()
    a.step(Connected(1))
    good, before = resume(b.group), a.group
    header = good.certificate.header
    above = structs.replace(header, version=3, parent=header.hash)
    signature = sign_state(key("group 1"), above)
    bad = {
        "certificate": structs.replace(
            good, certificate=structs.replace(good.certificate, signatures=(bytes(64), bytes(64)))
        ),
        "forged": structs.replace(good, certificate=structs.replace(good.certificate, header=above)),
        "version": structs.replace(good, highest=structs.replace(above, version=4), signature=signature),
        "highest": structs.replace(good, highest=above, signature=bytes(64)),
        "unproposed": structs.replace(good, highest=above, signature=signature),
        "nothing": structs.replace(good, signature=signature),
        "group": structs.replace(good, certificate=structs.replace(good.certificate, signatures=())),
    }[lie]
    with pytest.raises(RemoteError):
        a.step(Received(1, bad, SALT))
    assert a.group == before


def test_a_false_version_0_is_a_lie() -> None:
    a, b, wire = pair()
    wire.cut()
    a.step(Connected(1))
    good = resume(b.group)
    header = structs.replace(good.certificate.header, body_hash=bytes(32))
    with pytest.raises(RemoteError):
        a.step(Received(1, Resume(good.group_id, structs.replace(good.certificate, header=header)), SALT))


def test_commands_without_a_version_are_sent_again() -> None:
    """The primary forgets what it has not signed; the issuer remembers, and each command applies once."""
    _, b, wire = pair()
    b.request(pay(0, 5))
    b.request(pay(0, 6))
    wire.cut()
    wire.connect()
    wire.run()
    assert b.group.state.body.balances == (1011, 989) and b.group.outbox == ()
    assert [type(m) for m in wire.heard].count(Submit) == 1


def test_a_command_forgotten_in_a_crash_applies_at_most_once() -> None:
    """What the primary had signed goes through, recognized by its tag; what it had not is gone."""
    a, b, wire = pair()
    b.request(pay(0, 5))
    wire.run(until=lambda: a.group.pending is not None)
    b.request(pay(0, 6))
    wire.collect()
    wire.deliver(1, 0)
    wire.cut()
    b.restart()
    wire.connect()
    wire.run()
    assert not wire.errors and a.group.state == b.group.state
    assert b.group.state.body.balances == (1005, 995) and b.group.state.body.applied == (0, 1)
    b.request(pay(0, 1))
    wire.run()
    assert b.group.state.body.balances == (1006, 994) and b.group.state.body.applied == (0, 2)


def test_a_new_command_that_takes_a_forgotten_ones_number_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """And whoever waits for that number learns it before the version that has the forgotten one is told."""
    a, b, wire = pair()
    told: list[Effect] = []
    step = b.step

    def overheard(event: Event) -> list[Effect]:
        effects = step(event)
        told.extend(effects)
        return effects

    monkeypatch.setattr(b, "step", overheard)
    b.request(pay(0, 5))
    wire.run(until=lambda: a.group.pending is not None)
    wire.cut()
    b.restart()
    wire.connect()
    wire.deliver(0, 1)
    wire.deliver(1, 0)
    assert b.group.connected
    b.request(pay(0, 7))
    wire.run()
    assert not wire.errors and b.rejected[1].code == "superseded"
    assert [type(effect) for effect in told if isinstance(effect, Rejected | Committed)] == [Rejected, Committed]
    assert b.group.state.body.balances == (1005, 995) == a.group.state.body.balances


def test_a_close_that_was_asked_for_survives_a_new_link() -> None:
    a, b, wire = pair()
    b.step(CloseRequested())
    wire.cut()
    wire.connect()
    wire.run()
    assert any(isinstance(m, CloseRequest) for m in wire.heard)
    assert a.group.final == b.group.final is not None


def test_three_members_go_on_after_any_one_restarts() -> None:
    for index in range(3):
        *parties, wire = trio_of(3)
        parties[1].request(pay(2, 5))
        wire.run(until=lambda parties=parties: parties[2].group.pending is not None)
        wire.cut()
        parties[index].restart()
        wire.connect()
        wire.run()
        assert not wire.errors, index
        assert {p.group.version for p in parties} == {1}, index
        assert len({p.group.state.header for p in parties}) == 1


def test_an_unknown_member_is_nobody() -> None:
    a, b, _ = pair()
    with pytest.raises(RemoteError):
        a.step(Connected(0))
    with pytest.raises(RemoteError):
        a.step(Received(2, resume(b.group), SALT))
    assert isinstance(a.step(Connected(1))[0], Send)

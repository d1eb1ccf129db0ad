"""The core of a watchtower: rule 17 and decision 032, a test per sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from layer1.codec import encode
from layer1.crypto import ZERO_HASH
from layer1.errors import LocalError, Refused, RemoteError
from layer1.ledger import records as ledger
from layer1.ledger.agreements import Certificate, Limits, sign_delegation
from layer1.ledger.transactions import Report
from layer2.promises import verify_receipt
from layer2.sealing import open_body
from layer2.tower import (
    MAX_MESSAGE_BYTES,
    MAX_SEALED_BYTES,
    Ask,
    Drop,
    Entrust,
    Held,
    Keep,
    Load,
    Policy,
    Promise,
    Show,
    Submit,
    answer,
    decode_to_tower,
    entrust,
    is_answered,
    is_over,
    needs_look,
    receipt_signed,
    shown_to,
)
from tests.layer2.harness import CHAIN, agreement, key
from tests.layer2.tower_world import CLOCK_MS, PAYOUT, POLICY, TOWER, Watched


def reports(watched: Watched, shown: ledger.Group) -> list[Report]:
    return [e.report for e in answer(watched.held.values(), shown) if isinstance(e, Submit)]


def test_it_stores_one_header_and_an_opaque_body_replaced_on_each_update() -> None:
    """ "Stores one certificate header (and an opaque encrypted body) per group, replaced on each update."."""
    watched = Watched()
    sizes = set()
    for version in (1, 2, 50, 900):
        keep = watched.entrust(version)[0]
        assert isinstance(keep, Keep) and keep.guarded.version == version
        assert keep.guarded.certificate == watched.certificate(version)
        sizes.add(len(encode(keep.guarded)) // 16)
    assert len(watched.held) == 1 and len(sizes) <= 2, "an entry does not grow with the versions"
    held = watched.held[watched.customer(0)]
    assert open_body(watched.key(0), held.certificate.header, held.sealed) == watched.body(900)
    with pytest.raises(RemoteError):
        open_body(TOWER, held.certificate.header, held.sealed)


def test_a_receipt_comes_after_what_makes_it_durable() -> None:
    """ "It signs a receipt for each version that it holds": `Keep` is a barrier, and nothing is signed before it."""
    watched = Watched()
    keep, promise = watched.entrust(7)
    assert isinstance(keep, Keep) and isinstance(promise, Promise)
    assert promise.receipt.signature == b"", "signed when it is durable"
    receipt = receipt_signed(promise, TOWER, CHAIN)
    assert verify_receipt(CHAIN, receipt)
    assert (receipt.version, receipt.header) == (7, watched.header(7).hash)
    assert (receipt.clock_ms, receipt.until_ms) == (CLOCK_MS, CLOCK_MS + POLICY.keep_ms)
    assert keep.guarded.until_ms == receipt.until_ms


def test_what_is_durable_already_costs_no_write() -> None:
    watched = Watched()
    watched.entrust(7)
    again = watched.entrust(7)
    assert [type(effect) for effect in again] == [Promise]
    late = watched.visit(watched.message(7), clock_ms=CLOCK_MS + POLICY.keep_ms // 2)
    assert [type(effect) for effect in entrust(POLICY, TOWER.public, late)] == [Keep, Promise]


def test_a_receipt_never_ends_before_one_that_was_given() -> None:
    """A tower's clock that is proven later may be an older one, as of another replica."""
    watched = Watched()
    watched.entrust(7)
    first = watched.held[watched.customer(0)].until_ms
    earlier = watched.visit(watched.message(8), clock_ms=CLOCK_MS - 1_000)
    keep = entrust(POLICY, TOWER.public, earlier)[0]
    assert isinstance(keep, Keep) and keep.guarded.until_ms == first


def test_a_lower_version_replaces_nothing_and_is_shown_the_higher() -> None:
    """ "An entry is replaced, never by a lower version; who brings a lower one is shown what is held."."""
    watched = Watched()
    watched.entrust(9)
    (shown,) = watched.entrust(8)
    assert isinstance(shown, Show) and shown.held.certificate == watched.certificate(9)
    assert watched.held[watched.customer(0)].version == 9


def test_who_asks_gets_what_it_entrusted() -> None:
    watched = Watched()
    watched.entrust(9)
    held = watched.held[watched.customer(0)]
    assert shown_to(held, watched.id) == Held(watched.id, held.certificate, held.sealed)
    assert shown_to(None, watched.id) == Held(watched.id, None, b"")


def test_layer_1_is_asked_only_for_what_is_new_here() -> None:
    watched = Watched()
    assert needs_look(None, watched.header(1))
    watched.entrust(1)
    held = watched.held[watched.customer(0)]
    assert not needs_look(held, watched.header(2))
    assert needs_look(held, structs.replace(watched.header(1), epoch=1))


def broken(watched: Watched, **changes: Any) -> Entrust:
    return structs.replace(watched.message(5), **changes)


def with_header(watched: Watched, **changes: Any) -> Entrust:
    header = structs.replace(watched.header(5), **changes)
    return broken(watched, certificate=Certificate(header, watched.certificate(5).signatures))


def signed(watched: Watched, *signatures: bytes) -> Entrust:
    return broken(watched, certificate=Certificate(watched.header(5), signatures))


def delegated(watched: Watched, **changes: Any) -> Entrust:
    return broken(watched, delegation=structs.replace(watched.delegation(0), **changes))


def promising(watched: Watched, bounty: int) -> Entrust:
    return broken(watched, delegation=watched.delegation(0, bounty))


BAD: list[tuple[str, Callable[[Watched], Entrust], str]] = [
    ("one signature is missing", lambda w: signed(w, w.certificate(5).signatures[0]), "bad_certificate"),
    ("signatures of another version", lambda w: signed(w, *w.certificate(4).signatures), "bad_signature"),
    ("signatures change places", lambda w: signed(w, *w.certificate(5).signatures[::-1]), "bad_signature"),
    ("no signature at all", signed, "bad_certificate"),
    ("another body hash", lambda w: with_header(w, body_hash=ZERO_HASH), "bad_signature"),
    ("another chain", lambda w: with_header(w, chain_id=ZERO_HASH), "bad_certificate"),
    ("another epoch", lambda w: with_header(w, epoch=1), "wrong_epoch"),
    ("version 0", lambda w: broken(w, certificate=Certificate(w.open.origin, ())), "nothing_certified"),
    ("a version below 0", lambda w: with_header(w, version=-1), "nothing_certified"),
    ("a version that no ledger takes", lambda w: with_header(w, version=2**53), "nothing_certified"),
    ("a body that is too long", lambda w: broken(w, sealed=bytes(MAX_SEALED_BYTES + 1)), "too_large"),
    ("a DELEGATE of the other member", lambda w: broken(w, delegation=w.delegation(1)), "bad_delegation"),
    ("a DELEGATE for another tower", lambda w: delegated(w, payout=bytes(32)), "bad_delegation"),
    ("a DELEGATE without its signature", lambda w: delegated(w, signature=bytes(64)), "bad_delegation"),
    ("a DELEGATE whose bounty was raised", lambda w: delegated(w, bounty=50), "bad_delegation"),
    ("a DELEGATE of another epoch", lambda w: delegated(w, epoch=1), "bad_delegation"),
    ("a DELEGATE for another group", lambda w: delegated(w, group_id=ZERO_HASH), "bad_delegation"),
    ("a bounty below what the tower asks", lambda w: promising(w, 4), "bounty_too_low"),
    ("a bounty that no ledger takes", lambda w: promising(w, 2**53), "bounty_too_low"),
]


@pytest.mark.parametrize("held", [False, True], ids=["new", "held"])
@pytest.mark.parametrize(("what", "made", "code"), BAD, ids=[what for what, _, _ in BAD])
def test_it_takes_in_what_layer_1_would_take_and_nothing_else(
    what: str, made: Callable[[Watched], Entrust], code: str, held: bool
) -> None:
    """Or a customer had a receipt for what the tower cannot report, and held that against it."""
    watched = Watched()
    if held:
        watched.entrust(3)
    message = made(watched)
    if held and message.header.version < 3:
        (effect,) = entrust(POLICY, TOWER.public, watched.visit(message))
        assert isinstance(effect, Show), "whatever it is, it replaces nothing"
        return
    with pytest.raises(Refused) as refusal:
        entrust(POLICY, TOWER.public, watched.visit(message))
    assert refusal.value.code == code, what


def test_two_states_at_one_version_are_not_both_taken() -> None:
    watched = Watched()
    watched.entrust(5)
    other = structs.replace(watched.header(5), log_root=b"x" * 32)
    signed = Certificate(other, tuple(Watched().certificate(5).signatures))
    with pytest.raises(Refused, match="signed two"):
        entrust(POLICY, TOWER.public, watched.visit(broken(watched, certificate=signed)))


def test_who_entrusts_is_who_funds_a_member() -> None:
    """ "Who entrusts is who funds a member: the link proves it."."""
    watched = Watched()
    visit = watched.visit(watched.message(5))
    stranger = replace(visit, customer=key("stranger").public)
    with pytest.raises(Refused) as refusal:
        entrust(POLICY, TOWER.public, stranger)
    assert refusal.value.code == "not_a_member"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"shown": None}, "unknown_group"),
        ({"load": Load(10, 0)}, "tower_full"),
        ({"load": Load(3, 3)}, "tower_full"),
    ],
)
def test_it_takes_on_no_more_than_it_can_watch(change: dict[str, Any], code: str) -> None:
    watched = Watched()
    with pytest.raises(Refused) as refusal:
        entrust(POLICY, TOWER.public, replace(watched.visit(watched.message(5)), **change))
    assert refusal.value.code == code


def test_a_group_whose_period_is_too_short_is_declined() -> None:
    watched = Watched()
    policy = Policy(payout=PAYOUT, least_period_ms=watched.terms.challenge_period_ms + 1)
    with pytest.raises(Refused, match="60000 ms; this tower guards groups from 60001 ms"):
        entrust(policy, TOWER.public, watched.visit(watched.message(5)))


def test_a_closed_group_is_declined() -> None:
    watched = Watched()
    visit = replace(watched.visit(watched.message(5)), shown=watched.closed(0))
    with pytest.raises(Refused) as refusal:
        entrust(POLICY, TOWER.public, visit)
    assert refusal.value.code == "group_closed"


def test_the_numbers_of_a_policy_make_sense() -> None:
    with pytest.raises(LocalError, match="start at 1"):
        Policy(payout=PAYOUT, max_groups=0)
    assert POLICY.terms.least_bounty == 5


# ------------------------------------------------------------------------------------------------- what it reports


@pytest.mark.parametrize("stale", range(5))
def test_it_reports_whenever_layer_1_shows_less(stale: int) -> None:
    """Rule 9: "anybody may report a certificate with a higher version"; with the header alone (rule 12)."""
    watched = Watched()
    watched.entrust(5)
    (report,) = reports(watched, watched.wedged(stale))
    assert report.certificate == watched.certificate(5) and report.body is None
    assert report.delegation == watched.delegation(0) and report.claims == ()


@pytest.mark.parametrize("shown", [5, 6])
def test_it_says_nothing_where_layer_1_shows_as_much(shown: int) -> None:
    """Rule 14: a lower or equal version replaces nothing."""
    watched = Watched()
    watched.entrust(5)
    assert reports(watched, watched.wedged(shown)) == [] and is_answered(watched.held.values(), watched.wedged(shown))
    assert not is_answered(watched.held.values(), watched.wedged(4))


def test_it_reports_until_layer_1_has_it_and_keeps_it_after() -> None:
    """A report may be lost: what layer 1 shows decides, not what was sent. Nothing is dropped before the end."""
    watched = Watched()
    watched.entrust(5)
    for _ in range(3):
        (effect,) = answer(watched.held.values(), watched.wedged(2))
        assert isinstance(effect, Submit)
    assert answer(watched.held.values(), watched.wedged(5)) == []


def test_an_open_group_needs_nothing() -> None:
    watched = Watched()
    watched.entrust(5)
    assert answer(watched.held.values(), watched.open) == []


def test_a_closed_group_is_forgotten() -> None:
    watched = Watched()
    watched.entrust(5, member=0)
    watched.entrust(5, member=1)
    effects = answer(watched.held.values(), watched.closed(5))
    assert effects == [Drop(watched.id, watched.customer(0)), Drop(watched.id, watched.customer(1))]


def test_the_newest_of_all_members_is_reported_for_who_did_not_wedge() -> None:
    """The bounty comes "out of that member's own share of a forfeited bond": a liar has none."""
    watched = Watched()
    watched.entrust(5, member=0, bounty=10)
    watched.entrust(6, member=1, bounty=90)
    (report,) = reports(watched, watched.wedged(2, by=1))
    assert report.certificate == watched.certificate(6)
    assert report.delegation == watched.delegation(0, 10)
    (other,) = reports(watched, watched.wedged(2, by=0))
    assert other.delegation == watched.delegation(1, 90)


def test_while_the_body_is_awaited_nothing_is_reported() -> None:
    """Decision 030: "claims, reports and pleas are over" then."""
    watched = Watched()
    watched.entrust(5)
    revealing = structs.replace(watched.wedged(2), revealing=ledger.Reason.DEADLINE)
    assert answer(watched.held.values(), revealing) == []


def test_a_change_of_epoch_ends_what_was_held_and_the_next_one_is_taken_in() -> None:
    """Decision 030: a certificate is checked against its epoch's own agreement; "wedged" is per epoch [F8]."""
    watched = Watched()
    watched.entrust(5)
    old = dict(watched.held)
    terms = structs.replace(watched.terms, salt=b"2" * 16)
    origin = structs.replace(watched.open.origin, epoch=1)
    watched.open = structs.replace(watched.open, epoch=1, agreement=terms, origin=origin)
    watched.epoch = 1
    assert answer(old.values(), watched.wedged(0)) == [Drop(watched.id, watched.customer(0))]
    keep = watched.entrust(2)[0]
    assert isinstance(keep, Keep) and (keep.guarded.epoch, keep.guarded.version) == (1, 2)
    assert len(watched.held) == 1
    with pytest.raises(Refused) as refusal:
        entrust(POLICY, TOWER.public, watched.visit(old_message(watched)))
    assert refusal.value.code == "wrong_epoch"
    assert reports(watched, watched.wedged(0))[0].certificate == watched.certificate(2)


def old_message(watched: Watched) -> Entrust:
    """A version of the epoch before."""
    return Watched().message(9)


def test_a_plea_is_answered_for_each_customer_that_is_silent() -> None:
    """Rule 13: "the others must report"; decision 030: "nor a delegate that reported" forfeits its customer's bond."""
    watched = Watched()
    watched.entrust(5, member=0)
    pleaded = structs.replace(watched.wedged(0, by=1), pleas=(False, True))
    (report,) = reports(watched, pleaded)
    assert report.delegation == watched.delegation(0)
    taken = structs.replace(pleaded, certificate=watched.certificate(5))
    (again,) = reports(watched, taken)
    assert again.delegation == watched.delegation(0), "layer 1 does not know yet that it was for this member"
    named = structs.replace(taken, delegates=(ledger.Delegate(PAYOUT, 5, 5), None))
    assert reports(watched, named) == []


def test_who_copies_a_report_and_is_quicker_gets_no_bounty() -> None:
    """Rule 17: the bounty is of any delegate that reported in time; decision 030: also what somebody brought first."""
    watched = Watched()
    watched.entrust(5, member=0)
    copied = structs.replace(watched.wedged(5, by=1), forfeits=(None, ledger.Forfeit.LIE))
    (report,) = reports(watched, copied)
    assert report.delegation == watched.delegation(0)
    ours = structs.replace(copied, delegates=(ledger.Delegate(PAYOUT, 5, 5), None))
    assert reports(watched, ours) == []
    older = structs.replace(copied, delegates=(ledger.Delegate(PAYOUT, 5, 4), None))
    assert len(reports(watched, older)) == 1
    own = structs.replace(copied, forfeits=(ledger.Forfeit.LIE, None))
    assert reports(watched, own) == [], "a liar gains nothing of which it could pay"


# --------------------------------------------------------------------------------------------------- hostile input


def test_what_is_too_long_is_not_read() -> None:
    with pytest.raises(RemoteError, match=str(MAX_MESSAGE_BYTES)):
        decode_to_tower(bytes(MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x93\x01\x02\x03", encode(Ask(b"g" * 32))[:-1], b"\xff" * 100])
def test_what_no_customer_says_is_the_peers_fault(data: bytes) -> None:
    with pytest.raises(RemoteError):
        decode_to_tower(data)


def test_a_customers_words_are_read() -> None:
    watched = Watched()
    assert decode_to_tower(encode(watched.message(3))) == watched.message(3)
    assert decode_to_tower(encode(Ask(watched.id))) == Ask(watched.id)


def test_a_receipt_ends_and_then_the_entry_may_go() -> None:
    watched = Watched()
    watched.entrust(5)
    held = watched.held[watched.customer(0)]
    assert not is_over(held, held.until_ms) and is_over(held, held.until_ms + 1)


def test_an_entry_has_a_bound() -> None:
    """ "Bounded bytes per group": with the longest body that is taken, whatever the version."""
    watched = Watched(terms=agreement(limits=Limits(max_state_bytes=8_000)))
    message = structs.replace(watched.message(999), sealed=bytes(MAX_SEALED_BYTES))
    keep = entrust(POLICY, TOWER.public, watched.visit(message))[0]
    assert isinstance(keep, Keep) and len(encode(keep.guarded)) < MAX_SEALED_BYTES + 1_200
    small = Watched().entrust(5)[0]
    assert isinstance(small, Keep) and len(encode(small.guarded)) < 1_000


def test_the_delegation_is_what_the_ledger_verifies() -> None:
    watched = Watched()
    blank = structs.replace(watched.delegation(0), signature=b"")
    assert sign_delegation(watched.key(0), CHAIN, blank) == watched.delegation(0)

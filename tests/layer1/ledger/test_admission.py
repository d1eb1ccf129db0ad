"""Form, life span, signatures and terms: what keeps a transaction out, by the mempool and by the block."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from layer1.codec import Struct
from layer1.errors import Refused
from layer1.ledger.admission import admit, verify_transaction
from layer1.ledger.transactions import OpenGroup, Transaction, Transfer
from tests.layer1.ledger.world import (
    ALICE,
    BOB,
    PERIOD,
    RICH,
    World,
    admitted,
    make_party,
    records_root,
    signed_transactions,
)


def test_signatures_of_another_chain_kind_or_order_are_refused() -> None:
    world = World()
    transfer, opening, *_ = signed_transactions(world)
    swapped = structs.replace(opening, signatures=opening.signatures[::-1])
    other_kind = structs.replace(transfer, signatures=opening.signatures[:1])
    for wrong, chain_id in ((swapped, world.chain_id), (other_kind, world.chain_id), (transfer, bytes(32))):
        with pytest.raises(Refused, match="not by account"):
            verify_transaction(wrong, chain_id)


def test_a_report_needs_no_account_signature_and_may_carry_none() -> None:
    """Else one report could have any number of bytes more under one id."""
    world = World()
    party = world.opened()
    report = world.sign(party.report(party.state(5, 300, 1_700)))
    verify_transaction(report, world.chain_id)
    with pytest.raises(Refused, match="1 signatures for 0"):
        verify_transaction(structs.replace(report, signatures=(bytes(64),)), world.chain_id)
    with pytest.raises(Refused, match="15 bytes"):
        verify_transaction(structs.replace(report, salt=bytes(15)), world.chain_id)


def admission_cases(world: World) -> list[tuple[Transaction, str]]:
    party = make_party(world.chain_id, (ALICE, BOB), deposit=RICH)
    pay, valid = Transfer(ALICE.public, BOB.public, 1), 600_000
    return [
        (world.sign(pay, valid_ms=valid), "ok"),
        (world.sign(pay, valid_ms=0), "ok"),
        (world.sign(pay, valid_ms=-1), "expired"),
        (world.sign(pay, valid_ms=valid + 1), "not_yet_valid"),
        (world.sign(structs.replace(pay, amount=RICH + 1)), "insufficient_balance"),
        (world.sign(OpenGroup(party.agreement)), "insufficient_balance"),
        (world.sign(structs.replace(pay, recipient=bytes(16_384))), "too_large"),
    ]


def test_admission_answers_before_a_block_does() -> None:
    """Mempool: cheap checks first: size, expiry, duplicate, balance."""
    world = World()
    done = world.transfer(ALICE, BOB, 1)
    world.block(done, world.transfer(BOB, ALICE, 1))
    party = world.opened()
    report = world.sign(party.report(party.state(1, 2_000, 0)))
    cases = [*admission_cases(world), (done, "already_executed"), (report, "ok")]
    for transaction, code in cases:
        assert admitted(world, transaction) == code
    with pytest.raises(Refused, match="16385 bytes; at most 16384"):
        admit(world.state, report, encoded_bytes=16_385)


def opening_cases() -> list[tuple[str, dict[str, Any], str]]:
    return [
        ("another chain", {"chain_id": bytes(32)}, "wrong_chain"),
        ("period below the minimum", {"challenge_period_ms": 999}, "bad_challenge_period"),
        ("period above the maximum", {"challenge_period_ms": 90 * 24 * 3_600_000 + 1}, "bad_challenge_period"),
        ("no machine", {"machine": ""}, "bad_agreement"),
        ("a machine too long", {"machine": "m" * 65}, "bad_agreement"),
        ("a short salt", {"salt": bytes(15)}, "bad_agreement"),
        ("open before now", {"open_before_ms": 1}, "agreement_expired"),
        ("open before the end of time", {"open_before_ms": 2**53}, "bad_agreement"),
    ]


def limit_cases() -> list[tuple[str, dict[str, Any], str]]:
    return [
        ("no batch", {"max_batch": 0}, "bad_agreement"),
        ("a negative state", {"max_state_bytes": -1}, "bad_agreement"),
        ("fewer locks than none", {"max_locks": -1}, "bad_agreement"),
        ("more locks than fit beside the state", {"max_locks": (16_384 - 4_096 - 4_096) // 64 + 1}, "bad_agreement"),
        ("more locked than there is money", {"max_locked_units": 2**53}, "bad_agreement"),
        ("locks of less than nothing", {"min_lock_units": -1}, "bad_agreement"),
        ("a state too large to report", {"max_state_bytes": 16_384 - 4_096 + 1}, "bad_agreement"),
    ]


def member_cases() -> list[tuple[str, dict[str, Any], str]]:
    return [
        ("a negative deposit", {"deposit": -1}, "bad_amount"),
        ("a negative bond", {"bond": -1}, "bad_amount"),
        ("more money than there is", {"deposit": 2**53 - 1}, "bad_amount"),
        ("more money than the account has", {"deposit": 1_000_000}, "insufficient_balance"),
        ("a short key", {"key": bytes(31)}, "bad_members"),
        ("a short payout", {"payout": bytes(31)}, "bad_members"),
    ]


def refused_opening(world: World, **terms: Any) -> str:
    """An opening signed as it is, whose terms are wrong."""
    party = make_party(world.chain_id, (ALICE, BOB), **terms)
    transaction = world.sign(OpenGroup(party.agreement), ALICE, BOB)
    root = records_root(world.state)
    code = world.block(transaction).outputs[0].code
    assert records_root(world.state) == root or code == "ok"
    return code


@pytest.mark.parametrize(("case", "terms", "code"), opening_cases(), ids=lambda value: str(value)[:30])
def test_opening_with_wrong_terms(case: str, terms: dict[str, Any], code: str) -> None:
    world = World()
    right = make_party(world.chain_id, (ALICE, BOB)).agreement
    assert terms.keys() <= set(right.__struct_fields__)
    if "chain_id" in terms:
        agreement: Struct = structs.replace(right, **terms)
        assert isinstance(agreement, type(right))
        assert world.do(OpenGroup(agreement), ALICE, BOB).code == code
    else:
        assert refused_opening(world, **terms) == code


@pytest.mark.parametrize(("case", "limits", "code"), limit_cases(), ids=lambda value: str(value)[:30])
def test_opening_with_wrong_limits(case: str, limits: dict[str, Any], code: str) -> None:
    world = World()
    agreement = make_party(world.chain_id, (ALICE, BOB)).agreement
    assert refused_opening(world, limits=structs.replace(agreement.limits, **limits)) == code


@pytest.mark.parametrize(("case", "changes", "code"), member_cases(), ids=lambda value: str(value)[:30])
def test_opening_with_a_wrong_member(case: str, changes: dict[str, Any], code: str) -> None:
    world = World()
    first, second = make_party(world.chain_id, (ALICE, BOB)).agreement.members
    assert refused_opening(world, members=(first, structs.replace(second, **changes))) == code


def test_opening_needs_two_distinct_members_and_at_most_sixteen() -> None:
    world = World()
    party = make_party(world.chain_id, (ALICE, BOB))
    first, second = party.agreement.members
    for members in ((first,), (first, structs.replace(second, key=first.key)), (first,) * 17):
        agreement = structs.replace(party.agreement, members=members)
        signers = [ALICE if m.funding == ALICE.public else BOB for m in members]
        assert world.do(OpenGroup(agreement), *signers).code == "bad_members"


def test_opening_at_its_bounds_is_fine() -> None:
    world = World()
    terms = {"challenge_period_ms": 1_000, "open_before_ms": 2, "machine": "m" * 64}
    assert refused_opening(world, **terms) == "ok"
    assert PERIOD > 1_000


@pytest.mark.parametrize(
    ("amount", "recipient", "code"),
    [
        (0, BOB.public, "bad_amount"),
        (-1, BOB.public, "bad_amount"),
        (2**53, BOB.public, "bad_amount"),
        (1_000_001, BOB.public, "insufficient_balance"),
        (1, ALICE.public, "bad_recipient"),
        (1, bytes(31), "bad_recipient"),
        (1_000_000, BOB.public, "ok"),
    ],
)
def test_transfers(amount: int, recipient: bytes, code: str) -> None:
    world = World()
    transfer = structs.replace(world.transfer(ALICE, BOB, 1).payload, amount=amount, recipient=recipient)
    root = records_root(world.state)
    output = world.do(transfer, ALICE)
    assert output.code == code
    assert (records_root(world.state) == root) == (code != "ok")

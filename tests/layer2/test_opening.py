"""Opening: "signed by all members in the one layer-1 transaction"; "void after open_before"; nothing signed unasked."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from layer1.crypto import verify
from layer1.errors import LocalError, Refused, RemoteError
from layer1.ledger.agreements import Limits, Member
from layer1.ledger.transactions import kind_of, signers
from layer2.messages import Answer, Offer
from layer2.opening import Opening, OpeningPolicy, answer_offer, complete, make_offer
from tests.layer2.harness import CHAIN, key

POLICY = OpeningPolicy(accept_deposit_up_to_units=500, accept_bond_up_to_units=20, min_peer_bond_units=10)
CLOCK = 1_000_000


def offer(**change: Any) -> Offer:
    proposer = Member(key("group 0").public, key("funding 0").public, key("payout 0").public, 1000, 20)
    good = make_offer(
        CHAIN,
        proposer,
        ask_deposit=500,
        ask_bond=20,
        challenge_period_ms=60_000,
        machine="payments/2",
        open_before_ms=CLOCK + 600_000,
        valid_until_ms=CLOCK + 300_000,
        salt=b"s" * 16,
    )
    return structs.replace(good, **change)


def answer(to: Offer, policy: OpeningPolicy = POLICY) -> tuple[Answer, Opening]:
    return answer_offer(
        to,
        policy,
        chain_id=CHAIN,
        clock_ms=CLOCK,
        key=key("group 1").public,
        funding=key("funding 1"),
        payout=key("payout 1").public,
    )


def test_both_describe_one_opening_and_both_sign_it() -> None:
    theirs, expected = answer(offer())
    opening = complete(offer(), theirs, key("funding 0"))
    assert opening.group_id == expected.group_id and opening.agreement == expected.agreement
    transaction = opening.transaction
    for public, signature in zip(signers(transaction.payload), transaction.signatures, strict=True):
        assert verify(public, signature, kind_of(transaction.payload), CHAIN, transaction.id)
    assert [m.deposit for m in opening.agreement.members] == [1000, 500]


FORBIDDEN: list[tuple[dict[str, Any], str]] = [
    ({"deposit": 501}, "policy"),
    ({"bond": 21}, "policy"),
    ({"proposer": structs.replace(offer().proposer, bond=9)}, "policy"),
    ({"challenge_period_ms": 59_999}, "policy"),
    ({"challenge_period_ms": 8 * 24 * 3_600_000}, "policy"),
    ({"open_before_ms": CLOCK + 600_001}, "policy"),
    ({"open_before_ms": CLOCK, "valid_until_ms": CLOCK - 1}, "policy"),
    ({"machine": "roulette/1"}, "policy"),
    ({"limits": Limits(max_state_bytes=4097)}, "policy"),
    ({"limits": Limits(max_batch=100_001)}, "policy"),
    ({"chain_id": bytes(32)}, "wrong_chain"),
    ({"deposit": -1}, "bad_offer"),
    ({"deposit": 2**53}, "bad_offer"),
    ({"salt": b""}, "bad_offer"),
    ({"valid_until_ms": CLOCK + 600_000}, "bad_offer"),
    ({"limits": Limits(max_batch=0)}, "bad_offer"),
    ({"proposer": structs.replace(offer().proposer, payout=b"")}, "bad_offer"),
    ({"proposer": structs.replace(offer().proposer, deposit=0), "deposit": 0}, "bad_offer"),
    ({"proposer": structs.replace(offer().proposer, key=key("group 1").public)}, "bad_offer"),
    ({"proposer": structs.replace(offer().proposer, funding=key("funding 1").public)}, "bad_offer"),
]


@pytest.mark.parametrize(("change", "code"), FORBIDDEN, ids=[str(list(row[0])) + row[1] for row in FORBIDDEN])
def test_nothing_is_signed_unasked(change: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as refusal:
        answer(offer(**change))
    assert refusal.value.code == code


def test_the_initiator_signs_only_what_it_offered() -> None:
    good, _ = answer(offer())
    member = good.member
    bad = [
        structs.replace(good, member=structs.replace(member, deposit=499)),
        structs.replace(good, member=structs.replace(member, bond=0)),
        structs.replace(good, member=structs.replace(member, payout=key("other").public)),
        structs.replace(good, member=structs.replace(member, key=b"")),
        structs.replace(good, member=structs.replace(member, key=offer().proposer.key)),
        structs.replace(good, agreement_hash=bytes(32)),
        structs.replace(good, signature=bytes(64)),
        answer(offer(salt=b"t" * 16))[0],
    ]
    for each in bad:
        with pytest.raises(RemoteError):
            complete(offer(), each, key("funding 0"))
    with pytest.raises(LocalError):
        complete(offer(), good, key("funding 2"))


def test_a_policy_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(LocalError):
        OpeningPolicy(min_challenge_ms=10, max_challenge_ms=5)
    with pytest.raises(Refused):
        answer(offer(), OpeningPolicy())

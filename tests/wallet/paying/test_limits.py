"""How much of a token's limit a payment takes: what may move is reserved, what did not move is given back."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from layer1.crypto import format_address
from tests.wallet.api.conftest import paid
from tests.wallet.invoices.samples import signed
from tests.wallet.paying.samples import PAYEE, PAYMENT, US, attempt
from wallet.api.verbs import verb_of
from wallet.invoices.invoice import format_invoice
from wallet.paying.records import Fate, Payment
from wallet.paying.views import payment_view
from wallet.requests import Pay, PayInvoice, Request

ADDRESS = format_address(PAYEE)


def taken(asked: Request[Any], answer: Any) -> int:
    """What a request leaves counted."""
    spending = verb_of(asked).spending
    assert spending is not None
    return spending.most(asked) - spending.unmoved(asked, answer)


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        (Pay(target="7ccd1d6d43c5", amount=100, count=3), 300),
        (Pay(target=ADDRESS, amount=1_000), 1_010),
        (Pay(target=f"{ADDRESS}@host:1", amount=1_000, max_fee=3), 1_003),
        (Pay(target=ADDRESS, amount=100, max_fee=0), 100),
        (PayInvoice(invoice=format_invoice(signed())), 12_345 + 123),
        (PayInvoice(invoice=format_invoice(signed(amount=None)), amount=100, max_fee=1), 101),
    ],
)
def test_a_token_pays_no_more_than_its_limit_fees_included(asked: Request[Any], most: int) -> None:
    """ "The spend limit counts fees"."""
    spending = verb_of(asked).spending
    assert spending is not None and spending.most(asked) == most


@pytest.mark.parametrize(
    ("fate", "repeated", "counted"),
    [(Fate.PAID, False, 1_002), (Fate.PENDING, False, 1_010), (Fate.PAID, True, 0), (Fate.PENDING, True, 0)],
)
def test_what_was_not_charged_is_given_back_and_what_is_pending_is_not(
    fate: Fate, repeated: bool, counted: int
) -> None:
    made: Payment = structs.replace(PAYMENT, attempts=(attempt(1_000, 2, fate=fate),))
    answer = payment_view(made, US, repeated=repeated)
    invoice = format_invoice(signed(amount=1_000))
    assert taken(PayInvoice(invoice=invoice), answer) == counted


def test_an_address_that_is_paid_through_its_channel_costs_no_fee() -> None:
    asked = Pay(target=ADDRESS, amount=1_000)
    assert taken(asked, paid(asked, 1)) == 1_000
    routed = structs.replace(PAYMENT, attempts=(attempt(1_000, 2, fate=Fate.PAID),))
    assert taken(asked, structs.replace(paid(asked, 1), payment=payment_view(routed, US))) == 1_002

"""Invoices for the tests."""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec.structs import replace

from layer1.crypto import Kind, SigningKey
from wallet.invoices.invoice import Feature, Hint, Invoice, sign_invoice

PAYEE = SigningKey(hashlib.sha256(b"a payee").digest())
CHAIN = hashlib.sha256(b"a ledger").digest()
PREIMAGE = hashlib.sha256(b"a preimage").digest()
HINT = Hint(SigningKey(bytes(32)).public, hashlib.sha256(b"a channel").digest(), 1, 500)
PLAIN = Invoice(
    version=1,
    chain_id=CHAIN,
    payee=PAYEE.public,
    payment_hash=hashlib.sha256(PREIMAGE).digest(),
    payment_secret=bytes(range(16)),
    amount=12_345,
    created_ms=1_700_000_000_000,
    expires_ms=1_700_000_900_000,
    lock_ms=60_000,
    description="two coffees",
    hints=(),
    features=(),
    signature=b"",
)
FULL = replace(
    PLAIN,
    amount=None,
    description="ein Käffchen ☕",
    hints=(HINT, replace(HINT, base_fee=0)),
    features=(Feature("hold", required=False), Feature("later", required=False, value=b"whatever it says")),
)


def signed(**changes: Any) -> Invoice:
    """A plain invoice with some fields changed, signed by its payee."""
    return sign_invoice(PAYEE, replace(PLAIN, **changes))


def forced(**changes: Any) -> Invoice:
    """The same, signed without a look at the fields: a payee that breaks the rules."""
    invoice = replace(PLAIN, **changes)
    return replace(invoice, signature=PAYEE.sign(Kind.INVOICE, invoice.chain_id, invoice.statement()))

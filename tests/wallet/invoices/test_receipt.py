"""Receipts: what they prove, to whom has no ledger (decision 038)."""

from __future__ import annotations

import json

import pytest

from layer1.errors import Refused
from tests.wallet.invoices.samples import CHAIN, PREIMAGE, forced, signed
from wallet.invoices.invoice import format_invoice
from wallet.invoices.receipt import MAX_FILE_BYTES, describe, make_receipt, read_receipt

TEXT = format_invoice(signed())


def refused(data: bytes, code: str = "bad_receipt", chain_id: bytes | None = None) -> str:
    """Why a file is not taken for a receipt."""
    with pytest.raises(Refused) as caught:
        read_receipt(data, chain_id)
    assert caught.value.code == code
    return caught.value.message


def altered(**changes: object) -> bytes:
    """The file of a receipt with some fields changed."""
    return json.dumps(json.loads(make_receipt(TEXT, PREIMAGE)) | changes).encode()


def test_a_receipt_is_read_by_whoever_has_the_file() -> None:
    receipt = read_receipt(make_receipt(TEXT.upper(), PREIMAGE))
    assert (receipt.invoice, receipt.preimage) == (signed(), PREIMAGE)
    assert read_receipt(make_receipt(TEXT, PREIMAGE), CHAIN) == receipt


def test_without_the_preimage_there_is_no_receipt() -> None:
    with pytest.raises(Refused, match="it proves nothing"):
        make_receipt(TEXT, bytes(32))
    assert "it proves nothing" in refused(altered(preimage=bytes(32).hex()))
    assert "32 bytes, this one 31" in refused(altered(preimage=PREIMAGE[:31].hex()))
    assert refused(altered(preimage="zz"))


def test_without_the_payees_signature_there_is_none() -> None:
    other = format_invoice(forced(signature=b""))[:-1]
    refused(altered(invoice=other), "bad_invoice")


def test_it_is_of_one_chain() -> None:
    message = refused(make_receipt(TEXT, PREIMAGE), "wrong_chain", bytes(32))
    assert CHAIN.hex() in message
    assert bytes(32).hex() in message


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff\xfe", b'{"kind": "wedge-receipt/2"}', altered(more=1), altered(invoice=5), b"[" * 9_000],
)
def test_what_is_no_receipt_is_refused(data: bytes) -> None:
    assert "no receipt" in refused(data)


def test_a_file_is_not_read_whatever_its_size() -> None:
    assert f"at most {MAX_FILE_BYTES} bytes, this file {MAX_FILE_BYTES + 1}" in refused(bytes(MAX_FILE_BYTES + 1))


def test_it_says_what_it_proves_and_what_not() -> None:
    proven, not_proven = describe(read_receipt(make_receipt(TEXT, PREIMAGE)), "123.45 EUR")
    assert "over 123.45 EUR" in proven[0] and "two coffees" in proven[0] and CHAIN.hex() in proven[0]
    assert any(sentence.startswith("Who paid") for sentence in not_proven)
    assert any("no less than 123.45 EUR" in sentence for sentence in not_proven)
    opened = make_receipt(format_invoice(signed(amount=None)), PREIMAGE)
    proven, not_proven = describe(read_receipt(opened), "")
    assert "payer's choice" in proven[0]
    assert any(sentence.startswith("How much was paid") for sentence in not_proven)

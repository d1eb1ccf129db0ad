"""A receipt: a signed invoice and its preimage, which the payee gives away when it is paid.

*Safety:* without the preimage nobody makes a receipt; the payee alone has it until it claims a payment.

What that proves, and what it does not, :func:`describe` says in words: who has the preimage may have paid, may have
forwarded the payment, or may have been shown a receipt.

Checking one needs no ledger: the invoice names its chain, and the payee signed that.

Source: decisions 036 and 038.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from layer1.crypto import Hash, format_address
from layer1.errors import Refused
from wallet.invoices.invoice import Invoice, parse_invoice
from wallet.onion.payload import PREIMAGE_BYTES

MAX_FILE_BYTES = 16_384


class _File(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind", tag="wedge-receipt/1"):
    """As it is written: JSON, for people to pass on."""

    invoice: str
    preimage: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt that was checked."""

    invoice: Invoice
    preimage: bytes


def make_receipt(text: str, preimage: bytes) -> bytes:
    """The file of a receipt.

    Raises:
        Refused: As :func:`read_receipt`.
    """
    file = msgspec.json.format(msgspec.json.encode(_File(text.strip().lower(), preimage.hex()))) + b"\n"
    read_receipt(file)
    return file


def read_receipt(data: bytes, chain_id: Hash | None = None) -> Receipt:
    """Check a receipt; it proves what :func:`describe` says.

    Args:
        data: The file.
        chain_id: Of the ledger that one means; None to take any, and to look at what the invoice says.

    Raises:
        Refused: ``bad_receipt``, ``wrong_chain``, or as `parse_invoice`.
    """
    if len(data) > MAX_FILE_BYTES:
        raise _bad(f"a receipt has at most {MAX_FILE_BYTES} bytes, this file {len(data)}")
    try:
        file = msgspec.json.decode(data, type=_File)
        preimage = bytes.fromhex(file.preimage)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _bad(f"the file is no receipt: {error}") from None
    invoice = parse_invoice(file.invoice)
    if chain_id is not None and invoice.chain_id != chain_id:
        raise Refused(
            "wrong_chain", f"the receipt is of chain {invoice.chain_id.hex()}, you asked for {chain_id.hex()}"
        )
    check_preimage(invoice.payment_hash, preimage)
    return Receipt(invoice, preimage)


def check_preimage(payment_hash: Hash, preimage: bytes) -> None:
    """Return if it is that of the hash.

    Raises:
        Refused: ``bad_receipt``; both hashes.
    """
    found = hashlib.sha256(preimage).digest()
    if len(preimage) != PREIMAGE_BYTES:
        raise _bad(f"a preimage has {PREIMAGE_BYTES} bytes, this one {len(preimage)}")
    if found != payment_hash:
        raise _bad(f"the preimage is of hash {found.hex()}, the invoice of {payment_hash.hex()}: it proves nothing")


def describe(receipt: Receipt, amount: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a receipt proves, and what it does not; sentences for people.

    Args:
        receipt: As it was read.
        amount: What the invoice asks for, in words; empty if it leaves that to the payer.
    """
    invoice = receipt.invoice
    asked = amount or "an amount of the payer's choice"
    what = f' for "{invoice.description}"' if invoice.description else ""
    proven = (
        f"{format_address(invoice.payee)} signed an invoice over {asked}{what}, on chain {invoice.chain_id.hex()}.",
        "Whoever made this file had the invoice's preimage. The payee alone has that until it takes a payment: so it "
        "was paid, or gave its secret away.",
    )
    sum_of = (
        f"That it was no less than {amount}: a payee may claim less than it asked for, at its own cost."
        if amount
        else "How much was paid: the invoice left it to the payer."
    )
    not_proven = (
        "Who paid: forwarders of the payment see the preimage too, and so does everybody who is shown this file.",
        sum_of,
        "When it was paid, that nothing was paid back, or that what was paid for was delivered.",
    )
    return proven, not_proven


def _bad(message: str) -> Refused:
    return Refused("bad_receipt", message)

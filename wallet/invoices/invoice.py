"""An invoice: what the payee signs, and the text that it is passed on as.

*Safety:* an invoice that :func:`parse_invoice` returns was signed by the payee that it names, for the ledger that it
names, as it stands: its text has one form, every field is within its bounds, and nothing in it is required that we do
not know.

What a later release adds is a feature with a name. A wallet that does not know one ignores it, unless it is marked as
required: then it refuses the invoice and says what it lacks.

Source: docs/design/groups.md, "Conditional payments and routes"; decision 038; facts of its kind from BOLT 11.
"""

from __future__ import annotations

import re

from msgspec import structs

from layer1.codec import Struct, decode, encode, leading_number
from layer1.crypto import HASH_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, Hash, Kind, PublicKey, SigningKey, verify
from layer1.errors import Refused, RemoteError
from layer1.ledger.genesis import MAX_MONEY
from wallet.invoices.bech32m import decode_text, encode_text
from wallet.onion.payload import SECRET_BYTES

PREFIX = "wedgeinv"
VERSION = 1
MAX_DESCRIPTION_BYTES = 256
MAX_HINTS = 4
MAX_FEATURES = 8
MAX_FEATURE_BYTES = 128
MAX_TEXT = 4_200
"""Characters of an invoice at most, all bounds used up; the largest QR code takes 4,296."""
MAX_LIFE_MS = 366 * 86_400_000
"""From its making to its expiry."""
MAX_LOCK_MS = 30 * 86_400_000
"""The genesis bounds it further, by `max_lock_ms`."""
KNOWN_FEATURES: frozenset[str] = frozenset({"hold", "parts"})
"""``hold``: the payee may wait before it claims. ``parts``: it takes the amount in several locks."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


class Hint(Struct):
    """A way to a payee whose channel nobody announced: the last hop before it."""

    node: PublicKey
    """Who forwards to the payee."""
    group_id: Hash
    """Over this channel."""
    base_fee: int
    """In units, for each lock."""
    fee_ppm: int
    """For each million units that it forwards."""


class Feature(Struct):
    """Something that not every wallet knows."""

    name: str
    """Small letters, digits and hyphens; at most 32."""
    required: bool
    """Whoever does not know it must not pay."""
    value: bytes = b""


class Invoice(Struct):
    """What a payee asks for."""

    version: int
    chain_id: Hash
    """Of the ledger on which both have their channels."""
    payee: PublicKey
    """Identity: its spending address, which is its name on routes."""
    payment_hash: Hash
    """SHA-256 of the preimage: who shows that has paid, or was given it by the payee."""
    payment_secret: bytes
    """16 bytes for the payee's layer of the onion: a hop that knows the hash alone learns nothing by asking the payee.
    """
    amount: int | None
    """Units; None leaves it to the payer."""
    created_ms: int
    """On the ledger clock."""
    expires_ms: int
    """On the ledger clock: later the payee takes no payment for it."""
    lock_ms: int
    """For how long a lock must still be good when it reaches the payee, at least."""
    description: str
    """For people: one line, at most 256 bytes."""
    hints: tuple[Hint, ...]
    features: tuple[Feature, ...]
    """Ascending by name."""
    signature: bytes
    """Kind INVOICE, over :meth:`statement`."""

    def statement(self) -> bytes:
        """The signed bytes: all but the signature."""
        return encode(structs.astuple(self)[:-1])

    def has(self, name: str) -> bool:
        """Whether the invoice has a feature of this name."""
        return any(feature.name == name for feature in self.features)


def sign_invoice(key: SigningKey, invoice: Invoice) -> Invoice:
    """The invoice with the payee's signature.

    Raises:
        Refused: ``bad_invoice``; a field is out of its bounds.
    """
    _check_fields(invoice, signed=False)
    return structs.replace(invoice, signature=key.sign(Kind.INVOICE, invoice.chain_id, invoice.statement()))


def format_invoice(invoice: Invoice) -> str:
    """Its text, in small letters. In capitals it is the same invoice, and a smaller QR code."""
    return encode_text(PREFIX, encode(invoice))


def parse_invoice(text: str) -> Invoice:
    """Read an invoice; blanks around it do not count.

    Raises:
        Refused: ``bad_invoice``, ``newer_invoice`` or ``unknown_feature``; what is wrong with it, and the remedy.
    """
    text = text.strip()
    if len(text) > MAX_TEXT:
        raise _bad(f"an invoice has at most {MAX_TEXT} characters, this text {len(text)}")
    try:
        data = decode_text(PREFIX, text)
    except RemoteError as error:
        raise _bad(f"this is no invoice: {error}; copy it again, whole") from None
    version = leading_number(data)
    if version is not None and version > VERSION:
        raise Refused(
            "newer_invoice",
            f"the invoice is of version {version}, this wallet knows {VERSION}: take a newer release, or ask for "
            "another",
        )
    try:
        invoice = decode(data, Invoice)
    except RemoteError as error:
        raise _bad(f"the invoice is not well made: {error}; ask for another") from None
    _check_fields(invoice, signed=True)
    if not verify(invoice.payee, invoice.signature, Kind.INVOICE, invoice.chain_id, invoice.statement()):
        raise _bad("its payee did not sign the invoice: somebody altered it. Ask the payee for another")
    _check_features(invoice)
    return invoice


def _check_fields(invoice: Invoice, *, signed: bool) -> None:
    _numbers(invoice)
    _sized("chain", invoice.chain_id, HASH_BYTES)
    _sized("payee", invoice.payee, PUBLIC_KEY_BYTES)
    _sized("payment hash", invoice.payment_hash, HASH_BYTES)
    _sized("payment secret", invoice.payment_secret, SECRET_BYTES)
    _sized("signature", invoice.signature, SIGNATURE_BYTES if signed else 0)
    check_description(invoice.description)
    _at_most("hints", len(invoice.hints), MAX_HINTS)
    for hint in invoice.hints:
        _sized("hint's node", hint.node, PUBLIC_KEY_BYTES)
        _sized("hint's channel", hint.group_id, HASH_BYTES)
        _within("a hint's base fee", hint.base_fee, 0, MAX_MONEY)
        _within("a hint's fee per million", hint.fee_ppm, 0, 1_000_000)
    _at_most("features", len(invoice.features), MAX_FEATURES)
    for feature in invoice.features:
        if not _NAME.fullmatch(feature.name):
            name = feature.name[:40]
            raise _bad(f"a feature's name is of small letters, digits and hyphens, at most 32, not {name!r}")
        _at_most(f"bytes of {feature.name}", len(feature.value), MAX_FEATURE_BYTES)
    names = [feature.name for feature in invoice.features]
    if names != sorted(set(names)):
        raise _bad(f"features stand once and in the order of their names, not as {', '.join(names)}")


def _numbers(invoice: Invoice) -> None:
    _within("the version", invoice.version, VERSION, VERSION)
    if invoice.amount is not None:
        _within("an amount in units", invoice.amount, 1, MAX_MONEY)
    _within("the time of making", invoice.created_ms, 0, MAX_MONEY)
    _within("the time of expiry", invoice.expires_ms, invoice.created_ms + 1, invoice.created_ms + MAX_LIFE_MS)
    _within("the least time of a lock in ms", invoice.lock_ms, 0, MAX_LOCK_MS)


def check_description(text: str) -> None:
    """Return if an invoice can say this.

    Raises:
        Refused: ``bad_invoice``; too long, or of more than one line.
    """
    _at_most("bytes of description", len(text.encode("utf-8", "surrogatepass")), MAX_DESCRIPTION_BYTES)
    if text and not text.isprintable():
        raise _bad("a description is one line of characters that can be printed")


def _check_features(invoice: Invoice) -> None:
    lacking = [each.name for each in invoice.features if each.required and each.name not in KNOWN_FEATURES]
    if lacking:
        raise Refused(
            "unknown_feature",
            f"to pay this invoice a wallet must know {', '.join(lacking)}, and this one does not: take a newer "
            "release, or ask for another invoice",
        )


def _sized(what: str, data: bytes, size: int) -> None:
    if len(data) != size:
        raise _bad(f"an invoice's {what} has {size} bytes, this one's {len(data)}")


def _within(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise _bad(f"{what} is from {least} to {most}, not {value}")


def _at_most(what: str, count: int, most: int) -> None:
    if count > most:
        raise _bad(f"an invoice has at most {most} {what}, not {count}")


def _bad(message: str) -> Refused:
    return Refused("bad_invoice", message)

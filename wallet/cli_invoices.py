"""The verbs of ``wallet invoice`` and ``wallet receipt`` that need neither wallet nor ledger."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from layer1.crypto import HASH_BYTES, Hash
from layer1.errors import Refused, WedgeError, check
from layer1.ledger.genesis import Currency, Genesis, from_json
from wallet.console import Output
from wallet.exits import HELP
from wallet.home import Home, default_home
from wallet.invoices.invoice import PREFIX, parse_invoice
from wallet.requests import ReceiptView
from wallet.verbs import HomeOption, JsonOption

invoice_app = typer.Typer(help="What others ask to be paid for.", no_args_is_help=True, epilog=HELP)
receipt_app = typer.Typer(help="What proves a payment to anybody.", no_args_is_help=True, epilog=HELP)

InvoiceText = Annotated[str, typer.Argument(help=f"The invoice, {PREFIX}1…; - reads it from standard input.")]
QrOption = Annotated[
    str | None,
    typer.Option(metavar="dark|light|colour", help="Draw a QR code: for a dark or a light terminal, or with colours."),
]


@invoice_app.command("decode", epilog=f"Example: wallet invoice decode {PREFIX}1…")
def invoice_decode(
    *, invoice: InvoiceText, qr: QrOption = None, home: HomeOption = None, json: JsonOption = False
) -> None:
    """Check an invoice and show what it says. Needs no wallet and no ledger."""
    from wallet.invoices.views import decoded_view  # noqa: PLC0415 - only when needed

    out = Output(json)
    try:
        _check_qr(qr)
        found = parse_invoice(_text(invoice))
        currency = _currency_of(home, found.chain_id)
    except WedgeError as error:
        out.fail(error)
    view = decoded_view(found, currency)
    out.show(view, currency)
    _draw(out, view.invoice, qr)


@receipt_app.command("verify", epilog="Example: wallet receipt verify coffee.receipt --genesis genesis.json")
def receipt_verify(
    *,
    file: Annotated[Path, typer.Argument(help="The receipt.")],
    genesis: Annotated[Path | None, typer.Option(help="Refuse a receipt of any other ledger than this one.")] = None,
    chain_id: Annotated[str | None, typer.Option(help="Refuse a receipt of any other chain.")] = None,
    json: JsonOption = False,
) -> None:
    """Check a receipt, and say what it proves and what it does not. Needs no wallet and no ledger.

    Without --genesis or --chain-id, look whether the chain that it names is the one that you mean.
    """
    from wallet.invoices.receipt import MAX_FILE_BYTES, read_receipt  # noqa: PLC0415 - only when needed
    from wallet.invoices.views import receipt_view  # noqa: PLC0415 - only when needed

    out = Output(json)
    try:
        known = _genesis(genesis)
        wanted = _chain(chain_id) if chain_id is not None else None
        if known is not None:
            wanted = wanted or known.chain_id
            check(wanted == known.chain_id, "bad_usage", "--genesis and --chain-id are of different chains")
        with file.open("rb") as opened:
            receipt = read_receipt(opened.read(MAX_FILE_BYTES + 1), wanted)
    except OSError as error:
        out.fail(Refused("bad_file", f"{file}: {error.strerror}"))
    except WedgeError as error:
        out.fail(error)
    currency = known.currency if known is not None else None
    view: ReceiptView = receipt_view(receipt, currency)
    out.show(view, currency)


def _text(invoice: str) -> str:
    return sys.stdin.read(8_192).strip() if invoice == "-" else invoice


def _currency_of(home: Path | None, chain_id: Hash) -> Currency | None:
    """The currency of a home, if there is one on this chain."""
    place = Home((home or default_home()).expanduser().absolute())
    if not place.connected:
        return None
    genesis = place.genesis()
    return genesis.currency if genesis.chain_id == chain_id else None


def _genesis(file: Path | None) -> Genesis | None:
    if file is None:
        return None
    try:
        return from_json(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise Refused("bad_genesis", f"{file} is no genesis file") from None


def _chain(text: str) -> Hash:
    good = len(text) == 2 * HASH_BYTES and set(text.lower()) <= set("0123456789abcdef")
    check(good, "bad_usage", f"a chain id is {2 * HASH_BYTES} digits in hex, not {text[:80]!r}")
    return bytes.fromhex(text)


def _check_qr(qr: str | None) -> None:
    check(
        qr in (None, "dark", "light", "colour"), "bad_usage", f"--qr is dark, light or colour, not {(qr or '')[:20]!r}"
    )


def _draw(out: Output, text: str, qr: str | None) -> None:
    from wallet.invoices.qr import draw  # noqa: PLC0415 - only when needed

    if qr is None or out.json:
        return
    colours = qr == "colour" and not os.environ.get("NO_COLOR")
    sys.stdout.write("\n".join(draw(text, colours=colours, light_terminal=qr == "light")) + "\n")

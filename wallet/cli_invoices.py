"""The verbs of ``wallet invoice`` and ``wallet receipt``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from layer1.crypto import HASH_BYTES, Hash
from layer1.errors import Refused, WedgeError, check
from layer1.files import write_durably
from layer1.ledger.genesis import Currency, Genesis, from_json
from wallet.amounts import parse_amount
from wallet.console import Output
from wallet.exits import HELP, Exit
from wallet.home import Home, default_home
from wallet.invoices.invoice import PREFIX, parse_invoice
from wallet.period import parse_duration
from wallet.requests import (
    CancelInvoice,
    CreateInvoice,
    ListInvoices,
    PayInvoice,
    ReceiptView,
    SettleInvoice,
    ShowInvoice,
    ShowReceipt,
)
from wallet.verbs import (
    MAX_PARTS,
    HomeOption,
    JsonOption,
    MaxFeeOption,
    PartsOption,
    PassphraseOption,
    WaitOption,
    run,
    wait_ms,
)

invoice_app = typer.Typer(help="Ask to be paid, and pay what others ask for.", no_args_is_help=True, epilog=HELP)
receipt_app = typer.Typer(help="What proves a payment to anybody.", no_args_is_help=True, epilog=HELP)

InvoiceText = Annotated[str, typer.Argument(help=f"The invoice, {PREFIX}1…; - reads it from standard input.")]
OwnInvoice = Annotated[str, typer.Argument(help="Payment hash of the invoice, or the start of it.")]
QrOption = Annotated[
    str | None,
    typer.Option(metavar="dark|light|colour", help="Draw a QR code: for a dark or a light terminal, or with colours."),
]


@invoice_app.command(
    "create", epilog="Example: wallet invoice create 2.50 --description 'two coffees' --expires 15m --qr colour"
)
def invoice_create(
    *,
    amount: Annotated[str | None, typer.Argument(help="Such as 2.50; without it the payer chooses.")] = None,
    description: Annotated[str, typer.Option(help="For the payer: one line, up to 256 bytes.")] = "",
    expires: Annotated[str, typer.Option(help="How long it can be paid, such as 15m, 24h or 30d.")] = "1h",
    hold: Annotated[bool, typer.Option("--hold", help="Take nothing until `wallet invoice settle`.")] = False,
    hold_for: Annotated[
        str | None, typer.Option(help="With --hold: for how long at least it can be settled; 1h unless you say.")
    ] = None,
    payment_hash: Annotated[
        str, typer.Option("--hash", help="With --hold: a hash whose preimage you will give to `settle --preimage`.")
    ] = "",
    hints: Annotated[
        bool, typer.Option("--hints/--no-hints", help="Name two neighbours over whom this wallet is reached.")
    ] = True,
    qr: QrOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make an invoice, and print the text to give to the payer. Whoever pays reaches this wallet while it is served."""
    out = Output(json)
    try:
        check(hold or hold_for is None, "bad_usage", "--hold-for does nothing without --hold")
        check(hold or not payment_hash, "bad_usage", "--hash does nothing without --hold: who pays would get nothing")
        request = CreateInvoice(
            amount=None if amount is None else _units(home, amount),
            description=description,
            life_ms=parse_duration(expires),
            hold=hold,
            hold_ms=parse_duration(hold_for or "1h") if hold else 0,
            payment_hash=payment_hash,
            hints=hints,
        )
        _check_qr(qr)
    except WedgeError as error:
        out.fail(error)
    view = run(home, json, passphrase_file, request)
    _draw(out, view.invoice, qr)


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


@invoice_app.command("pay", epilog=f"Example: wallet invoice pay {PREFIX}1… --max-fee 0.05 --parts 4")
def invoice_pay(
    *,
    invoice: InvoiceText,
    amount: Annotated[str | None, typer.Argument(help="Such as 2.50, if the invoice leaves it to you.")] = None,
    max_fee: MaxFeeOption = None,
    parts: PartsOption = MAX_PARTS,
    wait: WaitOption = "60s",
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Pay an invoice, once: the same command again tells what became of it, and pays nothing twice.

    Over a channel with its payee, which costs nothing, else over others' channels.
    """
    out = Output(json)
    try:
        request = PayInvoice(
            invoice=_text(invoice),
            amount=None if amount is None else _units(home, amount),
            max_fee=None if max_fee is None else _units(home, max_fee),
            parts=parts,
            wait_ms=wait_ms(wait),
        )
        parse_invoice(request.invoice)
    except WedgeError as error:
        out.fail(error)
    if run(home, json, passphrase_file, request).state == "pending":
        raise typer.Exit(Exit.PENDING)


@invoice_app.command("list", epilog="Example: wallet invoice list --limit 20 --json")
def invoice_list(
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many of each, the newest first.")] = 50,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """List invoices of this wallet, and those of others that it paid or pays."""
    run(home, json, passphrase_file, ListInvoices(limit=limit))


@invoice_app.command("show", epilog="Example: wallet invoice show 7ccd1d6d43c5")
def invoice_show(
    *, invoice: OwnInvoice, home: HomeOption = None, json: JsonOption = False, passphrase_file: PassphraseOption = None
) -> None:
    """Show how far an invoice of this wallet is: open, here in part, held, paid, expired."""
    run(home, json, passphrase_file, ShowInvoice(invoice=invoice[:64]))


@invoice_app.command("settle", epilog="Example: wallet invoice settle 7ccd1d6d43c5")
def invoice_settle(
    *,
    invoice: OwnInvoice,
    preimage: Annotated[str, typer.Option(help="Where the invoice was made by --hash; 64 digits in hex.")] = "",
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Take what is held for an invoice that was made by --hold."""
    run(home, json, passphrase_file, SettleInvoice(invoice=invoice[:64], preimage=preimage[:64]))


@invoice_app.command("cancel", epilog="Example: wallet invoice cancel 7ccd1d6d43c5")
def invoice_cancel(
    *, invoice: OwnInvoice, home: HomeOption = None, json: JsonOption = False, passphrase_file: PassphraseOption = None
) -> None:
    """Take nothing for an invoice any more; what is held for it goes back to its payer."""
    run(home, json, passphrase_file, CancelInvoice(invoice=invoice[:64]))


@receipt_app.command("show", epilog="Example: wallet receipt show 7ccd1d6d43c5 --output coffee.receipt")
def receipt_show(
    *,
    payment: Annotated[str, typer.Argument(help="The invoice that was paid, or its payment hash or the start of it.")],
    output: Annotated[Path | None, typer.Option(help="Write the receipt to this file, to be passed on.")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Show what proves a payment of this wallet, and what it proves. Who is shown it can show it, too."""
    from wallet.invoices.receipt import make_receipt  # noqa: PLC0415 - only when needed

    out = Output(json)
    try:
        name = parse_invoice(payment).payment_hash.hex() if payment.lower().startswith(PREFIX) else payment[:64]
    except WedgeError as error:
        out.fail(error)
    view = run(home, json, passphrase_file, ShowReceipt(payment=name))
    if output is None:
        return
    try:
        write_durably(output, make_receipt(view.invoice, bytes.fromhex(view.preimage)))
    except OSError as error:
        out.fail(Refused("bad_file", f"{output}: {error.strerror}; nothing was written"))
    out.say(f"The receipt stands in {output}.")


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


def _units(home: Path | None, amount: str) -> int:
    return parse_amount(amount, Home.find(home or default_home()).genesis().currency)


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

"""The command ``wallet``.

Every verb takes ``--home`` and ``--json``. What a verb does is a request (`wallet.requests`), answered by the process
that serves the home if there is one, else by this one.

Whatever only some verbs need is imported when they do: most of a short command's time goes into imports.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs

from layer1 import loop
from layer1.client import fetch_genesis
from layer1.crypto import format_address, parse_address
from layer1.errors import Refused, WedgeError, check
from layer1.ledger.genesis import Currency, Genesis, from_json
from layer2.opening import OpeningPolicy
from wallet import cli_changes  # noqa: F401 - adds its verbs to those of `channel`
from wallet.amounts import parse_amount
from wallet.cli_books import books_app
from wallet.cli_channels import channel_app
from wallet.cli_invoices import invoice_app, receipt_app
from wallet.cli_payments import payment_app
from wallet.cli_routes import route_app
from wallet.cli_standby import standby_app
from wallet.cli_token import token_app
from wallet.cli_watchtower import watchtower_app
from wallet.cli_webhook import webhook_app
from wallet.cli_witness import witness_app
from wallet.console import Output
from wallet.contacts import parse_contact
from wallet.exits import HELP, Exit
from wallet.guesses import right_verb, verbs_of
from wallet.home import Config, Home, default_home
from wallet.passphrase import read_passphrase, read_phrase
from wallet.period import least_safe_ms, parse_duration
from wallet.requests import History, HistoryView, Pay, Prune, Request, Restore, Send, Show
from wallet.session import sign_from_savings
from wallet.verbs import (
    MAX_PARTS,
    SERVED_POLL_MS,
    HomeOption,
    JsonOption,
    MaxFeeOption,
    PartsOption,
    PassphraseOption,
    WaitOption,
    run,
    wait_ms,
)

if TYPE_CHECKING:
    from wallet.api.server import Listening

app = typer.Typer(
    name="wallet",
    help="Keys, channels, and the watch over them.",
    epilog=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(books_app)
app.add_typer(route_app)
app.add_typer(channel_app, name="channel")
app.add_typer(invoice_app, name="invoice")
app.add_typer(payment_app, name="payment")
app.add_typer(receipt_app, name="receipt")
app.add_typer(watchtower_app, name="watchtower")
app.add_typer(witness_app, name="witness")
app.add_typer(standby_app, name="standby")
app.add_typer(token_app, name="token")
app.add_typer(webhook_app, name="webhook")

PAGE = 5_000
"""That are asked for at once."""
LedgerOption = Annotated[
    list[str] | None, typer.Option("--ledger", help="URL of a replica; repeat it, once for each replica.")
]
GenesisOption = Annotated[Path | None, typer.Option(help="Genesis file; without it the first replica is asked.")]
ChainOption = Annotated[str | None, typer.Option(help="Refuse any other chain.")]
CaOption = Annotated[
    Path | None, typer.Option(help="For https: PEM file of the authorities to trust, instead of this system's.")
]


@app.command(epilog="Example: wallet create --home alice --ledger http://127.0.0.1:7001")
def create(
    *,
    ledger: LedgerOption = None,
    genesis: GenesisOption = None,
    chain_id: ChainOption = None,
    ca: CaOption = None,
    phrase_file: Annotated[Path | None, typer.Option(help="Make the keys of this phrase instead of new ones.")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make a wallet, and show its phrase, once. The ledger may be named later, by `wallet connect`."""
    from wallet.wallet import Wallet  # noqa: PLC0415 - only when needed

    out = Output(json)
    try:
        found = _genesis(genesis, ledger, chain_id, ca) if ledger or genesis is not None else None
        phrase = phrase_file.read_text(encoding="utf-8") if phrase_file is not None else None
        passphrase = read_passphrase(passphrase_file, new=True)
        made = Wallet.create(home or default_home(), found, ledger or (), passphrase, phrase, ca=ca)
    except WedgeError as error:
        out.fail(error)
    except (OSError, UnicodeDecodeError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else f"{phrase_file} is not text"
        out.fail(Refused("bad_file", f"{reason}; nothing was made"))
    chain = found.chain_id.hex() if found is not None else None
    if json:
        addresses = {"address": format_address(made.spending), "savings": format_address(made.savings)}
        words = {"phrase": made.phrase} if phrase is None else {}
        out.line({"home": str(made.home), **addresses, "chain_id": chain, **words})
        return
    out.say(f"A wallet in {made.home}, " + (f"for chain\n{chain}" if chain else "without a ledger yet"))
    _warn_unchecked(out, chain is not None and chain_id is None and genesis is None)
    out.say(f"spending  {format_address(made.spending)}\nsavings   {format_address(made.savings)}")
    if phrase is None:  # else they are written down already
        out.say(
            f"\nWrite these 12 words down. They are shown once, and whoever has them has the money:\n\n  {made.phrase}"
        )


@app.command(epilog="Example: wallet connect --ledger http://127.0.0.1:7001 --ledger http://127.0.0.1:7003")
def connect(
    *,
    ledger: LedgerOption = None,
    genesis: GenesisOption = None,
    chain_id: ChainOption = None,
    ca: CaOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Say which ledger the wallet is for, or where its replicas are now. A wallet stays with its ledger."""
    out = Output(json)
    try:
        place = Home.find(home or default_home())
        found = _genesis(genesis, ledger, chain_id, ca)
        known = place.connected
        place.connect(found, Config(tuple(ledger or ()), ca=ca))
    except WedgeError as error:
        out.fail(error)
    chain = found.chain_id.hex()
    if json:
        out.line({"chain_id": chain, "ledger": list(ledger or ())})
        return
    out.say(f"Chain {chain}, {found.currency.symbol} with {found.currency.decimals} decimals")
    _warn_unchecked(out, not known and chain_id is None and genesis is None)


@app.command(epilog="Example: wallet restore --home again --ledger http://127.0.0.1:7001 --phrase-file -")
def restore(
    *,
    ledger: LedgerOption = None,
    genesis: GenesisOption = None,
    chain_id: ChainOption = None,
    ca: CaOption = None,
    phrase_file: Annotated[
        Path | None, typer.Option(help="Read the phrase from this file, or - for standard input, instead of asking.")
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make a lost wallet anew from its phrase: its accounts, and its channels, by asking the ledger and the peers.

    In a home that exists, find the channels that it does not know: harmless, however often.
    """
    from wallet.wallet import Wallet  # noqa: PLC0415 - only when needed

    out, place = Output(json), home or default_home()
    try:
        if not Home(place.expanduser().absolute()).keystore_path.exists():
            found = _genesis(genesis, ledger, chain_id, ca)
            phrase = read_phrase(phrase_file)
            passphrase = read_passphrase(passphrase_file, new=True)
            Wallet.create(place, found, ledger or (), passphrase, phrase, ca=ca)
    except WedgeError as error:
        out.fail(error)
    run(place, json, passphrase_file, Restore())


@app.command(epilog="Example: wallet show --json")
def show(*, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show addresses, the contact, and balances proven by the ledger."""
    run(home, json, None, Show())


@app.command(epilog="Example: wallet send ADDRESS 2.50 --from savings")
def send(
    *,
    address: Annotated[str, typer.Argument(help="Who gets it; a contact will do.")],
    amount: Annotated[str, typer.Argument(help="Such as 2.50.")],
    source: Annotated[str, typer.Option("--from", help="spending or savings.")] = "spending",
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Transfer on layer 1, without a channel."""
    out = Output(json)
    try:
        found = Home.find(home or default_home())
        units = parse_amount(amount, found.genesis().currency)
        recipient = _address(address)
        check(source in ("spending", "savings"), "bad_usage", f"--from is spending or savings, not {source[:20]!r}")
        request: Request[Any] = Send(recipient=format_address(recipient), amount=units)
        if source == "savings":
            passphrase = read_passphrase(passphrase_file)
            request = loop.run(sign_from_savings(found, recipient, units, passphrase))
    except WedgeError as error:
        out.fail(error)
    run(home, json, passphrase_file, request)


@app.command("serve", epilog="Example: wallet serve --listen 127.0.0.1:9735 --accept-deposit-up-to 100.00")
def serve_command(
    *,
    listen: Annotated[str | None, typer.Option(help="host:port; by default where it listened last.")] = None,
    accept_deposit_up_to: Annotated[
        str | None, typer.Option(help="Join channels that others open, depositing this much in all.")
    ] = None,
    accept_bond_up_to: Annotated[str | None, typer.Option(help="The same for bonds.")] = None,
    min_challenge_period: Annotated[
        str | None, typer.Option(help="Join no channel with a shorter one; by default what a served wallet needs.")
    ] = None,
    accept_witness: Annotated[
        list[str] | None,
        typer.Option(help="Join channels with this witness, an address or contact that you trust; repeat it for more."),
    ] = None,
    api: Annotated[
        str | None,
        typer.Option(help="Answer programs that have a token at this host:port, or port of this machine, over HTTP."),
    ] = None,
    api_certificate: Annotated[Path | None, typer.Option(help="PEM file: HTTPS instead, as other hosts need.")] = None,
    api_key: Annotated[Path | None, typer.Option(help="PEM file: the secret key of the certificate.")] = None,
    api_name: Annotated[
        list[str] | None, typer.Option(help="DNS name under which the API is asked; repeat it for more.")
    ] = None,
    standby: Annotated[
        str | None, typer.Option(help="Contact of the standby, which has each record before anything of it leaves.")
    ] = None,
    spontaneous: Annotated[
        bool, typer.Option("--spontaneous/--no-spontaneous", help="Take payments that come without an invoice.")
    ] = True,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Stay: receive payments, watch the channels, answer the other verbs. Until Ctrl-C."""
    from wallet.daemon import Serving, serve  # noqa: PLC0415 - only when needed

    out = Output(json)
    try:
        found = Home.find(home or default_home())
        policy = _policy(found.genesis(), accept_deposit_up_to, accept_bond_up_to, min_challenge_period)
        if accept_witness:
            check(policy is not None, "bad_usage", "--accept-witness does nothing without --accept-deposit-up-to")
            assert policy is not None
            policy = replace(policy, witnesses=frozenset(map(_address, accept_witness)))
        listening = _listening(api, api_certificate, api_key, api_name)
        passphrase = read_passphrase(passphrase_file)
        logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
        logging.getLogger("wallet").setLevel(logging.INFO)

        def ready(contact: str, url: str | None) -> None:
            if json:
                out.line({"contact": contact, "address": contact.partition("@")[0], "api": url})
            else:
                out.say(f"Serving. The contact to give to others:\n{contact}")
                if url is not None:
                    out.say(f"The API, for programs with a token (`wallet token create`): {url}/docs")
                sys.stdout.flush()

        loop.run(serve(found, passphrase, Serving(listen, policy, standby, listening, spontaneous), ready))
    except WedgeError as error:
        out.fail(error)


@app.command(epilog="Example: wallet pay wedge1… 2.50 --max-fee 0.02; wallet pay 7ccd1d6d43c5 0.25 --count 600")
def pay(
    *,
    target: Annotated[
        str, typer.Argument(help="Address or contact of the payee; or a channel's id or the start of it.")
    ],
    amount: Annotated[str, typer.Argument(help="Such as 2.50.")],
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Pay so many times.")] = 1,
    memo: Annotated[str, typer.Option(help="For the peer of a channel, up to 64 bytes.")] = "",
    max_fee: MaxFeeOption = None,
    parts: PartsOption = MAX_PARTS,
    wait: WaitOption = "60s",
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Pay somebody: through the channel with it, or to an address over any route, though it sent no invoice.

    Each call is a payment of its own. A channel costs nothing; over others' channels the payee must take payments
    without an invoice, and there is no receipt for third parties, since nobody signed an invoice.
    """
    units = _units(home, json, amount)
    fee = None if max_fee is None else _units(home, json, max_fee)
    try:
        waiting_ms = wait_ms(wait)
    except WedgeError as error:
        Output(json).fail(error)
    view = run(
        home,
        json,
        passphrase_file,
        Pay(target=target, amount=units, count=count, memo=memo, max_fee=fee, parts=parts, wait_ms=waiting_ms),
    )
    if view.pending:
        raise typer.Exit(Exit.PENDING)
    if view.committed < view.count:
        raise typer.Exit(Exit.REFUSED)


@app.command(epilog="Example: wallet history --limit 10 --channel 7ccd1d6d43c5; wallet history --csv > payments.csv")
def history(
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the newest first; 50 by default.")] = None,
    channel: Annotated[str | None, typer.Option(help="Of this channel only.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, all of it unless --limit says otherwise.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List what happened."""
    from wallet.csv_history import csv_of  # noqa: PLC0415 - only when needed

    if csv:
        for number, page in enumerate(_pages(home, json, channel, limit)):
            sys.stdout.buffer.write(csv_of(page, header=number == 0).encode())
        return
    pages = list(_pages(home, json, channel, limit or 50))
    entries = tuple(entry for page in pages for entry in page.entries)
    labels = {subject: text for page in pages for subject, text in page.labels.items()}
    Output(json).show(structs.replace(pages[-1], entries=entries, labels=labels), _currency(home))


def _pages(home: Path | None, json: bool, channel: str | None, limit: int | None) -> Iterator[HistoryView]:
    """The history, so much at a time: neither the wallet nor who reads it has to hold all of it."""
    left, before = limit, ""
    while True:
        some = PAGE if left is None else min(left, PAGE)
        page = run(home, json, None, History(limit=some, channel=channel, before=before), shows=False)
        yield page
        left = None if left is None else left - len(page.entries)
        if page.next is None or left == 0:
            return
        before = page.next


def _currency(home: Path | None) -> Currency:
    return Home.find(home or default_home()).genesis().currency


@app.command(epilog="Example: wallet prune --older-than 30d")
def prune(
    *,
    older_than: Annotated[str, typer.Option(help="Such as 12h or 30d.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Delete old payments from the history, for good. No money depends on them; openings and closings stay.

    While the wallet is being served nothing waits for it, and the room is used again; else the file shrinks.
    """
    try:
        before_ms = time.time_ns() // 1_000_000 - parse_duration(older_than)
    except WedgeError as error:
        Output(json).fail(error)
    if not yes:
        typer.confirm(f"Delete all payments older than {older_than} from the history, for good?", abort=True, err=True)
    run(home, json, None, Prune(before_ms=before_ms))


def main() -> None:
    """Entry point of the command."""
    json = "--json" in sys.argv[1:]
    logging.getLogger().addHandler(logging.NullHandler())  # verbs end with an answer; only `serve` tells as it goes
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        text = _usage_text(error)
        if text or json:  # without a verb, the help was shown already
            if not json and getattr(error, "ctx", None) is not None:
                sys.stderr.write(f"{error.ctx.get_usage()}\n")  # type: ignore[attr-defined]
            Output(json).complain(Refused("bad_usage", text or "which verb? See --help"))
        sys.exit(Exit.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        code = Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, people get a sentence; WALLET_DEBUG gives the rest
        try:
            Output(json).fail(error)
        except typer.Exit as end:
            sys.exit(end.exit_code)
    if code == Exit.INTERRUPTED:
        Output(json).complain(Refused("interrupted", "interrupted; what was begun goes on or is undone by itself"))
    sys.exit(code or 0)


def _usage_text(error: typer.TyperException) -> str:
    """What is wrong with the command line; an amount below 0 looks like an option to the parser."""
    option = str(getattr(error, "option_name", None) or "")
    if option[:1] == "-" and option[1:2].isdigit():
        return f"no amount begins with '{option[:2]}': write digits and a point, such as 2.50"
    text = error.format_message()
    meant = right_verb(text, verbs_of(typer.main.get_command(app)))
    return text if meant is None else f"there is no such verb; here it is `wallet {meant}`: see `wallet {meant} --help`"


def _units(home: Path | None, json: bool, amount: str) -> int:
    try:
        return parse_amount(amount, Home.find(home or default_home()).genesis().currency)
    except WedgeError as error:
        Output(json).fail(error)


def _listening(
    api: str | None, certificate: Path | None, key: Path | None, names: list[str] | None
) -> Listening | None:
    from wallet.api.server import Listening  # noqa: PLC0415 - only when needed

    if api is None:
        named = certificate is None and key is None and not names
        check(named, "bad_usage", "--api-certificate, --api-key and --api-name do nothing without --api")
        return None
    listening = Listening(api, certificate, key, tuple(names or ()))
    listening.address()  # says what is wrong with it before a passphrase is asked for
    return listening


def _genesis(file: Path | None, urls: list[str] | None, chain_id: str | None, ca: Path | None) -> Genesis:
    """The genesis from the file, or from the first replica; of the chain that is wanted, if one is named."""
    check(bool(urls), "bad_usage", "which ledger? Give --ledger URL, once for each replica")
    assert urls is not None
    Config(tuple(urls))  # says what is wrong with them before anybody is asked
    try:
        if file is not None:
            genesis = from_json(file.read_text(encoding="utf-8"))
        else:
            genesis = loop.run(fetch_genesis(urls[0], ca=ca))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("bad_genesis", f"{file} cannot be read: {error}") from None
    chain = genesis.chain_id.hex()
    check(chain_id in (None, chain), "wrong_chain", f"the ledger's chain is {chain}, wanted is {chain_id}")
    return genesis


def _warn_unchecked(out: Output, unchecked: bool) -> None:
    if unchecked:
        out.say("That is what the replica says: compare it with what you were told elsewhere, or give --chain-id.")


def _address(text: str) -> bytes:
    """An address, or that in a contact."""
    return parse_contact(text).address if "@" in text else parse_address(text)


def _policy(genesis: Genesis, deposit: str | None, bond: str | None, period: str | None) -> OpeningPolicy | None:
    """What a serving wallet joins; None, nothing, unless one of the amounts is given."""
    if deposit is None and bond is None:
        check(period is None, "bad_usage", "--min-challenge-period does nothing without --accept-deposit-up-to")
        return None
    least_ms = parse_duration(period) if period is not None else least_safe_ms(genesis, SERVED_POLL_MS)
    return OpeningPolicy(
        accept_deposit_up_to_units=parse_amount(deposit or "0", genesis.currency),
        accept_bond_up_to_units=parse_amount(bond or "0", genesis.currency),
        min_challenge_ms=least_ms,
        max_challenge_ms=max(7 * 86_400_000, least_ms),
    )

"""The verbs of ``wallet standby``."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from layer1 import loop
from layer1.errors import WedgeError
from wallet.console import Output
from wallet.exits import HELP
from wallet.home import Home, default_home
from wallet.passphrase import read_passphrase
from wallet.requests import DismissStandby, Promote, ShowStandby
from wallet.verbs import HomeOption, JsonOption, PassphraseOption, run

standby_app = typer.Typer(
    help="A second home of this wallet that takes over: it has each record before anything of it leaves the first.",
    no_args_is_help=True,
    epilog=HELP,
)


@standby_app.command("serve", epilog="Example: wallet standby serve --home second --listen 10.0.0.2:9735")
def standby_serve(
    *,
    listen: Annotated[str | None, typer.Option(help="host:port; by default where it listened last.")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Keep what the head sends, until promoted; then serve as the head, at the same place. Until Ctrl-C.

    The home is made from the head's phrase: `wallet create --home second --phrase-file WORDS --ledger URL`.
    """
    from wallet.daemon import serve_standby  # noqa: PLC0415 - only when needed

    out = Output(json)
    try:
        found = Home.find(home or default_home())
        passphrase = read_passphrase(passphrase_file)
        logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
        logging.getLogger("wallet").setLevel(logging.INFO)

        def ready(role: str, contact: str) -> None:
            if json:
                out.line({"role": role, "contact": contact})
            elif role == "standby":
                out.say(f"Standing by. Start the head with:\nwallet serve --standby {contact}")
            else:
                out.say(f"Serving as the head. The contact to give to others:\n{contact}")
            sys.stdout.flush()

        loop.run(serve_standby(found, passphrase, listen, ready))
    except WedgeError as error:
        out.fail(error)


@standby_app.command("promote", epilog="Example: wallet standby promote --home second")
def standby_promote(
    *,
    lost: Annotated[
        bool, typer.Option("--lost", help="This home is no standby but restored: all others are lost for good.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make this standby the head: the ledger gives it the next term, and the old head can show nothing any more."""
    run(home, json, passphrase_file, Promote(lost=lost))


@standby_app.command("dismiss", epilog="Example: wallet standby dismiss --home first")
def standby_dismiss(
    *, home: HomeOption = None, json: JsonOption = False, passphrase_file: PassphraseOption = None
) -> None:
    """Let this head go on without its standby: the ledger gives it the next term, and the standby cannot take over."""
    run(home, json, passphrase_file, DismissStandby())


@standby_app.command("show", epilog="Example: wallet standby show --json")
def standby_show(*, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show whether this home is the head or the standby, whether the two are paired, and in touch."""
    run(home, json, None, ShowStandby())

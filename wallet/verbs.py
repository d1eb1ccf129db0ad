"""What all verbs of the command share: their options, and the way from a request to what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from layer1 import loop
from layer1.errors import WedgeError
from wallet.console import Output
from wallet.home import VARIABLE, Home, default_home
from wallet.passphrase import read_passphrase
from wallet.requests import Request
from wallet.session import ask

R = TypeVar("R")
SERVED_POLL_MS = 1_000
"""How often a served wallet looks at the ledger when it matters."""

HomeOption = Annotated[Path | None, typer.Option("--home", envvar=VARIABLE, help="Directory of the wallet.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, errors too.")]
PassphraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", help="Read the passphrase from this file instead of asking.")
]
ChannelArgument = Annotated[str, typer.Argument(help="Id of the channel, or the start of it.")]


def run(home: Path | None, json: bool, passphrase_file: Path | None, request: Request[R], *, shows: bool = True) -> R:
    """Have a request answered, print the answer (unless the caller does) or the error."""
    out = Output(json)
    try:
        found = Home.find(home or default_home())
        currency = found.genesis().currency if found.connected else None
        with out.progress() as report:
            view = loop.run(ask(found, request, lambda: read_passphrase(passphrase_file), report))
    except WedgeError as error:
        out.fail(error)
    if shows:
        out.show(view, currency)  # type: ignore[arg-type]
    return view

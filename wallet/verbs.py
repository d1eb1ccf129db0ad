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
from wallet.period import parse_duration
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
MAX_PARTS = 16
MOST_WAIT_MS = 3_600_000
MaxFeeOption = Annotated[
    str | None,
    typer.Option(
        help="What forwarders may keep in all, such as 0.05; by default 1% of the amount, or 5 units of the last "
        "decimal if that is more. What they keep is shown."
    ),
]
PartsOption = Annotated[
    int, typer.Option(min=1, max=MAX_PARTS, help="In how many parts to pay at most, if one path does not carry it.")
]
WaitOption = Annotated[str, typer.Option(help="For how long to wait for the payee, such as 30s or 10m.")]
ChannelArgument = Annotated[str, typer.Argument(help="Id of the channel, or the start of it.")]


def wait_ms(text: str) -> int:
    """How long to wait.

    Raises:
        Refused: ``bad_duration``.
    """
    return min(parse_duration(text), MOST_WAIT_MS)


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

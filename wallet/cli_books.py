"""``wallet books`` and ``wallet label``: what one has, whether it adds up, and what one calls it."""

from __future__ import annotations

from typing import Annotated

import typer

from wallet.exits import Exit
from wallet.requests import ListLabels, SetLabel, ShowBooks
from wallet.verbs import HomeOption, JsonOption, PassphraseOption, run

books_app = typer.Typer()
"""Its commands stand beside the others, without a name of their own."""


@books_app.command(epilog="Example: wallet books --json")
def books(*, home: HomeOption = None, json: JsonOption = False, passphrase_file: PassphraseOption = None) -> None:
    """Show what this wallet has and where, proven by the ledger; exit with 1 if it does not add up, to the unit."""
    view = run(home, json, passphrase_file, ShowBooks())
    if not view.adds_up:
        raise typer.Exit(Exit.REFUSED)


@books_app.command(epilog="Example: wallet label 7ccd1d6d43c5...:12:0 'order 4711'")
def label(
    *,
    subject: Annotated[
        str | None,
        typer.Argument(
            help="An entry's reference (`wallet history --json`), a payment hash, a channel's id, an address."
        ),
    ] = None,
    text: Annotated[str | None, typer.Argument(help="What to call it; '' to remove that. Only you see it.")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Call an entry of the history, a channel or a peer by a name of yours; without arguments, list all such names."""
    if subject is None:
        run(home, json, None, ListLabels())
    elif text is None:
        raise typer.BadParameter("which text? '' removes the label")
    else:
        run(home, json, None, SetLabel(subject=subject, text=text))

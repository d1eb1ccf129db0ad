"""The verbs of ``wallet payment``, and ``wallet channel rebalance``."""

from __future__ import annotations

from typing import Annotated

import typer

from layer1.errors import WedgeError
from wallet.amounts import parse_amount
from wallet.cli_channels import channel_app
from wallet.console import Output
from wallet.exits import HELP, Exit
from wallet.home import Home, default_home
from wallet.requests import ListPayments, RebalanceChannel, ShowPayment
from wallet.verbs import (
    ChannelArgument,
    HomeOption,
    JsonOption,
    MaxFeeOption,
    PassphraseOption,
    WaitOption,
    run,
    wait_ms,
)

payment_app = typer.Typer(help="What became of payments by locks.", no_args_is_help=True, epilog=HELP)


@payment_app.command("list", epilog="Example: wallet payment list --limit 20 --json")
def payment_list(
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 50,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """List payments by locks: of invoices, without one, and between this wallet's channels."""
    run(home, json, passphrase_file, ListPayments(limit=limit))


@payment_app.command("show", epilog="Example: wallet payment show 7ccd1d6d43c5")
def payment_show(
    *,
    payment: Annotated[str, typer.Argument(help="Payment hash, or the start of it.")],
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Show what became of a payment: each try with its path, its fee, and which hop refused why."""
    run(home, json, passphrase_file, ShowPayment(payment=payment[:64]))


@channel_app.command("rebalance", epilog="Example: wallet channel rebalance 7ccd1d6d43c5 --to 1f2e3d4c5b6a 20.00")
def channel_rebalance(
    *,
    channel: ChannelArgument,
    amount: Annotated[str, typer.Argument(help="That comes back, such as 20.00; the fee leaves besides.")],
    to: Annotated[str, typer.Option("--to", help="Channel that it comes back by: its id, or the start of it.")],
    max_fee: MaxFeeOption = None,
    wait: WaitOption = "60s",
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Move money from one of this wallet's channels into another, over a circle of others' channels.

    Then the one can receive more, and the other send more. Each call moves it once.
    """
    out = Output(json)
    try:
        currency = Home.find(home or default_home()).genesis().currency
        request = RebalanceChannel(
            channel=channel,
            to=to,
            amount=parse_amount(amount, currency),
            max_fee=None if max_fee is None else parse_amount(max_fee, currency),
            wait_ms=wait_ms(wait),
        )
    except WedgeError as error:
        out.fail(error)
    if run(home, json, passphrase_file, request).state == "pending":
        raise typer.Exit(Exit.PENDING)

"""``wallet route``, and what forwarding over a channel costs: ``wallet channel fee`` and ``limits``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layer1.errors import Refused, WedgeError
from wallet.amounts import parse_amount
from wallet.cli_channels import channel_app
from wallet.console import Output
from wallet.home import Home, default_home
from wallet.route_requests import FindRoute, SetFee, SetLimits
from wallet.verbs import ChannelArgument, HomeOption, JsonOption, PassphraseOption, run

route_app = typer.Typer()
ALL = "all"


@route_app.command("route", epilog="Example: wallet route wedge1… 25.00 --max-fee 0.10")
def route(
    *,
    payee: Annotated[str, typer.Argument(help="An invoice, or somebody's address or contact.")],
    amount: Annotated[str | None, typer.Argument(help="Such as 2.50; an invoice may say it.")] = None,
    max_fee: Annotated[str | None, typer.Option(help="Of all hops together, such as 0.10.")] = None,
    parts: Annotated[int, typer.Option(min=1, max=16, help="At most so many.")] = 16,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Show the way that a payment would take, hop by hop, its fee and its chance. Nothing is paid."""
    try:
        units, fee = _units(home, amount), _units(home, max_fee)
    except WedgeError as error:
        Output(json).fail(error)
    run(home, json, passphrase_file, FindRoute(payee=payee, amount=units, max_fee=fee, parts=parts))


@channel_app.command("fee", epilog="Example: wallet channel fee 7ccd1d6d43c5 --base 0.01 --per-million 100")
def channel_fee(
    *,
    channel: ChannelArgument,
    base: Annotated[str | None, typer.Option(help="For each payment, such as 0.01.")] = None,
    per_million: Annotated[
        int | None, typer.Option(min=0, max=1_000_000, help="Millionths of the amount: 100 are a hundredth of 1 %.")
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Say what forwarding payments over a channel costs. What leaves by it pays; announced at once."""
    try:
        units = _units(home, base)
        if units is None and per_million is None:
            raise Refused("bad_usage", "say --base, --per-million or both; `wallet channel show` shows what holds now")
    except WedgeError as error:
        Output(json).fail(error)
    run(home, json, passphrase_file, SetFee(channel=channel, base=units, per_million=per_million))


@channel_app.command("limits", epilog="Example: wallet channel limits 7ccd1d6d43c5 --min 0.10 --max 50.00")
def channel_limits(
    *,
    channel: ChannelArgument,
    least: Annotated[str | None, typer.Option("--min", help="Of one payment, such as 0.10.")] = None,
    most: Annotated[
        str | None, typer.Option("--max", help=f"Of one payment, such as 50.00; {ALL}: what the channel can carry.")
    ] = None,
    forwards: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Whether payments of others pass through it at all.")
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Say which payments of others may leave by a channel. Our own are not concerned; announced at once."""
    try:
        low, high = _units(home, least), 0 if most == ALL else _units(home, most)
        if low is None and high is None and forwards is None:
            raise Refused("bad_usage", "say --min, --max, --enable or --disable; `wallet channel show` shows them")
        if high == 0 and most != ALL:
            raise Refused("bad_usage", "up to nothing, no payment passes: --disable says that, --max all the contrary")
    except WedgeError as error:
        Output(json).fail(error)
    run(home, json, passphrase_file, SetLimits(channel=channel, least=low, most=high, forwards=forwards))


def _units(home: Path | None, text: str | None) -> int | None:
    """An amount in the currency of the home."""
    if text is None:
        return None
    return parse_amount(text, Home.find(home or default_home()).genesis().currency)

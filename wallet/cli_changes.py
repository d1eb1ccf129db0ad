"""The verbs of ``wallet channel`` that change an open channel, or open a settled one anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from layer1.errors import WedgeError
from wallet.amounts import parse_amount
from wallet.cli_channels import channel_app
from wallet.console import Output
from wallet.home import Home, default_home
from wallet.requests import ChangeChannel, ReopenChannel, ReplaceWitness
from wallet.verbs import ChannelArgument, HomeOption, JsonOption, PassphraseOption, run

AmountArgument = Annotated[str, typer.Argument(help="Such as 25.00.")]


@channel_app.command("top-up", epilog="Example: wallet channel top-up 7ccd1d6d43c5 25.00")
def channel_top_up(
    *,
    channel: ChannelArgument,
    amount: AmountArgument,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Pay into an open channel from the spending account, together with the peer, who pays nothing."""
    run(home, json, passphrase_file, _request(home, json, channel, "top-up", amount))


@channel_app.command("withdraw", epilog="Example: wallet channel withdraw 7ccd1d6d43c5 25.00")
def channel_withdraw(
    *,
    channel: ChannelArgument,
    amount: AmountArgument,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Take out of an open channel, to the savings account, together with the peer; the channel stays open."""
    run(home, json, passphrase_file, _request(home, json, channel, "withdraw", amount))


@channel_app.command("replace-key", epilog="Example: wallet channel replace-key 7ccd1d6d43c5")
def channel_replace_key(
    *,
    channel: ChannelArgument,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Sign an open channel's states with a fresh key from now on, together with the peer."""
    run(home, json, passphrase_file, ChangeChannel(channel=channel, action="replace-key"))


@channel_app.command("replace-witness", epilog="Example: wallet channel replace-witness 7ccd1d6d43c5 WITNESS_CONTACT")
def channel_replace_witness(
    *,
    channel: ChannelArgument,
    witness: Annotated[str, typer.Argument(help="Contact of the one to come, as `wallet witness serve` prints it.")],
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Give an open channel another witness, together with the peer, who accepts it (`--accept-witness`) beforehand.

    The old one is not needed for it: so a channel goes on whose witness is gone.
    """
    run(home, json, passphrase_file, ReplaceWitness(channel=channel, witness=witness))


@channel_app.command("resume", epilog="Example: wallet channel resume 7ccd1d6d43c5")
def channel_resume(
    *,
    channel: ChannelArgument,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Let a channel pay again after one of its wallets lost data, together with the peer."""
    run(home, json, passphrase_file, ChangeChannel(channel=channel, action="resume"))


@channel_app.command("reopen", epilog="Example: wallet channel reopen 7ccd1d6d43c5")
def channel_reopen(
    *,
    channel: ChannelArgument,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Open a closed channel anew, with what both were paid out as deposits, and the bonds that it had.

    Settlements pay the savings account; what the spending account lacks is named, with the command that moves it.
    """
    run(home, json, passphrase_file, ReopenChannel(channel=channel))


def _request(
    home: Path | None, json: bool, channel: str, action: Literal["top-up", "withdraw"], amount: str
) -> ChangeChannel:
    try:
        units = parse_amount(amount, Home.find(home or default_home()).genesis().currency)
    except WedgeError as error:
        Output(json).fail(error)
    return ChangeChannel(channel=channel, action=action, amount=units)

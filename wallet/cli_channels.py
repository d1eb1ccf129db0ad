"""The verbs of ``wallet channel``."""

from __future__ import annotations

from typing import Annotated

import typer

from layer1.errors import Refused, WedgeError
from wallet.amounts import parse_amount
from wallet.console import Output
from wallet.exits import HELP
from wallet.home import Home, default_home
from wallet.period import (
    POLL_MS,
    default_period_ms,
    explain,
    explain_margin,
    format_duration,
    least_safe_ms,
    parse_duration,
)
from wallet.requests import AgreeToSettle, ChannelView, CloseChannel, ListChannels, OpenChannel, ShowChannel
from wallet.verbs import SERVED_POLL_MS, HomeOption, JsonOption, PassphraseOption, run

channel_app = typer.Typer(help="Open, look at and close channels.", no_args_is_help=True, epilog=HELP)
ChannelArgument = Annotated[str, typer.Argument(help="Id of the channel, or the start of it.")]


@channel_app.command(
    "open", epilog="Example: wallet channel open CONTACT --deposit 200.00 --peer-deposit 100.00 --bond 10.00"
)
def channel_open(
    *,
    contact: Annotated[str, typer.Argument(help="address@host:port, as the peer's `wallet show` prints it.")],
    deposit: Annotated[str, typer.Option(help="What we can pay at first.")],
    peer_deposit: Annotated[str, typer.Option(help="What the peer is asked to deposit.")] = "0",
    bond: Annotated[str, typer.Option(help="What each side forfeits for a provable lie.")] = "0",
    peer_bond: Annotated[str | None, typer.Option(help="The peer's bond, if it is to be another one.")] = None,
    challenge_period: Annotated[
        str | None,
        typer.Option(help="Such as 30s, 10m, 24h: time to answer a stale report; see `wallet channel period`."),
    ] = None,
    witness: Annotated[
        str | None,
        typer.Option(
            help="Contact of a witness (`wallet witness serve`): every state needs its ACK, and disputes no time."
        ),
    ] = None,
    witness_timeout: Annotated[
        str | None,
        typer.Option(help="Such as 30d: after so long a dispute ends without the second claim; without this, never."),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Open a channel; both deposits and bonds are locked at once."""
    out = Output(json)
    try:
        genesis = Home.find(home or default_home()).genesis()
        period_ms = parse_duration(challenge_period) if challenge_period is not None else default_period_ms(genesis)
        timeout_ms = parse_duration(witness_timeout) if witness_timeout is not None else 0
        units = [parse_amount(text, genesis.currency) for text in (deposit, peer_deposit, bond, peer_bond or bond)]
    except WedgeError as error:
        out.fail(error)
    if witness is not None:
        out.say(
            "With a witness there is no challenge window: in a dispute the ledger settles as soon as two of the three "
            "have claimed, and nobody needs to be online in time. The price: two of them that are dishonest together "
            "can take what the third has; and a witness that stops halts payments, and with a dishonest peer beside it "
            "the settlement too. Together, both members can close at any time."
        )
    elif period_ms < least_safe_ms(genesis, SERVED_POLL_MS):
        out.say(
            f"Note: a challenge period of {format_duration(period_ms)} is short even for a wallet that is always "
            f"served; {format_duration(default_period_ms(genesis))} is the default (see `wallet channel period`)."
        )
    request = OpenChannel(
        contact=contact,
        deposit=units[0],
        peer_deposit=units[1],
        bond=units[2],
        peer_bond=units[3],
        challenge_period_ms=period_ms,
        witness=witness,
        witness_timeout_ms=timeout_ms,
    )
    run(home, json, passphrase_file, request)


@channel_app.command("list", epilog="Example: wallet channel list --json")
def channel_list(home: HomeOption = None, json: JsonOption = False, passphrase_file: PassphraseOption = None) -> None:
    """List all channels: what one can send, can receive, has reserved, has in dispute."""
    run(home, json, passphrase_file, ListChannels())


@channel_app.command("show", epilog="Example: wallet channel show 7ccd1d6d43c5")
def channel_show(
    *,
    channel: ChannelArgument,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Show one channel."""
    run(home, json, passphrase_file, ShowChannel(channel=channel))


@channel_app.command("close", epilog="Example: wallet channel close 7ccd1d6d43c5 --force --wait")
def channel_close(
    *,
    channel: ChannelArgument,
    force: Annotated[bool, typer.Option("--force", help="Without the peer: the ledger settles after a while.")] = False,
    plead: Annotated[
        bool,
        typer.Option(
            "--plead", help="With --force: claim nothing, for this wallet may lack data; the peer must report."
        ),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="With --force: until it is settled.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Close a channel: with the peer, at once; or by --force through the ledger, after the challenge period."""
    if (plead or wait) and not force:
        Output(json).fail(Refused("bad_usage", "--plead and --wait go with --force: with the peer it closes at once"))
    view = run(home, json, passphrase_file, CloseChannel(channel=channel, force=force, wait=wait, plead=plead))
    _tell_next(Output(json), view)


@channel_app.command("agree", epilog="Example: wallet channel agree 7ccd1d6d43c5")
def channel_agree(
    *,
    channel: ChannelArgument,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Settle a disputed channel at once on what the ledger shows, from a wallet that lost data and may not claim.

    Look at the amounts first: nobody can report anything newer afterwards, no watchtower either. Waiting costs nothing.
    """
    _tell_next(Output(json), run(home, json, passphrase_file, AgreeToSettle(channel=channel)))


def _tell_next(out: Output, view: ChannelView) -> None:
    """Where the money goes; what happens next, and when, stands above it."""
    if view.state != "disputed":
        return
    if view.recovered is not None:
        out.say(
            "This wallet lost data of the channel, or is a copy and may have, so it claims nothing: through the ledger "
            "it asks the peer to report the newest state, and the period is doubled for that. A peer that keeps silent "
            "loses its bond."
        )
    if view.next is not None:
        out.say("The savings account gets the money; `wallet channel show` says again what happens next, and when.")


@channel_app.command("period", epilog="Example: wallet channel period")
def channel_period(*, home: HomeOption = None, json: JsonOption = False) -> None:
    """Explain how long a challenge period must be on this ledger."""
    out = Output(json)
    try:
        genesis = Home.find(home or default_home()).genesis()
    except WedgeError as error:
        out.fail(error)
    default_ms, served_ms = default_period_ms(genesis), least_safe_ms(genesis, SERVED_POLL_MS)
    if json:
        out.line({"default_ms": default_ms, "least_safe_ms": least_safe_ms(genesis), "least_served_ms": served_ms})
        return
    out.say(
        f"A wallet must see a stale report and answer it within the challenge period:\n\n{explain(genesis)}\n\n"
        f"Twice the sum, for a wallet that is opened every {format_duration(POLL_MS)}. A wallet that is always served "
        f"needs {format_duration(served_ms)}; one that rests longer needs more. For the whole period a wallet that is "
        "cut off from the ledger is in danger: that remains. A channel with a witness needs no period: its disputes "
        "end by claims (`wallet channel open --witness`).\n\n"
        f"A conditional payment is claimed from the peer until this long before its expiry, later on layer 1:\n\n"
        f"{explain_margin(genesis)}"
    )

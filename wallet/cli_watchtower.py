"""The verbs of ``wallet watchtower``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from layer1 import loop
from layer1.errors import Refused, WedgeError, check
from wallet.amounts import format_money, parse_amount
from wallet.console import Output
from wallet.exits import HELP
from wallet.home import Home, default_home
from wallet.passphrase import read_passphrase
from wallet.period import format_duration, least_safe_ms, parse_duration
from wallet.requests import AddWatchtower, ListWatchtowers, RemoveWatchtower
from wallet.texts import counted
from wallet.verbs import SERVED_POLL_MS, HomeOption, JsonOption, PassphraseOption, run

watchtower_app = typer.Typer(
    help="Guard channels of others while they sleep, or have yours guarded.", no_args_is_help=True, epilog=HELP
)
LEAST_KEEP_MS = 3_600_000
"""Wallets renew receipts that are half over, and look every ten minutes."""
TowerArgument = Annotated[str, typer.Argument(help="Contact or address of the watchtower, or the start of it.")]


@watchtower_app.command("serve", epilog="Example: wallet watchtower serve --home tower --listen 0.0.0.0:9736")
def watchtower_serve(
    *,
    listen: Annotated[str | None, typer.Option(help="host:port; by default where it listened last.")] = None,
    least_bounty: Annotated[str, typer.Option(help="Decline customers that promise less of a liar's bond.")] = "0",
    keep: Annotated[str, typer.Option(help="How long a receipt is good: a customer may sleep so long.")] = "90d",
    least_period: Annotated[
        str | None,
        typer.Option(help="Decline channels with a shorter challenge period; by default what this ledger needs."),
    ] = None,
    max_channels: Annotated[int, typer.Option(min=1, help="Guard at most so many.")] = 100_000,
    max_channels_each: Annotated[int, typer.Option(min=1, help="Of one customer.")] = 10_000,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Guard channels of others: report when somebody wedges one with an old state. Until Ctrl-C.

    Needs a home of its own, made by `wallet create` and `wallet connect`. Bounties go to its savings.
    """
    from wallet.watchtower.serving import Tower, TowerServing, serve_tower  # noqa: PLC0415 - only when needed

    out = Output(json)
    try:
        found = Home.find(home or default_home())
        genesis = found.genesis()
        keep_ms = parse_duration(keep)
        check(keep_ms >= LEAST_KEEP_MS, "bad_usage", f"--keep {keep} is shorter than customers can renew: 1h at least")
        serving = TowerServing(
            listen=listen,
            least_bounty=parse_amount(least_bounty, genesis.currency),
            keep_ms=keep_ms,
            least_period_ms=(
                parse_duration(least_period) if least_period is not None else least_safe_ms(genesis, SERVED_POLL_MS)
            ),
            max_groups=max_channels,
            max_groups_each=max_channels_each,
        )
        passphrase = read_passphrase(passphrase_file)
        logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
        logging.getLogger("wallet").setLevel(logging.INFO)

        def ready(tower: Tower) -> None:
            if json:
                out.line({"contact": str(tower.contact), "channels": tower.store.groups})
                return
            bounty = format_money(serving.least_bounty, genesis.currency)
            out.say(
                f"Guarding {counted(tower.store.groups, 'channel')} with challenge periods of "
                f"{format_duration(serving.least_period_ms)} or longer, for a bounty of {bounty} or more. "
                f"The contact to give to others:\n{tower.contact}"
            )
            sys.stdout.flush()

        loop.run(serve_tower(found, passphrase, serving, ready))
    except WedgeError as error:
        out.fail(error)


@watchtower_app.command("add", epilog="Example: wallet watchtower add CONTACT --bounty 1.00 --rely")
def watchtower_add(
    *,
    contact: Annotated[str, typer.Argument(help="address@host:port, as `wallet watchtower serve` prints it.")],
    bounty: Annotated[
        str, typer.Option(help="What it gets, if it catches a liar, out of what you get of the liar's bond.")
    ] = "0",
    rely: Annotated[
        bool, typer.Option("--rely", help="Call payments committed only when it has receipted them; slower.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Entrust your channels to a watchtower from now on. Again, to change bounty or --rely."""
    try:
        units = parse_amount(bounty, Home.find(home or default_home()).genesis().currency)
    except WedgeError as error:
        Output(json).fail(error)
    run(home, json, passphrase_file, AddWatchtower(contact=contact, bounty=units, rely=rely))


@watchtower_app.command("list", epilog="Example: wallet watchtower list --json")
def watchtower_list(
    *, home: HomeOption = None, json: JsonOption = False, passphrase_file: PassphraseOption = None
) -> None:
    """List your watchtowers, and whether they have the newest versions; `channel show` tells which."""
    run(home, json, passphrase_file, ListWatchtowers())


@watchtower_app.command("remove", epilog="Example: wallet watchtower remove wedge1...")
def watchtower_remove(
    *,
    watchtower: TowerArgument,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Entrust nothing more to a watchtower. It goes on guarding what it has until its receipts end."""
    run(home, json, passphrase_file, RemoveWatchtower(watchtower=watchtower))


@watchtower_app.command("prove", epilog="Example: wallet watchtower prove 7ccd1d6d43c5 --out broken.proof")
def watchtower_prove(
    *,
    channel: Annotated[str, typer.Argument(help="Id of a closed channel, or the start of it.")],
    out_file: Annotated[Path, typer.Option("--out", help="Where to write the proof.")],
    watchtower: Annotated[str | None, typer.Option(help="Which one, if there are several.")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Show that a watchtower broke its receipt: write a proof that anybody can check with the genesis alone."""
    from wallet.proving import prove  # noqa: PLC0415 - only when needed

    out = Output(json)
    try:
        found = Home.find(home or default_home())
        text = loop.run(prove(found, channel, watchtower, out_file))
    except WedgeError as error:
        out.fail(error)
    except OSError as error:
        out.fail(Refused("bad_file", f"{out_file}: {error.strerror}"))
    if json:
        out.line({"proof": str(out_file), "broken": text})
    out.say(f"{text}\nThe proof is in {out_file}: `wallet watchtower check-proof` checks it.")


@watchtower_app.command("check-proof", epilog="Example: wallet watchtower check-proof broken.proof --genesis g.json")
def watchtower_check_proof(
    *,
    file: Annotated[Path, typer.Argument(help="What `wallet watchtower prove` wrote.")],
    genesis: Annotated[Path, typer.Option(help="Genesis file of the ledger; nothing else is trusted.")],
    json: JsonOption = False,
) -> None:
    """Check that a watchtower broke its receipt; asks nobody, and needs no wallet."""
    from wallet.proving import check_file  # noqa: PLC0415 - only when needed

    out = Output(json)
    try:
        text = check_file(file, genesis)
    except WedgeError as error:
        out.fail(error)
    if json:
        out.line({"broken": text})
    out.say(text)

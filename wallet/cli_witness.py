"""The verbs of ``wallet witness``."""

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
from wallet.texts import counted
from wallet.verbs import HomeOption, JsonOption, PassphraseOption

witness_app = typer.Typer(help="Be the witness of groups of others.", no_args_is_help=True, epilog=HELP)


@witness_app.command("serve", epilog="Example: wallet witness serve --home witness --listen 127.0.0.1:9740")
def witness_serve(
    *,
    listen: Annotated[str | None, typer.Option(help="host:port; by default where it listened last.")] = None,
    most_groups: Annotated[int, typer.Option(min=1, help="Serve at most so many groups.")] = 10_000,
    moved: Annotated[
        bool, typer.Option("--moved", help="This home was moved here, and the old one is not used again; no backup.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Stay: hold and ACK every state of the groups that name this witness, claim in their disputes. Until Ctrl-C.

    Use a home of its own (`wallet create`); it needs no money.

    A witness sees no balances. If it stops, the groups take no payments.

    If it is lost for good, their members replace it, or close together. A backup of it must not serve.
    """
    from layer2.engaging import WitnessPolicy  # noqa: PLC0415 - only when needed
    from wallet.witness.serving import ServedWitness, serve_witness  # noqa: PLC0415 - only when needed

    out = Output(json)

    def ready(up: ServedWitness) -> None:
        contact, groups = str(up.contact), len(up.desk.holdings)
        if json:
            out.line({"contact": contact, "address": contact.partition("@")[0], "groups": groups})
        else:
            out.say(f"Serving {counted(groups, 'group')}. The contact for `wallet channel open --witness`:\n{contact}")
            sys.stdout.flush()

    try:
        found = Home.find(home or default_home())
        passphrase = read_passphrase(passphrase_file)
        logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
        logging.getLogger("wallet").setLevel(logging.INFO)
        policy = WitnessPolicy(most_groups=most_groups)
        loop.run(serve_witness(found, passphrase, listen, policy, ready, moved=moved))
    except WedgeError as error:
        out.fail(error)


@witness_app.command("list", epilog="Example: wallet witness list --home witness --json")
def witness_list(home: HomeOption = None, json: JsonOption = False) -> None:
    """List the groups that this witness holds. While it is being served its log tells instead."""
    from wallet.witness.listing import list_held  # noqa: PLC0415 - only when needed

    out = Output(json)
    try:
        held = list_held(Home.find(home or default_home()))
    except WedgeError as error:
        out.fail(error)
    if json:
        out.line({"groups": [each.as_json() for each in held]})
        return
    for each in held:
        out.say(str(each))
    out.say(counted(len(held), "group"))

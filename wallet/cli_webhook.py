"""``wallet webhook``: who is told of incoming payments."""

from __future__ import annotations

from typing import Annotated

import typer

from wallet.requests import AddWebhook, ListWebhooks, RemoveWebhook, TryWebhook
from wallet.verbs import HomeOption, JsonOption, run

webhook_app = typer.Typer(help="Who is told of incoming payments: docs/wallet-api.md.", no_args_is_help=True)
WebhookArgument = Annotated[str, typer.Argument(help="Its id.")]


@webhook_app.command("add", epilog="Example: wallet webhook add https://shop.example/paid")
def webhook_add(
    *,
    url: Annotated[str, typer.Argument(help="Where to POST to.")],
    private: Annotated[
        bool, typer.Option("--private", help="It is on this machine or in a private network; http will do there.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Tell a URL of each payment that comes in from now on, at least once. Shows the secret that signs, once."""
    run(home, json, None, AddWebhook(url=url, private=private))


@webhook_app.command("list", epilog="Example: wallet webhook list --json")
def webhook_list(*, home: HomeOption = None, json: JsonOption = False) -> None:
    """List all webhooks, what waits for each, and why."""
    run(home, json, None, ListWebhooks())


@webhook_app.command("remove", epilog="Example: wallet webhook remove 1f2e3d4c")
def webhook_remove(*, webhook: WebhookArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Send nothing more to it. What waits for it is dropped."""
    run(home, json, None, RemoveWebhook(webhook=webhook))


@webhook_app.command("test", epilog="Example: wallet webhook test 1f2e3d4c")
def webhook_test(*, webhook: WebhookArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Send a message of type `test` now, once, and say what became of it."""
    run(home, json, None, TryWebhook(webhook=webhook))

"""What the commands say of themselves."""

from __future__ import annotations

import pytest
from typer import Typer
from typer.main import get_command
from typer.testing import CliRunner

from layer1.cli import app as layer1_app
from wallet.cli import app as wallet_app

VERBS = [
    *[(layer1_app, (verb,)) for verb in ("init", "key", "start", "devnet", "status")],
    *[(layer1_app, (verb,)) for verb in ("verify", "inspect", "reset", "export", "config", "version")],
    (layer1_app, ("join",)),
    *[(layer1_app, ("evidence", verb)) for verb in ("list", "submit")],
    *[(layer1_app, ("light", verb)) for verb in ("account", "group", "transaction", "head", "sets", "check-proof")],
    *[(layer1_app, ("snapshot", verb)) for verb in ("show", "save", "load")],
    *[(layer1_app, ("replica", verb)) for verb in ("list", "add", "remove", "rotate", "sign", "submit")],
    *[
        (wallet_app, (verb,))
        for verb in (
            "create",
            "restore",
            "connect",
            "show",
            "send",
            "serve",
            "pay",
            "history",
            "prune",
            "books",
            "label",
            "route",
        )
    ],
    *[(wallet_app, (verb,)) for verb in ("books", "label")],
    *[(wallet_app, ("channel", verb)) for verb in ("fee", "limits")],
    *[(wallet_app, ("webhook", verb)) for verb in ("add", "list", "remove", "test")],
    *[(wallet_app, ("token", verb)) for verb in ("create", "list", "revoke")],
    *[(wallet_app, ("standby", verb)) for verb in ("serve", "promote", "dismiss", "show")],
    *[(wallet_app, ("witness", verb)) for verb in ("serve", "list")],
    *[(wallet_app, ("channel", verb)) for verb in ("open", "list", "show", "close", "period")],
    *[(wallet_app, ("channel", verb)) for verb in ("top-up", "withdraw", "replace-key", "reopen", "rebalance")],
    *[(wallet_app, ("payment", verb)) for verb in ("list", "show")],
    *[(wallet_app, ("invoice", verb)) for verb in ("create", "decode", "pay", "list", "show", "settle", "cancel")],
    *[(wallet_app, ("receipt", verb)) for verb in ("show", "verify")],
    *[(wallet_app, ("watchtower", verb)) for verb in ("serve", "add", "list", "remove", "prove", "check-proof")],
]


@pytest.mark.parametrize(("app", "verb"), VERBS, ids=[" ".join(verb) for _, verb in VERBS])
def test_every_verb_has_help_with_an_example_and_speaks_json(app: Typer, verb: tuple[str, ...]) -> None:
    """ "`--json` on every verb"; "`--help` with examples"."""
    shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    assert "Example: " in shown.output
    assert "--json" in shown.output


def test_no_verb_is_missing_here() -> None:
    top = {name for app in (layer1_app, wallet_app) for name in getattr(get_command(app), "commands", {})}
    assert top == {verb[0] for _, verb in VERBS}

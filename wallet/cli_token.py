"""``wallet token``: who may ask this wallet over HTTP, for what, and how much they may spend."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from layer1.errors import Refused, WedgeError, check
from wallet.amounts import parse_amount
from wallet.console import Output
from wallet.home import Home, default_home
from wallet.period import parse_duration
from wallet.requests import CreateToken, ListTokens, RevokeToken
from wallet.verbs import HomeOption, JsonOption, run

token_app = typer.Typer(help="Who may ask this wallet over HTTP, and what: docs/wallet-api.md.", no_args_is_help=True)
SCOPES = ("read", "receive", "spend", "admin")


@token_app.command("create", epilog="Example: wallet token create shop --scope spend --limit 500.00 --per 1d 20.00")
def token_create(
    *,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[str], typer.Option(help="read, receive, spend or admin; repeat it for more.")],
    limit: Annotated[str | None, typer.Option(help="With spend: the most in its whole life, such as 500.00.")] = None,
    per: Annotated[
        tuple[str, str] | None, typer.Option(metavar="PERIOD AMOUNT", help="With spend: the most in each such time.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the token to this new file, for you alone, instead of showing it.")
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Make a token, and show it, once. It is kept as a hash only; give it as `Authorization: Bearer TOKEN`."""
    out = Output(json)
    try:
        request = _terms(home, name, scope, limit, per)
        file = _new_file(output) if output is not None else None
    except WedgeError as error:
        out.fail(error)
    view = run(home, json, None, request, shows=file is None)
    if file is not None:
        with os.fdopen(file, "w") as writing:
            writing.write(view.token + "\n")
        if json:
            out.line({"id": view.made.id, "file": str(output)})
        out.say(f"Token {view.made.id} stands in {output}, and nowhere else.")


@token_app.command("list", epilog="Example: wallet token list --json")
def token_list(*, home: HomeOption = None, json: JsonOption = False) -> None:
    """List all tokens and what they have spent; the tokens themselves are shown to nobody again."""
    run(home, json, None, ListTokens())


@token_app.command("revoke", epilog="Example: wallet token revoke 1f2e3d4c")
def token_revoke(
    *, token: Annotated[str, typer.Argument(help="Its id.")], home: HomeOption = None, json: JsonOption = False
) -> None:
    """Refuse a token from now on. What was begun with it goes on."""
    run(home, json, None, RevokeToken(token=token))


def _terms(
    home: Path | None, name: str, scopes: list[str], limit: str | None, per: tuple[str, str] | None
) -> CreateToken:
    wrong = next((scope for scope in scopes if scope not in SCOPES), None)
    check(
        wrong is None, "bad_usage", f"--scope is {', '.join(SCOPES[:-1])} or {SCOPES[-1]}, not {(wrong or '')[:20]!r}"
    )
    place, total, period_limit, period_ms = Home.find(home or default_home()), 0, None, None
    if limit is not None:
        total = parse_amount(limit, place.genesis().currency)
    if per is not None:
        period_ms, period_limit = parse_duration(per[0]), parse_amount(per[1], place.genesis().currency)
    return CreateToken(
        name=name,
        scopes=tuple(scopes),  # type: ignore[arg-type]  # each is one of them
        limit=total,
        period_limit=period_limit,
        period_ms=period_ms,
    )


def _new_file(path: Path) -> int:
    """A file of the owner's alone, made before the token: nothing is lost when it cannot be."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused("bad_file", f"{path}: {error.strerror}; no token was made") from None

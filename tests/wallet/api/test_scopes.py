"""Who may ask for what: every scope on every route, and everything that comes without a right."""

from __future__ import annotations

import asyncio
import inspect
import re

import pytest

from layer1.httpd.routes import Route
from tests.wallet.api.conftest import Desk
from wallet import requests, route_requests
from wallet.api.server import ROUTES
from wallet.api.tokens import SCOPES
from wallet.api.verbs import VERBS, verb_of
from wallet.requests import Request

ALLOWED = {
    "GET /wallet": "read",
    "GET /contact": "read receive",
    "POST /payments": "spend",
    "GET /payments": "read",
    "GET /payments/{payment}": "read",
    "POST /channels/{channel}/rebalance": "",
    "GET /invoices": "read",
    "POST /invoices": "receive",
    "GET /invoices/{invoice}": "read receive",
    "POST /invoices/pay": "spend",
    "POST /invoices/{invoice}/settle": "",
    "POST /invoices/{invoice}/cancel": "",
    "GET /receipts/{payment}": "read",
    "POST /transfers": "spend",
    "POST /transfers/signed": "",
    "GET /channels": "read",
    "POST /channels": "",
    "POST /channels/restore": "",
    "GET /channels/{channel}": "read",
    "POST /channels/{channel}/close": "",
    "POST /channels/{channel}/agree": "",
    "POST /channels/{channel}/replace-witness": "",
    "POST /channels/{channel}/reopen": "",
    "POST /channels/{channel}/top-up": "",
    "POST /channels/{channel}/withdraw": "",
    "POST /channels/{channel}/replace-key": "",
    "POST /channels/{channel}/resume": "",
    "PUT /channels/{channel}/fee": "",
    "PUT /channels/{channel}/limits": "",
    "GET /routes": "read",
    "GET /history": "read",
    "POST /history/prune": "",
    "GET /watchtowers": "read",
    "POST /watchtowers": "",
    "DELETE /watchtowers/{watchtower}": "",
    "GET /standby": "read",
    "POST /standby/promote": "",
    "POST /standby/dismiss": "",
    "GET /tokens": "",
    "POST /tokens": "",
    "DELETE /tokens/{token}": "",
    "GET /books": "read",
    "GET /labels": "read",
    "PUT /labels/{subject}": "",
    "GET /webhooks": "",
    "POST /webhooks": "",
    "DELETE /webhooks/{webhook}": "",
    "POST /webhooks/{webhook}/test": "",
    "GET /events": "read receive",
}
"""Besides `admin`, which may do everything. A new route is entered here by whoever has thought about who may use it."""


def test_every_route_is_in_the_table() -> None:
    """A route without a scope of its own is found here, and refused to all but admins meanwhile."""
    assert {f"{route.method} {route.path}" for route in ROUTES} == set(ALLOWED)
    assert all(route.scopes for route in ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_each_scope_reaches_its_routes_and_no_others(desk: Desk, route: Route) -> None:
    allowed = {*ALLOWED[f"{route.method} {route.path}"].split(), "admin"}
    path = re.sub(r"\{\w+\}", "abcd", route.path)
    for scope in SCOPES:
        token = desk.token(scope, limit=100 if scope == "spend" else 0)
        # a parameter that no route has is refused after the scope was seen: so nothing is done, and no stream begins
        status, answer = await desk.ask(route.method, f"{path}?unknown=1", token)
        refused = (status, answer["code"]) == (403, "out_of_scope")
        assert refused == (scope not in allowed), (scope, answer)
        assert refused or status in (400, 415), answer
    assert not desk.wallet.asked


def test_every_request_has_one_route_and_the_owner_reaches_it() -> None:
    """Issue: "everything that the command line does goes through it"."""
    kinds = {
        kind
        for module in (requests, route_requests)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Request) and kind is not Request
    }
    assert {verb.request for verb in VERBS} == kinds
    paths = [(verb.method, verb.path) for verb in VERBS]
    assert len(set(paths)) == len(paths)
    found = requests.ChangeChannel(channel="ab", action="withdraw", amount=1)
    assert verb_of(found).path == "/channels/{channel}/withdraw"


def test_what_moves_money_is_a_post_with_a_key() -> None:
    """Whoever adds a request that takes an amount says so."""
    for verb in VERBS:
        takes_money = {"amount", "deposit"} & set(verb.request.__struct_fields__)
        assert not takes_money or verb.moves_money or verb.method == "GET", verb.path
        assert not verb.moves_money or verb.method == "POST"
        assert "spend" not in verb.scopes or verb.spending is not None


@pytest.mark.parametrize(
    "header",
    [None, "Bearer", "Bearer ", "Basic abc", "Bearer wedge_token_00000000_x", "Bearer x wedge_token_", "x" * 7_000],
)
async def test_nobody_comes_in_without_a_token(desk: Desk, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    status, answer = await desk.ask("GET", "/contact", headers=headers)
    assert (status, answer["code"]) in {(401, "no_token"), (401, "wrong_token")}
    assert "wedge_token_0" not in answer["detail"]


async def test_a_token_that_is_altered_cut_or_revoked_is_none(desk: Desk) -> None:
    good = desk.token("read")
    assert (await desk.ask("GET", "/history", good))[0] == 200
    other = "A" if good[-1] != "A" else "B"
    for wrong in (good[:-1], good[:-1] + other, good + "A", good.upper(), good.replace("wedge", "Wedge"), f"x{good}"):
        assert (await desk.ask("GET", "/history", wrong))[0] == 401, wrong
    desk.office.tokens.revoke(good.split("_")[2])
    assert (await desk.ask("GET", "/history", good))[0] == 401


async def test_bytes_that_are_no_text_are_no_token(desk: Desk) -> None:
    """They reach us as lone surrogates, which have no UTF-8."""
    host, port = desk.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [b"GET /contact HTTP/1.1", b"Host: localhost", b"Authorization: Bearer wedge_token_0_\xff"]
    writer.write(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()
    await writer.wait_closed()


async def test_tokens_are_not_guessed_at_will(desk: Desk) -> None:
    """A wrong token costs its address; who has a right one is served all the same."""
    good, seen = desk.token("read"), set()
    for _ in range(60):
        seen.add((await desk.ask("GET", "/contact", "wedge_token_00000000_x"))[0])
    assert seen == {401, 429}
    assert (await desk.ask("GET", "/contact", good))[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1.evil]", "", "localhost.evil"]
)
async def test_a_name_that_is_made_to_mean_this_machine_is_refused(desk: Desk, host: str) -> None:
    """DNS rebinding: the browser believes that the page's own host answers."""
    status, answer = await desk.ask("GET", "/docs", desk.token("admin"), headers={"Host": host})
    assert status == 421, answer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]:5", "192.0.2.7"])
async def test_addresses_and_localhost_are_this_api(desk: Desk, host: str) -> None:
    assert (await desk.ask("GET", "/contact", desk.token("read"), headers={"Host": host}))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[bad"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_no_page_of_another_site_asks(desk: Desk, headers: dict[str, str]) -> None:
    status, answer = await desk.ask("GET", "/contact", desk.token("admin"), headers=headers)
    assert (status, answer["code"]) == (403, "cross_origin")


async def test_nothing_that_a_browser_sends_by_itself_is_a_right(desk: Desk) -> None:
    """No cookie, no token in the URL, no form."""
    token = desk.token("admin")
    assert (await desk.ask("GET", f"/contact?token={token}", headers={"Cookie": f"token={token}"}))[0] == 401
    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    status, answer = await desk.ask("POST", "/payments", token, {"target": "a", "amount": 1}, "k", sent)
    assert (status, answer["code"]) == (415, "bad_content_type")
    assert (await desk.ask("OPTIONS", "/payments", token))[0] == 405


async def test_what_there_is_to_read_without_a_token_tells_nothing_of_the_wallet(desk: Desk) -> None:
    for path in ("/openapi.json", "/docs"):
        assert (await desk.ask("GET", path))[0] == 200
    assert (await desk.ask("GET", "/nothing"))[0] == 404

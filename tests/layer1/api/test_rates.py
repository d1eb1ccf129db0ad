"""How often one address may ask, and what it is told when it asks too often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from layer1.api.app import create_app
from layer1.api.context import API
from layer1.client import LedgerClient, LedgerUnreachable
from layer1.httpd.rates import RateLimit, Rates, TooMany
from layer1.httpd.server import serve
from tests.layer1.api.conftest import LIMITS, Served
from tests.layer1.api.stand_in import Chain, StandIn, make_genesis
from tests.layer1.test_client import LIMITS as PATIENCE

CLIENT, OTHER = "192.0.2.1", "192.0.2.2"
LIMIT = RateLimit(requests_per_s=10, burst=5, addresses=3)


def taken(rates: Rates, address: str, now_s: float, tries: int = 100) -> int:
    """So many requests in a row are taken."""
    for done in range(tries):
        try:
            rates.take(address, now_s)
        except TooMany:
            return done
    return tries


def test_a_burst_is_taken_and_then_the_rate() -> None:
    rates = Rates(LIMIT)
    assert taken(rates, CLIENT, 0.0) == 5
    assert taken(rates, CLIENT, 0.0) == 0
    assert taken(rates, CLIENT, 0.2) == 2
    assert sum(taken(rates, CLIENT, 0.2 + step / 10) for step in range(1, 101)) == 100, "10 s at 10 per second"
    assert taken(rates, CLIENT, 1_000.0) == 5, "a silence saves up no more than a burst"


def test_whoever_waits_as_long_as_told_is_served() -> None:
    rates = Rates(RateLimit(requests_per_s=1, burst=3))
    assert taken(rates, CLIENT, 0.0) == 3
    with pytest.raises(
        TooMany, match=r"3 requests of 192\.0\.2\.1 count .* at most 3 may, and 1 are .* wait 1 s"
    ) as told:
        rates.take(CLIENT, 0.0)
    rates.take(CLIENT, float(told.value.retry_s))
    with pytest.raises(TooMany):
        rates.take(CLIENT, float(told.value.retry_s))


def test_nobody_pays_for_another_address() -> None:
    rates = Rates(LIMIT)
    assert taken(rates, CLIENT, 0.0) == 5
    assert taken(rates, OTHER, 0.0) == 5


@pytest.mark.parametrize(
    "one, another",
    [
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("2001:db8::1", "2001:db8:0:0:9::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1%eth1"),
    ],
)
def test_names_of_one_client_share_a_bucket(one: str, another: str) -> None:
    rates = Rates(LIMIT)
    assert taken(rates, one, 0.0) == 5
    assert taken(rates, another, 0.0) == 0


def test_another_ipv6_network_has_a_bucket_of_its_own() -> None:
    rates = Rates(LIMIT)
    assert taken(rates, "2001:db8::1", 0.0) == 5
    assert taken(rates, "2001:db8:0:1::1", 0.0) == 5


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_exempt_unless_configured(address: str) -> None:
    assert taken(Rates(LIMIT), address, 0.0) == 100
    assert taken(Rates(RateLimit(10, 5, 3, exempt=())), address, 0.0) == 5
    assert taken(Rates(RateLimit(10, 5, 3, exempt=(ip_network("192.0.2.0/24"),))), CLIENT, 0.0) == 100


def test_what_is_remembered_is_bounded_and_who_asks_is_not_forgotten() -> None:
    rates = Rates(LIMIT)
    assert taken(rates, CLIENT, 0.0) == 5
    for i in range(100):
        rates.take(f"198.51.100.{i}", 0.0)
        assert taken(rates, CLIENT, 0.0) == 0
    assert len(rates) == 3


@pytest.fixture
async def limited(tmp_path: Path, served: Served) -> AsyncIterator[Served]:
    """A replica that gives this machine no exemption: five requests, and one more a second."""
    backend = StandIn(Chain(make_genesis()), tmp_path, 1)
    server = await serve(create_app(backend, LIMITS, RateLimit(requests_per_s=1, burst=5, exempt=())))
    yield Served(backend.chain, backend, server, served.session)
    await server.close()
    backend.close()


@pytest.mark.parametrize("path", ["/status", "/events", "/docs", "/metrics", "/nothing"])
async def test_too_many_requests_are_told_when_to_come_back(limited: Served, path: str) -> None:
    for _ in range(5):
        await limited.get("/status")
    async with limited.session.get(limited.url + path) as response:
        problem = await response.json(content_type=None)
        assert response.content_type == "application/problem+json"
    assert (response.status, problem["code"], response.headers["Retry-After"]) == (429, "rate_limited", "1")
    assert "5 requests of 127.0.0.1 count" in problem["detail"]
    assert "at most 5 may" in problem["detail"]


async def test_a_refused_request_brings_nothing_in(limited: Served) -> None:
    for _ in range(5):
        await limited.get("/status")
    async with limited.session.post(f"{limited.url}/transactions", json=[]) as response:
        assert response.status == 429
    assert not limited.backend.pool


async def test_a_client_asks_another_replica_instead(served: Served, limited: Served) -> None:
    """Being asked too often is no fault of the replica's, and no answer either."""
    for _ in range(5):
        await limited.get("/status")
    async with LedgerClient([limited.url], limited.chain.genesis, PATIENCE) as client:
        with pytest.raises(LedgerUnreachable, match="429"):
            await client.head()
    async with LedgerClient([limited.url, served.url], served.chain.genesis, PATIENCE) as client:
        served.backend.order()
        assert (await client.head()).height == 1


async def test_by_default_this_machine_has_no_limit(served: Served) -> None:
    rates = served.server._runner.app[API].rates
    assert rates is not None
    assert taken(rates, "127.0.0.1", 0.0, 5_000) == 5_000
    assert taken(rates, CLIENT, 0.0, 5_000) == 1_000

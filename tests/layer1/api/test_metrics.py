"""Metrics on a listener of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from layer1.api.app import create_app, create_metrics_app
from layer1.httpd.server import ApiServer, serve
from tests.layer1.api.conftest import LIMITS, Served
from tests.layer1.api.stand_in import Chain, StandIn, make_genesis


@pytest.fixture
async def apart(tmp_path: Path) -> AsyncIterator[tuple[Served, ApiServer]]:
    chain = Chain(make_genesis())
    backend = StandIn(chain, tmp_path, 1)
    app = create_app(backend, LIMITS, metrics_apart=True)
    server, metrics = await serve(app), await serve(create_metrics_app(app))
    async with aiohttp.ClientSession() as session:
        yield Served(chain, backend, server, session), metrics
    await metrics.close()
    await server.close()
    backend.close()


async def test_metrics_are_served_there_and_nowhere_else(apart: tuple[Served, ApiServer]) -> None:
    served, metrics = apart
    served.backend.order()
    await served.get("/status")
    await served.problem("/metrics", 404, "not_found")
    async with served.session.get(f"http://127.0.0.1:{metrics.port}/metrics") as response:
        assert (response.status, response.content_type) == (200, "text/plain")
        text = await response.text()
    assert "ledger_height 1.0" in text
    assert 'api_requests_total{method="GET",route="/status",status="200"} 1.0' in text


async def test_nothing_else_is_served_there(apart: tuple[Served, ApiServer]) -> None:
    served, metrics = apart
    for path in ("/status", "/docs", "/openapi.json", "/transactions", "/events"):
        async with served.session.get(f"http://127.0.0.1:{metrics.port}{path}") as response:
            assert response.status == 404, path


async def test_the_document_says_what_is_served(apart: tuple[Served, ApiServer], served: Served) -> None:
    assert "/metrics" not in (await apart[0].get("/openapi.json"))["paths"]
    assert "/metrics" in (await served.get("/openapi.json"))["paths"]

"""A served stand-in, and a session to talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from layer1.api.app import create_app
from layer1.api.limits import ApiLimits
from layer1.httpd.server import ApiServer, serve
from tests.layer1.api.stand_in import Chain, StandIn, make_genesis

LIMITS = ApiLimits(
    body_bytes=200_000,
    transactions=50,
    catch_up_ms=200,
    keep_alive_ms=400,
    body_ms=300,
    proofs=5,
    streams=10,
    requests=8,
    connections=20,
)


@dataclass
class Served:
    """One replica, its server, and a client session."""

    chain: Chain
    backend: StandIn
    server: ApiServer
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def get(self, path: str, status: int = 200) -> Any:
        """The JSON of a GET."""
        async with self.session.get(self.url + path) as response:
            body = await response.json(content_type=None)
            assert response.status == status, body
            return body

    async def post(self, body: Any, query: str = "", status: int = 202) -> Any:
        """The JSON of a POST of transactions."""
        async with self.session.post(f"{self.url}/transactions{query}", json=body) as response:
            answer = await response.json(content_type=None)
            assert response.status == status, answer
            return answer

    async def problem(self, path: str, status: int, code: str) -> Any:
        """A GET that must be refused."""
        async with self.session.get(self.url + path) as response:
            assert response.content_type == "application/problem+json"
            body = await response.json(content_type=None)
            assert (response.status, body["code"], body["status"]) == (status, code, status), body
            return body


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    chain = Chain(make_genesis())
    backend = StandIn(chain, tmp_path)
    server = await serve(create_app(backend, LIMITS))
    async with aiohttp.ClientSession() as session:
        yield Served(chain, backend, server, session)
    await server.close()
    backend.close()

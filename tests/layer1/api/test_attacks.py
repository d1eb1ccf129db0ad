"""Attacks on the API that were tried, each kept as a test that failed before."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from layer1.api.app import create_app
from layer1.api.context import API
from layer1.codec import encode
from layer1.httpd.server import ApiServer, serve
from layer1.ledger.transactions import Transaction
from tests.layer1.api.conftest import LIMITS, Served
from tests.layer1.api.stand_in import Chain, StandIn, make_genesis

pytestmark = pytest.mark.slow


async def begin_body(server: ApiServer, promised: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that promises a body, sends one byte of it, and waits."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = "POST /transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {promised}\r\n\r\n[".encode())
    await writer.drain()
    return reader, writer


async def test_large_bodies_are_few(tmp_path: Path) -> None:
    """Each connection could bring eight megabytes at the same time: more than a machine has."""
    backend = StandIn(Chain(make_genesis()), tmp_path)
    limits = replace(LIMITS, small_body_bytes=1_000, large_bodies=2, body_ms=5_000)
    server = await serve(create_app(backend, limits))
    large = [await begin_body(server, 100_000) for _ in range(3)]
    done, waiting = await asyncio.wait(
        [asyncio.ensure_future(reader.readline()) for reader, _ in large],
        timeout=2,
        return_when=asyncio.FIRST_COMPLETED,
    )
    assert [task.result().split()[1] for task in done] == [b"503"]
    url = f"http://127.0.0.1:{server.port}/transactions"
    async with aiohttp.ClientSession() as session, session.post(url, json=[]) as response:
        assert (await response.json(content_type=None))["code"] == "bad_encoding"  # small ones find room all the same
    for task in waiting:
        task.cancel()
    for _, writer in large:
        writer.close()
    await server.close()
    backend.close()


async def test_nobody_who_waits_keeps_what_he_brought(served: Served) -> None:
    """The same list, brought again and again with ?wait=final, was in memory once for each that waited."""
    salt = b"kept by who waits"[:16]
    transaction = served.chain.opening()
    marked = Transaction(transaction.payload, transaction.valid_until_ms, salt, transaction.signatures)
    served.backend.submit = lambda transactions, source="": [item.id for item in transactions]  # type: ignore[method-assign]
    waiting = asyncio.create_task(served.post([{"transaction": encode(marked).hex()}], "?wait=final&timeout_ms=5000"))
    while not served.server._runner.app[API].in_work["waiting"]:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    gc.collect()
    lists = [item for item in gc.get_objects() if type(item) is list and item and isinstance(item[0], Transaction)]
    assert [item for item in lists if item[0].salt == salt] == []
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

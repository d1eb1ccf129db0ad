"""Connections whose clients wait, send slowly or take slowly: they harm themselves only. Real sockets."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from layer1 import descriptors
from layer1.api.app import create_app
from layer1.api.context import API
from layer1.api.limits import ApiLimits
from layer1.codec import encode
from layer1.httpd.server import serve
from tests.layer1.api.conftest import LIMITS, Served
from tests.layer1.api.stand_in import Chain, StandIn, make_genesis

pytestmark = pytest.mark.slow

PATIENT = replace(LIMITS, keep_alive_ms=60_000, body_ms=60_000, write_ms=60_000, catch_up_ms=60_000)
"""Nothing ends by a timer within a test, so what ends has given way."""
LARGE = bytes(16 * 2**20)
"""More than the system buffers for a client who does not read."""


async def large(_: web.Request) -> web.Response:
    return web.Response(body=LARGE)


@asynccontextmanager
async def serving(directory: Path, limits: ApiLimits = PATIENT) -> AsyncIterator[Served]:
    backend = StandIn(Chain(make_genesis()), directory)
    app = create_app(backend, limits)
    app.router.add_get("/large", large)
    server = await serve(app)
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            yield Served(backend.chain, backend, server, session)
    finally:
        await server.close()
        backend.close()


Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Clients:
    """Strangers without manners; all are gone in the end."""

    def __init__(self, case: Served) -> None:
        self._case = case
        self._stack = AsyncExitStack()
        self._kept: list[Client] = []
        """A stream that nobody holds is closed."""

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def open(self, said: bytes = b"") -> Client:
        """A connection on which this was said, and nothing is ever read unless by the test."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._case.server.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1_024)
        self._stack.callback(writer.transport.abort)
        self._kept.append((reader, writer))
        writer.write(said)
        await writer.drain()
        return reader, writer


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it is so; for what has no event."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def ended(client: Client) -> int:
    """Wait until the server hangs up; how many bytes it said before."""
    count = 0
    try:
        async with asyncio.timeout(20):
            while data := await client[0].read(65_536):
                count += len(data)
    except ConnectionError:
        pass
    return count


def begun(promised: int, query: str = "") -> bytes:
    head = f"POST /transactions{query} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {promised}\r\n\r\n[".encode()


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /status HT", b"GET /status HTTP/1.1\r\nHost: x\r\nX-Slow: ", begun(100)],
    ids=["nothing", "half a line", "half a head", "half a body"],
)
async def test_whoever_waits_gives_way(tmp_path: Path, said: bytes) -> None:
    """Three times as many as there is room for: a client that asks at once is served at any time."""
    async with serving(tmp_path) as case, Clients(case) as clients:
        first = await clients.open(said)
        for _ in range(3 * PATIENT.connections):
            await clients.open(said)
            await case.get("/status")
        await ended(first)
        assert case.server.connections.dropped["gave_way"] > PATIENT.connections
        assert case.server.connections.dropped["refused"] == 0
        assert len(case.server.connections) <= PATIENT.connections


async def test_who_is_worked_for_does_not_give_way(tmp_path: Path) -> None:
    """Every connection waits for the ledger, on which it is: the next one is refused with a clear word."""
    async with serving(tmp_path) as case, Clients(case) as clients:
        case.backend.orders_at_once = False
        data = f'{{"transaction": "{encode(case.chain.transfer()).hex()}"}}'.encode()
        head = f"POST /transactions?wait=final HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
        said = head.encode() + b"Content-Type: application/json\r\n\r\n" + data
        waiting = [await clients.open(said) for _ in range(PATIENT.connections)]
        api = case.server.connections
        await until(lambda: len(api) == PATIENT.connections and not api._waited_for)
        refused, _ = await clients.open()
        assert b" 503 " in await refused.readline()
        assert api.dropped == {"refused": 1}
        case.backend.order()
        assert all([b" 200 " in await reader.readline() for reader, _ in waiting])


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/9.9 and more\r\n\r\n",
        b"GET /status HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /transactions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "version", "header", "long", "chunk"],
)
async def test_what_is_not_http_is_refused_and_fills_no_log(
    tmp_path: Path, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(tmp_path) as case, Clients(case) as clients:
        reader, _ = await clients.open(said)
        assert b" 400 " in await reader.readline()
    assert [record.getMessage() for record in caplog.records] == []


async def test_a_query_in_work_does_not_give_way(tmp_path: Path) -> None:
    async with serving(tmp_path) as case, Clients(case) as clients:
        case.backend.stores = False
        case.backend.order()
        reader, _ = await clients.open(b"GET /blocks HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: case.server._runner.app[API].in_work["requests"] == 1)
        for _ in range(2 * PATIENT.connections):
            await clients.open()
        case.backend.catch_up()
        assert b" 200 " in await reader.readline()


async def test_slow_bodies_leave_room_for_requests(tmp_path: Path) -> None:
    """They counted as requests in work: as many as that were enough to make every query fail."""
    async with serving(tmp_path) as case, Clients(case) as clients:
        for _ in range(PATIENT.requests + 2):
            await clients.open(begun(100))
        await case.get("/status")


async def test_a_large_body_that_is_slow_gives_way_to_another(tmp_path: Path) -> None:
    limits = replace(PATIENT, small_body_bytes=10, large_bodies=2)
    async with serving(tmp_path, limits) as case, Clients(case) as clients:
        bodies = case.server._runner.app[API]._large_bodies
        slow = [await clients.open(begun(100_000)) for _ in range(2)]
        await until(lambda: len(bodies) == 2)
        await case.post([], status=400)  # small: `[]` is no list of transactions, and that is what it is told
        refused = await clients.open(begun(100_000))
        assert b" 503 " in await refused[0].readline()  # the others have only begun
        for handler in bodies:
            bodies[handler] -= limits.body_ms / 1000
        served = await clients.open(begun(100_000))
        await ended(slow[0])
        served[1].write(b" " * 99_998 + b"]")
        assert b" 400 " in await served[0].readline()


async def test_a_slow_taker_is_cut_off(tmp_path: Path) -> None:
    """One byte now and then is nothing: within `write_ms` an answer is taken, or a good piece of it."""
    async with serving(tmp_path) as case, Clients(case) as clients:
        connections = case.server.connections
        reader, writer = await clients.open(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: unsent(case) > 0)
        connections._look()
        assert await reader.read(1)
        connections._look()
        assert connections.dropped == {"slow": 1}
        assert await ended((reader, writer)) < len(LARGE) / 2
        await case.get("/status")


async def test_a_taker_who_takes_is_left_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as case, Clients(case) as clients:
        reader, _ = await clients.open(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await until(lambda: unsent(case) > 0)
        got = looked = 0
        while data := await reader.read(2**20):
            got += len(data)
            if got > looked + 2**22:
                looked = got
                case.server.connections._look()
        assert got > len(LARGE)
        assert not case.server.connections.dropped


async def test_answers_that_wait_to_be_taken_are_bounded(tmp_path: Path) -> None:
    """Each connection could ask for a page of many megabytes and read none of it: more than a machine has."""
    limits = replace(PATIENT, unsent_bytes=2 * len(LARGE))
    async with serving(tmp_path, limits) as case, Clients(case) as clients:
        for _ in range(8):
            await clients.open(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await case.get("/status")
            assert unsent(case) <= limits.unsent_bytes
        await until(lambda: case.server.connections.dropped["unsent"] >= 5)
        assert unsent(case) <= limits.unsent_bytes


def unsent(case: Served) -> int:
    return sum(transport.get_write_buffer_size() for transport in case.server.connections._open.values())


async def test_the_oldest_stream_ends_for_a_new_one(tmp_path: Path) -> None:
    """Strangers who only listen must not keep everybody else from it; who is dropped resumes where he was."""
    async with serving(tmp_path) as case, Clients(case) as clients:
        said = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
        streams = [await clients.open(said) for _ in range(PATIENT.streams)]
        for reader, _ in streams:
            assert b" 200 " in await reader.readline()
        async with case.session.get(f"{case.url}/events") as response:
            assert response.status == 200
            assert await response.content.readline() == b"retry: 1000\n"
        await ended(streams[0])
        assert case.server.connections.dropped == {"gave_way": 1}


async def test_a_reader_of_events_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    """Its connection stayed open for ever, with all that it had not taken."""
    async with serving(tmp_path, replace(PATIENT, write_ms=100)) as case, Clients(case) as clients:
        client = await clients.open(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await client[0].readline()
        [transport] = case.server.connections._open.values()
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        for _ in range(200):
            case.backend.order()
        await until(lambda: case.server.connections.dropped["slow"] == 1)
        await ended(client)
        assert len(case.server.connections) == 0


async def test_ten_thousand_idle_connections_do_not_stop_it(tmp_path: Path, many_files: int) -> None:
    """With the limits of the product: new clients and one that stays are served all the time."""
    count = min(10_000, many_files - 3_000)
    limits = ApiLimits()
    async with serving(tmp_path, limits) as case, aiohttp.ClientSession() as staying:
        strangers = []
        try:
            for number in range(count):
                strangers.append(await idle(case.server.port))
                if number % 250 == 0:
                    await case.get("/status")
                    async with staying.get(f"{case.url}/status") as response:
                        assert response.status == 200
            assert len(case.server.connections) <= limits.connections
            assert case.server.connections.dropped["gave_way"] >= count - limits.connections
            assert case.server.connections.dropped["refused"] == 0
        finally:
            for stranger in strangers:
                stranger.close()


async def idle(port: int) -> socket.socket:
    """A connection on which nothing ever happens."""
    stranger = socket.socket()
    stranger.setblocking(False)
    await asyncio.get_running_loop().sock_connect(stranger, ("127.0.0.1", port))
    return stranger


def test_connections_leave_descriptors_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A usual process may open 1,024 files, and as many strangers could connect: then the journal could not go on."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 4_096))
    assert descriptors.room_for(1_024) == 1_024 - descriptors.RESERVED
    assert descriptors.room_for(100) == 100
    wanted = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: wanted.append(limits))
    assert descriptors.raise_limit() == 4_096
    assert wanted == [(4_096, 4_096)]

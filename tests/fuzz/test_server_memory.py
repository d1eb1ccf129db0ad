"""Running servers under thousands of hostile requests and connections hold no more after many than after a few."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yarl
from aiohttp import web

from layer1.api.app import ROUTES, create_app
from layer1.api.context import Api
from layer1.api.metrics import Metrics
from layer1.codec import encode
from layer1.config import load_config, read_key
from layer1.crypto import SigningKey, format_address
from layer1.devnet import home_of
from layer1.httpd.server import ApiServer, serve
from layer1.link import Link, LinkClosed, connect
from layer1.link_server import LinkServer
from layer1.replica import batches
from layer1.replica.driver import Replica
from layer1.replica.messages import WIRE_VERSION, Greeting, LinkMessage
from layer1.tls import client_context
from tests.fuzz import generate
from tests.fuzz.mutate import mutated
from tests.layer1.api.stand_in import Chain, StandIn, make_genesis
from tests.layer1.replica.network import BOB
from tests.layer1.replica.test_driver import make

pytestmark = pytest.mark.slow

ROUNDS = 3
"""Compared with the state after two others, which fill what is bounded."""
SPARE_OBJECTS = 300
SPARE_BYTES = 60_000
"""Less than an item per request, or per connection, in all rounds together."""
AT_ONCE = 20
LOOKS = 5
"""In a row that find nothing lighter."""

Round = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Weight:
    """What the whole process holds."""

    objects: int
    """That the garbage collector knows."""
    size_bytes: int
    """Allocated by the interpreter."""


def weight() -> Weight:
    """Without caches that have a bound of their own."""
    format_address.cache_clear()
    yarl.cache_clear()
    gc.collect()
    return Weight(len(gc.get_objects()), tracemalloc.get_traced_memory()[0])


async def settled() -> Weight:
    """Once nothing more is given back: what is in work, in threads too, is held and not kept."""
    found, worse = weight(), 0
    while worse < LOOKS:
        for _ in range(100):
            await asyncio.sleep(0)
        look = weight()
        lighter = look.objects < found.objects or look.size_bytes < found.size_bytes
        worse = 0 if lighter else worse + 1
        found = Weight(min(look.objects, found.objects), min(look.size_bytes, found.size_bytes))
    return found


async def grown(one_round: Round) -> Weight:
    """By how much a few rounds more make the process heavier, again and again: what is bounded fills up once."""
    for _ in range(2):
        await one_round()
    growth = await _growth(one_round)
    return growth if is_little(growth) else await _growth(one_round)


async def _growth(one_round: Round) -> Weight:
    before = await settled()
    for _ in range(ROUNDS):
        await one_round()
    after = await settled()
    return Weight(after.objects - before.objects, after.size_bytes - before.size_bytes)


def is_little(growth: Weight) -> bool:
    return growth.objects < SPARE_OBJECTS and growth.size_bytes < SPARE_BYTES


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    """Nothing is logged, for pytest keeps all of it, nor seen by coverage, which remembers every new branch."""
    tracers = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    logging.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    logging.disable(logging.NOTSET)
    gc.unfreeze()
    threading.settrace(tracers[1])
    sys.settrace(tracers[0])


async def all_of(calls: list[Awaitable[Any]]) -> None:
    """Some at a time."""
    for start in range(0, len(calls), AT_ONCE):
        await asyncio.gather(*calls[start : start + AT_ONCE])


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)


# ----------------------------------------------------------------------------------------------------------------- HTTP


@dataclass
class Served:
    """A served stand-in with some history."""

    server: ApiServer
    rng: random.Random

    async def say(self, data: bytes, *, until: bytes | None = b"") -> bytes:
        """On a connection of its own, and leave: at once (None), with the answer (empty), or at this in it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        heard = b""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(data)
            if until is not None:
                heard = await (reader.readuntil(until) if until else reader.read())
        writer.transport.abort()
        return heard


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[Served]:
    chain = Chain(make_genesis())
    backend = StandIn(chain, directory)
    for _ in range(3):
        backend.pool += [chain.transfer(), chain.opening(chain.salt)]
        backend.order()
    server = await serve(create_app(backend))
    try:
        yield Served(server, random.Random(5))
    finally:
        await server.close()
        backend.close()


def junk(rng: random.Random) -> str:
    """Never the same twice."""
    name = rng.randbytes(32)
    return rng.choice(
        (name.hex(), format_address(name), str(rng.choice(generate.INTEGERS)), name.hex()[: rng.randrange(64)])
    )


def request(method: str, path: str, rng: random.Random, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: here", "Connection: close", f"Cookie: a={junk(rng)}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def hostile_requests(rng: random.Random) -> Iterator[bytes]:
    """One for each route, each with its parameters, and each with something that it does not know."""
    for route in ROUTES:
        if route.path == "/events":
            continue
        path = route.path
        query = [f"{junk(rng)}={junk(rng)}"] if rng.random() < 0.3 else []
        for parameter in route.parameters:
            if f"{{{parameter.name}}}" in path:
                path = path.replace(f"{{{parameter.name}}}", junk(rng))
            else:
                query.append(f"{parameter.name}={junk(rng)}")
        body = rng.randbytes(rng.randrange(200)) if route.method == "POST" else b""
        kind = rng.choice(("application/json", "application/msgpack", junk(rng)))
        yield request(route.method, f"{path}?{'&'.join(query)}", rng, f"Content-Type: {kind}", body=body)
    yield request("GET", f"/{junk(rng)}/{junk(rng)}", rng)
    yield request(junk(rng)[:8].upper(), "/status", rng)


async def bother(api: Served) -> None:
    """Every route fifteen times, and as many that are no HTTP any more."""
    whole = [data for _ in range(15) for data in hostile_requests(api.rng)]
    broken = [mutated(data, whole, api.rng) for data in whole]
    await all_of([api.say(data) for data in whole])
    await all_of([api.say(data, until=None) for data in broken])
    await until(lambda: not len(api.server.connections))


async def test_hostile_requests_leave_nothing_behind(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        growth = await grown(lambda: bother(api))
        assert is_little(growth), growth
        assert b'"height"' in await api.say(request("GET", "/status", api.rng))


async def test_a_leak_by_request_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of its own for every path, as metrics are easily made."""

    def observe(self: Metrics, request: web.Request, status: int, seconds: float) -> None:
        self._requests.labels(request.method, request.path, str(status)).inc()

    monkeypatch.setattr(Metrics, "observe", observe)
    async with served(tmp_path) as api:
        growth = await grown(lambda: bother(api))
        assert not is_little(growth), growth


# --------------------------------------------------------------------------------------------------------------- events


def subscription(rng: random.Random) -> bytes:
    wanted = "&".join(f"group={rng.randbytes(32).hex()}" for _ in range(rng.randrange(5)))
    return request("GET", f"/events?after={rng.randrange(4)}&{wanted}", rng, "Accept: text/event-stream")


async def follow(api: Served) -> None:
    """Readers that leave before the first byte, at it, and behind the last event."""
    for ending in (None, b"retry: ", b"3-"):
        await all_of([api.say(request("GET", "/events?after=0", api.rng), until=ending) for _ in range(50)])
        await all_of([api.say(subscription(api.rng), until=None if ending is None else b"retry: ") for _ in range(50)])
    await until(lambda: not len(api.server.connections))


async def test_readers_of_events_leave_nothing_behind(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        growth = await grown(lambda: follow(api))
        assert is_little(growth), growth
        assert b"id: 3-" in await api.say(request("GET", "/events?after=0", api.rng), until=b"id: 3-")


async def test_a_leak_by_reader_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is counted, and never given back."""

    @contextmanager
    def stream(self: Api, handler: web.RequestHandler) -> Iterator[None]:
        self._streams[handler] = None
        yield

    monkeypatch.setattr(Api, "stream", stream)
    async with served(tmp_path) as api:
        growth = await grown(lambda: follow(api))
        assert not is_little(growth), growth


# ---------------------------------------------------------------------------------------------------------------- links

LIAR, VICTIM = 0, 3
"""The highest index dials nobody."""


@dataclass
class Besieged:
    """A replica by itself, and the key of another."""

    victim: Replica
    liar: SigningKey
    rng: random.Random

    async def stranger(self, data: bytes, *, tls: bool) -> None:
        """Somebody who says this instead of a handshake, and waits until he is thrown out, or not."""
        context = client_context() if tls else None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.victim.link_port, ssl=context)
        except OSError:
            return
        with suppress(OSError):
            writer.write(data)
            if self.rng.random() < 0.5:
                async with asyncio.timeout(0.2):
                    await reader.read()
        writer.transport.abort()

    async def refused(self) -> None:
        with pytest.raises(LinkClosed):
            await self.dial(BOB)

    async def dial(self, key: SigningKey) -> Link:
        chain_id, identity = self.victim.genesis.chain_id, self.victim._key.public
        greeting = encode(Greeting(WIRE_VERSION, 1))
        return await connect("127.0.0.1", self.victim.link_port, key, chain_id, expect=identity, greeting=greeting)

    async def lie(self) -> None:
        """Over a link: until it is cut, or enough was said."""
        link = await self.dial(self.liar)
        for _ in range(100):
            data = generate.encoded(LinkMessage, self.rng)
            if not link.send_nowait(self.rng.choice((data, mutated(data, [data], self.rng)))):
                break
            await asyncio.sleep(0)
        await link.close()
        await until(lambda: LIAR not in self.victim._peers.links)
        for record in self.victim._peers._conduct._records.values():
            record.out_until_s = 0


@asynccontextmanager
async def besieged(directory: Path) -> AsyncIterator[Besieged]:
    reserved = make(directory, 4)
    victim = Replica(load_config(home_of(directory, VICTIM), reuse_port=True))
    try:
        await victim.start()
        yield Besieged(victim, read_key(home_of(directory, LIAR) / "key"), random.Random(6))
    finally:
        await victim.stop()
        reserved.release()


async def lay_siege(siege: Besieged) -> None:
    """Hundreds of strangers who know no TLS, some who do, some with a key that counts nothing, and a liar."""
    rng, server = siege.rng, siege.victim._peers._server
    await all_of([siege.stranger(rng.randbytes(rng.randrange(20, 200)), tls=False) for _ in range(300)])
    await all_of([siege.stranger(request("GET", f"/{junk(rng)}", rng), tls=True) for _ in range(10)])
    await all_of([siege.refused() for _ in range(10)])
    for _ in range(3):
        await siege.lie()
    await until(lambda: not (server.arriving or server._open or server._links))


@pytest.fixture
def few_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of bad batches is full after one round."""
    monkeypatch.setattr(batches, "KEPT_BAD", 10)


@pytest.mark.usefixtures("few_remembered")
async def test_strangers_and_liars_leave_nothing_behind(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        growth = await grown(lambda: lay_siege(siege))
        assert is_little(growth), growth
        assert siege.victim.misbehaved[LIAR] > 100 and siege.victim._peers.strangers >= 5 * (10 + 10)
        link = await siege.dial(siege.liar)
        assert not link.is_over
        await link.close()


@pytest.mark.usefixtures("few_remembered")
async def test_a_leak_by_connection_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was refused is kept."""
    kept: list[object] = []
    reject = LinkServer._reject

    def keep(self: LinkServer, handler: web.RequestHandler, reason: str) -> None:
        kept.append(handler)
        reject(self, handler, reason)

    monkeypatch.setattr(LinkServer, "_reject", keep)
    async with besieged(tmp_path) as siege:
        growth = await grown(lambda: lay_siege(siege))
        assert not is_little(growth), growth

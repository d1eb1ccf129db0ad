"""Junk on every route: the answer is a problem with a code and a 4xx, never a 500, and the server lives on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from layer1.api.app import ROUTES, create_app
from layer1.api.limits import ApiLimits
from layer1.codec import encode
from layer1.httpd.server import serve
from layer1.ledger.transactions import Transaction, Transfer
from tests.layer1.api.stand_in import Chain, StandIn, make_genesis

pytestmark = pytest.mark.slow

FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
LIMITS = ApiLimits(body_bytes=50_000, transactions=20, body_ms=1_000, wait_ms=50, max_wait_ms=100)


class Target:
    """A server and a session in a loop of their own, for many examples."""

    def __init__(self, directory: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._life = self._live(directory)
        self._url, self._session = self._loop.run_until_complete(self._life.__aenter__())

    @asynccontextmanager
    async def _live(self, directory: Path) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
        chain = Chain(make_genesis())
        backend = StandIn(chain, directory)
        backend.pool.append(chain.opening())
        backend.order()
        server = await serve(create_app(backend, LIMITS))
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield f"http://127.0.0.1:{server.port}", session
        await server.close()
        backend.close()

    def ask(self, method: str, path: str, **options: Any) -> tuple[int, str, Any]:
        """Status, media type and JSON of an answer."""
        return self._loop.run_until_complete(self._ask(method, path, **options))

    async def _ask(self, method: str, path: str, **options: Any) -> tuple[int, str, Any]:
        url = URL(self._url + path, encoded=True)
        async with self._session.request(method, url, allow_redirects=False, **options) as response:
            if response.content_type == "text/event-stream":
                return response.status, response.content_type, None
            data = await response.read()
            body = msgspec.json.decode(data) if data and "json" in response.content_type else data
            return response.status, response.content_type, body

    def close(self) -> None:
        self._loop.run_until_complete(self._life.__aexit__(None, None, None))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    made = Target(tmp_path_factory.mktemp("hostile"))
    yield made
    made.close()


def judge(answer: tuple[int, str, Any]) -> None:
    """Fine, or a problem with a code."""
    status, media_type, body = answer
    assert status < 500, answer
    if status >= 400:
        assert media_type == "application/problem+json", answer
        assert body["status"] == status
        assert body["code"].isidentifier()
        assert body["detail"]


JUNK = st.one_of(
    st.text(max_size=80),
    st.binary(max_size=80).map(lambda data: data.decode("latin-1")),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(
        ["", "0", "-1", "1", "latest", "true", "null", "00" * 32, "zz" * 32, "１" * 3, "1e3", "..", "%", "\0"]
    ),
    st.from_regex(r"wedge1[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{0,70}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{62,66}", fullmatch=True),
    st.from_regex(r"[0-9]{1,20}-[0-9]{1,20}", fullmatch=True),
)
NAMES = st.sampled_from(
    ["limit", "cursor", "proof", "member", "wait", "timeout_ms", "kind", "group", "account", "after"]
)
PATHS = sorted({route.path for route in ROUTES})


@FUZZ
@given(st.sampled_from(PATHS), JUNK, st.lists(st.tuples(NAMES | JUNK, JUNK), max_size=3))
def test_junk_in_paths_and_queries(target: Target, path: str, junk: str, query: list[tuple[str, str]]) -> None:
    filled = path
    for name in ("{height}", "{id}", "{address}"):
        filled = filled.replace(name, quote(junk, safe="") or "x")
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    judge(target.ask("GET", f"{filled}?{text}"))


@FUZZ
@given(
    st.text("/abcxyz.%{}~0129-", max_size=40),
    st.sampled_from(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "POST"]),
)
def test_junk_paths_and_methods(target: Target, path: str, method: str) -> None:
    status, media_type, body = target.ask(method, "/" + path)
    if method == "HEAD":
        assert status < 500
    else:
        judge((status, media_type, body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.just("transaction") | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@FUZZ
@given(
    st.binary(max_size=400) | JSON.map(msgspec.json.encode) | JSON.map(msgspec.msgpack.encode),
    st.sampled_from(
        ["application/json", "application/msgpack", "text/plain", "", "application/json; charset=utf-99", "x/y; z"]
    ),
    st.sampled_from(["", "?wait=final", "?wait=final&proof=true", "?wait=x", "?timeout_ms=0"]),
)
def test_junk_bodies(target: Target, body: bytes, media_type: str, query: str) -> None:
    answer = target.ask("POST", f"/transactions{query}", data=body, headers={"Content-Type": media_type})
    judge(answer)
    assert answer[0] >= 400


ODD_BYTES = st.sampled_from([b"", bytes(16), bytes(31), bytes(32), bytes(33), b"\xff" * 32])
ODD_INTEGERS = st.sampled_from([-(2**63), -1, 0, 1, 10, 2**53, 2**63 - 1, 2**64 - 1])


@FUZZ
@given(ODD_BYTES, ODD_BYTES, ODD_INTEGERS, ODD_INTEGERS, ODD_BYTES, st.lists(st.binary(max_size=70), max_size=3))
def test_well_encoded_nonsense(
    target: Target, sender: bytes, recipient: bytes, amount: int, until: int, salt: bytes, signatures: list[bytes]
) -> None:
    transaction = Transaction(Transfer(sender, recipient, amount), until, salt, tuple(signatures))
    answer = target.ask("POST", "/transactions?wait=final", json=[{"transaction": encode(transaction).hex()}])
    judge(answer)
    assert answer[0] in {400, 413, 422}


@pytest.mark.parametrize(
    "raw",
    [
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /status HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"GET /status HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 50_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_server_lives(target: Target, raw: bytes) -> None:
    async def send() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(target._url.rpartition(":")[2]))
        try:
            writer.write(raw)
            return await asyncio.wait_for(reader.read(), 5)
        except ConnectionError:
            return b""
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    head, _, body = target._loop.run_until_complete(send()).partition(b"\r\n\r\n")
    if head:  # else it was cut off before we had read its answer
        assert b" 400 " in head.partition(b"\r\n")[0] and b"application/problem+json" in head, head
        assert msgspec.json.decode(body)["code"] == "bad_request"
    assert target.ask("GET", "/status")[0] == 200

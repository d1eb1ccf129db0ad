"""Links over real sockets: two honest sides, and every stranger we could think of."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from layer1 import tls
from layer1.codec import decode, encode
from layer1.crypto import PublicKey, SigningKey
from layer1.errors import LocalError
from layer1.framing import FRAME_BYTES
from layer1.handshake import HANDSHAKE_BYTES, Challenge, ClientProof, Session, misfit
from layer1.link import Link, LinkClosed, LinkLimits, connect
from layer1.link_server import LinkServer

CHAIN = b"n" * 32
CLIENT, SERVER, OTHER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
SMALL = LinkLimits(max_message_bytes=200_000, outbox_bytes=400_000)
Handler = Callable[[aiohttp.web.WebSocketResponse], Awaitable[None]]


async def echo(link: Link) -> None:
    while True:
        await link.send(await link.receive())


class Serving:
    """A server on a port of its own, with what happened to its links."""

    def __init__(self, on_link: Callable[[Link], Awaitable[None]], limits: LinkLimits) -> None:
        self.on_link = on_link
        self.links: asyncio.Queue[Link] = asyncio.Queue()
        self.ends: asyncio.Queue[str] = asyncio.Queue()
        self.admitted: list[tuple[PublicKey, bytes]] = []
        self.server = LinkServer(SERVER, CHAIN, self.admit, self.serve, greeting=lambda: b"welcome", limits=limits)
        self.port = 0

    def admit(self, public: PublicKey, greeting: bytes) -> bool:
        self.admitted.append((public, greeting))
        return public == CLIENT.public

    async def serve(self, link: Link) -> None:
        self.links.put_nowait(link)
        try:
            await self.on_link(link)
        except LinkClosed as closed:
            self.ends.put_nowait(str(closed))

    async def connect(
        self, key: SigningKey = CLIENT, chain: bytes = CHAIN, expect: PublicKey | None = SERVER.public
    ) -> Link:
        return await connect("127.0.0.1", self.port, key, chain, expect=expect, greeting=b"hello", limits=SMALL)


@asynccontextmanager
async def serving(
    on_link: Callable[[Link], Awaitable[None]] = echo, limits: LinkLimits = SMALL
) -> AsyncIterator[Serving]:
    case = Serving(on_link, limits)
    case.port = await case.server.start()
    try:
        yield case
    finally:
        await case.server.stop()


@asynccontextmanager
async def stranger(port: int, *, autoping: bool = True) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket without any manners of ours."""
    url = f"wss://127.0.0.1:{port}"
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, ssl=tls.client_context(), max_msg_size=0, autoping=autoping) as socket,
    ):
        yield socket


async def challenged(socket: aiohttp.ClientWebSocketResponse) -> Session:
    """Read the challenge, as an honest client would."""
    challenge = decode(await socket.receive_bytes(), Challenge)
    der = socket.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return Session(CHAIN, tls.certificate_hash(der), challenge.nonce)


async def hung_up(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Nothing comes any more, not even a reason."""
    message = await socket.receive()
    assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR, WSMsgType.CLOSING, WSMsgType.CLOSE)
    assert not message.extra


async def counted(case: Serving, reason: str, times: int) -> None:
    """Until the server has turned away so many, for this reason and no other."""
    async with asyncio.timeout(5):
        while case.server.rejected.total() < times:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    assert case.server.rejected == {reason: times}


async def introduce(socket: aiohttp.ClientWebSocketResponse) -> None:
    """The whole handshake, by hand."""
    session = await challenged(socket)
    await socket.send_bytes(encode(session.client_proof(CLIENT, SERVER.public, b"c" * 32, b"")))
    await socket.receive_bytes()


async def test_both_sides_know_each_other_and_messages_arrive_whole_and_in_order() -> None:
    messages = [b"", b"x", b"y" * 300, os.urandom(200_000), b"", *[bytes([n]) * n for n in range(256)]]
    async with serving() as case:
        link = await case.connect()
        assert (link.peer, link.greeting) == (SERVER.public, b"welcome")
        assert case.admitted == [(CLIENT.public, b"hello")]
        served = await case.links.get()
        assert (served.peer, served.greeting) == (CLIENT.public, b"hello")
        assert all(link.send_nowait(message) for message in messages[:3])
        for message in messages[3:]:
            await link.send(message)
        assert [await link.receive() for _ in messages] == messages
        await link.close("enough")
        assert await case.ends.get() == "the peer closed: 'enough'"
        assert not case.server.rejected


async def test_another_version_of_the_link_is_told_on_both_sides(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server counts it, and warns once, however often it comes."""
    monkeypatch.setattr("layer1.link_server.VERSION", 2)
    async with serving() as case:
        for _ in range(2):
            with pytest.raises(LinkClosed, match="it speaks link version 2, this program 1: upgrade the older one"):
                await case.connect()
        await counted(case, "version", 2)
        assert case.admitted == []
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["a link was refused: it speaks link version 1, this program 2: upgrade the older one"]


async def test_who_admits_may_say_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as case:

        def admit(_public: PublicKey, _greeting: bytes) -> bool:
            raise misfit("wire", 7, 8)

        monkeypatch.setattr(case.server, "_admit", admit)
        with pytest.raises(LinkClosed, match="it speaks wire version 8, this program 7"):
            await case.connect()
        await counted(case, "wire", 1)


async def test_a_client_may_take_any_server() -> None:
    async with serving() as case:
        link = await case.connect(expect=None)
        assert link.peer == SERVER.public
        await link.close()


async def test_messages_of_one_turn_leave_in_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = []
    real = aiohttp.ClientWebSocketResponse.send_bytes

    async def send_bytes(self: aiohttp.ClientWebSocketResponse[bool], data: bytes) -> None:
        frames.append(data)
        await real(self, data)

    async with serving() as case:
        link = await case.connect()
        monkeypatch.setattr(aiohttp.ClientWebSocketResponse, "send_bytes", send_bytes)
        for number in range(100):
            link.send_nowait(bytes([number]))
        assert [await link.receive() for _ in range(100)] == [bytes([number]) for number in range(100)]
        await link.close()
    assert len(frames) == 1


async def test_what_is_queued_still_leaves_when_a_link_is_closed() -> None:
    received = []

    async def collect(link: Link) -> None:
        while True:
            received.append(await link.receive())

    async with serving(collect) as case:
        link = await case.connect()
        for _ in range(3):
            link.send_nowait(b"z" * 100_000)
        await link.close("done")
        assert await case.ends.get() == "the peer closed: 'done'"
    assert [len(message) for message in received] == [100_000] * 3


async def test_a_closed_link_says_so_on_every_call() -> None:
    async with serving() as case:
        link = await case.connect()
        await link.close("ours")
        await link.close("again")
        assert not link.send_nowait(b"x")
        with pytest.raises(LinkClosed, match="ours"):
            await link.send(b"x")
        with pytest.raises(LinkClosed, match="ours"):
            await link.receive()


async def test_closing_ends_a_pending_receive() -> None:
    async with serving() as case:
        link = await case.connect()
        pending = asyncio.create_task(link.receive())
        await asyncio.sleep(0)
        await link.close("ours")
        with pytest.raises(LinkClosed, match="ours"):
            await pending


async def test_stopping_the_server_ends_its_links_with_a_reason() -> None:
    async with serving() as case:
        link = await case.connect()
        pending = asyncio.create_task(link.receive())
        await case.links.get()
        await case.server.stop()
        with pytest.raises(LinkClosed, match="the peer closed: 'the server stops'"):
            await pending
        await link.close()
        await case.server.stop()


async def test_what_arrived_before_the_end_can_be_received() -> None:
    async def two(link: Link) -> None:
        link.send_nowait(b"one")
        link.send_nowait(b"two")

    async with serving(two) as case:
        link = await case.connect()
        assert [await link.receive(), await link.receive()] == [b"one", b"two"]
        with pytest.raises(LinkClosed, match="closed"):
            await link.receive()
        await link.close()


async def test_a_peer_that_does_not_read_is_given_up() -> None:
    async def pour(link: Link) -> None:
        await until(lambda: not link.send_nowait(b"x" * 100_000))
        await link.receive()

    async with serving(pour) as case:
        link = await case.connect()
        assert "the peer is too slow" in await case.ends.get()
        await link.close()


async def test_a_patient_sender_waits_for_room() -> None:
    go = asyncio.Event()
    received = []

    async def late(link: Link) -> None:
        await go.wait()
        while True:
            received.append(len(await link.receive()))

    async with serving(late) as case:
        link = await case.connect()
        sending = asyncio.create_task(send_all(link, 200))
        await until(lambda: link._outbox.size_bytes > 300_000)
        assert not sending.done()
        go.set()
        await sending
        await link.close()
        await case.ends.get()
    assert received == [100_000] * 200


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it is so; for what has no event."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def send_all(link: Link, count: int) -> None:
    for _ in range(count):
        await link.send(b"x" * 100_000)


@pytest.mark.slow
async def test_a_waiting_sender_learns_of_the_end() -> None:
    async def deaf(link: Link) -> None:
        await asyncio.Event().wait()

    async with serving(deaf) as case:
        link = await case.connect()
        sending = asyncio.create_task(send_all(link, 1000))
        await until(lambda: link._outbox.size_bytes > 300_000)
        link._end("ours", polite=False)
        with pytest.raises(LinkClosed, match="ours"):
            await sending
        await link.close()
        await asyncio.gather(*(served.close() for served in list(case.server._links)))


async def test_our_own_oversize_message_is_our_mistake() -> None:
    async with serving() as case:
        link = await case.connect()
        with pytest.raises(LocalError, match="200001 bytes exceeds max_message_bytes 200000"):
            link.send_nowait(bytes(200_001))
        await link.close()


@pytest.mark.parametrize("key, reason", [(OTHER, "not_admitted"), (CLIENT, None)])
async def test_only_whom_we_admit_gets_a_link(key: SigningKey, reason: str | None) -> None:
    async with serving() as case:
        if reason is None:
            await (await case.connect(key)).close()
        else:
            with pytest.raises(LinkClosed, match="refused us"):
                await case.connect(key)
            assert case.server.rejected == {reason: 1}


async def test_a_wrong_chain_fails() -> None:
    async with serving() as case:
        with pytest.raises(LinkClosed, match="failed the handshake"):
            await case.connect(chain=b"N" * 32)
        assert case.server.rejected == {"signature": 1}
        assert not case.admitted


async def test_a_server_that_is_not_the_expected_one_does_not_even_answer() -> None:
    async with serving() as case:
        with pytest.raises(LinkClosed, match="failed the handshake"):
            await case.connect(expect=OTHER.public)
        assert case.server.rejected == {"addressee": 1}


async def test_a_stranger_gets_a_nonce_and_nothing_else() -> None:
    async with serving() as case, stranger(case.port) as socket:
        assert len(decode(await socket.receive_bytes(), Challenge).nonce) == 32
        assert socket._response.headers["Server"] == "wedge"
        await socket.send_bytes(b"who are you?")
        await hung_up(socket)
        assert case.server.rejected == {"garbage": 1}


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "garbage"),
        (b"\xff" * 100, "garbage"),
        (bytes(HANDSHAKE_BYTES + 1), "oversize"),
        (bytes(FRAME_BYTES + 1), "oversize"),
        (bytes(2**20), "oversize"),
    ],
)
async def test_garbage_before_the_proof_is_counted(data: bytes, reason: str) -> None:
    async with serving() as case, stranger(case.port) as socket:
        await socket.receive()
        await socket.send_bytes(data)
        await hung_up(socket)
        assert case.server.rejected == {reason: 1}


async def test_text_before_the_proof_is_garbage() -> None:
    async with serving() as case, stranger(case.port) as socket:
        await socket.receive()
        await socket.send_str("hello")
        await hung_up(socket)
        assert case.server.rejected == {"garbage": 1}


async def test_a_replayed_proof_is_refused() -> None:
    async with serving() as case, stranger(case.port) as first, stranger(case.port) as second:
        session = await challenged(first)
        proof = session.client_proof(CLIENT, SERVER.public, b"c" * 32, b"")
        assert session.server_nonce != (await challenged(second)).server_nonce
        await second.send_bytes(encode(proof))
        await hung_up(second)
        assert case.server.rejected == {"signature": 1}
        await first.send_bytes(encode(proof))
        await case.links.get()


async def test_a_stranger_that_hangs_up_is_counted() -> None:
    async with serving() as case:
        async with stranger(case.port) as socket:
            await socket.receive()
        await case.server.stop()
        assert case.server.rejected == {"dropped": 1}


async def test_a_silent_stranger_is_cut_off_in_time() -> None:
    async with serving() as case, stranger(case.port) as socket:
        await socket.receive()
        time_is_up(case)
        await hung_up(socket)
        assert case.server.rejected == {"timeout": 1}


async def test_a_silent_tls_connection_is_cut_off_in_time() -> None:
    async with serving() as case:
        answer = asyncio.create_task(raw_answer(case.port, b""))
        await until(lambda: bool(case.server._strangers))
        time_is_up(case)
        assert await answer == b""
        assert case.server.rejected == {"timeout": 1}


def time_is_up(case: Serving) -> None:
    """Run the stranger's timer now, having seen when it would run."""
    [timer] = case.server._strangers.values()
    left_ms = 1000 * (timer.when() - asyncio.get_running_loop().time())
    assert left_ms <= SMALL.handshake_timeout_ms
    timer._run()
    timer.cancel()


async def raw_answer(port: int, data: bytes) -> bytes:
    """What comes back for bytes that are not a WebSocket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls.client_context())
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    "data",
    [
        b"\0\1\2\3\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
    ],
)
async def test_other_http_gets_no_answer(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as case:
        assert await raw_answer(case.port, data) == b""
        assert case.server.rejected == {"garbage": 1}
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_strangers_are_bounded() -> None:
    """The oldest gives way: as many as there is room for kept everybody else out, just by saying nothing."""
    limits = LinkLimits(max_unauthenticated=1)
    async with serving(limits=limits) as case, stranger(case.port) as socket:
        await socket.receive()
        link = await case.connect()
        await hung_up(socket)
        assert case.server.rejected == {"busy": 1}
        await link.close()


async def test_hundreds_of_silent_strangers_keep_nobody_out() -> None:
    """With the limits of the product, before TLS and after it."""
    async with serving(limits=LinkLimits()) as case, AsyncExitStack() as stack:
        for number in range(200):
            tls_context = tls.client_context() if number % 2 else None
            reader, writer = await asyncio.open_connection("127.0.0.1", case.port, ssl=tls_context)
            stack.callback(lambda reader, writer: writer.close(), reader, writer)  # what nobody holds is closed at once
            if number % 20 == 0:
                link = await case.connect()
                await link.send(b"hello")
                assert await link.receive() == b"hello"
                await link.close()
        assert len(case.server._strangers) <= LinkLimits().max_unauthenticated
        assert case.server.arriving <= LinkLimits().max_unauthenticated


@asynccontextmanager
async def open_to_all(limits: LinkLimits, known: set[PublicKey]) -> AsyncIterator[tuple[LinkServer, int]]:
    """A server that anybody may link with, and that needs to keep the links of those it knows."""
    server = LinkServer(SERVER, CHAIN, lambda *_: True, echo, limits=limits, keeps=known.__contains__)
    try:
        yield server, await server.start()
    finally:
        await server.stop()


async def greet(port: int, number: int) -> Link:
    """A link of a wallet of this number, on which something was said."""
    link = await connect("127.0.0.1", port, SigningKey(bytes([number]) * 32), CHAIN, expect=None)
    await link.send(b"hello")
    assert await link.receive() == b"hello"
    return link


async def test_links_of_strangers_give_way_the_longest_silent_first() -> None:
    """Anybody has as many keys as he likes: with 256 of them he kept all others from a wallet."""
    async with open_to_all(LinkLimits(max_connections=3), {CLIENT.public}) as (server, port):
        known = await greet(port, 1)
        links = [await greet(port, number) for number in (10, 11, 12)]
        await links[0].send(b"again")
        assert await links[0].receive() == b"again"
        links += [await greet(port, number) for number in (13, 14)]
        for gone in links[1:3]:
            with pytest.raises(LinkClosed):
                await gone.receive()
        for stays in (known, links[0], *links[3:]):
            await stays.send(b"still here")
            assert await stays.receive() == b"still here"
        for link in (known, *links):
            await link.close()
        assert server.rejected["gave_way"] == 2


async def test_who_must_be_kept_takes_nobodys_place() -> None:
    """A wallet has as many links as peers: with 256 channels a hub had no room for the next."""
    known = {SigningKey(bytes([number]) * 32).public for number in range(1, 6)}
    async with open_to_all(LinkLimits(max_connections=2), known) as (server, port):
        links = [await greet(port, number) for number in (1, 2, 3, 10, 4, 11)]
        known.add(SigningKey(bytes([11]) * 32).public)  # whoever opens a channel is kept from then on
        links += [await greet(port, number) for number in (5, 12)]
        for link in links:
            await link.send(b"still here")
            assert await link.receive() == b"still here"
        links += [await greet(port, 13)]
        with pytest.raises(LinkClosed):
            await links[3].receive()
        assert server.rejected == {"gave_way": 1}
        for link in links:
            await link.close()


async def test_only_who_is_known_may_send_much() -> None:
    """Each of hundreds of strangers could make us put a message of the largest size together."""
    known = set[PublicKey]()
    async with open_to_all(LinkLimits(max_unknown_bytes=100_000), known) as (server, port):
        link = await greet(port, 7)
        await link.send(bytes(100_000))
        assert len(await link.receive()) == 100_000
        known.add(SigningKey(bytes([7]) * 32).public)
        await link.send(bytes(500_000))
        assert len(await link.receive()) == 500_000
        stranger = await greet(port, 8)
        await stranger.send(bytes(200_000))
        with pytest.raises(LinkClosed):
            await stranger.receive()
        await link.close()
        await stranger.close()
        await server.stop()
        assert server.rejected == {"oversize": 1}


async def test_nothing_is_heard_of_a_link_that_was_cut() -> None:
    heard: list[bytes] = []

    async def once(link: Link) -> None:
        heard.append(await link.receive())
        link.cut("enough")
        heard.append(await link.receive())

    async with serving(once) as case:
        link = await case.connect()
        link.send_nowait(b"one")
        link.send_nowait(b"two")
        assert "enough" in await case.ends.get()
        with pytest.raises(LinkClosed):
            await link.receive()
        await link.close()
        await case.server.stop()
        assert heard == [b"one"]
        assert case.server.rejected == {"misbehaved": 1}


async def test_connections_are_bounded() -> None:
    async with serving(limits=LinkLimits(max_connections=1)) as case:
        link = await case.connect()
        with pytest.raises(LinkClosed):
            await case.connect()
        assert set(case.server.rejected) == {"busy"}
        await link.close()


async def test_an_authenticated_peer_cannot_exceed_the_limit() -> None:
    limits = LinkLimits(max_message_bytes=1000)
    async with serving(limits=limits) as case:
        link = await case.connect()
        await link.send(bytes(1001))
        assert "oversize" in await case.ends.get()
        with pytest.raises(LinkClosed):
            await link.receive()
        await link.close()
        await case.server.stop()
        assert case.server.rejected == {"oversize": 1}


@pytest.mark.parametrize("data, fault", [(b"\x01\0\0\0", "garbage"), (bytes(FRAME_BYTES + 1), "oversize")])
async def test_an_authenticated_peer_cannot_break_the_framing(data: bytes, fault: str) -> None:
    async with serving() as case:
        async with stranger(case.port) as socket:
            await introduce(socket)
            await socket.send_bytes(data)
            await case.ends.get()
        await case.server.stop()
        assert case.server.rejected == {fault: 1}


async def test_an_authenticated_peer_cannot_send_text() -> None:
    async with serving() as case:
        async with stranger(case.port) as socket:
            await introduce(socket)
            await socket.send_str("hello")
            assert await case.ends.get() == "the peer sent text"
        await case.server.stop()
        assert case.server.rejected == {"garbage": 1}


@pytest.mark.slow
async def test_a_dead_peer_is_noticed() -> None:
    """It keeps the connection and answers no ping."""
    async with (
        serving(limits=LinkLimits(heartbeat_ms=500)) as case,
        stranger(case.port, autoping=False) as socket,
    ):
        await introduce(socket)
        assert "No PONG" in await case.ends.get()


async def test_a_cut_connection_is_noticed() -> None:
    async with serving() as case:
        link = await case.connect()
        served = await case.links.get()
        await served._dispose()
        with pytest.raises(LinkClosed, match="lost"):
            await link.receive()
        await case.ends.get()
        await link.close()


async def test_a_failing_service_ends_its_link_only(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(link: Link) -> None:
        raise ValueError("ours")

    async with serving(fail) as case:
        link = await case.connect()
        with pytest.raises(LinkClosed, match="closed"):
            await link.receive()
        await link.close()
        await (await case.connect()).close()
    assert "serving the link" in caplog.text


async def test_a_failing_admission_refuses(caplog: pytest.LogCaptureFixture) -> None:
    def fail(public: PublicKey, greeting: bytes) -> bool:
        raise ValueError("ours")

    server = LinkServer(SERVER, CHAIN, fail, echo)
    port = await server.start()
    with pytest.raises(LinkClosed, match="refused us"):
        await connect("127.0.0.1", port, CLIENT, CHAIN, expect=None)
    await server.stop()
    assert server.rejected == {"failed": 1}
    assert "our side of a handshake failed" in caplog.text


@asynccontextmanager
async def impostor(handler: Handler) -> AsyncIterator[int]:
    """A server that speaks TLS and WebSocket, and then does what it likes."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=0, timeout=0.1)
        await socket.prepare(request)
        await handler(socket)
        return socket

    async with listening(handle) as port:
        yield port


@asynccontextmanager
async def listening(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    context, _ = tls.server_context()
    http = web.Server(handle)
    server = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await http.shutdown(0.1)


async def test_somebody_in_between_gets_nowhere() -> None:
    """He relays every message between the two, but has to show a certificate of his own."""
    async with serving() as case:

        async def relay(towards_client: web.WebSocketResponse) -> None:
            async with stranger(case.port) as towards_server:
                await towards_client.send_bytes(await towards_server.receive_bytes())
                await towards_server.send_bytes(await towards_client.receive_bytes())
                await hung_up(towards_server)

        async with impostor(relay) as port:
            with pytest.raises(LinkClosed, match="failed the handshake"):
                await connect("127.0.0.1", port, CLIENT, CHAIN, expect=SERVER.public)
        assert case.server.rejected == {"signature": 1}
        assert not case.admitted


async def answer(socket: web.WebSocketResponse, key: SigningKey, certificate: bytes) -> None:
    """An impostor's honest try: everything right but the key or the certificate."""
    session = Session(CHAIN, certificate, b"s" * 32)
    await socket.send_bytes(encode(Challenge(1, session.server_nonce)))
    client = decode(await socket.receive_bytes(), ClientProof)
    await socket.send_bytes(encode(session.server_proof(key, b"", client)))
    await socket.receive()


@pytest.mark.parametrize("key, reason", [(OTHER, f"it is {OTHER.public.hex()}"), (SERVER, "signature")])
async def test_a_client_refuses_a_wrong_key_and_a_wrong_certificate(key: SigningKey, reason: str) -> None:
    async with impostor(lambda socket: answer(socket, key, bytes(32))) as port:
        with pytest.raises(LinkClosed, match=reason):
            await connect("127.0.0.1", port, CLIENT, CHAIN, expect=SERVER.public)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"hello", "garbage"),
        (encode(Challenge(2, bytes(32))), "version"),
        (bytes(HANDSHAKE_BYTES + 1), "oversize"),
        (bytes(2**20), "oversize"),
    ],
)
async def test_a_client_refuses_a_strange_challenge(data: bytes, reason: str) -> None:
    async def say(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(data)
        await socket.receive()

    async with impostor(say) as port:
        with pytest.raises(LinkClosed, match=reason):
            await connect("127.0.0.1", port, CLIENT, CHAIN, expect=None)


async def test_a_client_waits_for_a_silent_server_only_so_long() -> None:
    async def silent(socket: web.WebSocketResponse) -> None:
        await socket.receive()

    async with impostor(silent) as port:
        with pytest.raises(LinkClosed, match="did not answer within 50 ms"):
            await connect("127.0.0.1", port, CLIENT, CHAIN, expect=None, limits=LinkLimits(handshake_timeout_ms=50))


async def test_a_client_is_not_sent_elsewhere() -> None:
    async def redirect(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "https://127.0.0.1:1/"})

    async with listening(redirect) as port:
        with pytest.raises(LinkClosed, match="sends us elsewhere"):
            await connect("127.0.0.1", port, CLIENT, CHAIN, expect=None)


async def test_nobody_at_the_port_is_a_closed_link() -> None:
    async with serving() as case:
        pass
    with pytest.raises(LinkClosed, match="cannot be reached"):
        await case.connect()


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(LocalError, match="outbox_bytes 5 holds no message of max_message_bytes 6"):
        LinkLimits(max_message_bytes=6, outbox_bytes=5)
    with pytest.raises(LocalError, match="start at 1"):
        LinkLimits(heartbeat_ms=0)


def test_the_throwaway_key_touches_the_disk_only_in_a_private_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    modes = []
    real = ssl.SSLContext.load_cert_chain

    def load(self: ssl.SSLContext, path: str, **options: object) -> None:
        modes.append(Path(path).stat().st_mode & 0o777)
        real(self, path, **options)  # type: ignore[arg-type]  # as given

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    tls.server_context()
    assert modes == [0o600]
    assert list(tmp_path.iterdir()) == []

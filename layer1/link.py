"""The authenticated link between two replicas, or two wallets: messages of bytes, in order, over TLS.

What: a WebSocket over TLS 1.3. :class:`LinkServer` accepts, :func:`connect` opens, both after the handshake of
:mod:`layer1.handshake`; a :class:`Link` then sends and receives.

*Safety:* whoever holds a :class:`Link` reads only what the holder of ``peer``'s key wrote to it on this connection;
and strangers get a nonce, a throwaway certificate, and a bounded share of this process.

The handshake is bound to the TLS connection, and TLS keeps everything after it in order and unchanged. A connection
is counted before anything is read from it: until TLS is up it gives way to newer ones when they are too many, and then
one timer bounds its time as a stranger. A WebSocket message never exceeds one frame of :mod:`layer1.framing`, which is
all that a stranger can make us keep; only an authenticated peer may have large messages put together. Whatever queues
up in one turn of the loop leaves in few writes. What a peer does wrongly ends its link, is counted, and shows in the
log at debug level only.

*Source:* docs/design/architecture.md, "HTTP and links"; RFC 6455.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from yarl import URL

from layer1.codec import encode
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import LocalError, WedgeError
from layer1.framing import FRAME_BYTES, Inbox, Outbox
from layer1.handshake import (
    NONCE_BYTES,
    VERSION,
    Challenge,
    ClientProof,
    Refusal,
    ServerProof,
    Session,
    checked_greeting,
    read,
    read_challenge,
)
from layer1.tls import certificate_hash, client_context, server_context

CLOSE_TIMEOUT_S = 1.0
"""How long a closing link waits for its queue to leave, and for the peer to agree."""
ACCEPT_RETRY_S = 0.1
"""Pause after the system refused to accept, for want of file descriptors as a rule."""
BACKLOG = 128
"""Connections that the system keeps until we take them."""

_log = logging.getLogger(__name__)
_Socket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


class LinkClosed(WedgeError):
    """The link has ended, or never began; the text says why."""


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """What one link, and one server, may cost."""

    max_message_bytes: int = 16 * 2**20
    """Of one message of an authenticated peer, or of ours."""
    outbox_bytes: int = 32 * 2**20
    """What may wait for a slow peer before :meth:`Link.send_nowait` gives it up."""
    handshake_timeout_ms: int = 5_000
    """From the connection to the proof, TLS apart, which has as much again."""
    heartbeat_ms: int = 10_000
    """A silent peer is pinged after this, and dropped after half of it more."""
    max_connections: int = 256
    """Of a server, strangers included. Links that it need not keep give way to new ones, the longest silent first."""
    max_unauthenticated: int = 32
    """Of a server: strangers in the handshake at a time, and as many more that have not got through TLS. The oldest
    gives way."""
    max_unknown_bytes: int = 256 * 1024
    """Of one message of a peer whose link the server need not keep, and of what may wait for it: 256 of them could
    make us hold gigabytes."""

    def __post_init__(self) -> None:
        if self.outbox_bytes < self.max_message_bytes:
            raise LocalError(
                f"outbox_bytes {self.outbox_bytes} holds no message of max_message_bytes {self.max_message_bytes}: "
                "raise the one or lower the other"
            )
        if min(self.handshake_timeout_ms, self.heartbeat_ms, self.max_connections, self.max_unauthenticated) < 1:
            raise LocalError(f"times and numbers of connections start at 1: {self}")


class Link:
    """An open, authenticated link. Keep a :meth:`receive` pending: it also answers pings and notices the end.

    Attributes:
        peer: The key that the other side proved to hold.
        greeting: What it said in its proof.
        fault: Counter for what the peer did wrong, ``oversize``, ``garbage`` or ``misbehaved``; empty if nothing.
    """

    def __init__(
        self,
        socket: _Socket,
        peer: PublicKey,
        greeting: bytes,
        limits: LinkLimits,
        dispose: Callable[[], Awaitable[None]],
        *,
        keeps: Callable[[PublicKey], bool] | None = None,
    ) -> None:
        """Made by :func:`connect` and :class:`LinkServer`."""
        self.peer = peer
        self.greeting = greeting
        self.fault = ""
        self.heard_s = asyncio.get_running_loop().time()
        """When it was opened, or a message came last."""
        self._keeps = keeps
        self._socket = socket
        self._limits = limits
        self._dispose = dispose
        self._outbox = Outbox()
        self._inbox = Inbox(min(limits.max_message_bytes, limits.max_unknown_bytes))
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._reason: str | None = None
        self._closing: asyncio.Task[None] | None = None
        self._writer = asyncio.create_task(self._write())

    @property
    def is_kept(self) -> bool:
        """Whether this link matters: ours does, and one for which a server says so, which may change."""
        return self._keeps is None or self._keeps(self.peer)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._reason is not None

    def send_nowait(self, data: bytes) -> bool:
        """Queue ``data``. False if the link has ended, or ends now because the peer is too slow.

        Raises:
            LocalError: ``data`` exceeds ``max_message_bytes``.
        """
        if not self._fits(data):
            self._end(f"the peer is too slow: {self._outbox.size_bytes} bytes wait for it", polite=False)
        if self._reason is not None:
            return False
        self._outbox.put(data)
        self._wake.set()
        return True

    async def send(self, data: bytes) -> None:
        """Queue ``data``, waiting while the outbox is full.

        Raises:
            LinkClosed: The link has ended.
            LocalError: ``data`` exceeds ``max_message_bytes``.
        """
        while not self._fits(data) and self._reason is None:
            self._room.clear()
            await self._room.wait()
        if not self.send_nowait(data):
            raise LinkClosed(self._reason or "")

    async def receive(self) -> bytes:
        """The next message. One caller at a time.

        Raises:
            LinkClosed: The link has ended, and everything that came before was received.
        """
        while not self._inbox.messages:
            if self._reason is not None:
                raise LinkClosed(self._reason)
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY:
                self._unpack(message.data)
            else:
                self._end_by(message)
        return self._inbox.messages.popleft()

    async def close(self, reason: str = "") -> None:
        """End the link, after what is queued has left or a second has passed. The peer is told ``reason``."""
        self._end(reason or "closed", polite=True)
        if self._closing is not None:
            await asyncio.shield(self._closing)

    def cut(self, reason: str) -> None:
        """End the link at once for what its peer did; nothing that came from it meanwhile is received any more."""
        self._inbox.messages.clear()
        self._end(reason, polite=False, fault="misbehaved")

    def give_way(self) -> None:
        """End the link at once for a newer one."""
        self._end("too many links: this one was silent for longest", polite=False)

    def _fits(self, data: bytes) -> bool:
        if len(data) > self._limits.max_message_bytes:
            raise LocalError(
                f"a message of {len(data)} bytes exceeds max_message_bytes {self._limits.max_message_bytes}: split it"
            )
        wanted = self._outbox.size_bytes + len(data)
        if not self._outbox or wanted <= min(self._limits.outbox_bytes, self._limits.max_unknown_bytes):
            return True
        return wanted <= self._limits.outbox_bytes and self.is_kept

    def _end(self, reason: str, *, polite: bool, fault: str = "") -> None:
        """Refuse further messages at once, and close in a task of its own."""
        if self._reason is not None:
            return
        self._reason, self.fault = reason, fault
        self._wake.set()
        self._room.set()
        _log.debug("link with %s ends: %s", self.peer.hex(), reason)
        self._closing = asyncio.create_task(self._shut(polite))

    def _end_by(self, message: aiohttp.WSMessage) -> None:
        """End the link as the peer, or its failure, demands."""
        if message.type is WSMsgType.CLOSE:
            self._end(f"the peer closed: {message.extra!r}", polite=False)
        elif message.type is WSMsgType.TEXT:
            self._end("the peer sent text", polite=False, fault="garbage")
        elif message.type is WSMsgType.ERROR:
            self._end(f"{message.data!r}", polite=False, fault=_fault_of(message))
        else:
            self._end("the connection was lost", polite=False)

    async def _shut(self, polite: bool) -> None:
        if polite:
            await asyncio.wait({self._writer}, timeout=CLOSE_TIMEOUT_S)
            with suppress(TimeoutError, OSError, aiohttp.ClientError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._socket.close(message=(self._reason or "").encode("ascii", "replace")[:120])
        self._writer.cancel()
        await self._dispose()

    async def _write(self) -> None:
        """Send what is queued, as much as possible at a time, until the link ends."""
        try:
            while self._outbox or self._reason is None:
                self._wake.clear()
                while self._outbox:
                    await self._socket.send_bytes(self._outbox.take_frame())
                    self._room.set()
                if self._reason is None:
                    await self._wake.wait()
        except (OSError, aiohttp.ClientError) as error:
            self._end(f"the connection was lost: {error}", polite=False)

    def _unpack(self, frame: bytes) -> None:
        self.heard_s = asyncio.get_running_loop().time()
        inbox, full_bytes = self._inbox, self._limits.max_message_bytes
        if inbox.size_bytes + len(frame) > inbox.max_message_bytes:
            inbox.max_message_bytes = full_bytes if self.is_kept else min(full_bytes, self._limits.max_unknown_bytes)
        try:
            inbox.put_frame(frame)
        except Refusal as refusal:
            limit_bytes = inbox.max_message_bytes
            reason = f"{refusal}: the peer broke the framing, or sent more than {limit_bytes} bytes"
            self._end(reason, polite=False, fault=str(refusal))


class _Protocol(web.RequestHandler):
    """HTTP up to the upgrade. Where aiohttp would explain an error to the stranger, it hangs up."""

    def __init__(self, gate: _Gate, owner: LinkServer) -> None:
        super().__init__(gate, loop=asyncio.get_running_loop(), access_log=None)  # type: ignore[arg-type]  # meant so
        self._owner = owner

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        self._owner._reject(self, "garbage")
        raise ConnectionError(message or "not HTTP") from exc


class _Gate(web.Server):
    """Tells a :class:`LinkServer` about every connection, before anything is read from it."""

    def __init__(self, owner: LinkServer) -> None:
        super().__init__(owner._handle)
        self._owner = owner

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, self._owner)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._owner._connected(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._owner._lost(handler)
        super().connection_lost(handler, exc)


class LinkServer:
    """Accepts links.

    Attributes:
        rejected: How many connections were refused, by reason: ``busy``, ``timeout``, ``dropped`` (gone before the
            proof, or not even HTTP), ``gave_way`` (to a newer one), ``garbage``, ``oversize``, ``addressee``,
            ``signature`` (also a wrong chain, a replay, somebody in between), ``not_admitted``, ``failed`` (we did);
            and what authenticated peers broke.
    """

    def __init__(
        self,
        key: SigningKey,
        chain_id: Hash,
        admit: Callable[[PublicKey, bytes], bool],
        on_link: Callable[[Link], Awaitable[None]],
        *,
        greeting: Callable[[], bytes] = bytes,
        limits: LinkLimits | None = None,
        keeps: Callable[[PublicKey], bool] | None = None,
    ) -> None:
        """Prepare a server.

        Args:
            key: Our identity.
            chain_id: 32 bytes; peers of another chain fail.
            admit: Whether this proven key, with this greeting, may have a link.
            on_link: Lives as long as the link: when it returns, the link is closed. Handles its own errors.
            greeting: What we say in our proof, at most :data:`~layer1.handshake.MAX_GREETING_BYTES`.
            limits: See :class:`LinkLimits`.
            keeps: Whether the link with this key must be kept when there are too many; by default all must. Others
                give way, and may send no large messages.
        """
        self._key = key
        self._chain_id = chain_id
        self._admit = admit
        self._keeps = keeps
        self._on_link = on_link
        self._greeting = greeting
        self._limits = limits or LinkLimits()
        self._certificate = b""
        self._context: ssl.SSLContext | None = None
        self._gate: _Gate | None = None
        self._listeners: list[socket.socket] = []
        self._arriving: dict[asyncio.Task[None], socket.socket] = {}
        """Connections before TLS is up, oldest first."""
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        self._strangers: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._links: set[Link] = set()
        self.rejected: Counter[str] = Counter()

    async def start(self, host: str = "127.0.0.1", port: int = 0, *, reuse_port: bool = False) -> int:
        """Listen; the port, chosen by the system if ``port`` is 0.

        ``reuse_port`` lets it listen on a port that another process of this user reserved by binding it.
        """
        listeners = await _listen(host, port, reuse_port)
        self._context, self._certificate = server_context()
        self._gate = _Gate(self)
        self._listeners = listeners
        for listener in listeners:
            self._listen_on(listener)
        bound: int = listeners[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening and close every link. Harmless when repeated."""
        gate, self._gate = self._gate, None
        if gate is None:
            return
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        arriving = list(self._arriving)
        for task in arriving:
            self._give_up(task)
        await asyncio.gather(*arriving, return_exceptions=True)
        for handler in list(self._strangers):
            self._open[handler].abort()
        await asyncio.gather(*(link.close("the server stops") for link in list(self._links)))
        await gate.shutdown(CLOSE_TIMEOUT_S)

    def _listen_on(self, listener: socket.socket) -> None:
        """Take connections as they come; a task that waits for one would lose it if it were cancelled just then."""
        if self._gate is not None:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take one connection. One that is slow with TLS gives way to it: else silence alone would use us up."""
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # it gave up while it waited
        except OSError as error:
            _log.warning("cannot accept connections: %s; trying again", error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(ACCEPT_RETRY_S, self._listen_on, listener)
            return
        if len(self._arriving) >= self._limits.max_unauthenticated:
            self._give_up(next(iter(self._arriving)))
            self.rejected["busy"] += 1
        task = asyncio.create_task(self._begin_tls(connection))
        self._arriving[task] = connection
        task.add_done_callback(self._arrived)

    async def _begin_tls(self, connection: socket.socket) -> None:
        gate = self._gate
        assert gate is not None, "only a started server accepts"
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                gate,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._limits.handshake_timeout_ms / 1000,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
            )
        except OSError as error:  # a stranger who does not speak TLS, or too slowly
            _log.debug("a stranger failed before the handshake: %s", error)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._arriving.pop(task, None)

    def _give_up(self, task: asyncio.Task[None]) -> None:
        connection = self._arriving.pop(task)
        task.cancel()
        task.add_done_callback(lambda _: connection.close())  # it may not have come so far as to own it

    def _connected(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        limits = self._limits
        if len(self._strangers) >= limits.max_unauthenticated:
            self._reject(next(iter(self._strangers)), "busy")
        if len(self._open) >= limits.max_connections and not self._make_way():
            self.rejected["busy"] += 1
            transport.abort()
            return
        self._open[handler] = transport
        delay_s = limits.handshake_timeout_ms / 1000
        timer = asyncio.get_running_loop().call_later(delay_s, self._reject, handler, "timeout")
        self._strangers[handler] = timer

    def _make_way(self) -> bool:
        """End the link that has been silent for longest, of those that need not be kept; False if there is none."""
        unkept = [link for link in self._links if not link.is_over and not link.is_kept]
        if unkept:
            self.rejected["gave_way"] += 1
            min(unkept, key=lambda link: link.heard_s).give_way()
        return bool(unkept)

    def _lost(self, handler: web.RequestHandler) -> None:
        self._reject(handler, "dropped")
        self._open.pop(handler, None)

    def _reject(self, handler: web.RequestHandler, reason: str) -> None:
        """Count a stranger under its first reason and hang up; nothing if it is none, or no longer."""
        timer = self._strangers.pop(handler, None)
        if timer is not None:
            timer.cancel()
            self.rejected[reason] += 1
            _log.debug("a stranger was refused: %s", reason)
            self._open[handler].abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One connection, from its first request to its end."""
        handler = request.protocol
        socket = web.WebSocketResponse(**_socket_options(self._limits), timeout=CLOSE_TIMEOUT_S, compress=False)
        socket.headers["Server"] = "wedge"
        if "Sec-WebSocket-Protocol" in request.headers or not socket.can_prepare(request):
            self._reject(handler, "garbage")
            return web.Response()
        try:
            link = await self._authenticate(socket, request)
        except Refusal as refusal:
            self._reject(handler, str(refusal))
        except (OSError, aiohttp.ClientError):
            self._reject(handler, "dropped")
        except Exception:  # noqa: BLE001 - admit or greeting failed: ours, but no reason to end other links
            _log.exception("our side of a handshake failed")
            self._reject(handler, "failed")
        else:
            await self._serve(link)
        return socket

    async def _authenticate(self, socket: web.WebSocketResponse, request: web.BaseRequest) -> Link:
        await socket.prepare(request)
        session = Session(self._chain_id, self._certificate, os.urandom(NONCE_BYTES))
        await socket.send_bytes(encode(Challenge(VERSION, session.server_nonce)))
        client = read(await _receive(socket), ClientProof)
        session.check_client(client, self._key.public)
        if not self._admit(client.public, client.greeting):
            raise Refusal("not_admitted")
        greeting = checked_greeting(self._greeting())
        transport = self._admitted(request.protocol)

        async def dispose() -> None:
            if not transport.is_closing():
                transport.abort()

        await socket.send_bytes(encode(session.server_proof(self._key, greeting, client)))
        return Link(socket, client.public, client.greeting, self._limits, dispose, keeps=self._keeps)

    def _admitted(self, handler: web.RequestHandler) -> asyncio.Transport:
        timer = self._strangers.pop(handler, None)
        if timer is None:
            raise Refusal("dropped")
        timer.cancel()
        return self._open[handler]

    async def _serve(self, link: Link) -> None:
        self._links.add(link)
        try:
            await self._on_link(link)
        except LinkClosed:
            pass
        except Exception:  # noqa: BLE001 - no reason to end other links
            _log.exception("serving the link with %s failed", link.peer.hex())
        finally:
            await link.close()
            self._links.discard(link)
            if link.fault:
                self.rejected[link.fault] += 1


async def _listen(host: str, port: int, reuse_port: bool) -> list[socket.socket]:
    """Sockets that listen on every address of ``host``."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            listener = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=reuse_port)
            listeners.append(listener)
            listener.setblocking(False)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


async def connect(
    host: str,
    port: int,
    key: SigningKey,
    chain_id: Hash,
    *,
    expect: PublicKey | None,
    greeting: bytes = b"",
    limits: LinkLimits | None = None,
) -> Link:
    """Open a link. Close it in the end.

    Args:
        host: Name or address.
        port: TCP port.
        key: Our identity.
        chain_id: 32 bytes.
        expect: The key that the server must hold; None takes any, which then is for the caller to judge.
        greeting: What we say in our proof, at most :data:`~layer1.handshake.MAX_GREETING_BYTES`.
        limits: See :class:`LinkLimits`.

    Raises:
        LinkClosed: Nobody answers in time, the server is not the expected one, or it does not admit us.
    """
    limits, said = limits or LinkLimits(), checked_greeting(greeting)
    http, where = _http_session(), f"{host}:{port}"
    try:
        async with asyncio.timeout(limits.handshake_timeout_ms / 1000):
            url = URL.build(scheme="wss", host=host, port=port)
            return await _join(http, url, key, chain_id, expect=expect, greeting=said, limits=limits)
    except BaseException as error:
        await http.close()
        match error:
            case TimeoutError():
                reason = f"did not answer within {limits.handshake_timeout_ms} ms"
            case aiohttp.ClientConnectorError():
                nobody = isinstance(error.os_error, ConnectionRefusedError)
                reason = f"cannot be reached: {'nobody listens there' if nobody else error.strerror}"
            case OSError() | aiohttp.ClientError():
                reason = f"cannot be reached: {error}"
            case Refusal():
                reason = f"failed the handshake, or refused us: {error}"
            case _:
                raise
        raise LinkClosed(f"{where} {reason}") from error


async def _join(
    http: aiohttp.ClientSession,
    url: URL,
    key: SigningKey,
    chain_id: Hash,
    *,
    expect: PublicKey | None,
    greeting: bytes,
    limits: LinkLimits,
) -> Link:
    """Connect, introduce ourselves, and leave nothing open if that fails."""
    timeout = aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S)
    socket = await http.ws_connect(url, ssl=client_context(), timeout=timeout, **_socket_options(limits))

    async def dispose() -> None:
        await http.close()
        with suppress(OSError, aiohttp.ClientError):
            await socket.close()

    try:
        peer = await _introduce(socket, key, chain_id, expect, greeting)
    except BaseException:
        await dispose()
        raise
    return Link(socket, peer.public, peer.greeting, limits, dispose)


async def _introduce(
    socket: aiohttp.ClientWebSocketResponse,
    key: SigningKey,
    chain_id: Hash,
    expect: PublicKey | None,
    greeting: bytes,
) -> ServerProof:
    """Prove who we are, and learn who the server is."""
    challenge = read_challenge(await _receive(socket))
    tls = socket.get_extra_info("ssl_object")
    if tls is None:
        raise Refusal("dropped")
    session = Session(chain_id, certificate_hash(tls.getpeercert(binary_form=True)), challenge.nonce)
    client = session.client_proof(key, expect or b"", os.urandom(NONCE_BYTES), greeting)
    await socket.send_bytes(encode(client))
    server = read(await _receive(socket), ServerProof)
    if expect is not None and server.public != expect:
        raise Refusal(f"it is {server.public.hex()}, not {expect.hex()}")
    session.check_server(server, client)
    return server


async def _receive(socket: _Socket) -> bytes:
    """The next message of the handshake."""
    message = await socket.receive()
    if message.type is WSMsgType.BINARY:
        return bytes(message.data)
    if message.type is WSMsgType.TEXT:
        raise Refusal("garbage")
    raise Refusal(_fault_of(message) or "dropped")


def _fault_of(message: aiohttp.WSMessage) -> str:
    """What the peer did wrong, if it was not just the connection."""
    if not isinstance(message.data, aiohttp.WebSocketError):
        return ""
    return "oversize" if message.data.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG else "garbage"


def _socket_options(limits: LinkLimits) -> dict[str, Any]:
    # aiohttp refuses what reaches its limit, hence the one more.
    return {"max_msg_size": FRAME_BYTES + 1, "heartbeat": limits.heartbeat_ms / 1000}


def _http_session() -> aiohttp.ClientSession:
    """A session for one link: it keeps nothing and goes nowhere but to the address it is given."""

    async def refuse(*_: object) -> None:
        raise Refusal("it sends us elsewhere")

    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(refuse)
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[tracing])

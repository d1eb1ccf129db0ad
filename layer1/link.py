"""The authenticated link between two replicas, or two wallets: messages of bytes, in order, over TLS.

What: a WebSocket over TLS 1.3. :func:`connect` opens one and `layer1.link_server.LinkServer` accepts, both after the
handshake of :mod:`layer1.handshake`; a :class:`Link` then sends and receives.

*Safety:* whoever holds a :class:`Link` reads only what the holder of ``peer``'s key wrote to it on this connection.

The handshake is bound to the TLS connection, and TLS keeps everything after it in order and unchanged. A WebSocket
message never exceeds one frame of :mod:`layer1.framing`, which is all that a stranger can make us keep; only an
authenticated peer may have large messages put together. Whatever queues up in one turn of the loop leaves in few
writes. What a peer does wrongly ends its link.

*Source:* docs/design/architecture.md, "HTTP and links"; RFC 6455.
"""

from __future__ import annotations

import asyncio
import logging
import os
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
    Refusal,
    ServerProof,
    Session,
    checked_greeting,
    read,
    read_challenge,
    read_farewell,
)
from layer1.tls import certificate_hash, client_context

CLOSE_TIMEOUT_S = 1.0
"""How long a closing link waits for its queue to leave, and for the peer to agree."""

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
    """Of a server, strangers included, beside one link of each peer whom it must keep, if it need not keep all. Links
    that it need not keep give way to new ones, the longest silent first."""
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

    def has_room(self, data: bytes) -> bool:
        """Whether :meth:`send_nowait` takes ``data`` now and goes on; raises as it does."""
        return self._fits(data)

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

    def end(self, reason: str) -> None:
        """As :meth:`close`, without waiting for it."""
        self._end(reason, polite=True)

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
                reason = f"failed the handshake, or refused us: {error.words}"
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
    socket = await http.ws_connect(url, ssl=client_context(), timeout=timeout, **socket_options(limits))

    async def dispose() -> None:
        await http.close()
        with suppress(OSError, aiohttp.ClientError):
            await socket.close()

    try:
        peer = await _introduce(socket, key, chain_id, expect, greeting)
    except BaseException as error:
        if isinstance(error, Refusal) and error.say:
            await socket.close(message=error.say.encode())
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
    challenge = read_challenge(await next_message(socket))
    tls = socket.get_extra_info("ssl_object")
    if tls is None:
        raise Refusal("dropped")
    session = Session(chain_id, certificate_hash(tls.getpeercert(binary_form=True)), challenge.nonce)
    client = session.client_proof(key, expect or b"", os.urandom(NONCE_BYTES), greeting)
    await socket.send_bytes(encode(client))
    server = read(await next_message(socket), ServerProof)
    if expect is not None and server.public != expect:
        raise Refusal(f"it is {server.public.hex()}, not {expect.hex()}")
    session.check_server(server, client)
    return server


async def next_message(socket: _Socket) -> bytes:
    """The next message of the handshake."""
    message = await socket.receive()
    if message.type is WSMsgType.BINARY:
        return bytes(message.data)
    if message.type is WSMsgType.TEXT:
        raise Refusal("garbage")
    said = message.extra if message.type is WSMsgType.CLOSE else None
    raise read_farewell(said or "") or Refusal(_fault_of(message) or "dropped")


def _fault_of(message: aiohttp.WSMessage) -> str:
    """What the peer did wrong, if it was not just the connection."""
    if not isinstance(message.data, aiohttp.WebSocketError):
        return ""
    return "oversize" if message.data.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG else "garbage"


def socket_options(limits: LinkLimits) -> dict[str, Any]:
    """For aiohttp, on either side."""
    # aiohttp refuses what reaches its limit, hence the one more.
    return {"max_msg_size": FRAME_BYTES + 1, "heartbeat": limits.heartbeat_ms / 1000}


def _http_session() -> aiohttp.ClientSession:
    """A session for one link: it keeps nothing and goes nowhere but to the address it is given."""

    async def refuse(*_: object) -> None:
        raise Refusal("it sends us elsewhere")

    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(refuse)
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[tracing])

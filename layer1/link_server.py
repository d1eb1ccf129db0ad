"""Accepts authenticated links: the server's side of :mod:`layer1.link`.

*Safety:* strangers get a nonce, a throwaway certificate, and a bounded share of this process.

A connection is counted before anything is read from it: until TLS is up it gives way to newer ones when they are too
many, and then one timer bounds its time as a stranger. What a peer does wrongly ends its link, is counted, and shows in
the log at debug level only; another version, which is nobody's fault, as a warning now and then.

*Source:* docs/design/architecture.md, "HTTP and links".
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
from aiohttp import web

from layer1.codec import encode
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.handshake import NONCE_BYTES, VERSION, Challenge, ClientProof, Refusal, Session, checked_greeting, read
from layer1.link import CLOSE_TIMEOUT_S, Link, LinkClosed, LinkLimits, next_message, socket_options
from layer1.listening import TlsListener
from layer1.tls import server_context

WARNING_PAUSE_S = 60.0
"""Between two warnings of peers with another version."""

_log = logging.getLogger(__name__)


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
            ``signature`` (also a wrong chain, a replay, somebody in between), ``not_admitted``, ``version`` and
            ``wire`` (another one than ours), ``failed`` (we did); and what authenticated peers broke.
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
            admit: Whether this proven key, with this greeting, may have a link. May raise a :class:`Refusal`, which
                says why, and what the peer is told.
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
        self._warned_s = -WARNING_PAUSE_S
        self._certificate = b""
        self._gate: _Gate | None = None
        self._listener: TlsListener | None = None
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        self._strangers: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._links: set[Link] = set()
        self._kept: dict[PublicKey, Link] = {}
        """One link of each peer whose link must be kept, when there is anybody whose link need not be."""
        self.rejected: Counter[str] = Counter()

    async def start(self, host: str = "127.0.0.1", port: int = 0, *, reuse_port: bool = False) -> int:
        """Listen; the port, chosen by the system if ``port`` is 0.

        ``reuse_port`` lets it listen on a port that another process of this user reserved by binding it.
        """
        context, self._certificate = server_context()
        gate = _Gate(self)
        self._listener = TlsListener(
            gate,
            context,
            most_arriving=self._limits.max_unauthenticated,
            handshake_s=self._limits.handshake_timeout_ms / 1000,
            shutdown_s=CLOSE_TIMEOUT_S,
            gave_way=self._crowded_out,
        )
        self._gate = gate
        return await self._listener.start(host, port, reuse_port=reuse_port)

    async def stop(self) -> None:
        """Stop listening and close every link. Harmless when repeated."""
        gate, self._gate = self._gate, None
        if gate is None or self._listener is None:
            return
        await self._listener.close()
        for handler in list(self._strangers):
            self._open[handler].abort()
        await asyncio.gather(*(link.close("the server stops") for link in list(self._links)))
        await gate.shutdown(CLOSE_TIMEOUT_S)

    @property
    def arriving(self) -> int:
        """Connections on which TLS is not up yet."""
        return 0 if self._listener is None else self._listener.arriving

    def _crowded_out(self) -> None:
        self.rejected["busy"] += 1

    def _connected(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        limits = self._limits
        if len(self._strangers) >= limits.max_unauthenticated:
            self._reject(next(iter(self._strangers)), "busy")
        if self._is_full() and not self._make_way():
            self.rejected["busy"] += 1
            transport.abort()
            return
        self._open[handler] = transport
        delay_s = limits.handshake_timeout_ms / 1000
        timer = asyncio.get_running_loop().call_later(delay_s, self._reject, handler, "timeout")
        self._strangers[handler] = timer

    def _is_full(self) -> bool:
        """Whether there are too many connections, beside one of each peer whose link must be kept.

        Those are as many as a wallet has peers with whom it shares money: none of them finds it full of the others.
        """
        most = self._limits.max_connections
        if len(self._open) - len(self._kept) >= most and self._keeps is not None:  # who is to be kept may have changed
            self._kept = {link.peer: link for link in self._links if not link.is_over and link.is_kept}
        return len(self._open) - len(self._kept) >= most

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
        socket = web.WebSocketResponse(**socket_options(self._limits), timeout=CLOSE_TIMEOUT_S, compress=False)
        socket.headers["Server"] = "wedge"
        if "Sec-WebSocket-Protocol" in request.headers or not socket.can_prepare(request):
            self._reject(handler, "garbage")
            return web.Response()
        try:
            link = await self._authenticate(socket, request)
        except Refusal as refusal:
            await self._turn_away(socket, handler, refusal)
        except (OSError, aiohttp.ClientError):
            self._reject(handler, "dropped")
        except Exception:  # noqa: BLE001 - admit or greeting failed: ours, but no reason to end other links
            _log.exception("our side of a handshake failed")
            self._reject(handler, "failed")
        else:
            await self._serve(link)
        return socket

    async def _turn_away(self, socket: web.WebSocketResponse, handler: web.RequestHandler, refusal: Refusal) -> None:
        """Hang up; where there is something to say, say it first, as long as a stranger has time."""
        self._tell_operator(refusal)
        if refusal.say:
            with suppress(OSError, aiohttp.ClientError):
                await socket.close(message=refusal.say.encode())
        self._reject(handler, str(refusal))

    def _tell_operator(self, refusal: Refusal) -> None:
        """Of another version, which upgrades lead to: now and then only, for anybody may claim to have one."""
        now_s = asyncio.get_running_loop().time()
        if str(refusal) == "version" and now_s >= self._warned_s + WARNING_PAUSE_S:
            self._warned_s = now_s
            _log.warning("a link was refused: %s", refusal.words)

    async def _authenticate(self, socket: web.WebSocketResponse, request: web.BaseRequest) -> Link:
        await socket.prepare(request)
        session = Session(self._chain_id, self._certificate, os.urandom(NONCE_BYTES))
        await socket.send_bytes(encode(Challenge(VERSION, session.server_nonce)))
        client = read(await next_message(socket), ClientProof)
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
        if self._keeps is not None and link.is_kept:
            self._kept[link.peer] = link
        try:
            await self._on_link(link)
        except LinkClosed:
            pass
        except Exception:  # noqa: BLE001 - no reason to end other links
            _log.exception("serving the link with %s failed", link.peer.hex())
        finally:
            await link.close()
            self._links.discard(link)
            if self._kept.get(link.peer) is link:
                del self._kept[link.peer]
            if link.fault:
                self.rejected[link.fault] += 1

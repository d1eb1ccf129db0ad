"""Accepting connections over TLS: whoever is slow with it, or never begins, gives way.

*Safety:* strangers who say nothing hold a bounded number of this process's descriptors, and keep nobody out.

asyncio tells a protocol about a connection only when TLS is up; until then there may be as many as there are
descriptors, which the journal needs as well. So connections are taken one by one here, and those on which TLS is not up
are counted: for the next one beyond the limit the oldest ends.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

ACCEPT_RETRY_S = 0.1
"""Pause after the system refused to accept, for want of file descriptors as a rule."""
BACKLOG = 1_024
"""Connections that the system keeps until we take them; more than come in one turn of the loop."""

_log = logging.getLogger(__name__)


class TlsListener:
    """Listening sockets whose connections begin with TLS.

    Attributes:
        sockets: Those that listen.
    """

    def __init__(
        self,
        connect: Callable[[], asyncio.BaseProtocol],
        context: ssl.SSLContext,
        *,
        most_arriving: int,
        handshake_s: float,
        shutdown_s: float,
        gave_way: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            connect: Makes the protocol of a connection, which hears of it once TLS is up.
            context: For a server.
            most_arriving: Connections on which TLS is not up yet.
            handshake_s: How long it may take.
            shutdown_s: How long ending TLS may take.
            gave_way: Called when a connection on which TLS is not up ends for another one.
        """
        self._connect = connect
        self._context = context
        self._most_arriving = most_arriving
        self._handshake_s = handshake_s
        self._shutdown_s = shutdown_s
        self.sockets: list[socket.socket] = []
        self._arriving: dict[asyncio.Task[None], socket.socket] = {}
        """Oldest first."""
        self._closed = False
        self._gave_way = gave_way

    @property
    def arriving(self) -> int:
        """Connections on which TLS is not up yet."""
        return len(self._arriving)

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listen on every address of ``host``; the port, chosen by the system if ``port`` is 0.

        ``reuse_port`` lets it listen on a port that another process of this user reserved by binding it.

        Raises:
            OSError: The address is taken or not ours.
        """
        self.sockets = await _listen(host, port, reuse_port)
        for listener in self.sockets:
            self._listen_on(listener)
        bound: int = self.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening, and end what has not begun; open connections are left alone. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        for listener in self.sockets:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        arriving = list(self._arriving)
        for task in arriving:
            self._give_up(task)
        await asyncio.gather(*arriving, return_exceptions=True)

    def _listen_on(self, listener: socket.socket) -> None:
        """Take connections as they come; a task that waits for one would lose it if it were cancelled just then."""
        if not self._closed:
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
        if len(self._arriving) >= self._most_arriving:
            self._give_up(next(iter(self._arriving)))
            self._gave_way()
        task = asyncio.create_task(self._begin_tls(connection))
        self._arriving[task] = connection
        task.add_done_callback(self._arrived)

    async def _begin_tls(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connect,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_s,
                ssl_shutdown_timeout=self._shutdown_s,
            )
        except OSError as error:  # a stranger who does not speak TLS, or too slowly
            _log.debug("a stranger failed before the handshake: %s", error)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._arriving.pop(task, None)

    def _give_up(self, task: asyncio.Task[None]) -> None:
        connection = self._arriving.pop(task)
        task.cancel()
        task.add_done_callback(lambda _: connection.close())  # it may not have come so far as to own it


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

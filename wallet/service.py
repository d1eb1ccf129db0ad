"""What a watchtower and a witness have in common as services: where they listen, what ends them, and how it is told.

*Safety:* a service whose lookout has ended ends as well: one that only seems to watch is worse than one that is gone.

Source: docs/design/groups.md, rule 17 and "Witnessed groups"; decisions 032 and 033.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from layer1.crypto import SigningKey
from layer1.descriptors import raise_limit
from layer1.errors import LocalError, Refused
from layer1.link_server import LinkServer
from wallet.contacts import Contact, format_endpoint, parse_endpoint
from wallet.home import Home

Failure = asyncio.Future[LocalError]
"""Set once, with why a service can go on no longer."""
_log = logging.getLogger(__name__)


class Running(Protocol):
    """A service that is up."""

    @property
    def failed(self) -> Failure:
        """See there."""
        ...


S = TypeVar("S", bound=Running)
Make = Callable[[SigningKey], AbstractAsyncContextManager[S]]
"""A service, by the key of its home."""


async def listen_at(server: LinkServer, home: Home, key: SigningKey, wanted: str | None) -> Contact:
    """Listen where it is wanted, else where this home did last, else at any port of 127.0.0.1.

    Raises:
        Refused: ``cannot_listen`` or ``bad_contact``.
    """
    host, port = parse_endpoint(wanted or home.endpoint() or "127.0.0.1:0")
    try:
        bound = await server.start(host, port)
    except OSError as error:
        raise Refused(
            "cannot_listen",
            f"{format_endpoint(host, port)} cannot be listened on ({error.strerror or error}): choose another "
            "--listen, or stop what is there",
        ) from None
    home.remember_endpoint(format_endpoint(host, bound))
    return Contact(key.public, host, bound)


@contextlib.asynccontextmanager
async def watched(lookout: Coroutine[Any, Any, None], failed: Failure, what: str) -> AsyncIterator[None]:
    """Run a lookout meanwhile; if it ends by a fault, `failed` says so: "`what`: the fault"."""

    def note_end(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the lookout ended", exc_info=error)
            fail(failed, LocalError(f"{what}: {first_cause(error)!r}"))

    task = asyncio.create_task(lookout)
    task.add_done_callback(note_end)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def fail(failed: Failure, error: LocalError) -> None:
    """The first reason stands."""
    if not failed.done():
        failed.set_result(error)


def first_cause(error: BaseException) -> BaseException:
    """What went wrong first, of a group of errors that a task group raised."""
    return first_cause(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def serve_until_stopped(
    home: Home,
    passphrase: str,
    make: Callable[[SigningKey], AbstractAsyncContextManager[S]],
    ready: Callable[[S], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        home: Of the service; locked meanwhile.
        passphrase: Of its hot keys.
        make: The service, by its key.
        ready: Told when it is up.

    Raises:
        Refused: ``home_busy``, ``cannot_listen``, ``wrong_passphrase``.
        LocalError: It can no longer keep its word; start it again once the cause is mended.
    """
    raise_limit()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    key = home.keystore().unlock(passphrase).spending
    lock = home.lock()
    try:
        async with make(key) as up:
            ready(up)
            asked: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
            ends: list[asyncio.Future[Any]] = [asked, up.failed]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if up.failed.done():
                raise up.failed.result()
    finally:
        lock.release()

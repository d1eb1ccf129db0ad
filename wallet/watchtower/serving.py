"""``wallet watchtower serve``: a watchtower for whoever is a member of a group on this ledger.

*Safety:* it holds the key of its links, which signs receipts, and no key of any group; the savings stay sealed.

A tower lives in a home of its own, made like a wallet's: its spending key is its identity, bounties go to its savings.

Source: docs/design/groups.md, rule 17; decision 032.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from layer1.client import LedgerClient
from layer1.crypto import SigningKey
from layer1.descriptors import raise_limit
from layer1.errors import LocalError, Refused
from layer1.link import LinkLimits
from layer1.link_server import LinkServer
from layer2.tower import MAX_MESSAGE_BYTES, Policy
from wallet.contacts import Contact, format_endpoint, parse_endpoint
from wallet.home import Home
from wallet.watchtower.desk import Desk
from wallet.watchtower.ledger import TowerLedger
from wallet.watchtower.lookout import Lookout
from wallet.watchtower.store import TowerStore

LIMITS = LinkLimits(
    max_message_bytes=MAX_MESSAGE_BYTES,
    max_unknown_bytes=MAX_MESSAGE_BYTES,
    outbox_bytes=4 * MAX_MESSAGE_BYTES,
    max_connections=2_000,
)
"""Of customers' links: small messages, many links, the longest silent of which gives way."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TowerServing:
    """How a tower is to be served; see :class:`layer2.tower.Policy`."""

    listen: str | None
    least_bounty: int
    keep_ms: int
    least_period_ms: int
    max_groups: int
    max_groups_each: int


@dataclass(slots=True)
class Tower:
    """A tower that is up."""

    contact: Contact
    desk: Desk
    lookout: Lookout
    store: TowerStore
    failed: asyncio.Future[LocalError]


@contextlib.asynccontextmanager
async def tower(home: Home, key: SigningKey, serving: TowerServing) -> AsyncIterator[Tower]:
    """A tower in a home that is locked by us.

    Raises:
        Refused: ``cannot_listen``, ``no_ledger`` or ``bad_config``.
        LocalError: What it holds is damaged.
    """
    genesis, config, light = home.genesis(), home.config(), home.light(keep=True)
    policy = Policy(
        payout=home.keystore().savings_address,
        least_bounty=serving.least_bounty,
        keep_ms=serving.keep_ms,
        least_period_ms=serving.least_period_ms,
        max_groups=serving.max_groups,
        max_groups_each=serving.max_groups_each,
    )
    async with contextlib.AsyncExitStack() as stack:
        store = TowerStore(home.path / "tower.db")
        stack.callback(store.close)
        client = LedgerClient(config.ledger_urls, genesis, ca=config.ca, light=light)
        ledger = TowerLedger(await stack.enter_async_context(client))
        failed: asyncio.Future[LocalError] = asyncio.get_running_loop().create_future()
        desk = Desk(store, key, genesis.chain_id, policy, ledger)
        lookout = Lookout(store, ledger, genesis.parameters.max_valid_ms)
        desk.on_kept = lookout.kept
        desk.on_failure = lambda error: _fail(failed, error)
        server = LinkServer(
            key,
            genesis.chain_id,
            lambda peer, _: desk.admits(peer),
            desk.attach,
            limits=LIMITS,
            keeps=lambda _: False,
        )
        contact = await _listen(server, home, key, serving.listen or config.listen)
        stack.push_async_callback(server.stop)
        watching = asyncio.create_task(lookout.run())
        watching.add_done_callback(lambda task: _note_end(failed, task))
        stack.push_async_callback(_cancel, watching)
        yield Tower(contact, desk, lookout, store, failed)


async def serve_tower(home: Home, passphrase: str, serving: TowerServing, ready: Callable[[Tower], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        Refused: ``home_busy``, ``cannot_listen``, ``wrong_passphrase``.
        LocalError: It can no longer keep its promises; start it again once the cause is mended.
    """
    raise_limit()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    key = home.keystore().unlock(passphrase).spending
    lock = home.lock()
    try:
        async with tower(home, key, serving) as up:
            ready(up)
            asked: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
            ends: list[asyncio.Future[Any]] = [asked, up.failed]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if up.failed.done():
                raise up.failed.result()
    finally:
        lock.release()


async def _listen(server: LinkServer, home: Home, key: SigningKey, wanted: str | None) -> Contact:
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


def _note_end(failed: asyncio.Future[LocalError], task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the lookout ended", exc_info=error)
        _fail(failed, LocalError(f"the watchtower no longer watches: {_first(error)!r}"))


def _fail(failed: asyncio.Future[LocalError], error: LocalError) -> None:
    if not failed.done():
        failed.set_result(error)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

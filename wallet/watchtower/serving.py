"""``wallet watchtower serve``: a watchtower for whoever is a member of a group on this ledger.

*Safety:* it holds the key of its links, which signs receipts, and no key of any group; the savings stay sealed.

A tower lives in a home of its own, made like a wallet's: its spending key is its identity, bounties go to its savings.

Source: docs/design/groups.md, rule 17; decision 032.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from layer1.client import LedgerClient
from layer1.crypto import SigningKey
from layer1.link import LinkLimits
from layer1.link_server import LinkServer
from layer2.tower import MAX_MESSAGE_BYTES, Policy
from wallet.contacts import Contact
from wallet.home import Home
from wallet.service import Failure, fail, listen_at, serve_until_stopped, watched
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
    failed: Failure


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
        failed: Failure = asyncio.get_running_loop().create_future()
        desk = Desk(store, key, genesis.chain_id, policy, ledger)
        lookout = Lookout(store, ledger, genesis.parameters.max_valid_ms)
        desk.on_kept = lookout.kept
        desk.on_failure = lambda error: fail(failed, error)
        server = LinkServer(
            key,
            genesis.chain_id,
            lambda peer, _: desk.admits(peer),
            desk.attach,
            limits=LIMITS,
            keeps=lambda _: False,
        )
        contact = await listen_at(server, home, key, serving.listen or config.listen)
        stack.push_async_callback(server.stop)
        await stack.enter_async_context(watched(lookout.run(), failed, "the watchtower no longer watches"))
        yield Tower(contact, desk, lookout, store, failed)


async def serve_tower(home: Home, passphrase: str, serving: TowerServing, ready: Callable[[Tower], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises as :func:`wallet.service.serve_until_stopped`."""
    await serve_until_stopped(home, passphrase, lambda key: tower(home, key, serving), ready)

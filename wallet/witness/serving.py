"""``wallet witness serve``: a witness for groups of others, on this ledger.

*Safety:* it holds the key of its links, which signs ACKs and CLAIMs, and no key of any group; the savings stay sealed.

A witness lives in a home of its own, made like a wallet's; its spending key is its identity. It needs no money. From a
copy of its home it does not serve: it would not know what it ACKed since, and two that run have one voice too many. It
looks at each of its groups now and then, and at once when an event tells of it: nobody's deadline depends on it.

Source: docs/design/groups.md, "Witnessed groups"; decisions 033 and 040.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from layer1.client import LedgerClient
from layer1.crypto import Hash, SigningKey
from layer1.errors import Refused, WedgeError
from layer1.files import private_directory
from layer1.journal import Journal
from layer1.ledger.records import Group
from layer1.link_server import LinkServer
from layer2.engaging import WitnessPolicy
from wallet.contacts import Contact
from wallet.home import Home
from wallet.life import Life, keep_alive
from wallet.service import Failure, fail, listen_at, serve_until_stopped, watched
from wallet.submitter import Submitter
from wallet.witness.desk import WitnessDesk

ROUND_S = 60.0
"""In this time every group is looked at once, if nothing tells of it before."""
PAUSE_S = 1.0
"""Between two looks while layer 1 does not answer, and at groups in dispute."""
COMPACT_BYTES = 64 * 2**20
"""A journal that is longer is replaced by what is needed to go on."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ServedWitness:
    """A witness that is up."""

    contact: Contact
    desk: WitnessDesk
    failed: Failure


class Lookout:
    """Looks at the groups that a desk holds."""

    def __init__(self, desk: WitnessDesk, ledger: LedgerClient) -> None:
        self._desk = desk
        self._ledger = ledger
        self._wanted: dict[Hash, None] = {}
        """In the order of wishes."""
        self._wake = asyncio.Event()

    def want(self, group_id: Hash) -> None:
        """Look at this group soon, if it is one of ours: a replica may tell of any number of others."""
        if group_id in self._desk.holdings:
            self._wanted[group_id] = None
            self._wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._go_round())
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._wanted:
                    group_id = next(iter(self._wanted))
                    del self._wanted[group_id]
                    await self._look(group_id)

    async def _look(self, group_id: Hash) -> None:
        if group_id not in self._desk.holdings:
            return
        try:
            shown = (await self._ledger.group(group_id)).value
        except WedgeError as error:
            _log.warning("group %s: %s", group_id.hex()[:12], error)
            self.want(group_id)
            await asyncio.sleep(PAUSE_S)
            return
        if shown is not None:
            self._desk.observe(shown)

    async def _go_round(self) -> None:
        """Also what a claim was brought for: until layer 1 shows it."""
        while True:
            names = list(self._desk.holdings)
            claimed = [name for name, holding in self._desk.holdings.items() if holding.claim is not None]
            if self._desk.journal_bytes() > COMPACT_BYTES:
                self._desk.compact()
            for name in names or [b""]:
                for urgent in claimed:
                    self.want(urgent)
                if name:
                    self.want(name)
                await asyncio.sleep(min(ROUND_S / max(len(names), 1), 2.0 if claimed else ROUND_S))

    async def _listen(self) -> None:
        """Events of groups are hints to look at once; without them the round goes on."""
        while True:
            try:
                async with contextlib.aclosing(self._ledger.events()) as events:
                    async for event in events:
                        if event.group_id is not None:
                            self.want(event.group_id)
            except WedgeError as error:
                _log.debug("no events: %s", error)
            await asyncio.sleep(PAUSE_S)


def live_on(home: Home, *, moved: bool) -> None:
    """These files are the originals from now on; only whoever holds the home's lock may say so.

    Args:
        home: Of the witness.
        moved: Its owner says that this copy is the newest there is, and the only one that is used.

    Raises:
        Refused: ``old_copy``; nothing is changed.
        LocalError: The disk does not take it.
    """
    holds = home.path / "witness"
    is_new = not any(holds.glob("segment-*"))
    private_directory(holds)
    life = Life(holds)  # not the wallet's mark, which any verb in a copy of the home would renew
    original = life.is_original
    if not (original or moved or is_new):
        raise Refused(
            "old_copy",
            f"the files in {home.path} are a copy: from an old one a witness would break its word. If the home was "
            "only moved, after the witness had stopped, and the other one is not used again, add --moved; if it comes "
            "from a backup, it must not serve: the members replace it (`wallet channel replace-witness`)",
        )
    life.renew(copied=not original)


@contextlib.asynccontextmanager
async def witness(
    home: Home, key: SigningKey, listen: str | None, policy: WitnessPolicy, *, moved: bool = False
) -> AsyncIterator[ServedWitness]:
    """A witness in a home that is locked by us; `moved` as for :func:`live_on`.

    Raises:
        Refused: ``cannot_listen``, ``no_ledger``, ``bad_config`` or ``old_copy``.
        LocalError: What it holds is damaged.
    """
    live_on(home, moved=moved)
    genesis, config, light = home.genesis(), home.config(), home.light(keep=True)
    async with contextlib.AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(LedgerClient(config.ledger_urls, genesis, ca=config.ca, light=light))
        submitter = Submitter(ledger)
        stack.push_async_callback(submitter.close)
        holds = home.path / "witness"
        journal = Journal.open(holds)
        stack.callback(journal.close)

        async def look(group_id: Hash) -> Group | None:
            return (await ledger.group(group_id)).value

        desk = WitnessDesk(journal, key, genesis.chain_id, policy, look=look, clock=ledger.clock)
        stack.push_async_callback(desk.close)
        failed: Failure = asyncio.get_running_loop().create_future()
        lookout = Lookout(desk, ledger)
        desk.on_failure = lambda error: fail(failed, error)
        desk.on_submission = submitter.bring
        desk.on_taken = lookout.want
        server = LinkServer(key, genesis.chain_id, lambda peer, _: desk.admits(peer), desk.attach, keeps=desk.keeps)
        contact = await listen_at(server, home, key, listen or config.listen)
        stack.push_async_callback(server.stop)
        await stack.enter_async_context(watched(lookout.run(), failed, "the witness no longer follows layer 1"))
        await stack.enter_async_context(watched(keep_alive(holds), failed, "its home is no longer marked"))
        yield ServedWitness(contact, desk, failed)


async def serve_witness(
    home: Home,
    passphrase: str,
    listen: str | None,
    policy: WitnessPolicy,
    ready: Callable[[ServedWitness], None],
    *,
    moved: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT. Raises as :func:`wallet.service.serve_until_stopped` and :func:`witness`."""
    await serve_until_stopped(home, passphrase, lambda key: witness(home, key, listen, policy, moved=moved), ready)

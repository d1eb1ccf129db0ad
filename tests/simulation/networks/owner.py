"""The person who owns a wallet of a network: offers locks, and claims, releases or forgets those that are offered.

What two people agreed on, they know over all lives of their wallets, as invoices and payments are durable before
anything follows from them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any

from layer1.crypto import Hash
from layer1.errors import Refused, WedgeError
from layer1.ledger.agreements import Lock
from layer2.driver import Pending
from tests.simulation.networks.member import MARGIN_MS, WalletProcess
from tests.simulation.stories.member import Life, MemberProcess
from tests.simulation.stories.owner import Owner
from wallet.lock_news import Ended

RETRY_S = 1.0
"""After a release that was refused."""
LONGEST_MS = 8 * MARGIN_MS
"""No lock is offered that lives longer."""
AMOUNTS = (1, 30, 120, 250)
"""Some are worth a wedge, some are not (`wallet.locking.WORTH_UNITS`)."""


@dataclass(frozen=True)
class Deal:
    """What a payee is going to do with a lock."""

    preimage: bytes
    intent: str
    """claim, release or forget."""
    left_ms: int
    """It does so when so much of the lock's time is left, or at once, if less is left."""

    @property
    def hash(self) -> Hash:
        """Of the lock."""
        return sha256(self.preimage).digest()


Draw = Callable[[Random, bytes], Deal]


def any_deal(random: Random, preimage: bytes) -> Deal:
    """Most are claimed at once; some late, or not at all."""
    intent = random.choices(("claim", "release", "forget"), (7, 2, 1))[0]
    left_ms = LONGEST_MS if random.random() < 0.6 else random.randint(0, 5 * MARGIN_MS)
    return Deal(preimage, intent, left_ms)


class LockOwner(Owner):
    """One person, over all lives of a wallet."""

    deals: dict[Hash, Deal]
    """Of all people of the network, by hash."""
    draw: Draw = staticmethod(any_deal)
    offers_s = 1.5
    """Mean time between two offers."""
    most_ms = LONGEST_MS
    """An offer lives so long at most; four margins at least."""

    def __init__(self, homes: list[MemberProcess], random: Random, pause_s: float, deals: dict[Hash, Deal]) -> None:
        super().__init__(homes, random, pause_s, resizes=False)
        self.deals = deals
        self._waits = random.random() < 0.5
        """It lets locks end before it ends a channel."""

    def _begin(self, home: MemberProcess, life: Life) -> None:
        assert isinstance(home, WalletProcess), "this is a network"
        locking = home.locking
        assert locking is not None, "a life begins"
        locking.on_offer = lambda group_id, lock, packet: self._offered(home, life, group_id, lock)
        locking.on_preimage = partial(self._shown, home)
        locking.on_end = partial(self._ended, home)
        for group_id, ended in locking.ends():
            self._ended(home, group_id, ended)
        for group_id, lock, _ in locking.incoming():
            self._offered(home, life, group_id, lock)
        life.loop.spawn(self._offer_now_and_then(home, life), f"the owner of {home.name}")
        super()._begin(home, life)

    # ----------------------------------------------------------------------------------------------------------- paying

    async def _offer_now_and_then(self, home: WalletProcess, life: Life) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self.offers_s))
            groups = [name for name, group in life.parts.host.groups.items() if group.stopped is None]
            if self.is_paying and groups:
                life.loop.spawn(self._offer(home, life, self._random.choice(groups)), f"the owner of {home.name}")

    async def _offer(self, home: WalletProcess, life: Life, group_id: Hash) -> None:
        random, index, stats = self._random, self._index, self._world.stats
        deal = self.draw(random, random.randbytes(32))
        if random.random() < 0.05 and self.deals:  # two parts of one payment
            deal = random.choice(list(self.deals.values()))
        self.deals[deal.hash] = deal
        amount = random.choice(AMOUNTS)
        expiry_ms = life.parts.host.clock_ms() + random.randint(4 * MARGIN_MS, self.most_ms)
        home.tell(lambda checkers: checkers.offering(index, group_id, amount, deal.hash))
        assert home.locking is not None, "it lives"
        try:
            await home.locking.begin(group_id, amount, deal.hash, expiry_ms)
        except Refused as refusal:
            stats[f"offers refused: {refusal.code}"] += 1
        except Pending:
            stats["offers pending"] += 1
        except WedgeError:
            stats["offers pending"] += 1
        else:
            stats["offers"] += 1

    # ---------------------------------------------------------------------------------------------------- being paid

    def _offered(self, home: WalletProcess, life: Life, group_id: Hash, lock: Lock) -> None:
        deal = self.deals.get(lock.hash)
        if deal is not None:
            life.loop.spawn(self._decide(home, life, group_id, lock, deal), f"the owner of {home.name}")

    async def _decide(self, home: WalletProcess, life: Life, group_id: Hash, lock: Lock, deal: Deal) -> None:
        await self._until(life, lock.expiry_ms - deal.left_ms)
        locking = home.locking
        assert locking is not None, "it lives"
        try:
            if deal.intent == "claim":
                await locking.claim(group_id, lock.id, deal.preimage)
                home.tell(lambda checkers: checkers.claiming(self._index, group_id, lock))
                self._world.stats["claims"] += 1
            while deal.intent == "release" and self._stands(home, group_id, lock):
                try:
                    await locking.release(group_id, lock.id, b"no")
                except (Refused, Pending):
                    await asyncio.sleep(RETRY_S)
                else:
                    self._world.stats["releases"] += 1
        except Refused as refusal:
            self._world.stats[f"claims refused: {refusal.code}"] += 1
        except WedgeError as error:
            self._world.note(home.name, f"its owner cannot take a lock: {error}")

    @staticmethod
    async def _until(life: Life, clock_ms: int) -> None:
        """Wait until the ledger clock, as the wallet reckons it, is there."""
        for _ in range(1_000):
            left_ms = clock_ms - life.parts.host.clock_ms()
            if left_ms <= 0:
                return
            await asyncio.sleep(left_ms / 1_000)

    @staticmethod
    def _stands(home: WalletProcess, group_id: Hash, lock: Lock) -> bool:
        assert home.locking is not None, "it lives"
        return any((name, each.id) == (group_id, lock.id) for name, each, _ in home.locking.incoming())

    # -------------------------------------------------------------------------------------------------- what it is told

    def _shown(self, home: WalletProcess, group_id: Hash, lock: Lock, preimage: bytes) -> None:
        home.tell(lambda checkers: checkers.shown(self._index, group_id, lock, preimage))

    def _ended(self, home: WalletProcess, group_id: Hash, ended: Ended) -> None:
        self._world.stats[f"locks {ended.how}"] += 1
        home.tell(lambda checkers: checkers.ended(self._index, group_id, ended))

    # ---------------------------------------------------------------------------------------------------------- ending

    async def _end(self, home: MemberProcess, life: Life, group_id: Hash) -> None:
        if self._waits:
            await self._let_locks_end(life, group_id)
        await super()._end(home, life, group_id)

    @staticmethod
    async def _let_locks_end(life: Life, group_id: Hash) -> None:
        for _ in range((LONGEST_MS + 3 * MARGIN_MS) // 1_000):
            group = life.parts.host.groups.get(group_id)
            if group is None or not group.locks:
                return
            await asyncio.sleep(1.0)

    def end_now(self, home: Any, group_id: Hash) -> None:
        """By force, in the middle of everything."""
        life = home.life
        if life is not None:
            with life.loop.running():
                life.loop.spawn(self._force(life, group_id), f"the owner of {home.name}")

    async def _force(self, life: Life, group_id: Hash) -> None:
        with contextlib.suppress(WedgeError):  # the disk failed
            self._end_by_force(life, group_id)

"""The person who owns a wallet of a network: pays others over routes, and claims, releases or forgets what comes.

It stands for the payer and the payee of its wallet, whose switchboard tells it of locks.
"""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import Any

from layer1.crypto import Hash
from layer1.errors import Refused, WedgeError
from layer1.ledger.agreements import Lock
from layer1.ledger.records import Group as LedgerGroup
from layer2.driver import Pending
from tests.simulation.networks.member import MARGIN_MS, WalletProcess
from tests.simulation.networks.town import LONGEST_MS, Draw, Payment, Town, any_plan
from tests.simulation.stories.member import Life, MemberProcess
from tests.simulation.stories.owner import Owner
from wallet.lock_news import Ended
from wallet.onion.failure import Code, Failure, wrap
from wallet.onion.packet import Peeled

RETRY_S = 1.0
"""After a release that was refused."""
AMOUNTS = (1, 30, 120, 250)
"""Some are worth a wedge, some are not (`wallet.locking.WORTH_UNITS`)."""


class NetworkOwner(Owner):
    """One person, over all lives of a wallet."""

    draw: Draw = staticmethod(any_plan)
    offers_s = 1.5
    """Mean time between two offers."""
    most_ms = LONGEST_MS
    """An offer lives so long at most; four margins at least."""

    def __init__(self, homes: list[MemberProcess], random: Random, pause_s: float, town: Town) -> None:
        super().__init__(homes, random, pause_s, resizes=False)
        self.town = town
        self._waits = random.random() < 0.5
        """It lets locks end before it ends a channel."""

    def _begin(self, home: MemberProcess, life: Life) -> None:
        assert isinstance(home, WalletProcess), "this is a network"
        assert home.locking is not None, "a life begins"
        for group_id, ended in home.locking.ends():
            home.tell(lambda checkers: checkers.ended(self._index, group_id, ended))  # noqa: B023 - it is told now
        home.wire(life, _LifeOf(self, home, life))
        life.loop.spawn(self._offer_now_and_then(home, life), f"the owner of {home.name}")
        super()._begin(home, life)

    # ----------------------------------------------------------------------------------------------------------- paying

    async def _offer_now_and_then(self, home: WalletProcess, life: Life) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self.offers_s))
            if self.is_paying:
                amount = self._random.choice(AMOUNTS)
                payment = self.town.draw_payment(self._random, self._index, self.draw(self._random), amount)
                life.loop.spawn(self._offer(home, life, payment), f"the owner of {home.name}")

    async def _offer(self, home: WalletProcess, life: Life, payment: Payment) -> None:
        random, stats = self._random, self._world.stats
        ways = [group_id for group_id, seat in self.town.neighbours(self._index) if seat == payment.path[1]]
        group_id = random.choice(ways)
        if group_id not in life.parts.host.groups:
            return
        expiry_ms = life.parts.host.clock_ms() + random.randint(4 * MARGIN_MS, self.most_ms)
        packet, _ = self.town.packet(payment, group_id, expiry_ms, random.randbytes(32))
        self.town.payments.setdefault(payment.hash, []).append(payment)
        home.tell(lambda checkers: checkers.offering(self._index, group_id, payment.sent, payment.hash))
        assert home.locking is not None, "it lives"
        hops = len(payment.path) - 1
        try:
            await home.locking.begin(group_id, payment.sent, payment.hash, expiry_ms, packet)
        except Refused as refusal:
            stats[f"offers refused: {refusal.code}"] += 1
        except Pending:
            stats["offers pending"] += 1
        except WedgeError:
            stats["offers pending"] += 1
        else:
            stats[f"offers over {hops} hops"] += 1

    # ---------------------------------------------------------------------------------------------------- being paid

    async def decide(self, home: WalletProcess, life: Life, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        """A lock is for us: do what was planned."""
        payment = next((each for each in self.town.payments.get(lock.hash, ()) if each.path[-1] == self._index), None)
        if payment is None:
            return
        plan, locking = payment.plan, home.locking
        await self._until(life, lock.expiry_ms - plan.left_ms)
        assert locking is not None, "it lives"
        try:
            if plan.intent == "claim":
                await locking.claim(group_id, lock.id, payment.preimage)
                home.tell(lambda checkers: checkers.claiming(self._index, group_id, lock))
                self._world.stats["claims"] += 1
            while plan.intent == "release" and self._stands(home, group_id, lock):
                try:
                    await locking.release(group_id, lock.id, wrap(peeled.secret, Failure(Code.UNKNOWN_PAYMENT)))
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


class _LifeOf:
    """An owner, for the switchboard of one life of its wallet."""

    def __init__(self, owner: NetworkOwner, home: WalletProcess, life: Life) -> None:
        self._owner, self._home, self._life = owner, home, life

    def holds(self, group_id: Hash, number: int) -> bool:
        """See `Desk`: what is claimed was taken."""
        return self._home.locking is not None and self._home.locking.is_claimed(group_id, number)

    def take(self, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        """See `Desk`."""
        decided = self._owner.decide(self._home, self._life, group_id, lock, peeled)
        self._life.loop.spawn(decided, f"the owner of {self._home.name}")

    def shown(self, group_id: Hash, lock: Lock, preimage: bytes) -> None:
        """See `Desk`; checkers have heard of it."""

    def lose(self, group_id: Hash, ended: Ended) -> None:
        """See `Desk`; checkers have heard of it."""

    def settled(self, group_id: Hash, shown: LedgerGroup) -> None:
        """See `Desk`; checkers have heard of it."""

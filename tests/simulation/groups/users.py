"""The people who own the wallets: they open channels, pay, close together or by force, and in the end end what is left.

A user is a task in the wallet's process and dies with it; the next life has the same user again. What the wallet tells
its user is what the checkers hold it to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from layer1.crypto import Hash
from layer1.errors import LocalError, Refused, WedgeError
from layer2.driver import Pending
from tests.simulation.groups.wallet import Life, WalletProcess
from wallet.book import Stage
from wallet.channel import Channel
from wallet.contacts import Contact
from wallet.requests import no_report

MOST_CHANNELS = 4
"""That one user has at a time, before it opens no further one."""


class User:
    """One person, over all lives of the wallet."""

    def __init__(
        self,
        wallet: WalletProcess,
        others: Sequence[WalletProcess],
        period_ms: int,
        pause_s: float,
        *,
        resizes: bool = False,
    ) -> None:
        """`resizes`: whether it pays into open channels, and takes out of them."""
        self._resizes = resizes
        self._sizes = wallet.world.random(f"sizes of {wallet.name}")
        self._wallet = wallet
        self._others = list(others)
        self._period_ms, self._pause_s = period_ms, pause_s
        self._random = wallet.world.random(f"user of {wallet.name}")
        self._name = f"what the user of {wallet.name} asked for"
        self._payments = 0
        self._is_ending = False
        wallet.on_start.append(self._begin)

    def end(self) -> None:
        """From now on only end what there is."""
        self._is_ending = True
        life = self._wallet.life
        if life is not None:
            with life.loop.running():
                life.loop.spawn(self._end_all(life), self._name)

    def stop(self) -> None:
        """Do nothing more."""
        self._pause_s = 1e6
        self._is_ending = True

    def _begin(self, _wallet: WalletProcess, life: Life) -> None:
        if self._resizes and not self._is_ending:
            life.loop.spawn(self._resize_now_and_then(life), self._name)
        if self._pause_s < 1e6:
            life.loop.spawn(self._end_all(life) if self._is_ending else self._live(life), self._name)

    # ---------------------------------------------------------------------------------------------------------- living

    async def _live(self, life: Life) -> None:
        while not self._is_ending:
            await asyncio.sleep(self._random.expovariate(1 / self._pause_s))
            if not self._is_ending:
                life.loop.spawn(self._act(life), self._name)

    async def _act(self, life: Life) -> None:
        chance, channels = self._random.random(), self._open(life)
        going = [channel for channel in channels if channel.view().state == "open"]
        if len(going) < MOST_CHANNELS and (not going or chance < 0.1):
            await self._try_open(life)
            return
        if chance < 0.92 and going:
            channel = self._random.choice(going)
            for _ in range(self._random.choice((1, 1, 1, 2, 5))):
                life.loop.spawn(self._pay(channel), self._name)
            return
        channel = self._random.choice(channels)
        if chance < 0.95:
            await self._try_close(channel, force=False)
        elif chance < 0.97:
            await self._try_close(channel, force=True)
        else:
            self._compact(life)

    async def _resize_now_and_then(self, life: Life) -> None:
        """Change channels; now and then wedge at once, so that layer 1 has both."""
        while not self._is_ending:
            await asyncio.sleep(self._sizes.expovariate(1 / (5 * self._pause_s)))
            going = [channel for channel in self._open(life) if channel.view().state == "open"]
            if going and not self._is_ending:
                channel = self._sizes.choice(going)
                life.loop.spawn(self._resize(channel), self._name)
                if self._sizes.random() < 0.15:
                    await asyncio.sleep(self._sizes.expovariate(1 / 0.2))
                    await self._try_close(channel, force=True)

    async def _resize(self, channel: Channel) -> None:
        stats, amount = self._wallet.world.stats, self._sizes.choice((1, 20, 200))
        verb = self._sizes.choice((channel.top_up, channel.top_up, channel.withdraw))
        stats["changes asked"] += 1
        try:
            await verb(amount)
        except WedgeError as error:
            stats[f"changes refused: {getattr(error, 'code', type(error).__name__)}"] += 1
            self._note(f"changes no channel: {error}")
        else:
            stats["changes"] += 1

    def _compact(self, life: Life) -> None:
        """As the wallet does when its journal is long."""
        try:
            life.parts.history.settle()
            life.parts.host.compact()
        except LocalError as error:
            self._note(f"compacts no journal: {error}")

    @staticmethod
    def _open(life: Life) -> list[Channel]:
        return [channel for channel in life.channels() if channel.record.stage is Stage.OPEN]

    async def _try_open(self, life: Life) -> None:
        random, other = self._random, self._random.choice(self._others)
        deposits = random.randint(0, 300), random.randint(1, 300)
        bonds = random.randint(0, 50), random.randint(0, 50)
        contact = Contact(other.keys.spending.public, other.name, 1)
        self._wallet.world.stats["openings asked"] += 1
        try:
            await life.openings.propose(contact, deposits, bonds, self._period_ms, no_report)
            self._wallet.world.stats["openings"] += 1
        except WedgeError as error:
            self._note(f"opens no channel: {error}")

    async def _pay(self, channel: Channel) -> None:
        wallet, index, stats = self._wallet, self._wallet.index, self._wallet.world.stats
        self._payments += 1
        memo, amount = f"{index}-{self._payments}", self._random.choice((1, 2, 10, 50, 400))
        group_id: Hash = channel.id
        wallet.tell(lambda checkers: checkers.issued(index, group_id, memo, amount))
        try:
            await channel.pay(amount, memo)
        except Pending:
            stats["payments pending"] += 1
        except Refused as refusal:
            stats[f"payments refused: {refusal.code}"] += 1
            wallet.tell(lambda checkers: checkers.refused(index, group_id, memo))
        except WedgeError as error:
            self._note(f"hears of payment {memo}: {error}")
        else:
            stats["payments"] += 1
            wallet.tell(lambda checkers: checkers.acknowledged(index, group_id, memo))

    async def _try_close(self, channel: Channel, *, force: bool) -> bool:
        try:
            await channel.close(force=force)
        except WedgeError as error:
            self._note(f"closes no channel: {error}")
            return False
        return True

    # ---------------------------------------------------------------------------------------------------------- ending

    async def _end_all(self, life: Life) -> None:
        begun = set[Hash]()
        while True:
            for channel in self._open(life):
                if channel.id not in begun:
                    begun.add(channel.id)
                    life.loop.spawn(self._end(channel), self._name)
            await asyncio.sleep(1.0)

    async def _end(self, channel: Channel) -> None:
        """Together if that works, else by force, until it is over."""
        force = False
        while channel.record.live:
            await self._try_close(channel, force=force)
            force = True
            await asyncio.sleep(1.0)

    def _note(self, what: str) -> None:
        self._wallet.world.note(self._wallet.name, f"user {what}")

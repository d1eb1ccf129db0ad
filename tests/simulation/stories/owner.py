"""The person who owns a member: pays others, changes the group now and then, and in the end ends it."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from layer1.crypto import Hash
from layer1.errors import Refused, WedgeError
from layer2.driver import Pending
from layer2.payments import pay
from layer2.terms import change_amounts
from tests.simulation.stories.member import Life, MemberProcess

PATIENCE_S = 4.0
"""For an end together; then by force."""
CHANGE_MS = 5_000
"""A change expires so soon."""


class Owner:
    """One person, over all lives and homes of a member."""

    def __init__(self, homes: list[MemberProcess], random: Random, pause_s: float, *, resizes: bool) -> None:
        self._random, self._pause_s, self._resizes = random, pause_s, resizes
        self._index, self._world = homes[0].index, homes[0].world
        self._payments = 0
        self.is_paying = True
        self.is_ending = False
        self._homes = homes
        for home in homes:
            home.on_start.append(self._begin)

    def stop(self) -> None:
        """Pay nothing more."""
        self.is_paying = False

    def end(self) -> None:
        """From now on only end what there is."""
        self.is_ending, self.is_paying = True, False
        for home in self._homes:
            if home.life is not None:
                self._spawn(home, home.life)

    def _begin(self, home: MemberProcess, life: Life) -> None:
        life.loop.spawn(self._live(home, life), f"the owner of {home.name}")
        if self._resizes:
            life.loop.spawn(self._change_now_and_then(life), f"the owner of {home.name}")
        if self.is_ending:
            self._spawn(home, life)

    def _spawn(self, home: MemberProcess, life: Life) -> None:
        with life.loop.running():
            for group_id in [record.group_id for record in life.parts.book.live()]:
                life.loop.spawn(self._end(home, life, group_id), f"the owner of {home.name}")

    # ---------------------------------------------------------------------------------------------------------- living

    async def _live(self, home: MemberProcess, life: Life) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._pause_s))
            groups = [name for name, group in life.parts.host.groups.items() if group.stopped is None]
            if self.is_paying and groups:
                group_id = self._random.choice(groups)
                for _ in range(self._random.choice((1, 1, 1, 3))):
                    life.loop.spawn(self._pay(home, life, group_id), f"the owner of {home.name}")

    async def _pay(self, home: MemberProcess, life: Life, group_id: Hash) -> None:
        index, stats = self._index, self._world.stats
        group = life.parts.host.groups.get(group_id)
        if group is None:
            return
        payee = self._random.choice([i for i in range(group.place.size) if i != group.place.index])
        amount = self._random.choice((1, 2, 10, 40))
        self._payments += 1
        memo = f"{index}-{self._payments}"
        home.tell(lambda checkers: checkers.issued(index, group_id, memo, amount))
        try:
            await life.parts.host.submit(group_id, pay(payee, amount, memo.encode()))
        except Pending:
            stats["payments pending"] += 1
        except Refused as refusal:
            stats[f"payments refused: {refusal.code}"] += 1
            home.tell(lambda checkers: checkers.refused(index, group_id, memo))
        except WedgeError:
            stats["payments pending"] += 1
        else:
            stats["payments"] += 1
            home.tell(lambda checkers: checkers.acknowledged(index, group_id, memo))

    async def _change_now_and_then(self, life: Life) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(1 / (6 * self._pause_s)))
            groups = [name for name, group in life.parts.host.groups.items() if group.stopped is None]
            if self.is_paying and groups:
                await self._change(life, self._random.choice(groups))

    async def _change(self, life: Life, group_id: Hash) -> None:
        """Pay in, or take out."""
        host, stats = life.parts.host, self._world.stats
        group, clock_ms = host.groups[group_id], life.follower.clock_ms
        if clock_ms is None:
            return
        units = self._random.choice((1, 20, 100, -1, -20, -100))
        sums = [units if seat == group.place.index else 0 for seat in range(group.place.size)]
        salt = self._random.randbytes(16)
        terms = change_amounts(group.place.agreement, group.epoch, sums, clock_ms + CHANGE_MS, salt)
        stats["changes asked"] += 1
        try:
            async with asyncio.timeout(2 * CHANGE_MS / 1_000):
                await host.change(group_id, terms, clock_ms)
            stats["changes"] += 1
        except (WedgeError, TimeoutError) as error:
            stats[f"changes refused: {getattr(error, 'code', 'too slow')}"] += 1
            with contextlib.suppress(WedgeError):
                host.decline(group_id, "peer_silent", "it took too long")

    # ---------------------------------------------------------------------------------------------------------- ending

    async def _end(self, home: MemberProcess, life: Life, group_id: Hash) -> None:
        """Together if that works, else by force, until it is over."""
        together = True
        while (record := life.parts.book.get(group_id)) is not None and record.live:
            group = life.parts.host.groups.get(group_id)
            if group is not None and not group.closed:
                try:
                    if together and group.ledger is None:
                        await self._end_together(life, group_id)
                    else:
                        await self._learn(life, group_id)
                        self._end_by_force(life, group_id)
                except (WedgeError, TimeoutError) as error:
                    home.world.note(home.name, f"its owner cannot end it: {error}")
                together = False
            await asyncio.sleep(1.0)

    @staticmethod
    async def _end_together(life: Life, group_id: Hash) -> None:
        async with asyncio.timeout(PATIENCE_S):
            payload = await life.parts.host.close_cooperatively(group_id)
        life.parts.submitter.bring(payload)

    @staticmethod
    async def _learn(life: Life, group_id: Hash) -> None:
        """As `wallet.channel` does before a first claim: what towers hold, and, for a copy, what the others do."""
        if life.parts.host.groups[group_id].has_spoken:
            return
        await life.parts.entruster.ask(group_id)

        def heard() -> bool | None:
            group = life.parts.host.groups.get(group_id)
            return True if group is None or not group.doubts else None  # it may be closed, and forgotten, meanwhile

        await life.parts.signals.until(heard, PATIENCE_S)

    def _end_by_force(self, life: Life, group_id: Hash) -> None:
        host = life.parts.host
        group = host.groups.get(group_id)
        if group is None:  # closed while towers and members were asked
            return
        if not group.has_spoken and group.ledger is None:
            life.parts.submitter.bring_ours(host.wedge(group_id))
        elif group.lost and group.ledger is not None and self._random.random() < 0.3:
            life.parts.submitter.bring(host.concur(group_id))

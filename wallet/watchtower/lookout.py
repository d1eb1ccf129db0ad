"""How a watchtower watches layer 1 and answers stale wedges.

*Safety:* while layer 1 can be reached, every group that is held is looked at, with proof, at least eight times in its
challenge period, whatever replicas tell or leave out; and whatever is stale is reported, again until layer 1 has it.

Events of a replica are hints to look at once; they are resumed where they were left, so that an outage of the tower
loses none, and half of each round is for looks that are due by time, so that a flood of hints hides none. Looks of a
round run side by side, and their reports go to layer 1 together. What ends soonest goes first.

Source: docs/design/groups.md, rules 9, 17 and 18; decision 032.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from layer1.client import LedgerEvent, LedgerUnreachable, TransactionDead
from layer1.crypto import Hash
from layer1.errors import LocalError, Refused, WedgeError
from layer1.header import Header
from layer1.ledger.records import Group, Status
from layer1.ledger.transactions import Output, Report, Transaction
from layer2 import tower as core
from wallet.watchtower.store import TowerStore

LOOKS_PER_PERIOD = 8
"""Of each group, in its challenge period."""
ROUND = 128
"""Groups looked at together; their reports are one list for a replica."""
ROUNDS = 3
"""At a time: while the reports of one become final, the next one looks."""
AT_ONCE = 8
"""Looks under way at a time, of one round."""
TICK_S = 1.0
"""Between two parts of the rounds over all groups, at most."""
PAUSE_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Between two attempts while layer 1 does not answer, or does not take a report; the last one repeats."""
LIFE_MS = 120_000
"""Of a report's transaction, on the ledger clock."""
NO_HURRY = 2**62
"""In place of a deadline, and higher: of a look that nothing but time asked for."""
CAUGHT_UP_BLOCKS = 5_000
"""So many are read after an outage; beyond that, looking at every group takes less."""
VOID = 1_000
"""Entries of a heap that stand for nothing any more, until it is made anew."""
SAVED_EVERY = 100
"""Blocks between two notes of how far the events were heard."""
_log = logging.getLogger(__name__)


class Ledger(Protocol):
    """What a lookout asks of layer 1; see `wallet.watchtower.ledger`."""

    async def look(self, group_id: Hash) -> Group | None:
        """A group, proven and fresh, or LedgerUnreachable."""
        ...

    def clock_ms(self) -> int | None:
        """The newest proven ledger clock, if it is fresh."""
        ...

    async def head(self) -> Header:
        """The newest block, proven and fresh, or LedgerUnreachable."""
        ...

    async def bring(self, reports: Sequence[Transaction]) -> list[Output]:
        """Bring transactions to layer 1; as `layer1.client.LedgerClient.submit_many`."""
        ...

    def events(self, after: int | None) -> AsyncGenerator[LedgerEvent, None]:
        """What happens to groups, and blocks, from a height on."""
        ...


class _Wanted:
    """Groups to be looked at, each once, soonest deadline first; as long as there are groups, whatever is added."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, Hash]] = []
        self._deadlines: dict[Hash, int] = {}
        """The sooner one of each; entries of the heap that differ are void."""

    def __len__(self) -> int:
        return len(self._deadlines)

    def add(self, deadline_ms: int, group_id: Hash) -> None:
        """Once more, only to bring it forward."""
        if deadline_ms < self._deadlines.get(group_id, deadline_ms + 1):
            self._deadlines[group_id] = deadline_ms
            heapq.heappush(self._heap, (deadline_ms, group_id))
            if len(self._heap) > 2 * len(self._deadlines) + VOID:
                self._heap = [(deadline, group) for group, deadline in self._deadlines.items()]
                heapq.heapify(self._heap)

    def drop(self, group_id: Hash) -> None:
        """It was looked at for another reason."""
        self._deadlines.pop(group_id, None)

    def take(self, most: int) -> list[tuple[int, Hash]]:
        """The soonest ones."""
        taken: list[tuple[int, Hash]] = []
        while self._heap and len(taken) < most:
            deadline_ms, group_id = heapq.heappop(self._heap)
            if self._deadlines.get(group_id) == deadline_ms:
                del self._deadlines[group_id]
                taken.append((deadline_ms, group_id))
        return taken


class Lookout:
    """Watches for all customers.

    Attributes:
        reported: How many reports layer 1 took.
        looked: How many looks were had.
    """

    def __init__(self, store: TowerStore, ledger: Ledger, max_valid_ms: int = LIFE_MS) -> None:
        self._store = store
        self._ledger = ledger
        self._life_ms = min(LIFE_MS, max_valid_ms)
        self._told = _Wanted()
        """By hints, which a liar may send without end."""
        self._due = _Wanted()
        """By time: of these some are in each round, however many hints wait."""
        self._attempts: dict[Hash, int] = {}
        """In vain, of groups in dispute."""
        self._disputed: set[Hash] = set()
        """Groups that layer 1 showed wedged: a new version of them is news."""
        self._wake = asyncio.Event()
        self._after = store.height
        """Block behind which events are followed; None: from now on."""
        self._saved = self._after
        self._blind = 0
        """Rounds in a row in which layer 1 did not answer for some group."""
        self._looking = 0
        """Rounds that are under way."""
        self.reported = 0
        self.looked = 0

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            LocalError: The store failed: start again once the disk is mended.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._go_round())
            for _ in range(ROUNDS):
                tasks.create_task(self._answer())

    @property
    def behind(self) -> int:
        """How many groups wait to be looked at."""
        return len(self._told) + len(self._due)

    def kept(self, group_id: Hash) -> None:
        """A new version is held: if the group is in dispute, layer 1 should have it."""
        if group_id in self._disputed:
            self.want(group_id, 0)

    def want(self, group_id: Hash, deadline_ms: int = NO_HURRY) -> None:
        """Look at a group; the one whose dispute ends first goes first."""
        if deadline_ms < NO_HURRY:
            self._told.add(deadline_ms, group_id)
        else:
            self._due.add(deadline_ms, group_id)
        self._wake.set()

    # ---------------------------------------------------------------------------------------------------------- hints

    async def _listen(self) -> None:
        attempt = 0
        while True:
            try:
                await self._catch_up()
                async with contextlib.aclosing(self._ledger.events(self._after)) as events:
                    async for event in events:
                        attempt = 0
                        self._hear(event)
            except Refused as error:
                _log.warning("events are followed from now on: %s", error)
                self._start_anew()
            except LocalError:
                raise
            except WedgeError as error:
                _log.debug("no events: %s", error)
            await asyncio.sleep(PAUSE_S[min(attempt, len(PAUSE_S) - 1)])
            attempt += 1

    def _hear(self, event: LedgerEvent) -> None:
        if event.kind == "group" and event.group_id is not None:
            if event.data.get("change") != "opened" and self._store.holds(event.group_id):
                deadline = event.data.get("deadline")
                self.want(event.group_id, deadline if isinstance(deadline, int) else 0)
        elif event.kind == "block":
            self._after = event.height
            if not self.behind and not self._looking:
                self._save(event.height)

    def _save(self, height: int) -> None:
        """Not each block: to hear some news twice costs a look."""
        if self._saved is None or not 0 <= height - self._saved < SAVED_EVERY:
            self._store.write(height=height)
            self._saved = height

    async def _catch_up(self) -> None:
        """Who was away for long looks at every group: that is sooner done than to read all blocks."""
        head = await self._ledger.head()
        if self._after is None or head.height - self._after > CAUGHT_UP_BLOCKS:
            self._start_anew()
            self._after = head.height

    def _start_anew(self) -> None:
        """Look at every group as soon as can be, those with short periods first."""
        self._after = None
        for class_ in sorted(self._store.classes):
            for group in self._groups_of(class_):
                self.want(group, NO_HURRY + class_)

    def _groups_of(self, class_: int) -> list[Hash]:
        found: list[Hash] = []
        while page := self._store.page(class_, found[-1] if found else b"", 1_000):
            found += page
        return found

    # ------------------------------------------------------------------------------------------------------ the rounds

    async def _go_round(self) -> None:
        places: dict[int, tuple[Hash, float]] = {}
        """Per class: behind which group the round goes on, and how much of a group is due besides."""
        while True:
            shortest = min(self._store.classes, default=None)
            tick_s = TICK_S if shortest is None else min(TICK_S, 2**shortest / 1000 / LOOKS_PER_PERIOD / 4)
            if len(self._due) < ROUND * 4:  # else those who wait come first, and the round is late as they are
                for class_, count in self._store.classes.items():
                    places[class_] = self._part(class_, count, tick_s, *places.get(class_, (b"", 0.0)))
            await asyncio.sleep(tick_s)

    def _part(self, class_: int, count: int, tick_s: float, after: Hash, owed: float) -> tuple[Hash, float]:
        """Ask for the looks that are due of one class; where the round goes on."""
        round_s = 2**class_ / 1000 / LOOKS_PER_PERIOD
        owed = min(owed + count * tick_s / round_s, count)
        due = int(owed)
        if not due:
            return after, owed
        page = self._store.page(class_, after, due)
        for group in page:
            self.want(group)
        return (page[-1] if len(page) == due else b""), owed - due

    # --------------------------------------------------------------------------------------------------------- answers

    async def _answer(self) -> None:
        while True:
            groups = self._next_round()
            if not groups:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._looking += 1
            await self._look_at(groups)
            self._looking -= 1

    def _next_round(self) -> list[tuple[int, Hash]]:
        """What was hinted at first; but up to half of a round are those whose time has come."""
        told = self._told.take(ROUND - min(len(self._due), ROUND // 2))
        for _, group in told:
            self._due.drop(group)
        due = self._due.take(ROUND - len(told))
        for _, group in due:
            self._told.drop(group)
        return told + due

    async def _look_at(self, groups: list[tuple[int, Hash]]) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def look(group: Hash) -> list[Report] | None:
            async with slots:
                return await self._decide(group)

        found = await asyncio.gather(*(look(group) for _, group in groups))
        for group in await self._bring([report for each in found if each is not None for report in each]):
            self._again(group)
        unseen = [name for name, reports in zip(groups, found, strict=True) if reports is None]
        for deadline_ms, group in unseen:
            self.want(group, deadline_ms)
        self._blind = self._blind + 1 if unseen else 0
        if unseen:  # layer 1 is away: one pause for all, and they keep their turns
            await asyncio.sleep(PAUSE_S[min(self._blind, len(PAUSE_S)) - 1])

    async def _decide(self, group: Hash) -> list[Report] | None:
        """What layer 1 lacks of a group; None if it does not tell what it has."""
        try:
            shown = await self._ledger.look(group)
        except LedgerUnreachable as error:
            _log.debug("group %s cannot be looked at: %s", group.hex()[:12], error)
            return None
        self.looked += 1
        held = self._store.of_group(group)
        if shown is None or not held:
            return []
        (self._disputed.add if shown.status is Status.WEDGED else self._disputed.discard)(group)
        clock_ms = self._ledger.clock_ms() or 0
        effects = core.answer(held, shown)
        drops = [(effect.group_id, effect.customer) for effect in effects if isinstance(effect, core.Drop)]
        if shown.status is not Status.WEDGED:
            drops += [(each.group_id, each.customer) for each in held if core.is_over(each, clock_ms)]
        if drops:
            self._store.write(drop=drops)
        reports = [effect.report for effect in effects if isinstance(effect, core.Submit)]
        if not reports:
            self._attempts.pop(group, None)
        for report in reports:
            assert report.certificate is not None, "a tower reports certificates"
            _log.info(
                "group %s: layer 1 shows version %d, reporting version %d",
                *(group.hex()[:12], shown.version, report.certificate.header.version),
            )
        return reports

    async def _bring(self, reports: list[Report]) -> list[Hash]:
        """Bring them; the groups whose reports may not be there."""
        if not reports:
            return []
        groups = [report.group_id for report in reports]
        try:
            until_ms = (await self._ledger.head()).clock + self._life_ms
            outputs = await self._ledger.bring([Transaction(each, until_ms, os.urandom(16)) for each in reports])
        except (LedgerUnreachable, TransactionDead, Refused) as error:
            _log.warning("%d reports may not be there, looking again: %s", len(reports), error)
            return groups
        failed = []
        for group, output in zip(groups, outputs, strict=True):
            if output.code == "ok":
                self.reported += 1
                self._attempts.pop(group, None)
            else:
                _log.info("group %s: %s: %s", group.hex()[:12], output.code, output.message)
                failed.append(group)
        return failed

    def _again(self, group: Hash) -> None:
        """Look again after a while: somebody else may have been faster, or layer 1 did not take the report."""
        attempt = self._attempts.get(group, 0)
        self._attempts[group] = attempt + 1
        pause_s = PAUSE_S[min(attempt, len(PAUSE_S) - 1)]
        asyncio.get_running_loop().call_later(pause_s, self.want, group, 0)

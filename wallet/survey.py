"""Reading the channel graph from layer 1, and following it: which channels there are, between whom, how large.

*Safety:* nothing here moves money. What a replica lists is not proven: an edge that does not exist costs a failed try,
one that is left out a better route. What opens or changes later is proven, for that costs no more. Of our own channels
no replica is believed anything: the wallet knows them itself.

The list is read once, page by page, and then events say what has changed. If those end, since no replica keeps them any
more, the list is read again.

Source: decision 039.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from layer1.client import LedgerClient
from layer1.crypto import Hash
from layer1.errors import Untimely, WedgeError
from layer1.ledger.records import Status
from layer1.reader import GROUPS_AT_ONCE
from wallet.requests import Progress, Report, no_report
from wallet.routing.graph import ChannelGraph, channel_of, listed_channel

MOST_PAGES = 4_000
"""Of 500 groups: whoever lists without end is believed so far."""
AGAIN_S = 5.0
"""Before the list is read again, if that failed; doubled each time."""
LONGEST_S = 300.0
GONE = ("wedged", "closed")
"""Changes after which a group forwards nothing."""
NEW = ("opened", "changed")
_log = logging.getLogger(__name__)


class Survey:
    """Of one wallet."""

    def __init__(self, ledger: LedgerClient, graph: ChannelGraph, is_ours: Callable[[Hash], bool]) -> None:
        """Nothing is asked before :meth:`read`."""
        self._ledger = ledger
        self._graph = graph
        self._is_ours = is_ours
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._report: Report = no_report

    @property
    def begun(self) -> bool:
        """Whether the graph is read, or being read."""
        return self._task is not None

    def begin(self) -> None:
        """Read the graph, and follow it until :meth:`close`."""
        if self._task is None or self._task.done():
            self._tried.clear()
            self._task = asyncio.create_task(self._run())

    async def read(self, report: Report = no_report) -> None:
        """Return when the list was read once, or could not be: then it is tried again by itself."""
        self.begin()
        self._report = report
        try:
            await self._tried.wait()
        finally:
            self._report = no_report

    async def close(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = AGAIN_S
        while True:
            try:
                height = (await self._ledger.head()).height  # before the list: what happens meanwhile is told again
                await self._list()
                self._tried.set()
                pause_s = AGAIN_S
                await self._follow(height)
            except WedgeError as error:
                _log.info("the channel graph cannot be read: %s", error)
            except Exception:  # noqa: BLE001 - a fault here must not end the wallet, which needs no graph to be safe
                _log.exception("the channel graph cannot be read, for a fault of this program")
            self._tried.set()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_S)

    async def _list(self) -> None:
        """All pages; then forget what was not among them."""
        found: set[Hash] = set()
        cursor = ""
        for _ in range(MOST_PAGES):
            page, cursor = await self._ledger.listed_groups(cursor)
            for group in page:
                channel = listed_channel(group) if group.is_open else None
                if channel is not None and not self._is_ours(group.id):
                    found.add(group.id)
                    with contextlib.suppress(Untimely):  # there are too many: whoever lists them all may be lying
                        self._graph.show(channel)
            self._report(Progress("reading the channel graph", done=len(found)))
            if not cursor:
                break
            await asyncio.sleep(0)
        for group_id in [known for known in self._graph.channels if known not in found and not self._is_ours(known)]:
            self._graph.close(group_id)

    async def _follow(self, height: int) -> None:
        """Until no replica keeps what comes next."""
        new: dict[Hash, None] = {}
        async with contextlib.aclosing(self._ledger.events(after=height, kinds=("group", "block"))) as events:
            async for event in events:
                group_id = event.group_id
                if event.kind == "group" and group_id is not None and not self._is_ours(group_id):
                    if event.data.get("change") in GONE:
                        self._graph.close(group_id)
                        new.pop(group_id, None)
                    elif event.data.get("change") in NEW:
                        new[group_id] = None
                if event.kind == "block":
                    await self._look(new)

    async def _look(self, new: dict[Hash, None]) -> None:
        """What opened, or changed, as of now; proven. What the ledger does not answer for now waits in `new`."""
        while new:
            asked = list(new)[:GROUPS_AT_ONCE]
            answer = await self._ledger.groups(asked)
            for group_id, group in zip(asked, answer.value, strict=True):
                del new[group_id]
                if group is None or group.status is not Status.OPEN:
                    self._graph.close(group_id)
                elif (channel := channel_of(group_id, group.agreement)) is not None:
                    with contextlib.suppress(Untimely):
                        self._graph.show(channel)

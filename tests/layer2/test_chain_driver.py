"""Both drivers of a chain over a link in memory that breaks, with disks that fail and processes that start again.

Whatever was let out is durable at the standby, at every moment: `layer2.chain_driver`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

import pytest

from layer1.errors import LocalError, RemoteError, WedgeError
from layer1.link import LinkClosed
from layer2.chain import Following, Leading, Role
from layer2.chain_driver import HeadDriver, StandbyDriver
from layer2.chain_standby import ChainStandby

A, B = b"A" * 32, b"B" * 32


class End:
    """One end of a link in memory."""

    peer = b""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.other: End = self
        self.over = False

    def send_nowait(self, data: bytes) -> bool:
        if not self.over:
            self.other.inbox.put_nowait(data)
        return not self.over

    def has_room(self, data: bytes) -> bool:
        return len(data) < 100_000

    async def send(self, data: bytes) -> None:
        await asyncio.sleep(0)  # as if there were no room at first
        if not self.send_nowait(data):
            raise LinkClosed("it is over")

    async def receive(self) -> bytes:
        data = await self.inbox.get()
        if data is None:
            raise LinkClosed("it is over")
        return data

    def end(self, reason: str) -> None:
        for side in (self, self.other):
            if not side.over:
                side.over = True
                side.inbox.put_nowait(None)

    async def close(self, reason: str = "") -> None:
        self.end(reason)


class Disk:
    """What a home keeps: what is synced, and what is not yet."""

    def __init__(self) -> None:
        self.durable: list[bytes] = []
        self.fresh: list[bytes] = []
        self.syncs = 0
        self.fails = False
        self.is_odd = False
        """Refuses the next records: they are of another release."""

    def end_turn(self) -> None:
        if self.fails:
            raise LocalError("the disk does not confirm")
        self.syncs += bool(self.fresh)
        self.durable += self.fresh
        self.fresh = []

    def everything(self) -> tuple[Sequence[bytes], Sequence[bytes]]:
        return [], self.durable

    def keep(self, files: Sequence[bytes], records: Sequence[bytes]) -> None:
        if self.is_odd:
            self.is_odd = False
            raise RemoteError("a file of another release")
        self.fresh += records

    def swap(self, files: Sequence[bytes], records: Sequence[bytes]) -> None:
        assert not self.fresh, "what was taken in before would stand behind the new records"
        self.durable = list(records)


class Chain:
    """A head and a standby, and what the head let out."""

    def __init__(self) -> None:
        self.roles: dict[str, Role] = {"head": Leading(A, 1), "standby": Following(B)}
        self.here, self.there = Disk(), Disk()
        self.out: list[bytes] = []
        self.missing: set[bytes] = set()
        """What left the head, and was not durable at the standby."""
        self.number = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.start_head()
        self.start_standby()

    def start_head(self) -> None:
        role = self.roles["head"]
        assert isinstance(role, Leading)
        self.head = HeadDriver(role, lambda new: self.roles.update(head=new), lambda term: None)
        self.head.store = self.here

    def start_standby(self) -> None:
        role = self.roles["standby"]
        assert isinstance(role, Following)
        self.there.fresh, self.there.fails = [], False
        self.standby = StandbyDriver(role, self.there, lambda new: self.roles.update(standby=new), lambda term: None)

    def link(self) -> End:
        ours, theirs = End(), End()
        ours.other, theirs.other = theirs, ours
        for serving in (self.standby.attach(theirs), self.head._serve(ours)):  # type: ignore[arg-type]  # all they use
            task = asyncio.ensure_future(serving)
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return ours

    def turn(self, records: int) -> None:
        """The head journals something, syncs, and wants to show it."""
        made = [b"%d" % (self.number + i) for i in range(records)]
        self.number += records
        self.here.durable += made
        self.head.follow(tuple(made), lambda: self.show(made))

    def show(self, made: list[bytes]) -> None:
        self.out += made
        if self.head.core.role.paired:
            self.missing |= set(self.out) - set(self.there.durable)

    async def settle(self) -> None:
        """Let everything arrive that is on the way."""
        for _ in range(30):
            await asyncio.sleep(0)

    async def stop(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        with suppress(WedgeError, asyncio.InvalidStateError):
            self.standby.failure.result()


async def test_what_comes_in_one_turn_is_one_sync_and_one_confirmation() -> None:
    chain = Chain()
    link = chain.link()
    await chain.settle()
    chain.turn(1)
    await chain.settle()
    assert chain.head.core.role.paired
    before, heard = chain.there.syncs, link.inbox.qsize()
    for _ in range(5):
        chain.turn(2)
    assert chain.out == [b"0"]
    await chain.settle()
    assert chain.out == chain.there.durable
    assert (chain.there.syncs, link.inbox.qsize()) == (before + 1, heard)
    await chain.stop()


async def test_a_long_handover_lets_nothing_pass_it() -> None:
    chain = Chain()
    chain.here.durable = [bytes([n]) * 400_000 for n in range(10)]
    chain.link()
    for _ in range(5):
        chain.turn(1)
        await asyncio.sleep(0)
    await chain.settle()
    assert chain.there.durable == chain.here.durable
    assert chain.head.core.role.paired
    await chain.stop()


async def test_a_disk_of_the_standby_that_fails_confirms_nothing() -> None:
    chain = Chain()
    chain.link()
    await chain.settle()
    chain.turn(1)
    await chain.settle()
    chain.there.fails = True
    chain.turn(1)
    await chain.settle()
    assert chain.out == [b"0"]
    assert chain.standby.failure.done()
    chain.link()
    await chain.settle()
    assert chain.out == [b"0"]
    with pytest.raises(LocalError, match="does not confirm"):
        chain.standby.failure.result()
    chain.start_standby()
    chain.link()
    await chain.settle()
    assert chain.out == [b"0", b"1"]
    await chain.stop()


ACTS = {"turn": 9, "wait": 9, "break": 2, "link": 4, "fail": 1, "odd": 1, "standby": 1, "head": 1}
"""What may happen, and how often."""


async def story(seed: int) -> None:
    """Links break, disks fail, processes start again: what left is there, always, and at the end everything leaves."""
    chance, chain = Random(seed), Chain()
    link = chain.link()
    for _ in range(60):
        act = chance.choices(list(ACTS), list(ACTS.values()))[0]
        if act == "turn":
            chain.turn(chance.randrange(3))
        elif act == "wait":
            for _ in range(chance.randrange(1, 8)):
                await asyncio.sleep(0)
        elif act == "break":
            link.end("it breaks")
        elif act == "link":
            link.end("a newer one")
            link = chain.link()
        elif act == "fail":
            chain.there.fails = True
        elif act == "odd":
            chain.there.is_odd = True
        else:
            link.end("a process is gone")
            await chain.stop()
            chain.start_head() if act == "head" else chain.start_standby()
            link = chain.link()
    link.end("the last")
    await chain.stop()
    chain.there.is_odd = False
    if chain.there.fails or chain.standby.failure.done():
        chain.start_standby()
    chain.link()
    await chain.settle()
    chain.turn(1)
    await chain.settle()
    assert not chain.missing, "it left the head, and was not durable at the standby"
    assert chain.there.durable == chain.here.durable
    assert not chain.head.waiting
    assert chain.head.core.role.paired
    await chain.stop()


async def stories() -> None:
    """The same for all; the right drivers end them well."""
    for seed in range(300):
        await story(seed)


@pytest.mark.slow
async def test_whatever_left_is_durable_at_the_standby() -> None:
    await stories()


def confirms_before_the_disk_does(self: StandbyDriver) -> None:
    """The confirmation leaves, and the sync comes with the next turn."""
    confirmed, self._confirmed, self._turn = self._confirmed, None, None
    if confirmed is not None and self.core.linked:
        self._say(confirmed)
    asyncio.get_running_loop().call_later(0.001, self._store.end_turn)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "name", "mutant"),
    [
        (StandbyDriver, "_end_turn", confirms_before_the_disk_does),
        (ChainStandby, "lose_track", lambda self: None),
        (HeadDriver, "_send_backlog", lambda self, link: asyncio.sleep(0)),
    ],
)
async def test_broken_drivers_are_noticed(
    where: type, name: str, mutant: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, mutant)
    with pytest.raises((AssertionError, WedgeError)):
        await stories()

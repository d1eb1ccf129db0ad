"""A hub's payments per second, one at a time and under load, with a standby and without, in one run.

Three processes: the head, which pays, its peer, and the standby, whose disk has each record before anything of it
leaves the head. Afterwards the standby is asked what it has: what did not get there does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.floors import Floors
from benchmarks.result import Result
from examples.stage import FUNDS, PASSPHRASE, Play, stage
from layer1.loop import run
from layer2.opening import OpeningPolicy
from wallet.contacts import parse_contact
from wallet.headship import name_standby
from wallet.home import Home
from wallet.standby import StandbyHome
from wallet.wallet import Wallet

ONE_AT_A_TIME = 500
UNDER_LOAD = 30_000
WARM_UP = 200


def measure(floors: Floors) -> list[Result]:
    """Both rates with a standby, each beside the one without."""
    without, with_standby = (run(_measure(standby=each)) for each in (False, True))
    names = ("payments of a hub with a standby, one at a time", "payments of a hub with a standby, under load")
    why = f"the same without a standby, whose round trip alone takes {floors.round_trip_us:.0f} us"
    return [
        Result(name, rate, "per s", bare, why) for name, rate, bare in zip(names, with_standby, without, strict=True)
    ]


async def _measure(*, standby: bool) -> tuple[float, float]:
    async with stage("bank", "payee") as play, _child(_payee, play.homes["payee"]) as (contact, _):
        first, second = await _homes(play)
        if not standby:
            return await _pay(first, contact)
        async with _child(_standby, second) as (where, ask):
            name_standby(Home(first), parse_contact(where))
            rates = await _pay(first, contact)
            if await ask() != "paired":
                raise RuntimeError("the standby was never paired: nothing was measured")
    return rates


async def _homes(play: Play) -> tuple[Path, Path]:
    """Two homes of one wallet, with money."""
    folder = play.homes["bank"].parent
    first, second = folder / "first", folder / "second"
    made = Wallet.create(first, play.net.genesis, play.net.urls, PASSPHRASE)
    Wallet.create(second, play.net.genesis, play.net.urls, PASSPHRASE, made.phrase)
    async with Wallet.load(play.homes["bank"], PASSPHRASE) as bank:
        await bank.send(made.spending, FUNDS // 2)
    return first, second


async def _pay(home: Path, contact: str) -> tuple[float, float]:
    async with Wallet.load(home, PASSPHRASE) as payer:
        channel = await payer.open_channel(contact, deposit=FUNDS // 4)
        await channel.pay_many(1, WARM_UP)
        start = time.perf_counter()
        for _ in range(ONE_AT_A_TIME):
            await channel.pay(1)
        alone = ONE_AT_A_TIME / (time.perf_counter() - start)
        paid = await channel.pay_many(1, UNDER_LOAD)
    if paid.committed != UNDER_LOAD:
        raise RuntimeError(f"{UNDER_LOAD} payments were made, {paid.committed} are committed")
    return alone, paid.committed / paid.seconds


Served = Callable[[Path, Connection], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def _child(served: Served, home: Path) -> AsyncIterator[tuple[str, Callable[[], Coroutine[Any, Any, str]]]]:
    """Serve a home in a process of its own: its contact, and how to ask what it has to say in the end."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(served, home, theirs))
    process.start()

    async def ask() -> str:
        ours.send("done")
        return str(await asyncio.to_thread(ours.recv))

    try:
        yield str(await asyncio.to_thread(ours.recv)), ask
    finally:
        process.terminate()
        process.join(20)


def _run(served: Served, home: Path, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError):
        run(served(home, pipe))


async def _payee(home: Path, pipe: Connection) -> None:
    async with Wallet.load(home, PASSPHRASE) as payee:
        pipe.send(await payee.serve(None, OpeningPolicy()))
        await asyncio.to_thread(pipe.recv)


async def _standby(home: Path, pipe: Connection) -> None:
    place = Home(home)
    async with StandbyHome(place, place.keystore().unlock(PASSPHRASE)) as standby:
        pipe.send(await standby.listen(None))
        await asyncio.to_thread(pipe.recv)
        pipe.send("paired" if standby.view().paired else "alone")
        await asyncio.to_thread(pipe.recv)

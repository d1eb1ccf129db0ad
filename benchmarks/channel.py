"""Layer 2: payments per second over one channel between two processes, one at a time and under load.

Two real wallets with a channel that a real ledger opened; every state is signed and synced by both. Afterwards the
payee's wallet is asked what it can send back: what did not arrive does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.floors import Floors, link_floor
from benchmarks.result import Result
from examples.stage import FUNDS, PASSPHRASE, stage
from layer1.loop import run
from layer2.opening import OpeningPolicy
from wallet.channel import Channel
from wallet.wallet import Wallet

ONE_AT_A_TIME = 3_000
UNDER_LOAD = 400_000
CALLERS = 1_000
"""Each with a payment of its own under way, as in a service that charges per call."""
CALLS = 50_000
WARM_UP = 500


def measure(floors: Floors) -> list[Result]:
    """One channel, the primary paying."""
    alone, called, loaded = run(_measure())
    # groups.md, rules 2 and 3: until the payee is sure, when the primary pays.
    parts_us = 2 * floors.sign_us + 2 * floors.verify_us + floors.round_trip_us + 3 * floors.sync_us
    one_us = statistics.mean((floors.exchange_us, link_floor()[2]))
    return [
        Result(
            "payments on one channel, one at a time",
            alone,
            "per s",
            1e6 / one_us,
            f"1 / (a bare exchange of {one_us:.0f} us, before and after: sign, sync, send, verify, sign, sync, answer, "
            f"verify, sync; its parts alone: 2 signatures of {floors.sign_us:.0f} us + 2 verifications of "
            f"{floors.verify_us:.0f} us + 1 round trip of {floors.round_trip_us:.0f} us + 3 syncs of "
            f"{floors.sync_us:.0f} us = {parts_us:.0f} us); the mark is 70% of it",
            mark=0.7 * 1e6 / one_us,
        ),
        Result(
            f"payments on one channel, {CALLERS:,} callers",
            called,
            "per s",
            1e6 / floors.one_way_us,
            "as for the next: each payment is a call of its own, which pays for its task and its future",
        ),
        Result(
            "payments on one channel, under load",
            loaded,
            "per s",
            1e6 / floors.one_way_us,
            f"1 / (one message of 300 bytes over the link, streamed, {floors.one_way_us:.1f} us): signatures, "
            "syncs and round trips are shared by a batch, what each payment must do is to cross",
            mark=100_000,
        ),
    ]


async def _measure() -> tuple[float, float, float]:
    async with stage("payer", "payee") as play:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        payee = context.Process(target=_payee_process, args=(play.homes["payee"], theirs))
        payee.start()
        try:
            contact: str = await asyncio.to_thread(ours.recv)
            rates = await _pay(play.homes["payer"], contact)
            ours.send("done")
            arrived: int = await asyncio.to_thread(ours.recv)
        finally:
            payee.join(20)
            payee.kill()
    paid = WARM_UP + ONE_AT_A_TIME + CALLS + UNDER_LOAD
    if arrived != paid:
        raise RuntimeError(f"{paid} units were paid, {arrived} arrived")
    return rates


async def _pay(home: Path, contact: str) -> tuple[float, float, float]:
    async with Wallet.load(home, PASSPHRASE) as payer:
        channel = await payer.open_channel(contact, deposit=FUNDS // 2)
        await channel.pay_many(1, WARM_UP)
        start = time.perf_counter()
        for _ in range(ONE_AT_A_TIME):
            await channel.pay(1)
        alone = ONE_AT_A_TIME / (time.perf_counter() - start)
        called = await _call(channel)
        paid = await channel.pay_many(1, UNDER_LOAD)
    return alone, called, paid.committed / paid.seconds


async def _call(channel: Channel) -> float:
    """Payments per second of many callers, each of whom waits for its own."""

    async def caller() -> None:
        for _ in range(CALLS // CALLERS):
            await channel.pay(1)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return CALLS / (time.perf_counter() - start)


def _payee_process(home: Path, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError):
        run(_serve(home, pipe))


async def _serve(home: Path, pipe: Connection) -> None:
    async with Wallet.load(home, PASSPHRASE) as payee:
        pipe.send(await payee.serve(None, OpeningPolicy()))
        await asyncio.to_thread(pipe.recv)
        pipe.send((await payee.channels())[0].can_send)

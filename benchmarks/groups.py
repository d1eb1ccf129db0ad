"""Layer 2: what more members cost, and what a witness does.

Groups of two, three and five members, each in a process of its own, with the payments machine and no ledger, which has
no part in an update. Then one channel with a witness, and one without, between real wallets on a real ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.floors import Floors, link_floor
from benchmarks.result import Result
from examples.stage import FUNDS, PASSPHRASE, stage
from examples.table import CHAIN
from layer1.crypto import SigningKey
from layer1.ledger.agreements import GroupAgreement, group_id
from layer1.loop import run
from layer2.engaging import WitnessPolicy
from layer2.opening import OpeningPolicy
from layer2.payments import Payments, pay
from layer2.seat import Seat
from wallet.channel import Channel
from wallet.contacts import parse_contact
from wallet.home import Home
from wallet.wallet import Wallet
from wallet.witness.serving import ServedWitness, serve_witness

PAYMENTS = 1_500
WARM_UP = 100
DEPOSIT = 1_000_000
PERIOD_MS = 86_400_000


def measure(floors: Floors) -> list[Result]:
    """Signatures per second by size, and the time that a witness adds."""
    rates = {size: size * run(_group(size)) for size in (2, 3, 5)}
    alone_us, witnessed_us = run(_with_witness())
    exchange_us = statistics.mean((floors.exchange_us, link_floor()[2]))
    return [
        *(
            Result(
                f"a group of {size}, one payment at a time: signatures",
                rates[size],
                "per s",
                size * 1e6 / exchange_us,
                f"{size} / (a bare exchange of {exchange_us:.0f} us between two); the mark is what a pair reaches",
                mark=rates[2],
            )
            for size in (3, 5)
        ),
        Result(
            "a payment with a witness, one at a time",
            witnessed_us / 1e3,
            "ms",
            alone_us / 1e3,
            f"the same without a witness; the mark is one bare exchange of {exchange_us:.0f} us more",
            mark=(alone_us + exchange_us) / 1e3,
        ),
    ]


# ------------------------------------------------------------------------------------------------- more members


async def _group(size: int) -> float:
    """Payments per second, one at a time: the primary pays the last member."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    with tempfile.TemporaryDirectory(prefix="wedge-bench-") as folder:
        for number in range(1, size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_member_process, args=(Path(folder) / str(number), theirs), daemon=True)
            process.start()
            pipes.append((ours, process))
        try:
            async with Seat(Path(folder) / "0", SigningKey.generate(), CHAIN, Payments()) as seat:
                salt = os.urandom(16)
                parts = [(seat.member(salt, DEPOSIT), seat.contact)]
                for pipe, _ in pipes:
                    pipe.send(salt)
                    parts.append(await asyncio.to_thread(pipe.recv))
                members = tuple(member for member, _ in parts)
                agreement = GroupAgreement(CHAIN, members, PERIOD_MS, Payments.name, PERIOD_MS, salt)
                name, contacts = group_id(agreement, salt), [contact for _, contact in parts]
                for pipe, _ in pipes:
                    pipe.send((agreement, name, contacts))
                seat.join(agreement, name, contacts)
                await seat.ready(name)
                rate = await _pay(seat, name, size)
                for pipe, _ in pipes:
                    pipe.send("done")
                    arrived = await asyncio.to_thread(pipe.recv)
                    if arrived != DEPOSIT + WARM_UP + PAYMENTS:
                        raise RuntimeError(f"{arrived} units arrived, not {DEPOSIT + WARM_UP + PAYMENTS}")
                return rate
        finally:
            for _, process in pipes:
                process.join(10)
                process.kill()


async def _pay(seat: Seat, name: bytes, size: int) -> float:
    commands = [pay(size - 1, 1)]
    for command in commands * WARM_UP:
        await seat.submit(name, command)
    start = time.perf_counter()
    for command in commands * PAYMENTS:
        await seat.submit(name, command)
    return PAYMENTS / (time.perf_counter() - start)


def _member_process(folder: Path, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError):
        run(_member(folder, pipe))


async def _member(folder: Path, pipe: Connection) -> None:
    async with Seat(folder, SigningKey.generate(), CHAIN, Payments()) as seat:
        pipe.send((seat.member(await asyncio.to_thread(pipe.recv), DEPOSIT), seat.contact))
        agreement, name, contacts = await asyncio.to_thread(pipe.recv)
        seat.join(agreement, name, contacts)
        await asyncio.to_thread(pipe.recv)
        await seat.until(lambda: seat.balances(name)[-1] == DEPOSIT + WARM_UP + PAYMENTS)
        pipe.send(seat.balances(name)[-1])


# ---------------------------------------------------------------------------------------------------- a witness


async def _with_witness() -> tuple[float, float]:
    """Time of a payment, us, without a witness and with one: two channels of the same two wallets."""
    async with stage("payer", "payee", "witness") as play:
        context = multiprocessing.get_context("spawn")
        said, tell = context.Pipe()
        witness = context.Process(target=_witness_process, args=(play.homes["witness"], tell), daemon=True)
        witness.start()
        third: str = await asyncio.to_thread(said.recv)
        ours, theirs = context.Pipe()
        payee = context.Process(target=_payee_process, args=(play.homes["payee"], third, theirs), daemon=True)
        payee.start()
        try:
            contact: str = await asyncio.to_thread(ours.recv)
            async with Wallet.load(play.homes["payer"], PASSPHRASE) as payer:
                alone = await payer.open_channel(contact, deposit=FUNDS // 4)
                witnessed = await payer.open_channel(contact, deposit=FUNDS // 4, witness=third)
                times = [await _time(channel) for channel in (alone, witnessed)]
            ours.send("done")
            arrived: int = await asyncio.to_thread(ours.recv)
        finally:
            for process in (payee, witness):
                process.terminate()
                process.join(20)
                process.kill()
    if arrived != 2 * (WARM_UP + PAYMENTS):
        raise RuntimeError(f"{2 * (WARM_UP + PAYMENTS)} units were paid, {arrived} arrived")
    return times[0], times[1]


async def _time(channel: Channel) -> float:
    for _ in range(WARM_UP):
        await channel.pay(1)
    start = time.perf_counter()
    for _ in range(PAYMENTS):
        await channel.pay(1)
    return (time.perf_counter() - start) / PAYMENTS * 1e6


def _witness_process(home: Path, pipe: Connection) -> None:
    def ready(up: ServedWitness) -> None:
        pipe.send(str(up.contact))

    run(serve_witness(Home.find(home), PASSPHRASE, None, WitnessPolicy(), ready))


def _payee_process(home: Path, witness: str, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError):
        run(_payee(home, witness, pipe))


async def _payee(home: Path, witness: str, pipe: Connection) -> None:
    async with Wallet.load(home, PASSPHRASE) as payee:
        trusted = frozenset({parse_contact(witness).address})
        pipe.send(await payee.serve(None, OpeningPolicy(witnesses=trusted)))
        await asyncio.to_thread(pipe.recv)
        pipe.send(sum(view.can_send for view in await payee.channels()))

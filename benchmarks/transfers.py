"""Layer 1: signed transfers finalized per second, and how long a lone one takes.

Transfers are signed beforehand and submitted in lists to all replicas; the clock stops when the last list is final.
Afterwards the recipient's balance is proven against the genesis: what did not arrive does not count.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from benchmarks.floors import Floors
from benchmarks.result import Result
from layer1.client import LedgerClient
from layer1.codec import encode
from layer1.crypto import Hash, SigningKey
from layer1.devnet import Devnet, Plan, initialize
from layer1.ledger.genesis import Allocation
from layer1.ledger.transactions import Transaction, Transfer, sign_transaction
from layer1.loop import run

REPLICAS = 4
COUNT = 20_000
WARM_UP = 2_000
LIST = 250
"""Transfers in one request."""
IN_FLIGHT = 12
"""Requests at a time, over all replicas."""
SENDERS = 100
LONE = 101
VALID_MS = 300_000
FUNDS = 10_000_000


def measure(floors: Floors) -> list[Result]:
    """Throughput and lone latency of one cluster."""
    senders = [SigningKey.generate() for _ in range(SENDERS)]
    rate, lone_ms = run(_run(senders))
    cores = len(os.sched_getaffinity(0))
    verifies_us = REPLICAS * floors.verify_us
    latency_us = 2 * floors.sync_us + 1.5 * floors.round_trip_us + (1 + 2 * 2) * floors.verify_us + 2 * floors.sign_us
    return [
        Result(
            "signed transfers finalized",
            rate,
            "per s",
            cores * 1e6 / verifies_us,
            f"{cores} cores / ({REPLICAS} replicas x one verification of {floors.verify_us:.0f} us)",
            mark=3_000,
        ),
        Result(
            "a lone transfer, submitted to final (median)",
            lone_ms,
            "ms",
            latency_us / 1e3,
            f"3 one-way delays of {floors.round_trip_us / 2:.0f} us + 2 syncs of {floors.sync_us:.0f} us "
            f"+ 2 signatures of {floors.sign_us:.0f} us + 5 verifications of {floors.verify_us:.0f} us "
            "(the transfer and 2 x 2 votes)",
            mark=10,
        ),
    ]


async def _run(senders: Sequence[SigningKey]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="wedge-bench-") as folder:
        plan = Plan(REPLICAS, allocations=tuple(Allocation(key.public, FUNDS) for key in senders))
        await asyncio.to_thread(initialize, Path(folder) / "ledger", plan)
        async with Devnet(Path(folder) / "ledger") as ledger:
            return await _measure(ledger, senders)


async def _measure(ledger: Devnet, senders: Sequence[SigningKey]) -> tuple[float, float]:
    recipient = SigningKey.generate().public
    async with LedgerClient(ledger.urls, ledger.genesis) as client, aiohttp.ClientSession() as session:
        clock = await client.clock()
        await _submit_all(session, ledger, _transfers(ledger, senders, recipient, clock, WARM_UP))
        transfers = _transfers(ledger, senders, recipient, clock, COUNT)
        start = time.perf_counter()
        await _submit_all(session, ledger, transfers)
        rate = COUNT / (time.perf_counter() - start)
        lone_ms = await _lone(session, ledger, _transfers(ledger, senders, recipient, clock, LONE))
        proven = (await client.account(recipient)).value.balance
        if proven != WARM_UP + COUNT + LONE:
            raise RuntimeError(f"{WARM_UP + COUNT + LONE} units were sent, {proven} are proven to have arrived")
    return rate, lone_ms


def _transfers(ledger: Devnet, senders: Sequence[SigningKey], recipient: bytes, clock: int, count: int) -> list[bytes]:
    chain_id = ledger.genesis.chain_id
    return [signed(chain_id, senders[i % len(senders)], recipient, clock + VALID_MS) for i in range(count)]


def signed(chain_id: Hash, key: SigningKey, recipient: bytes, valid_until_ms: int) -> bytes:
    """An encoded transfer of one unit."""
    bare = Transaction(Transfer(key.public, recipient, 1), valid_until_ms, os.urandom(16))
    return encode(Transaction(bare.payload, bare.valid_until_ms, bare.salt, (sign_transaction(bare, chain_id, key),)))


async def _submit_all(session: aiohttp.ClientSession, ledger: Devnet, transfers: Sequence[bytes]) -> None:
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int, start: int) -> None:
        async with slots:
            await submit(session, ledger.urls[number % len(ledger.urls)], transfers[start : start + LIST])

    await asyncio.gather(*(one(number, start) for number, start in enumerate(range(0, len(transfers), LIST))))


async def submit(session: aiohttp.ClientSession, api: str, transfers: Sequence[bytes]) -> None:
    """Send encoded transfers in one request, and wait until all are final.

    Raises:
        RuntimeError: The replica answered anything but 200.
    """
    body = encode(list(transfers))
    headers = {"Content-Type": "application/msgpack"}
    async with session.post(f"{api}/transactions?wait=final", data=body, headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{api} answered {answer.status}: {await answer.text()}")


async def _lone(session: aiohttp.ClientSession, ledger: Devnet, transfers: Sequence[bytes]) -> float:
    times = []
    for number, transfer in enumerate(transfers):
        start = time.perf_counter()
        await submit(session, ledger.urls[number % len(ledger.urls)], [transfer])
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)

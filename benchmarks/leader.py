"""Layer 1: what a dead leader costs, the first time and when its turn comes round again.

One client sends lone transfers to a live replica while the leader is killed with SIGKILL. The longest of them waited
for the others to give up on the leader; with the leader still dead, its next terms must cost nothing any more.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import aiohttp

from benchmarks.floors import Floors
from benchmarks.result import Result
from benchmarks.transfers import FUNDS, REPLICAS, VALID_MS, signed, submit
from layer1.client import LedgerClient
from layer1.crypto import SigningKey
from layer1.devnet import Devnet, Plan, initialize
from layer1.ledger.genesis import Allocation, Parameters
from layer1.loop import run

BEFORE = 50
"""Transfers before the kill."""
PARAMETERS = Parameters(term_views=8)
"""Short terms, so that the dead leader's turn comes round often."""
ROUNDS = 8
"""Turns of the dead leader after the first."""


def measure(_: Floors) -> list[Result]:
    """The longest pause at the kill, and the longest in the rounds after it."""
    first_ms, later_ms, lone_ms = run(_run())
    timeout_ms = PARAMETERS.view_timeout_ms
    return [
        Result(
            "a leader is killed: the longest wait",
            first_ms,
            "ms",
            timeout_ms,
            "one view timeout, which starts when there is work",
            mark=2 * timeout_ms,
        ),
        Result(
            f"its next {ROUNDS} terms, still dead: the longest wait",
            later_ms,
            "ms",
            lone_ms,
            "a lone transfer before the kill (median); the mark is one view timeout, which silence saves",
            mark=timeout_ms,
        ),
    ]


async def _run() -> tuple[float, float, float]:
    key = SigningKey.generate()
    with tempfile.TemporaryDirectory(prefix="wedge-bench-") as folder:
        plan = Plan(REPLICAS, allocations=(Allocation(key.public, FUNDS),), parameters=PARAMETERS)
        await asyncio.to_thread(initialize, Path(folder) / "ledger", plan)
        async with Devnet(Path(folder) / "ledger") as ledger:
            return await _measure(ledger, key)


async def _measure(ledger: Devnet, key: SigningKey) -> tuple[float, float, float]:
    async with LedgerClient(ledger.urls, ledger.genesis) as client, aiohttp.ClientSession() as session:
        clock = await client.clock()

        async def lone(api: str) -> float:
            transfer = signed(ledger.genesis.chain_id, key, key.public, clock + VALID_MS)
            start = time.perf_counter()
            await submit(session, api, [transfer])
            return (time.perf_counter() - start) * 1e3

        before = sorted([await lone(ledger.urls[i % REPLICAS]) for i in range(BEFORE)])
        leader, view = await _position(session, ledger.urls[0])
        alive = next(url for i, url in enumerate(ledger.urls) if i != leader)
        await ledger.kill(leader)
        first_ms = await lone(alive)
        until = (view // PARAMETERS.term_views + ROUNDS * REPLICAS) * PARAMETERS.term_views
        later = []
        while (await _position(session, alive))[1] < until:
            later += [await lone(alive) for _ in range(PARAMETERS.term_views // 2)]
        return first_ms, max(later), before[len(before) // 2]


async def _position(session: aiohttp.ClientSession, api: str) -> tuple[int, int]:
    """(leader, view) of a replica."""
    async with session.get(f"{api}/status") as answer:
        status = (await answer.json())["details"]
    return int(status["leader"]), int(status["view"])

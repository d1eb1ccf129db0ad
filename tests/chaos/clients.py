"""Clients that write and read while everything breaks, and keep book of it.

A *steady* client is the product's: one `LedgerClient`, shared by tasks that submit and tasks that read. A *hasty* one
brings its transfers with bare HTTP requests to one replica at a time, gives up soon, and so often does not know what
became of them; it reads with a `LedgerClient` that is told how far it has seen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from random import Random
from typing import Self

import aiohttp
import msgspec

from layer1.client import ClientLimits, LedgerClient, LedgerUnreachable, TransactionDead
from layer1.codec import encode
from layer1.errors import Refused
from layer1.ledger.transactions import Transaction, Transfer, sign_transaction
from tests.chaos.cluster import ACCOUNTS, FUNDS, READY_S, Cluster, account_key
from tests.chaos.history import History, Move, Read, Write, plan_moves

LIFE_MS = 10_000
"""Of a transfer, on the ledger clock: so soon does a client know that one is dead."""
HASTE_MS = 600
"""A hasty client waits so long for a transfer; less than what a dead leader costs."""
PAUSE_S = 0.08
"""Between two operations of one task: a run must not exhaust the amounts (see `history`)."""
LIMITS = ClientLimits(
    connect_ms=500, request_ms=1_500, hedge_ms=250, patience_ms=3_000, submit_wait_ms=1_500, submit_hedge_ms=700
)
SAFE_TO_RETRY = {"expired", "already_executed", "stopping", "pool_full", "share_full"}


class Clients:
    """Some clients, their tasks, and what they did and saw. Use as ``async with``; the tasks run until `rest`."""

    def __init__(
        self,
        net: Cluster,
        random: Random,
        *,
        steady: int = 1,
        hasty: int = 2,
        allied: bool = False,
        make: Callable[[], LedgerClient] | None = None,
    ) -> None:
        """Make them.

        Args:
            net: What they use.
            random: Decides what they do.
            steady: How many.
            hasty: How many.
            allied: They tell each other how far they have seen, so that together they see what one client would.
            make: Makes the `LedgerClient` of each; by default one that knows all replicas.
        """
        self.net = net
        self.allied = allied
        self.history = History([FUNDS] * ACCOUNTS)
        self.refused: list[str] = []
        """What an honest ledger does not say."""
        self._random = random
        self._moves: Iterator[Move] = plan_moves(ACCOUNTS, random)
        self._transactions: dict[Write, Transaction] = {}
        self._stack = AsyncExitStack()
        self._kinds = ["steady"] * steady + ["hasty"] * hasty
        self._make = make or (lambda: net.client(limits=LIMITS))
        self._ledgers: list[LedgerClient] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._ledgers = [await self._stack.enter_async_context(self._make()) for _ in self._kinds]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.rest()
        await self._stack.aclose()

    # ---------------------------------------------------------------------------------------------------------- at work

    def work(self) -> None:
        """Let all of them write and read until `rest`."""
        for client, kind in enumerate(self._kinds):
            write = self._write_steadily if kind == "steady" else self._write_hastily
            self._tasks += [asyncio.create_task(write(client)) for _ in range(2)]
            self._tasks += [asyncio.create_task(self._read_on(client)) for _ in range(2)]

    async def rest(self) -> None:
        """Stop at once: what is under way is of unknown fate."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                self.refused.append(repr(outcome))
        self._tasks.clear()

    @property
    def acknowledged(self) -> int:
        """Transfers that are known to be final."""
        return sum(write.returned < float("inf") for write in self.history.writes)

    @property
    def unknown(self) -> int:
        """Transfers of unknown fate."""
        return sum(write.returned == float("inf") and not write.dead for write in self.history.writes)

    async def _write_steadily(self, client: int) -> None:
        for move in self._moves:
            await self.write(client, move)
            await asyncio.sleep(PAUSE_S)

    async def write(self, client: int, move: Move) -> None:
        """One transfer of a steady client, until its fate is known or nobody answers."""
        write, transaction = self._invoke(client, move)
        try:
            output = await self._ledgers[client].submit(transaction)
        except LedgerUnreachable:
            pass
        except TransactionDead:
            write.dead = True
        else:
            self._returned(write, output.code)

    async def _write_hastily(self, client: int) -> None:
        for move in self._moves:
            write, transaction = self._invoke(client, move)
            height = None
            for url in self._random.sample(self.net.urls, 2):  # who does not hear of it brings it to another one, too
                try:
                    height = height or await self._post(url, transaction)
                except (aiohttp.ClientError, OSError):
                    pass
            if height is not None:
                ledger = self._ledgers[client]
                ledger.height = max(ledger.height, height)
                self._returned(write, "ok")
            await asyncio.sleep(PAUSE_S)

    async def _post(self, url: str, transaction: Transaction) -> int | None:
        """Bring a transfer to one replica; the height of its block, if one hears of it in time."""
        async with self.net.http.post(
            f"{url}/transactions?wait=final&timeout_ms={HASTE_MS}",
            data=encode([encode(transaction)]),
            headers={"Content-Type": "application/msgpack"},
            timeout=aiohttp.ClientTimeout(total=2 * HASTE_MS / 1000),
        ) as answer:
            body = await answer.json()
            if answer.status >= 400:
                if body["code"] not in SAFE_TO_RETRY:
                    self.refused.append(str(body))
                return None
            (item,) = body["items"]
            if item["status"] != "final":
                return None
            assert item["code"] == "ok", item
            return int(item["height"])

    async def _read_on(self, client: int) -> None:
        while True:
            try:
                await self.read(client, self._random.randrange(ACCOUNTS))
            except LedgerUnreachable:
                pass  # a read that returned nothing had no effect
            await asyncio.sleep(PAUSE_S)

    async def read(self, client: int, account: int) -> None:
        """One read. Raises as `LedgerClient.account` does."""
        if self.allied:
            self._ledgers[client].height = max(ledger.height for ledger in self._ledgers)
        invoked = time.monotonic()
        found = await self._ledgers[client].account(account_key(account).public)
        self.history.reads.append(Read(client, account, found.value.balance, invoked, time.monotonic()))

    def _invoke(self, client: int, move: Move) -> tuple[Write, Transaction]:
        key, genesis = account_key(move.sender), self.net.genesis
        payload = Transfer(key.public, account_key(move.recipient).public, move.amount)
        bare = Transaction(payload, self.net.now_ms() + LIFE_MS, self._random.randbytes(16))
        signature = sign_transaction(bare, genesis.chain_id, key)
        transaction = msgspec.structs.replace(bare, signatures=(signature,))
        write = Write(client, move, time.monotonic())
        self.history.writes.append(write)
        self._transactions[write] = transaction
        return write, transaction

    def _returned(self, write: Write, code: str) -> None:
        if code == "ok":
            write.returned = time.monotonic()
        else:
            self.refused.append(f"{write}: {code}")

    # ------------------------------------------------------------------------------------------------------- afterwards

    async def settle(self) -> None:
        """Learn what became of every transfer of unknown fate: on a healed network each is final or dead.

        Raises:
            AssertionError: One is neither, long after its life span.
        """
        pending = [write for write in self.history.writes if write.returned == float("inf") and not write.dead]
        slots = asyncio.Semaphore(16)

        async def learn(write: Write) -> None:
            async with slots:
                while not await self._is_settled(write):
                    pass

        try:
            async with asyncio.timeout(LIFE_MS / 1000 + READY_S):
                await asyncio.gather(*map(learn, pending))
        except TimeoutError:
            raise AssertionError(f"of {len(pending)} transfers, {self.unknown} are neither final nor dead") from None

    async def _is_settled(self, write: Write) -> bool:
        try:
            output = await self._ledgers[write.client].submit(self._transactions[write])
        except TransactionDead:
            write.dead = True
        except LedgerUnreachable:
            return False
        except Refused as refusal:
            self.refused.append(f"{write}: {refusal.code}")
        else:
            self._returned(write, output.code)
        return True

    async def read_all(self) -> None:
        """Every client reads every account once."""
        for client in range(len(self._ledgers)):
            for account in range(ACCOUNTS):
                await self.read(client, account)

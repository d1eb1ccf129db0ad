"""A ledger of real processes for tests: submit, look, and wait for conditions with a deadline."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from layer1.codec import encode
from layer1.crypto import SigningKey, format_address
from layer1.devnet import Devnet, Plan, initialize
from layer1.ledger.genesis import Allocation, Parameters
from layer1.ledger.transactions import Transaction, Transfer, sign_transaction

DEADLINE_S = 60.0
"""Of a wait: no machine is so busy; a test that is well does not notice."""
FUNDS = 1_000_000
ALICE = SigningKey(b"a" * 32)
BOB = SigningKey(b"b" * 32)


@dataclass
class Ledger:
    """Four replicas and a session to talk to them."""

    net: Devnet
    http: aiohttp.ClientSession

    def transfer(self, amount: int = 1, key: SigningKey = ALICE) -> Transaction:
        """A signed transfer from Alice to Bob."""
        unsigned = Transaction(Transfer(key.public, BOB.public, amount), 500_000, os.urandom(16))
        return msgspec.structs.replace(
            unsigned, signatures=(sign_transaction(unsigned, self.net.genesis.chain_id, key),)
        )

    async def submit(self, index: int, transactions: Sequence[Transaction]) -> list[dict[str, Any]]:
        """Bring transactions to one replica, and wait until they are final."""
        async with self.http.post(
            f"{self.net.urls[index]}/transactions?wait=final",
            data=encode([encode(transaction) for transaction in transactions]),
            headers={"Content-Type": "application/msgpack"},
        ) as answer:
            body = await answer.json()
            assert answer.status == 200, body
            items: list[dict[str, Any]] = body["items"]
            return items

    async def get(self, index: int, path: str) -> dict[str, Any]:
        """One answer of one replica; a refusal raises, such as that of a database that is busy just now."""
        async with self.http.get(self.net.urls[index] + path, raise_for_status=True) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def status(self, index: int) -> dict[str, Any]:
        """Of one replica: the head's fields and its own numbers."""
        found = await self.get(index, "/status")
        return {**found["details"], **found["head"], "stored_height": found["stored_height"]}

    async def balance(self, index: int, key: SigningKey = BOB) -> int:
        """Of an account, by one replica's word."""
        return int((await self.get(index, f"/accounts/{format_address(key.public)}"))["balance"])

    async def all_have(self, balance: int, indices: Sequence[int] = range(4)) -> None:
        """Wait until Bob has this much on all of these replicas."""

        async def there() -> bool:
            return all([await self.balance(i) == balance for i in indices])

        await until(there, f"Bob has {balance} on {list(indices)}")

    async def same_heads(self) -> None:
        """Wait until all four stand at one block."""

        async def same() -> bool:
            return len({(await self.status(i))["id"] for i in range(4)}) == 1

        await until(same, "all replicas stand at one block")


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Ask again and again until the condition holds."""
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    if await condition():
                        return
                except (aiohttp.ClientError, OSError):
                    pass
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {deadline_s:g} s: {what}") from None


@asynccontextmanager
async def ledger(directory: Path) -> AsyncIterator[Ledger]:
    """A running ledger in which Alice has money; made in `directory`, or continued there."""
    if not (directory / "genesis.json").exists():
        parameters = Parameters(view_timeout_ms=300, heartbeat_ms=2_000)
        initialize(directory, Plan(allocations=(Allocation(ALICE.public, FUNDS),), parameters=parameters))
    async with Devnet(directory) as net, aiohttp.ClientSession() as http:
        yield Ledger(net, http)

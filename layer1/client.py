"""How anybody talks to a ledger, and how much to believe an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Self

from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import WedgeError
from layer1.header import Header
from layer1.ledger.genesis import Genesis
from layer1.ledger.records import Account, Group
from layer1.ledger.transactions import Output, Transaction
from layer1.proof import Verified


class LedgerUnreachable(WedgeError):
    """No replica gave an answer that could be believed. Nothing is known; try again, or with more URLs."""


class StaleLedger(LedgerUnreachable):
    """Replicas answer, with a head too old to act on: the ledger stands still, or we are cut off from it."""


class TransactionDead(WedgeError):
    """The transaction is not in the ledger and its `valid_until` is past: it never will be. Sign a new one."""


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """Something final, as one replica tells it: a hint to look with proof, not itself proven."""

    kind: str
    """``block``, ``transaction`` or ``group``."""
    height: int
    data: dict[str, object]
    """As in the API's document."""


class LedgerClient:
    """A reader and writer of one ledger. Use as ``async with``."""

    def __init__(self, urls: Sequence[str], genesis: Genesis) -> None:
        self.genesis = genesis
        self._urls = tuple(urls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back all connections."""

    async def head(self) -> Header:
        """The newest final header, verified and fresh."""
        raise NotImplementedError

    async def clock(self) -> int:
        """The ledger clock of the newest final header, ms, verified and fresh."""
        raise NotImplementedError

    async def account(self, address: PublicKey) -> Verified[Account]:
        """An account, verified and fresh; of 0 if nobody ever paid it."""
        raise NotImplementedError

    async def group(self, group_id: Hash) -> Verified[Group | None]:
        """A group, verified and fresh; None if there is none of this id."""
        raise NotImplementedError

    async def output(self, transaction_id: Hash) -> Verified[Output] | None:
        """What became of a transaction, verified; None if no replica asked knows it (which proves nothing)."""
        raise NotImplementedError

    async def submit(self, transaction: Transaction) -> Output:
        """Bring a transaction into the ledger, and wait until it is final, refused or dead."""
        raise NotImplementedError

    async def submit_many(self, transactions: Sequence[Transaction]) -> list[Output]:
        """As :meth:`submit`, for many at once; outputs in the same order."""
        raise NotImplementedError

    def events(self, groups: Sequence[Hash] = (), after: int | None = None) -> AsyncIterator[LedgerEvent]:
        """Follow blocks and what happens to these groups, from height `after` on (from now on without it)."""
        raise NotImplementedError

    async def status(self) -> dict[str, object]:
        """One replica's own word on itself: not proven."""
        raise NotImplementedError

    async def new_transfer(self, key: SigningKey, recipient: PublicKey, amount: int) -> Transaction:
        """A signed transfer, valid for five minutes of the ledger clock."""
        raise NotImplementedError


async def fetch_genesis(url: str) -> Genesis:
    """Ask a replica for its genesis. Believe it only if its chain id is the one you were told elsewhere."""
    raise NotImplementedError

"""A ledger in this process: the real state machine, and blocks at once, in place of replicas and their network.

It answers as `layer1.client.LedgerClient` does. A test moves its clock by hand, takes it out of reach, or keeps what is
submitted from getting in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Self

from layer1.client import LedgerEvent, LedgerUnreachable, TransactionDead
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.header import Header
from layer1.ledger.events import GroupChanged, GroupClosed, GroupEvent, GroupOpened, GroupWedged
from layer1.ledger.execute import execute
from layer1.ledger.genesis import Allocation, Currency, Genesis, Parameters, genesis_header
from layer1.ledger.records import Account, Group, Head, Registration, Status
from layer1.ledger.state import State
from layer1.ledger.transactions import Output, Transaction, Transfer, sign_transaction
from layer1.proof import Verified
from layer1.reader import ListedGroup

PARAMETERS = Parameters(heartbeat_ms=1_000, view_timeout_ms=100, min_challenge_ms=100)
FUNDS = 100_000


def make_genesis(*addresses: PublicKey) -> Genesis:
    """A ledger on which these have money."""
    allocations = tuple(Allocation(address, FUNDS) for address in addresses)
    replica = SigningKey(bytes(32)).public
    return Genesis("test", bytes(16), Currency("WDG", 2), allocations, (replica,), "byzantine", 0, PARAMETERS)


CHANGES = {GroupOpened: "opened", GroupChanged: "changed", GroupWedged: "wedged", GroupClosed: "closed"}


class Chain:
    """The ledger itself, shared by all clients of a test."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.state = State.genesis(genesis)
        self.height = 0
        self.outputs: dict[Hash, Output] = {}
        self.log: list[LedgerEvent] = []
        """What happened to groups, and that there was a block, in order."""
        self.reachable = True
        self.swallows = False
        """Takes transactions, executes none, and tells nobody."""
        self.changed = asyncio.Event()

    def block(self, transactions: Sequence[Transaction] = (), after_ms: int = 10) -> None:
        """Make a block, this much later on the ledger clock."""
        done = execute(self.state, self.state.wall_time + after_ms, transactions)
        done.state.commit()
        self.state = done.state
        self.height += 1
        self.outputs |= {output.transaction_id: output for output in done.outputs}
        for event in done.events:
            if isinstance(event, GroupEvent):
                data = {"group": event.group_id.hex(), "change": CHANGES.get(type(event), "reported")}
                self.log.append(LedgerEvent("group", self.height, data))
        self.log.append(LedgerEvent("block", self.height, {}, self.header))
        self.changed.set()
        self.changed = asyncio.Event()

    @property
    def opened(self) -> list[Hash]:
        """All groups that ever were, the newest first."""
        names = [event.group_id for event in self.log if event.data.get("change") == "opened"]
        return [name for name in reversed(names) if name is not None]

    @property
    def header(self) -> Header:
        """Of the last block."""
        first = genesis_header(self.genesis)
        values = {name: getattr(first, name) for name in first.__struct_fields__}
        return Header(**{**values, "height": self.height, "clock": self.state.clock})


class Client:
    """One wallet's view of a chain."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.genesis = chain.genesis

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def _check(self) -> None:
        if not self.chain.reachable:
            raise LedgerUnreachable("the test took the ledger away")

    async def clock(self) -> int:
        self._check()
        return self.chain.state.clock

    async def head(self) -> Header:
        self._check()
        return self.chain.header

    async def account(self, address: PublicKey) -> Verified[Account]:
        self._check()
        return Verified(self.chain.state.account(address), self.chain.header)

    async def group(self, group_id: Hash) -> Verified[Group | None]:
        self._check()
        return Verified(self.chain.state.group(group_id), self.chain.header)

    async def appointment(self, account: PublicKey) -> Verified[Head | None]:
        self._check()
        return Verified(self.chain.state.appointed(account), self.chain.header)

    async def groups(self, ids: Sequence[Hash]) -> Verified[tuple[Group | None, ...]]:
        self._check()
        return Verified(tuple(map(self.chain.state.group, ids)), self.chain.header)

    async def registration(self, hashed: Hash) -> Verified[Registration | None]:
        self._check()
        return Verified(self.chain.state.registration(hashed), self.chain.header)

    async def groups_of(self, account: PublicKey) -> list[Hash]:
        self._check()
        return [group.group_id for group in self.chain.state.groups_of(account)]

    async def output(self, transaction_id: Hash) -> Verified[Output] | None:
        self._check()
        found = self.chain.outputs.get(transaction_id)
        return Verified(found, self.chain.header) if found is not None else None

    async def submit(self, transaction: Transaction) -> Output:
        self._check()
        if self.chain.swallows:
            raise LedgerUnreachable("whether it was taken is not known")
        self.chain.block([transaction])
        if transaction.id not in self.chain.outputs:
            raise TransactionDead("its life span is over")
        return self.chain.outputs[transaction.id]

    async def new_transfer(self, key: SigningKey, recipient: PublicKey, amount: int) -> Transaction:
        unsigned = Transaction(Transfer(key.public, recipient, amount), await self.clock() + 60_000, bytes(16))
        signature = sign_transaction(unsigned, self.genesis.chain_id, key)
        return Transaction(unsigned.payload, unsigned.valid_until_ms, unsigned.salt, (signature,))

    async def listed_groups(self, cursor: str = "") -> tuple[list[ListedGroup], str]:
        """Two to a page."""
        self._check()
        start = int(cursor or 0)
        groups = [self.chain.state.group(name) for name in self.chain.opened[start : start + 2]]
        page = [listed_of(group) for group in groups if group is not None]
        return page, str(start + 2) if start + 2 < len(self.chain.opened) else ""

    async def events(
        self, groups: Iterable[Hash] = (), kinds: Iterable[str] = (), **_: Any
    ) -> AsyncGenerator[LedgerEvent, None]:
        place = len(self.chain.log)
        while True:
            await self.chain.changed.wait()
            place, new = len(self.chain.log), self.chain.log[place:]
            for event in new:
                if event.kind == "block" or event.kind in kinds:
                    yield event


def listed_of(group: Group) -> ListedGroup:
    """As a replica lists it."""
    agreement = group.agreement
    accounts = tuple(member.funding for member in agreement.members)
    is_open = group.status is Status.OPEN
    return ListedGroup(group.group_id, is_open, agreement.machine, accounts, agreement.funding_units)

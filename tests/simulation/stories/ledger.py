"""Layer 1 of a story: the real state machine, block by block, and what a client hears of it.

Blocks come at random intervals. A transaction waits for a block or two, and may be overtaken by later ones; in an
outage none comes, so the ledger clock stands still, and nothing that a client is told is fresh.

Source: docs/design/consensus.md, "Time"; architecture.md, "Believing an answer".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from msgspec import structs

from layer1.client import TransactionDead
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import Refused
from layer1.eventstream import LedgerEvent
from layer1.failover import LedgerUnreachable
from layer1.header import Header
from layer1.ledger.admission import admit, verify_transaction
from layer1.ledger.events import GroupChanged, GroupClosed, GroupOpened, GroupReported, GroupWedged
from layer1.ledger.execute import Execution, execute
from layer1.ledger.genesis import Genesis, genesis_header
from layer1.ledger.records import Group, Head, Registration
from layer1.ledger.state import State
from layer1.ledger.transactions import Output, Payload, Transaction, sign_transaction
from layer1.proof import Verified
from tests.simulation.clocks import START_WALL_MS
from tests.simulation.groups.loop import ProcessLoop
from tests.simulation.kernel import MS, World

T = TypeVar("T")
Answer = Callable[[Output | Exception], None]

MOST_BLOCKS_MS = 1_000
"""Between two blocks."""
MOST_LEFT_OUT = 3
"""Blocks that leave a transaction out before one takes it: leaders that censor it (rule 18)."""
FRESH_MS = 5_000
"""A head that is older is not acted on."""
PATIENCE_S = 2.0
"""For an answer."""
SUBMIT_S = 15.0
"""For the fate of a transaction."""
LIFE_MS = 60_000
"""Of what a plot brings, on the ledger clock."""
LOST_HINTS = 0.1
"""Part of the news of blocks that do not arrive."""
_OF_GROUPS = GroupOpened | GroupChanged | GroupWedged | GroupReported | GroupClosed


class Ledger:
    """All blocks; makes the next one when it is time."""

    def __init__(self, world: World, genesis: Genesis) -> None:
        self.world, self.genesis = world, genesis
        self.state = State.genesis(genesis)
        self.header = genesis_header(genesis)
        self.on_block: list[Callable[[Execution], None]] = []
        self.views: list[LedgerView] = []
        self.out_until_us = 0
        """Until then there are no blocks."""
        self._random = world.random("ledger")
        self._pending: dict[Hash, tuple[Transaction, int]] = {}
        """With the number of blocks that left it out."""
        self._waiting: dict[Hash, list[Answer]] = {}
        self._outputs: dict[Hash, Output] = {}

    @property
    def clock_ms(self) -> int:
        """The ledger's."""
        return self.header.clock

    def start(self) -> None:
        """Make blocks from now on."""
        self.world.after(self._random.randint(100, MOST_BLOCKS_MS) * MS, self._tick)

    def stand_still(self, duration_ms: int) -> None:
        """An outage: too many replicas are away."""
        self.out_until_us = self.world.now_us + duration_ms * MS
        self.world.note("ledger", f"stands still for {duration_ms} ms")
        self.world.stats["outages"] += 1

    def _tick(self) -> None:
        if self.world.now_us >= self.out_until_us:
            self.make_block()
        self.start()

    def make_block(self) -> None:
        """The next block, with most of what waits, in any order."""
        chosen = [each for each, left in self._pending.values() if left >= MOST_LEFT_OUT or self._random.random() < 0.7]
        self._random.shuffle(chosen)
        wall = max(START_WALL_MS + self.world.now_ms, self.header.wall_time)
        execution = execute(self.state, wall, chosen)
        execution.state.commit()
        self.state = execution.state
        height = self.header.height + 1
        self.header = structs.replace(self.header, height=height, clock=execution.clock, wall_time=wall)
        for name in (each.id for each in chosen):
            del self._pending[name]
        self._pending = {name: (each, left + 1) for name, (each, left) in self._pending.items()}
        self._answer(execution, {each.id for each in chosen})
        for listener in self.on_block:
            listener(execution)
        for view in list(self.views):
            view.heard(self.header, execution)

    def _answer(self, execution: Execution, chosen: set[Hash]) -> None:
        stats = self.world.stats
        for transaction, output in zip(execution.transactions, execution.outputs, strict=True):
            kind = type(transaction.payload).__name__
            stats[f"{kind} {output.code}"] += 1
            self.world.note("ledger", f"{kind} {output.code}", output.transaction_id)
            self._outputs[output.transaction_id] = output
            for answer in self._waiting.pop(output.transaction_id, []):
                answer(output)
        for name in sorted(chosen - self._outputs.keys()):  # passed over: outside its life span
            for answer in self._waiting.pop(name, []):
                answer(TransactionDead("its life span is over"))

    def take(self, transaction: Transaction, answer: Answer) -> None:
        """A transaction arrives; `answer` is called with what becomes of it."""
        name = transaction.id
        if name in self._outputs:
            answer(self._outputs[name])
            return
        try:
            admit(self.state, transaction)
            verify_transaction(transaction, self.genesis.chain_id)
        except Refused as refusal:
            self.world.stats[f"{type(transaction.payload).__name__} not admitted: {refusal.code}"] += 1
            answer(refusal)
            return
        self._pending.setdefault(name, (transaction, 0))
        self._waiting.setdefault(name, []).append(answer)

    def bring(self, payload: Payload) -> None:
        """From whatever machine, for a plot."""
        self.take(Transaction(payload, self.clock_ms + LIFE_MS, self._random.randbytes(16)), lambda _: None)

    def bring_next(self, payload: Payload, signer: SigningKey) -> None:
        """Likewise; the next block has it, for a plot that is about the moment."""
        bare = Transaction(payload, self.clock_ms + LIFE_MS, self._random.randbytes(16))
        signed = sign_transaction(bare, self.genesis.chain_id, signer)
        transaction = structs.replace(bare, signatures=(signed,))
        self.take(transaction, lambda _: None)
        if transaction.id in self._pending:
            self._pending[transaction.id] = transaction, MOST_LEFT_OUT

    def output(self, name: Hash) -> Output | None:
        """What became of a transaction."""
        return self._outputs.get(name)


class Light:
    """What a client believes newest."""

    def __init__(self, view: LedgerView) -> None:
        self._view = view

    @property
    def head(self) -> Header:
        """The newest header that it was shown."""
        return self._view.newest

    @property
    def is_fresh(self) -> bool:
        """Whether a healthy ledger's newest block may be as old."""
        return START_WALL_MS + self._view.ledger.world.now_ms - self.head.wall_time <= FRESH_MS


class LedgerView:
    """The client of one life of one process: as `layer1.client.LedgerClient`, as far as the product asks here."""

    def __init__(self, ledger: Ledger, loop: ProcessLoop, is_cut: Callable[[], bool]) -> None:
        self.ledger, self.genesis = ledger, ledger.genesis
        self.newest = ledger.header
        self.light = Light(self)
        self._loop, self._is_cut = loop, is_cut
        self._news = asyncio.Event()
        self._events: list[LedgerEvent] = []
        ledger.views.append(self)

    def close(self) -> None:
        """The process is dead."""
        self.ledger.views.remove(self)

    async def clock(self) -> int:
        """The ledger's clock."""
        return (await self.head()).clock

    async def head(self) -> Header:
        """The newest block."""
        return (await self._read(lambda: None)).header

    async def group(self, group_id: Hash) -> Verified[Group | None]:
        """A group."""
        return await self._read(lambda: self.ledger.state.group(group_id))

    async def groups(self, ids: Sequence[Hash]) -> Verified[tuple[Group | None, ...]]:
        """Some groups."""
        return await self._read(lambda: tuple(map(self.ledger.state.group, ids)))

    async def registration(self, hashed: Hash) -> Verified[Registration | None]:
        """When a preimage was registered."""
        return await self._read(lambda: self.ledger.state.registration(hashed))

    async def output(self, name: Hash) -> Verified[Output] | None:
        """What became of a transaction."""
        found = await self._read(lambda: self.ledger.output(name))
        return None if found.value is None else Verified(found.value, found.header)

    async def appointment(self, account: PublicKey) -> Verified[Head | None]:
        """Who acts for an account."""
        return await self._read(lambda: self.ledger.state.appointed(account))

    async def submit(self, transaction: Transaction) -> Output:
        """Bring it, and wait for its fate."""
        done: asyncio.Future[Output | Exception] = self._loop.create_future()
        self._travel(
            lambda: self.ledger.take(transaction, lambda said: self._travel(partial(self._settle, done, said)))
        )
        said = await self._patiently(done, SUBMIT_S)
        if isinstance(said, Exception):
            raise said
        return said

    async def submit_many(self, transactions: Sequence[Transaction]) -> list[Output]:
        """Bring them together."""
        return list(await asyncio.gather(*map(self.submit, transactions)))

    async def events(
        self,
        groups: Iterable[Hash] = (),
        accounts: Iterable[PublicKey] = (),
        after: int | None = None,
        kinds: Iterable[str] = (),
    ) -> AsyncGenerator[LedgerEvent, None]:
        """Blocks, and before each what it did to groups."""
        wanted = set(groups)
        while True:
            await self._news.wait()
            self._news.clear()
            events, self._events = self._events, []
            for event in events:
                if event.kind == "block" or not wanted or event.group_id in wanted:
                    yield event

    def heard(self, header: Header, execution: Execution) -> None:
        """A new block: a hint that soon arrives, or is lost."""
        if self._loop.dead or self._is_cut() or self._loop.random.random() < LOST_HINTS:
            return
        found = [LedgerEvent("group", header.height, _data(e)) for e in execution.events if isinstance(e, _OF_GROUPS)]
        found.append(LedgerEvent("block", header.height, {}, header))
        self._travel(partial(self._tell, found))

    def _tell(self, found: list[LedgerEvent]) -> None:
        self._events += found
        self._news.set()

    async def _read(self, read: Callable[[], T]) -> Verified[T]:
        done: asyncio.Future[Verified[T]] = self._loop.create_future()

        def arrive() -> None:
            answer = Verified(read(), self.ledger.header)
            self._travel(partial(self._settle, done, answer))

        self._travel(arrive)
        answer = await self._patiently(done, PATIENCE_S)
        self.newest = max(self.newest, answer.header, key=lambda header: header.height)
        if not self.light.is_fresh:
            raise LedgerUnreachable("the ledger stands still: its newest block is too old to act on")
        return answer

    @staticmethod
    async def _patiently(done: asyncio.Future[T], seconds: float) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await done
        except TimeoutError:
            raise LedgerUnreachable(f"no answer within {seconds} s") from None

    @staticmethod
    def _settle(done: asyncio.Future[Any], answer: object) -> None:
        if not done.done():
            done.set_result(answer)

    def _travel(self, then: Callable[[], object]) -> None:
        """There, or back: by what the loop does, if the process lives and is not cut off."""
        if not self._is_cut():
            delay_us = self._loop.random.randint(500, 20 * MS)
            self._loop.world.after(delay_us, lambda: None if self._is_cut() else self._arrive(then))

    def _arrive(self, then: Callable[[], object]) -> None:
        if not self._loop.dead:
            self._loop.call_soon(then)


def _data(event: _OF_GROUPS) -> dict[str, Any]:
    deadline = event.deadline_ms if isinstance(event, GroupWedged | GroupReported) else None
    change = "opened" if isinstance(event, GroupOpened) else "other"
    return {"group": event.group_id.hex(), "change": change, "deadline": deadline}

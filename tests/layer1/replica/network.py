"""A ledger of replica cores in one process: a fake clock, a fake network, journals in memory, no sockets."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import count

import msgspec

from layer1.block import CommittedBlock
from layer1.consensus.events import Now
from layer1.crypto import Hash, SigningKey
from layer1.errors import LocalError, Refused
from layer1.ledger.genesis import Allocation, Currency, Genesis, Parameters
from layer1.ledger.transactions import Transaction, Transfer, sign_transaction
from layer1.replica import events
from layer1.replica.checkpoints import CheckpointPolicy, fault_of
from layer1.replica.core import ReplicaCore
from layer1.replica.mempool import check_entry
from layer1.replica.shares import PoolLimits
from layer1.replica.snapshots import FromSnapshot
from layer1.statemachine import StateMachine

EPOCH_MS = 1_700_000_000_000
ALICE = SigningKey(b"a" * 32)
BOB = SigningKey(b"b" * 32)
FUNDS = 1_000_000
KEYS = tuple(SigningKey(bytes([i + 1]) * 32) for i in range(10))
"""Those of genesis first."""
GENESIS = Genesis(
    name="test",
    salt=bytes(16),
    currency=Currency("WDG", 2),
    allocations=(Allocation(ALICE.public, FUNDS),),
    replicas=tuple(key.public for key in KEYS[:4]),
    fault_model="byzantine",
    wall_time=EPOCH_MS,
    parameters=Parameters(view_timeout_ms=200, heartbeat_ms=1_000),
)
_salts = count(1)


def transfer(
    amount: int = 1, *, key: SigningKey = ALICE, valid_until_ms: int = 500_000, genesis: Genesis = GENESIS
) -> Transaction:
    """A signed transfer to Bob, unlike any other."""
    unsigned = Transaction(Transfer(key.public, BOB.public, amount), valid_until_ms, next(_salts).to_bytes(16, "big"))
    return signed(unsigned, key, genesis)


def signed(transaction: Transaction, key: SigningKey, genesis: Genesis = GENESIS) -> Transaction:
    """The transaction with this key's signature."""
    signature = sign_transaction(transaction, genesis.chain_id, key)
    return msgspec.structs.replace(transaction, signatures=(signature,))


def named(transactions: Iterable[Transaction]) -> list[tuple[Hash, Transaction]]:
    """As the core takes them."""
    return [(transaction.id, transaction) for transaction in transactions]


class Node:
    """One replica: its core, and what a crash leaves of it."""

    def __init__(
        self,
        index: int,
        genesis: Genesis,
        limits: PoolLimits | None,
        policy: CheckpointPolicy | None = None,
        machine: StateMachine | None = None,
    ) -> None:
        self.machine = machine
        self.index, self.genesis, self.limits, self.policy = index, genesis, limits, policy
        self.durable: list[bytes] = []
        self.generation = 1
        self.buffer: list[bytes] = []
        self.history: list[bytes] = []
        """Everything ever journaled."""
        self.delivered: list[CommittedBlock] = []
        """What is in storage."""
        self.checkpoint: list[bytes] | None = None
        self.taking: events.TakeCheckpoint | None = None
        self.saving: list[bytes] = []
        """A snapshot on its way."""
        self.installed: list[int] = []
        """Heights of the snapshots that it began anew from."""
        self.chunks: dict[int, list[bytes]] = {}
        """By height, the checkpoints that peers may be fetching."""
        self.rejected: dict[Hash, Refused] = {}
        self.misbehaved: list[events.Misbehaved] = []
        self.verified = 0
        """Signatures checked here, over all lives."""
        self.wake_ms: int | None = None
        self.failed: LocalError | None = None
        self.alive = False
        self.kept_blocks = 0
        """Below a checkpoint; 0: all."""
        self.from_snapshot = FromSnapshot.NEW
        self.core: ReplicaCore

    def restart(self, *, rebuild: bool = False) -> None:
        """A new core from what is durable."""
        self.buffer, self.wake_ms, self.alive, self.taking = [], None, True, None
        self.core = ReplicaCore(
            self.genesis,
            KEYS[self.index],
            self.index,
            self.limits,
            self.policy,
            machine=self.machine,
            from_snapshot=self.from_snapshot,
        )
        found = None if self.checkpoint is None or rebuild else iter(self.checkpoint)
        replayed = list(self.core.restore(list(self.durable), found, self.delivered if rebuild else None))
        before = self.core.application.floor.header.height - len(replayed) if rebuild else self.core.checkpoint_height
        self.delivered = [block for block in self.delivered if block.header.height <= before] + replayed

    def prune(self, height: int) -> None:
        """A checkpoint of this height is there."""
        if self.kept_blocks:
            self.delivered = [b for b in self.delivered if b.header.height > height - self.kept_blocks]

    def install(self, height: int) -> None:
        """Go on from the snapshot that is here: in the place of checkpoint and blocks, beside the same journal."""
        self.durable, self.checkpoint, self.delivered = self.durable + self.buffer, self.saving, []
        self.installed.append(height)


def checkpointed(height: int, pieces: Sequence[bytes]) -> events.Checkpointed:
    """As a driver tells it."""
    return events.Checkpointed(height, len(pieces) - 1, sum(map(len, pieces[1:])))


class Network:
    """All replicas, and what is on its way between them."""

    def __init__(
        self,
        seed: int = 0,
        genesis: Genesis = GENESIS,
        limits: PoolLimits | None = None,
        policy: CheckpointPolicy | None = None,
        *,
        machine: StateMachine | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.now_ms = 0
        self.nodes = [Node(index, genesis, limits, policy, machine) for index in range(len(genesis.replicas))]
        self.genesis = genesis
        self.lost: Callable[[int, int, bytes], bool] = lambda _sender, _receiver, _data: False
        """Whether a message is lost; changed by tests."""
        self.rewritten: Callable[[int, bytes], bytes] = lambda _sender, data: data
        """What a sender says instead; changed by tests."""
        self.liars = False
        """Whether a test speaks in the name of replicas; otherwise nobody may blame anybody."""
        self.delay_ms: Callable[[], int] = lambda: 1
        self.shortened: Callable[[Node], None] = lambda _node: None
        """Told when a replica has shortened its journal."""
        self.checkpoint_ms: Callable[[], int] = lambda: 20
        """How long writing a checkpoint takes."""
        self._queue: list[tuple[int, int, int, events.Event]] = []
        self._order = count()
        for node in self.nodes:
            self.start(node.index)

    def start(self, index: int, *, rebuild: bool = False) -> None:
        """Start, or restart after a crash; all links of it come up."""
        node = self.nodes[index]
        node.restart(rebuild=rebuild)
        self._put(self.now_ms, index, events.Begin(node.generation))
        for other in self.nodes:
            if other.alive and other is not node:
                self._put(self.now_ms, index, events.PeerUp(other.index, other.generation))
                self._put(self.now_ms, other.index, events.PeerUp(index, node.generation))

    def add(self) -> int:
        """Start one more, with the next of `KEYS`; its number."""
        index = len(self.nodes)
        first = self.nodes[0]
        self.nodes.append(Node(index, self.genesis, first.limits, first.policy, first.machine))
        self.start(index)
        return index

    def crash(self, index: int) -> None:
        """SIGKILL: what is not durable is gone, and so is what was on its way to it."""
        self.nodes[index].alive = False
        self._queue = [item for item in self._queue if item[2] != index]
        heapq.heapify(self._queue)

    def submit(self, index: int, transactions: Sequence[Transaction]) -> None:
        """Bring transactions to one replica."""
        self.step(index, events.Submit(named(transactions)))

    def step(self, index: int, event: events.Event) -> None:
        """Put one event through one replica: journal first, then everything that left."""
        node = self.nodes[index]
        if not node.alive:
            return
        now = self.now()
        if isinstance(event, events.Checkpointed):
            assert node.taking is not None
            node.checkpoint, node.taking = list(node.taking.pieces), None
            node.chunks = {**dict(list(node.chunks.items())[-1:]), event.height: node.checkpoint[1:]}
            node.prune(event.height)
            event = checkpointed(event.height, node.checkpoint)
        try:
            effects = node.core.step(event, now)
        except LocalError as error:
            node.failed, node.alive = error, False
            return
        for effect in effects:
            if isinstance(effect, events.InstallSnapshot):
                node.install(effect.height)
                self.crash(index)
                self.start(index)
                return
            if isinstance(effect, events.Journal):
                node.buffer.append(effect.record)
                node.history.append(effect.record)
                if not effect.lazy:
                    node.durable, node.buffer = node.durable + node.buffer, []
            elif isinstance(effect, events.Shorten):
                node.durable, node.buffer = list(effect.records), []
                self.shortened(node)
            else:
                self._perform(node, effect)

    def now(self) -> Now:
        """The time of a step."""
        return Now(self.now_ms, EPOCH_MS + self.now_ms)

    def _perform(self, node: Node, effect: events.Effect) -> None:
        match effect:
            case events.Transmit():
                self._send(node.index, effect.peer, effect.data)
            case events.TransmitAll():
                for other in self.nodes:
                    if other is not node:
                        self._send(node.index, other.index, effect.data)
            case events.Verify():
                node.verified += len(effect.transactions)
                self._put(self.now_ms, node.index, events.Verified(effect.job, self._failures(node, effect)))
            case events.Deliver():
                node.delivered.append(effect.block)
            case events.Reject():
                node.rejected.update(dict.fromkeys(effect.ids, effect.refusal))
            case events.LoadBlocks():
                found = [block for block in node.delivered if block.header.height >= effect.first][:100]
                self._put(self.now_ms, node.index, events.Loaded(effect.peer, effect.first, found))
            case events.Again():
                self._put(self.now_ms, node.index, events.Proceed())
            case events.Wake():
                node.wake_ms = effect.monotonic_ms
            case events.TakeCheckpoint():
                node.taking = effect
                self._put(self.now_ms + self.checkpoint_ms(), node.index, checkpointed(effect.height, ()))
            case events.LoadChunk():
                pieces = node.chunks.get(effect.height, [])[effect.first :]
                self._put(self.now_ms, node.index, events.ChunkLoaded(effect.peer, effect.height, effect.first, pieces))
            case events.SaveSnapshot():
                node.saving = [*([] if effect.begins else node.saving), *effect.pieces]
            case events.CheckSnapshot():
                fault = fault_of(self.genesis, iter(node.saving), node.machine)
                self._put(self.now_ms + self.checkpoint_ms(), node.index, events.SnapshotChecked(effect.height, fault))
            case events.Misbehaved():
                node.misbehaved.append(effect)
            case _:
                pass

    def _failures(self, node: Node, effect: events.Verify) -> tuple[tuple[int, Refused], ...]:
        failures, state = [], node.core.application.floor.state
        for position, transaction in enumerate(effect.transactions):
            try:
                check_entry(state, transaction, self.genesis.chain_id, rehearsed=effect.rehearse)
            except Refused as refusal:
                failures.append((position, refusal))
        return tuple(failures)

    def _send(self, sender: int, receiver: int, data: bytes) -> None:
        if self.nodes[receiver].alive and not self.lost(sender, receiver, data):
            said = self.rewritten(sender, data)
            self._put(self.now_ms + self.delay_ms(), receiver, events.FromPeer(sender, said))

    def _put(self, at_ms: int, index: int, event: events.Event) -> None:
        heapq.heappush(self._queue, (at_ms, next(self._order), index, event))

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 60_000) -> None:
        """Let time pass until the condition holds."""
        end = self.now_ms + limit_ms
        while not condition():
            wakes = [(node.wake_ms, node.index) for node in self.nodes if node.alive and node.wake_ms is not None]
            next_ms = min([item[0] for item in self._queue[:1]] + [wake for wake, _ in wakes], default=end + 1)
            assert next_ms <= end, f"not within {limit_ms} ms; heights {self.heights()}"
            self.now_ms = max(self.now_ms, next_ms)
            if self._queue and self._queue[0][0] <= self.now_ms:
                _, _, index, event = heapq.heappop(self._queue)
                self.step(index, event)
                continue
            for wake, index in wakes:
                if wake <= self.now_ms:
                    self.nodes[index].wake_ms = None
                    self.step(index, events.Tick())

    def run_for(self, duration_ms: int) -> None:
        """Let time pass."""
        end = self.now_ms + duration_ms
        heapq.heappush(self._queue, (end, next(self._order), 0, events.Tick()))
        self.run_until(lambda: self.now_ms >= end, duration_ms + 1)

    # ------------------------------------------------------------------------------------------------------- looking

    def alive(self) -> list[Node]:
        """Replicas that run."""
        return [node for node in self.nodes if node.alive]

    def heights(self) -> list[int]:
        """Of the last final blocks."""
        return [node.core.application.floor.header.height for node in self.nodes]

    def balances(self, key: SigningKey = BOB) -> set[int]:
        """What the running replicas say that somebody has."""
        return {node.core.application.floor.state.balance(key.public) for node in self.alive()}

    def everybody_has(self, balance: int) -> Callable[[], bool]:
        """Whether Bob has this much on every running replica."""
        return lambda: self.balances() == {balance}

    def check(self) -> None:
        """What holds at any moment: one chain, delivered in order without gaps, no false blame, and money conserved."""
        chains = [[block.header.id for block in node.delivered] for node in self.nodes]
        longest = max(chains, key=len)
        for node, chain in zip(self.nodes, chains, strict=True):
            assert chain == longest[: len(chain)], f"replica {node.index} is on another chain"
            assert [block.header.height for block in node.delivered] == list(range(1, len(chain) + 1))
            assert node.failed is None, node.failed
            blamed = {f"{item.peer}: {item.reason}" for item in node.misbehaved if item.blamed}
            assert not blamed or self.liars, f"replica {node.index} blames honest ones: {blamed}"
        for node in self.alive():
            assert node.core.application.floor.state.total_units() == FUNDS

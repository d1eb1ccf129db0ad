"""A whole network in memory: fake time, a seeded wire, crashes that keep only what was persisted, and its checkers.

The application is trivial: a block's state root is a hash of its parent's and its batches, so that executing in the
wrong order, or on the wrong parent, shows.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from layer1 import crypto, merkle
from layer1.codec import encode
from layer1.consensus.certificates import signed_data
from layer1.consensus.chain import clock_after
from layer1.consensus.config import Config
from layer1.consensus.core import Consensus
from layer1.consensus.events import (
    Accuse,
    Broadcast,
    Build,
    Built,
    CatchUp,
    CaughtUp,
    Commit,
    Effect,
    Event,
    Now,
    Persist,
    PersistBatches,
    Received,
    Send,
    Started,
    TimerFired,
    Validate,
    Validated,
    WakeAt,
    WorkChanged,
)
from layer1.consensus.evidence import Voters, pair
from layer1.consensus.evidence import verify as verify_evidence
from layer1.consensus.messages import Finalization, Finalize, Message, Notarize, Nullify, Proposal
from layer1.consensus.records import decode_record
from layer1.crypto import ZERO_HASH, Domain, Hash, SigningKey
from layer1.errors import Refused, RemoteError
from layer1.header import BlockId, Header

START_WALL_MS = 1_700_000_000_000
SET = crypto.digest(Domain.REPLICA_SET, b"set")


@cache
def key_of(index: int) -> SigningKey:
    return SigningKey(index.to_bytes(32, "big"))


@cache
def verify(public: bytes, signature: bytes, kind: crypto.Kind, chain_id: bytes, data: bytes) -> bool:
    """One memo for all replicas of all runs."""
    return crypto.verify(public, signature, kind, chain_id, data)


def root_of(digests: tuple[Hash, ...]) -> Hash:
    return merkle.list_root(digests)


def state_after(parent: Header, batches_root: Hash) -> Hash:
    return crypto.digest(Domain.NODE, parent.state_root + batches_root)


def genesis(epoch: int = 0) -> Header:
    root = root_of(())
    return Header(epoch, 0, 0, ZERO_HASH, 0, START_WALL_MS, root, ZERO_HASH, ZERO_HASH, ZERO_HASH, SET)


def config(n: int = 4, **options: Any) -> Config:
    keys = tuple(key_of(index).public for index in range(n))
    return replace(Config(bytes(32), 0, keys, SET), **options)


def voters_of(config: Config) -> Voters:
    return Voters(config.chain_id, config.epoch, config.replicas, config.term_views)


def child(
    parent: Header, view: int, wall_time: int, batches: tuple[Hash, ...] = (), max_step_ms: int = 60_000
) -> Header:
    """An honest block."""
    root = root_of(batches)
    clock = clock_after(parent, wall_time, 60_000)
    state = state_after(parent, root)
    return Header(0, view, parent.height + 1, parent.id, clock, wall_time, root, ZERO_HASH, state, ZERO_HASH, SET)


class SafetyError(AssertionError):
    """A checker found a broken promise."""


@dataclass
class Disk:
    """What survives a crash."""

    records: list[bytes] = field(default_factory=list)
    batches: set[Hash] = field(default_factory=set)
    floor: Header = field(default_factory=genesis)
    finalization: Finalization | None = None
    final: list[Header] = field(default_factory=lambda: [genesis()])
    finalizations: dict[BlockId, Finalization] = field(default_factory=dict)


class Checkers:
    """Over the whole network and all restarts: what must never be seen."""

    def __init__(self, config: Config, honest: Iterable[int]) -> None:
        self.config = config
        self.honest = set(honest)
        self.notarized: dict[tuple[int, int], BlockId] = {}
        self.finalized: dict[tuple[int, int], BlockId] = {}
        self.nullified: dict[tuple[int, int], int] = {}
        self.chain: dict[int, BlockId] = {0: genesis().id}
        self.seen: set[bytes] = set()
        self.proposals: dict[BlockId, Header] = {}

    def sent(self, replica: int, message: Message, disk: Disk) -> None:
        """No contradictory votes of an honest replica ever, and no vote that is not durable."""
        if isinstance(message, Proposal):
            self.proposals[message.vote.block] = message.header
            self.sent(replica, message.vote, disk)
        if not isinstance(message, Notarize | Finalize | Nullify) or replica not in self.honest:
            return
        if message.replica != replica:
            return  # in a block of another leader, that was asked for
        key = message.signature
        if key in self.seen:
            return
        self.seen.add(key)
        self._durable(message, disk)
        term = self.config.term
        match message:
            case Notarize():
                if self.notarized.setdefault((replica, message.view), message.block) != message.block:
                    raise SafetyError(f"{replica} notarized twice in view {message.view}")
                self._bounds(replica, message)
            case Finalize():
                if self.finalized.setdefault((replica, message.view), message.block) != message.block:
                    raise SafetyError(f"{replica} finalized twice in view {message.view}")
                start = self.nullified.get((replica, term(message.view)))
                if start is not None and start <= message.view:
                    raise SafetyError(f"{replica} finalized {message.view} after nullifying from {start}")
            case Nullify():
                if (replica, term(message.start)) in self.nullified:
                    raise SafetyError(f"{replica} nullified twice in term {term(message.start)}")
                self.nullified[replica, term(message.start)] = message.start
                for view in range(message.start, self.config.last_view(message.start) + 1):
                    if (replica, view) in self.finalized:
                        raise SafetyError(f"{replica} nullified from {message.start} after finalizing {view}")

    def _bounds(self, replica: int, vote: Notarize) -> None:
        header = self.proposals.get(vote.block)
        parent = self.proposals.get(header.parent, genesis()) if header is not None else None
        if header is not None and parent is not None and header.wall_time < parent.wall_time:
            raise SafetyError(f"{replica} notarized a block before its parent's time")

    def _durable(self, vote: Notarize | Finalize | Nullify, disk: Disk) -> None:
        for data in reversed(disk.records):
            record = decode_record(data)
            if record == vote or (isinstance(record, Proposal) and record.vote == vote):
                return
        raise SafetyError(f"replica {vote.replica} sent a vote that is not durable: {signed_data(vote).hex()}")

    def accused(self, effect: Accuse) -> None:
        """What a replica calls a contradiction is one, to anybody."""
        evidence = pair(effect.first, effect.second)
        if evidence is None:
            raise SafetyError(f"no contradiction: {effect}")
        try:
            verify_evidence(evidence, voters_of(self.config), verify)
        except Refused as refusal:
            raise SafetyError(f"an accusation that proves nothing: {refusal}") from refusal

    def committed(self, replica: int, headers: Iterable[Header]) -> None:
        """Agreement, and one chain."""
        for header in headers:
            if self.chain.setdefault(header.height, header.id) != header.id:
                raise SafetyError(f"{replica} committed another block at height {header.height}")
            if self.chain.get(header.height - 1) != header.parent:
                raise SafetyError(f"{replica} committed height {header.height} on another parent")


class Node:
    """A driver and an application, both trivial, around one core."""

    core: Consensus

    def __init__(self, network: Network, index: int, make: Callable[..., Consensus] = Consensus) -> None:
        self.network, self.index, self.make = network, index, make
        self.disk = Disk()
        self.alive = False
        self.life = 0
        self.skew_ms = 0
        self.pending = False
        self.counter = 0

    def start(self) -> None:
        self.alive = True
        self.life += 1
        disk = self.disk
        self.executed: set[BlockId] = {disk.floor.id}
        self.wake_ms: int | None = None
        self.pending = False
        self.core = self.make(
            self.network.config,
            key_of(self.index),
            self.index,
            disk.floor,
            disk.finalization,
            list(disk.records),
            verify=verify,
        )
        self.step(Started())
        self.update_work()

    def crash(self) -> None:
        self.alive = False
        self.life += 1

    def now(self) -> Now:
        return Now(self.network.now_ms, START_WALL_MS + self.network.now_ms + self.skew_ms)

    def step(self, event: Event) -> None:
        if not self.alive:
            return
        life = self.life
        try:
            effects = self.core.step(event, self.now())
        except RemoteError as error:
            self.network.errors.append((self.index, error))
            return
        for effect in effects:
            self.perform(effect)
            if self.life != life:
                return
        self.network.trace(self.index, effects)

    def update_work(self) -> None:
        """Pending is what is neither final nor on the way to being so from the tip."""
        done = self.disk.floor.height + len(self.core.ancestors(self.core.tip.id))
        pending = self.alive and self.network.transactions > done
        if pending != self.pending:
            self.pending = pending
            self.step(WorkChanged(pending, self.network.now_ms if pending else None))

    def perform(self, effect: Effect) -> None:
        network = self.network
        match effect:
            case Persist():
                if network.crash_points and network.random.random() < network.crash_rate:
                    network.crash(self.index)
                    return
                self.disk.records.append(effect.record)
            case PersistBatches():
                self.disk.batches.update(effect.digests)
            case Send():
                network.send(self.index, effect.receiver, effect.message)
            case Broadcast():
                for receiver in range(len(network.nodes)):
                    if receiver != self.index:
                        network.send(self.index, receiver, effect.message)
            case Build():
                self.counter += 1
                batch = crypto.digest(Domain.BATCH, encode((self.index, self.counter, self.life)))
                batches = (batch,) if self.pending else ()
                header = child(effect.parent, effect.view, effect.wall_time, batches)
                self.executed.add(header.id)
                self.later(Built(header, batches), network.execution_ms)
            case Validate():
                header, parent = effect.proposal.header, effect.parent
                if parent.id not in self.executed:
                    raise SafetyError("asked to validate on a state that is not here")
                valid = header.state_root == state_after(parent, root_of(effect.proposal.batches))
                if valid:
                    self.executed.add(header.id)
                self.disk.batches.update(effect.proposal.batches)
                self.later(Validated(header.id, valid), network.execution_ms)
            case Commit():
                if effect.headers[0].parent != self.disk.floor.id:
                    raise SafetyError("a commit that does not extend the last")
                self.advance_floor(effect.headers, effect.finalization)
            case CatchUp():
                network.catch_ups += 1
                self.later(effect, network.execution_ms + 1)
            case WakeAt():
                self.wake_ms = effect.monotonic_ms
                if self.wake_ms is not None:
                    network.at(self.wake_ms, self.index, self.life, TimerFired())
            case Accuse():
                network.checkers.accused(effect)
                if effect.replica in network.checkers.honest:
                    raise SafetyError(f"honest replica {effect.replica} accused: {effect}")
                network.accused.add(effect.replica)

    def advance_floor(self, headers: tuple[Header, ...], finalization: Finalization) -> None:
        disk = self.disk
        disk.floor, disk.finalization = headers[-1], finalization
        disk.final += headers
        disk.finalizations[finalization.block] = finalization
        self.network.checkers.committed(self.index, headers)
        self.network.commit_times.setdefault(headers[-1].height, {})[self.index] = self.network.now_ms

    def later(self, event: Event | CatchUp, delay_ms: int) -> None:
        self.network.at(self.network.now_ms + delay_ms, self.index, self.life, event)

    def catch_up(self, effect: CatchUp) -> None:
        """Fetch final blocks from whoever has them."""
        for peer in self.network.nodes:
            found = peer.disk.finalizations.get(effect.finalization.block)
            if peer is not self and found is not None and peer.disk.floor.height > self.disk.floor.height:
                height = next(header.height for header in peer.disk.final if header.id == found.block)
                headers = tuple(peer.disk.final[self.disk.floor.height + 1 : height + 1])
                if headers:
                    self.executed.update(header.id for header in headers)
                    self.advance_floor(headers, found)
                    self.step(CaughtUp(headers[-1], found))
                return


class Network:
    """n replicas and a wire."""

    def __init__(
        self,
        config: Config,
        seed: int = 0,
        *,
        byzantine: Iterable[int] = (),
        make: Callable[..., Consensus] = Consensus,
        delay_ms: tuple[int, int] = (10, 10),
        loss: float = 0.0,
        duplication: float = 0.0,
        execution_ms: int = 0,
    ) -> None:
        self.config = config
        self.random = random.Random(seed)
        self.byzantine = set(byzantine)
        self.checkers = Checkers(config, set(range(len(config.replicas))) - self.byzantine)
        self.nodes = [Node(self, index, make) for index in range(len(config.replicas))]
        self.delay_ms, self.loss, self.duplication, self.execution_ms = delay_ms, loss, duplication, execution_ms
        self.crash_points, self.crash_rate = False, 0.0
        self.blocked: set[tuple[int, int]] = set()
        self.lossy: tuple[type[Message], ...] = ()
        """Kinds of messages that are lost."""
        self.now_ms = 0
        self.transactions = 0
        self.catch_ups = 0
        self.queue: list[tuple[int, int, int, int, Any]] = []
        self.sequence = 0
        self.errors: list[tuple[int, RemoteError]] = []
        self.accused: set[int] = set()
        self.sent: list[tuple[int, int, int, Message]] = []
        """(time, sender, receiver, message)."""
        self.commit_times: dict[int, dict[int, int]] = {}
        self.intercept: Callable[[int, int, Message], Message | None] | None = None
        self.digest = 0

    # ----------------------------------------------------------------------------------------------------- the wire

    def at(self, time_ms: int, index: int, life: int, event: Any) -> None:
        self.sequence += 1
        heapq.heappush(self.queue, (max(time_ms, self.now_ms), self.sequence, index, life, event))

    def send(self, sender: int, receiver: int, message: Message) -> None:
        if self.intercept is not None and sender in self.byzantine:
            changed = self.intercept(sender, receiver, message)
            if changed is None:
                return
            message = changed
        self.checkers.sent(sender, message, self.nodes[sender].disk)
        self.sent.append((self.now_ms, sender, receiver, message))
        if (sender, receiver) in self.blocked or isinstance(message, self.lossy) or self.random.random() < self.loss:
            return
        copies = 2 if self.random.random() < self.duplication else 1
        for _ in range(copies):
            delay_ms = self.random.randint(*self.delay_ms)
            self.at(self.now_ms + delay_ms, receiver, -1, Received(sender, message))

    def trace(self, index: int, effects: list[Effect]) -> None:
        for effect in effects:
            data = effect.message if isinstance(effect, Send | Broadcast) else type(effect).__name__
            text = encode(data)
            self.digest = int.from_bytes(crypto.digest(Domain.LOG, self.digest.to_bytes(32, "big") + text), "big")

    # -------------------------------------------------------------------------------------------------------- the run

    def start(self) -> Network:
        for node in self.nodes:
            node.start()
        return self

    def crash(self, index: int) -> None:
        self.nodes[index].crash()

    def submit(self, count: int = 1) -> None:
        self.transactions = max(self.transactions, self.final_height()) + count
        for node in self.nodes:
            if node.alive:
                node.update_work()

    def final_height(self) -> int:
        return max(node.disk.floor.height for node in self.nodes)

    def run(self, for_ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Run for a time, or until something holds; whether it came to hold."""
        end_ms = self.now_ms + for_ms
        while self.queue and self.queue[0][0] <= end_ms:
            time_ms, _, index, life, event = heapq.heappop(self.queue)
            self.now_ms = time_ms
            node = self.nodes[index]
            if not node.alive or life not in (-1, node.life):
                continue
            if isinstance(event, CatchUp):
                node.catch_up(event)
            elif isinstance(event, TimerFired) and node.wake_ms != time_ms:
                continue
            else:
                node.step(event)
            if node.alive:
                node.update_work()
            if until is not None and until():
                return True
        self.now_ms = end_ms
        return until is not None and until()

    def heal(self) -> None:
        """From now on the network is good and everybody is up."""
        self.loss = self.duplication = 0.0
        self.delay_ms = (5, 15)
        self.crash_points = False
        self.blocked.clear()
        self.lossy = ()
        for node in self.nodes:
            if not node.alive:
                node.start()

    def all_at(self, height: int, nodes: Iterable[int] | None = None) -> bool:
        chosen = self.nodes if nodes is None else [self.nodes[index] for index in nodes]
        return all(node.disk.floor.height >= height for node in chosen if node.alive)

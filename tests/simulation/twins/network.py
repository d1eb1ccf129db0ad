"""A network of instances, some of which share a replica's key, and the cuts between them.

The cores are the real ones. The application is that of `tests.layer1.consensus.network`: a block's state root is a hash
of its parent's and its batches. Everybody always has something to order, so that timers run. Every message takes
`DELAY_MS`; a message that a cut drops is lost.

Source: Bano et al., Twins: BFT Systems Made Robust (OPODIS 2021), section 4.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from itertools import count
from typing import assert_never

from msgspec import structs

from layer1 import crypto
from layer1.codec import encode
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
from layer1.consensus.messages import Fetch, Finalization, Message, Nullify, Proposal
from layer1.crypto import Domain
from layer1.errors import LocalError, RemoteError
from layer1.header import BlockId, Header
from tests.layer1.consensus.network import (
    START_WALL_MS,
    Checkers,
    Disk,
    SafetyError,
    child,
    genesis,
    key_of,
    root_of,
    state_after,
    verify,
)
from tests.simulation.checkers.ranges import Standing
from tests.simulation.describe import consensus, short

DELAY_MS = 10
"""Of every message that gets through."""
MAX_STEPS = 300_000
"""Events in one run, far above any honest one: seven replicas with two twins and long rounds take up to 80,000."""

MakeCore = Callable[..., Consensus]
Cut = Callable[[int, int, int], bool]
"""Whether what this instance sends to that one about this view is lost now."""


class Instance:
    """One copy of a replica: its core, its disk, its trivial application."""

    core: Consensus

    def __init__(self, network: Network, number: int, replica: int) -> None:
        self.network, self.number, self.replica = network, number, replica
        self.name = f"replica{replica}" + ("'" if number != replica else "")
        self.is_honest = replica in network.checkers.honest
        self.disk = Disk(floor=network.floor)
        self.executed: set[BlockId] = {network.floor.id}
        self.wake_ms: int | None = None
        self.stopped = False
        self._standing = Standing(network.config, network.floor.view + 1)
        self._built = 0

    def start(self, make: MakeCore) -> None:
        """Begin at the floor, with work to do."""
        config = self.network.config
        self.core = make(config, key_of(self.replica), self.replica, self.disk.floor, verify=verify)
        self.step(Started())
        self.step(WorkChanged(pending=True, passed_over_ms=None))

    def step(self, event: Event) -> None:
        """Let the core take an event, and perform what it wants.

        Raises:
            SafetyError: An honest core stops, or calls something wrong that cores sent to each other.
        """
        now_ms = self.network.now_ms
        try:
            effects = self.core.step(event, Now(now_ms, START_WALL_MS + now_ms))
        except (LocalError, RemoteError) as error:
            self.stopped = True
            if self.is_honest:
                raise SafetyError(f"{self.name}, which is honest, stops at {event}: {error}") from error
            return
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        network = self.network
        match effect:
            case Persist():
                self.disk.records.append(effect.record)
                if (wrong := self._standing.read(effect.record)) and self.is_honest:
                    raise SafetyError(wrong)
            case PersistBatches():
                self.disk.batches.update(effect.digests)
            case Send():
                network.send(self, effect.message, effect.receiver)
            case Broadcast():
                network.send(self, effect.message)
            case Build():
                self._build(effect)
            case Validate():
                self._validate(effect)
            case Commit():
                self._commit(effect.headers, effect.finalization)
            case CatchUp():
                network.after(DELAY_MS, self, effect)
            case WakeAt():
                self.wake_ms = effect.monotonic_ms
                if self.wake_ms is not None:
                    network.at(self.wake_ms, self, TimerFired())
            case Accuse():
                self._accuse(effect)
            case _:
                assert_never(effect)

    def _build(self, build: Build) -> None:
        """A block with a batch of this instance's own, so that twins contradict each other."""
        self._built += 1
        batches = (crypto.digest(Domain.BATCH, encode((self.number, self._built))),)
        header = child(build.parent, build.view, build.wall_time, batches)
        self.executed.add(header.id)
        self.network.after(0, self, Built(header, batches))

    def _validate(self, validate: Validate) -> None:
        proposal, parent = validate.proposal, validate.parent
        if parent.id not in self.executed:
            raise SafetyError(f"{self.name} is asked to validate on a state that is not here")
        valid = proposal.header.state_root == state_after(parent, root_of(proposal.batches))
        if valid:
            self.executed.add(proposal.vote.block)
        self.network.after(0, self, Validated(proposal.vote.block, valid))

    def _commit(self, headers: tuple[Header, ...], finalization: Finalization) -> None:
        network, disk = self.network, self.disk
        if self.is_honest:
            if headers[0].parent != disk.floor.id:
                raise SafetyError(f"{self.name} commits what does not extend its last final block")
            network.checkers.committed(self.replica, headers)
        disk.floor, disk.finalization = headers[-1], finalization
        disk.final += headers
        disk.finalizations[finalization.block] = finalization
        network.note(self.name, f"final: view {headers[-1].view}, {short(finalization.block)}")

    def _accuse(self, accuse: Accuse) -> None:
        network = self.network
        network.note(self.name, f"accuses {accuse.replica}")
        if not self.is_honest:
            return
        network.checkers.accused(accuse)
        if accuse.replica in network.checkers.honest:
            raise SafetyError(f"{self.name} accuses replica {accuse.replica}, which is honest: {accuse}")
        network.accusations += 1

    def catch_up(self, wanted: Finalization) -> None:
        """Fetch final blocks from whoever has them and can be reached."""
        for peer in self.network.instances:
            at = peer.disk.finalizations.get(wanted.block)
            if peer is self or at is None or self.network.is_cut(peer, self, wanted.view):
                continue
            floor = self.disk.floor.height
            headers = tuple(
                header for header in peer.disk.final if header.height > floor and header.view <= wanted.view
            )
            if headers:
                self.executed.update(header.id for header in headers)
                self._commit(headers, at)
                self.step(CaughtUp(headers[-1], at))
            return


class Network:
    """All instances; the first n are one of each replica, the others are twins."""

    def __init__(self, config: Config, twins: Iterable[int], first_view: int, cut: Cut, *, keep_trace: bool) -> None:
        self.config = config
        self.now_ms = 0
        self.steps = 0
        self.sent = 0
        self.lost = 0
        self.accusations = 0
        self.lines: list[str] | None = [] if keep_trace else None
        self.floor = structs.replace(genesis(), view=first_view - 1)
        replicas = range(len(config.replicas))
        self.checkers = Checkers(config, set(replicas) - set(twins))
        self.checkers.chain[0] = self.floor.id
        self.instances = [Instance(self, number, replica) for number, replica in enumerate((*replicas, *twins))]
        self._by_replica = [[each for each in self.instances if each.replica == replica] for replica in replicas]
        self._cut = cut
        self._queue: list[tuple[int, int, Instance, Event | CatchUp]] = []
        self._order = count()

    def start(self, make: MakeCore = Consensus) -> None:
        """All at once."""
        for instance in self.instances:
            instance.start(make)

    @property
    def honest(self) -> list[Instance]:
        """Those that must agree and go on."""
        return [instance for instance in self.instances if instance.is_honest]

    def note(self, who: str, what: str) -> None:
        """A line of the trace, if it is kept."""
        if self.lines is not None:
            self.lines.append(f"{self.now_ms:6} ms  {who:<9} {what}")

    # ----------------------------------------------------------------------------------------------------- the wire

    def send(self, sender: Instance, message: Message, receiver: int | None = None) -> None:
        """From an instance to all instances of one replica, or of all others."""
        if sender.is_honest:
            self.checkers.sent(sender.replica, message, sender.disk)
        view = _view_about(message, sender)
        event = Received(sender.replica, message)
        reached = []
        for instance in self.instances if receiver is None else self._by_replica[receiver]:
            if instance.replica != sender.replica:
                if self._cut(sender.number, instance.number, view):
                    self.lost += 1
                else:
                    reached.append(instance.name)
                    self.after(DELAY_MS, instance, event)
        self.sent += 1
        if self.lines is not None:
            self.note(sender.name, f"{consensus(message)} reaches {' '.join(reached) or 'nobody'}")

    def is_cut(self, sender: Instance, receiver: Instance, view: int) -> bool:
        """Whether nothing about this view gets from one to the other now."""
        return self._cut(sender.number, receiver.number, view)

    def at(self, time_ms: int, instance: Instance, event: Event | CatchUp) -> None:
        """Give an instance an event at this time."""
        heapq.heappush(self._queue, (time_ms, next(self._order), instance, event))

    def after(self, delay_ms: int, instance: Instance, event: Event | CatchUp) -> None:
        """Give an instance an event later."""
        self.at(self.now_ms + delay_ms, instance, event)

    # ------------------------------------------------------------------------------------------------------ the run

    def run(self, until_ms: int, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass until then, or until something holds, which is looked at whenever time moves."""
        queue = self._queue
        while queue and queue[0][0] <= until_ms:
            if queue[0][0] > self.now_ms and done is not None and done():
                return True
            self.now_ms, _, instance, event = heapq.heappop(queue)
            if isinstance(event, TimerFired) and instance.wake_ms != self.now_ms:
                continue
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise SafetyError(f"{self.steps} steps, and only {self.now_ms} ms have passed")
            if instance.stopped:
                continue
            if isinstance(event, CatchUp):
                instance.catch_up(event.finalization)
            else:
                instance.step(event)
        self.now_ms = max(self.now_ms, until_ms)
        return done is not None and done()


def _view_about(message: Message, sender: Instance) -> int:
    """The view whose round decides whom a message reaches."""
    match message:
        case Proposal():
            return message.vote.view
        case Nullify():
            return message.start
        case Fetch():
            return sender.core.view
        case _:
            return message.view

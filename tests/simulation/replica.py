"""A process that hosts one real replica core, and performs its effects as `layer1.replica.driver` does.

What comes in within one turn goes through the core at once; its records are appended, at the end of the turn there is
one sync, and only then the messages of the turn leave. A process may pause, also between a sync and what waits for it,
be killed between any two effects or in the middle of a sync, and be started again from what its disk holds.

Source: layer1/replica/driver.py; docs/design/consensus.md, "Persist before sending".
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from layer1.block import CommittedBlock
from layer1.codec import decode
from layer1.consensus.config import Config
from layer1.consensus.events import Now
from layer1.crypto import Hash, SigningKey
from layer1.errors import LocalError, Refused, RemoteError
from layer1.ledger.genesis import Genesis
from layer1.ledger.replicas import ReplicaSet
from layer1.replica import catchup, events
from layer1.replica.checkpoints import CheckpointPolicy, Counted, fault_of, read_head
from layer1.replica.core import ReplicaCore, consensus_config
from layer1.replica.mempool import check_entry
from layer1.replica.messages import LinkMessage, Standing
from layer1.replica.rejoin import REJOINING, Rejoining
from layer1.replica.snapshots import FromSnapshot
from tests.simulation import describe
from tests.simulation.byzantine.role import Role
from tests.simulation.checkers.base import Checker
from tests.simulation.clocks import Clock
from tests.simulation.disk import Disk, Journal
from tests.simulation.kernel import MS, World
from tests.simulation.network import Network
from tests.simulation.store import Store

VERIFY_US = 70
"""Of simulated time for one signature (limits.md)."""
TURN_EVENTS = 50
"""Most events in one turn."""
LAZY_SYNC_US = 50 * MS
"""As the driver's."""
STORE_DELAY_US = 20 * MS
"""How far the database lags."""
ASK_AGAIN_US = 200 * MS
"""While it rejoins: until it asks all peers anew."""
FENCED_US = 500 * MS
"""Until an operator sees that a replica only listens, and has it rejoin."""
CHECKPOINT_US = 300 * MS
"""Longest time from the moment a checkpoint is taken until it is durable, if the database keeps up."""

OnRefused = Callable[[Refused | None], None]
MakeCore = Callable[..., ReplicaCore]
"""Takes what `ReplicaCore` takes."""


class _KilledError(Exception):
    """The process is gone, in the middle of what it did."""


class _InstalledError(Exception):
    """The process has put a snapshot in place, and starts again from it."""


@dataclass
class _Life:
    """What a kill takes away."""

    core: ReplicaCore
    journal: Journal
    inbox: deque[tuple[events.Event, OnRefused | None]] = field(default_factory=deque)
    connections: dict[int, frozenset[int]] = field(default_factory=dict)
    """By peer, of the last that the core heard of: what it says to a peer is said on that one, or not at all."""
    coming: defaultdict[int, deque[frozenset[int]]] = field(default_factory=lambda: defaultdict(deque))
    """Those that it has yet to hear of."""
    jobs: deque[events.Verify] = field(default_factory=deque)
    messages: list[tuple[int | None, bytes, frozenset[int]]] = field(default_factory=list)
    """To whom, or to all; what; over which connections."""
    blocks: list[CommittedBlock] = field(default_factory=list)
    must_sync: bool = False
    may_sync: bool = False
    in_turn: bool = False
    """From its first event until its messages have left."""
    held: bool = False
    """It was stopped after its sync: what waited for that leaves when it goes on."""
    turn_is_due: bool = False
    syncing: bool = False
    lazy: bool = False
    verifying: bool = False
    wake: int = 0
    """Number of the newest wake-up."""


class Replica:
    """One process over all its lives. `Network` sees it as a node."""

    network: Network

    def __init__(
        self,
        world: World,
        genesis: Genesis,
        key: SigningKey,
        index: int,
        checkers: Checker,
        *,
        name: str | None = None,
        policy: CheckpointPolicy | None = None,
        make_core: MakeCore = ReplicaCore,
    ) -> None:
        self.world, self.genesis, self.key, self.index, self.checkers = world, genesis, key, index, checkers
        self.name = name or f"replica{index}"
        self.clock = Clock(world, index)
        self.disk = Disk()
        self.store = Store()
        self.role: Role | None = None
        self.is_honest = True
        """Whether checkers hold what it does against the protocol."""
        self.failed: LocalError | RemoteError | None = None
        self.paused = False
        self.fuse: int | None = None
        """Effects until it is killed; None for never."""
        self.at_sync: Callable[[], None] | None = None
        """Strikes once, in the middle of the next sync."""
        self.away = False
        """Nobody starts it."""
        self.kept_blocks = 0
        """In storage, below a checkpoint; 0 for all."""
        self.from_snapshot = FromSnapshot.NEW
        self.slow_disk = 0.0
        """Part of the syncs that take long."""
        self.life: _Life | None = None
        self.asking: Rejoining | None = None
        """While it asks its peers because its disk was lost."""
        self.on_final: list[Callable[[Replica, CommittedBlock], None]] = []
        """Hear of every block that it calls final, again after a restart."""
        self.on_rejected: list[Callable[[Hash, Refused], None]] = []
        self._policy, self._make_core = policy, make_core
        self._seen: tuple[ReplicaSet, Config] = genesis.replica_set, consensus_config(genesis, genesis.replica_set)
        self._sets_told = 1
        self._random = world.random(f"process {self.name}")

    def corrupt(self, role: type[Role]) -> None:
        """It is Byzantine from now on, with this role."""
        self.is_honest = False
        self.role = role(self, self.world.random(f"role {self.name}"))

    # ---------------------------------------------------------------------------------------------------- start, kill

    @property
    def alive(self) -> bool:
        """Whether the process exists, paused or not."""
        return self.is_running or self.asking is not None

    @property
    def is_running(self) -> bool:
        """Whether it takes part: not while it asks its peers what it must know to rejoin."""
        return self.life is not None

    @property
    def core(self) -> ReplicaCore:
        """The running core."""
        assert self.life is not None, f"{self.name} does not run"
        return self.life.core

    @property
    def replica_set(self) -> ReplicaSet:
        """Of the newest epoch that it was in."""
        return self._seen[0]

    @property
    def config(self) -> Config:
        """Of the newest epoch that it was in."""
        return self._seen[1]

    @property
    def peers(self) -> tuple[int, ...]:
        """Numbers of all others that it has, or may once have, a link with."""
        return self.network.peers(self.name)

    @property
    def height(self) -> int:
        """Of the last final block; 0 while it does not run."""
        return 0 if self.life is None else self.life.core.application.floor.header.height

    def start(self) -> None:
        """Come back from the disk, and take part."""
        if self.alive or self.away or self.failed is not None:
            return
        if self.disk.is_lost:
            self._rejoin()
            return
        core = self._make_core(self.genesis, self.key, self.index, None, self._policy, from_snapshot=self.from_snapshot)
        journal = Journal(self.disk)
        try:
            checkpoint = None if self.disk.checkpoint is None else iter(self.disk.checkpoint)
            blocks = list(core.restore(journal.replay(), checkpoint))
        except LocalError as error:
            self._fail(error)
            return
        self.store.append(blocks)
        self.life = _Life(core, journal)
        self._look_at_epoch(core)
        if self.role is not None:
            self.role.twist(core)
        self.paused, self.fuse, self.at_sync = False, None, None
        self.world.note(self.name, f"starts at height {self.height}")
        if self.is_honest:
            self.checkers.restored(self.name, self.index, blocks, self.height)
        for block in blocks:
            self._announce(block)
        self._put(events.Begin(self.disk.generation))
        self.network.joined(self.name)

    def kill(self) -> None:
        """SIGKILL, or the power goes: what is not durable is gone."""
        life, self.life = self.life, None
        if life is None:
            self._stop_asking()
            return
        before, unsynced = len(self.disk.records), life.journal.unsynced
        kept = life.journal.crash(self._random, while_syncing=life.syncing)
        if self.is_honest:
            self.checkers.synced(self.name, self.index, self.disk.records[before:])
        self.world.stats["kills"] += 1
        self.world.stats["kills while syncing"] += life.syncing
        self.world.stats["turns torn"] += 0 < kept < unsynced
        self.world.stats["turns lost"] += kept < unsynced
        self.world.note(self.name, "is killed")
        self.network.left(self.name)

    def pause(self, duration_us: int) -> None:
        """SIGSTOP, and SIGCONT later."""
        if not self.paused and self.is_running:
            self.paused = True
            self.world.stats["pauses"] += 1
            self.world.note(self.name, f"pauses for {duration_us // MS} ms")
            self.world.after(duration_us, self.resume)

    def resume(self) -> None:
        """SIGCONT."""
        self.paused = False
        life = self.life
        if life is None:
            return
        if life.held:
            self._leave_turn(life)  # which may kill it
        else:
            self._schedule_turn(life)

    def _fail(self, error: LocalError | RemoteError) -> None:
        """It stops for good, as a replica does that finds itself wrong."""
        self.failed = error
        self.world.note(self.name, f"stops: {error}")
        if self.is_honest:
            self.checkers.failed(self.index, error)
        self.kill()

    # ------------------------------------------------------------------------------------------------------- lost disks

    def lose_disk(self) -> None:
        """Everything is gone; an operator starts it with `--rejoin`, as `layer1.replica.rejoining` does."""
        self.kill()
        self.disk, self.store = Disk(is_lost=True), Store()
        self.world.note(self.name, "loses its disk")
        self.world.stats["lost disks"] += 1

    def _look_at_epoch(self, core: ReplicaCore) -> None:
        """Note the sets that it knows; ask anew if it may have forgotten votes of this one, as an operator does."""
        if core.config.epoch != self.config.epoch:
            self._seen = core.application.replica_set, core.config
        if self.is_honest and len(core.application.trust.sets) > self._sets_told:
            self._sets_told = len(core.application.trust.sets)
            self.checkers.entered(self.name, self.index, core.application.trust.sets)
        if core.is_fenced_off and core.consensus.is_member and self.role is None:
            self.world.after(FENCED_US, partial(self._ask_because_fenced, core))

    def _ask_because_fenced(self, core: ReplicaCore) -> None:
        if self.life is not None and self.life.core is core and core.is_fenced_off:
            self.kill()
            self.disk.records, self.disk.is_lost = [], True
            self.world.stats["rejoined again"] += 1
            self.start()

    def _rejoin(self) -> None:
        self.asking = Rejoining(self.genesis, self.key.public, self.disk.generation)
        self.world.note(self.name, "asks its peers")
        self.network.joined(self.name)

    def _hear(self, asking: Rejoining, peer: int, data: bytes) -> None:
        """Each link opens with a report; as long as too few count, all are made again."""
        try:
            message: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
            outcome = asking.hear(peer, message) if isinstance(message, Standing) else None
        except RemoteError:
            outcome = None
        if outcome is None:
            self.world.after(ASK_AGAIN_US, partial(self._ask_again, asking))
            return
        self.disk.records, self.disk.generation, self.disk.is_lost = outcome.records(), outcome.generation, False
        self.world.note(self.name, f"rejoins with generation {outcome.generation}, from view {outcome.vote_from} on")
        self.world.stats["rejoined"] += 1
        self.world.stats["rejoined in a later epoch"] += outcome.epoch > 0
        self._stop_asking()
        self.world.after(1 * MS, self.start)

    def _ask_again(self, asking: Rejoining) -> None:
        if self.asking is asking:
            self.network.left(self.name)

    def _stop_asking(self) -> None:
        if self.asking is not None:
            self.asking = None
            self.network.left(self.name)

    # ----------------------------------------------------------------------------------------------------- the network

    @property
    def generation(self) -> int:
        """Of the journal, as it greets with."""
        real = REJOINING if self.asking is not None else self.disk.generation
        return real if self.role is None else self.role.generation(real)

    def admits(self, peer: int, generation: int) -> bool:
        """As `driver._peer_of` does."""
        return self.asking is not None or self.core.generations.refuse(peer, generation) is None

    def peer_up(self, peer: int, generation: int) -> None:
        """A link is open."""
        if self.life is not None:
            self.life.coming[peer].append(self.network.connections_of(self.name, peer))
        self._put(events.PeerUp(peer, generation))

    def peer_down(self, peer: int) -> None:
        """The link has ended."""
        self._put(events.PeerDown(peer))

    def receive(self, peer: int, data: bytes) -> None:
        """A message came."""
        if self.asking is not None:
            self._hear(self.asking, peer, data)
            return
        for seen in (data,) if self.role is None else self.role.incoming(peer, data):
            self._put(events.FromPeer(peer, seen))

    def submit(self, event: events.Submit, answer: OnRefused) -> None:
        """A client brings transactions; it hears whether they were taken in."""
        self._put(event, answer)

    def transmit(self, peer: int | None, data: bytes) -> None:
        """What a role says on its own."""
        if self.alive:
            self.network.send(self.name, peer, data)

    def _leave(self, peer: int | None, data: bytes) -> None:
        if self.role is None:
            if self.is_honest:
                self.checkers.sent(self.name, self.index, data)
            self.world.note(self.name, f"to {'all' if peer is None else peer}:", data, describe.link_message)
            self.network.send(self.name, peer, data)
            return
        for receiver in self.role.peers if peer is None else (peer,):
            for really in self.role.outgoing(receiver, data):
                self.world.note(self.name, f"to {receiver}:", really, describe.link_message)
                self.network.send(self.name, receiver, really)

    # -------------------------------------------------------------------------------------------------------- the turn

    def _put(self, event: events.Event, answer: OnRefused | None = None) -> None:
        if self.life is not None:
            self.life.inbox.append((event, answer))
            self._schedule_turn(self.life)

    def _schedule_turn(self, life: _Life) -> None:
        if life.inbox and not (life.in_turn or life.turn_is_due or self.paused):
            life.turn_is_due = True
            self.world.schedule(self.world.now_us, partial(self._turn, life))

    def _turn(self, life: _Life) -> None:
        life.turn_is_due = False
        if self.life is not life or self.paused:
            return
        life.in_turn = True
        now, failed = self.clock.now(), self.failed
        try:
            for _ in range(min(len(life.inbox), TURN_EVENTS)):
                self._step(life, *life.inbox.popleft(), now)
                if self.failed is not failed:
                    return
        except _KilledError:
            self.kill()
            return
        except _InstalledError:
            for _, answer in life.inbox:
                if answer is not None:
                    answer(Refused("stopping", "it starts again from a snapshot"))
            self.kill()
            self.start()
            return
        self._computed(partial(self._begin_sync if life.must_sync else self._end_turn, life))

    def _computed(self, follows: Callable[[], None]) -> None:
        """The turn is over but for its sync and what waits for that. It took no time, unless a subclass says so."""
        follows()

    def _begin_sync(self, life: _Life) -> None:
        life.syncing = True
        us = self._sync_us()
        self.world.after(us, partial(self._end_turn, life))
        if self.at_sync is not None:
            self.world.after(us // 2, partial(self._strike, life))

    def _strike(self, life: _Life) -> None:
        """Unless it all healed meanwhile: then there is nothing left to strike with."""
        if self.life is not life:
            return
        strike, self.at_sync = self.at_sync, None
        if strike is not None:
            strike()

    def _sync_us(self) -> int:
        if self.slow_disk and self._random.random() < self.slow_disk:
            self.world.stats["slow syncs"] += 1
            return self._random.randint(10 * MS, 300 * MS)
        return self._random.randint(150, 400)

    def _step(self, life: _Life, event: events.Event, answer: OnRefused | None, now: Now) -> None:
        refusal: Refused | None = None
        match event:
            case events.PeerUp():
                life.connections[event.peer] = life.coming[event.peer].popleft()
            case events.PeerDown():
                life.connections.pop(event.peer, None)
            case _:
                pass
        try:
            effects = life.core.step(event, now)
        except Refused as error:
            effects, refusal = [], error
        except (LocalError, RemoteError) as error:
            self._fail(error)
            return
        if answer is not None:
            answer(refusal)
        if life.core.config.epoch != self.config.epoch:
            self._look_at_epoch(life.core)
        for effect in effects:
            self._perform(life, effect)

    def _boundary(self) -> None:
        """Between two effects, where a kill may strike."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.fuse = None
                raise _KilledError

    def _perform(self, life: _Life, effect: events.Effect) -> None:
        match effect:
            case events.Journal():
                self._boundary()
                life.journal.append(effect.record)
                life.must_sync |= not effect.lazy
                life.may_sync = True
            case events.Transmit():
                life.messages.append((effect.peer, effect.data, life.connections.get(effect.peer, frozenset())))
            case events.TransmitAll():
                life.messages.append((None, effect.data, frozenset()))
            case events.Deliver():
                life.blocks.append(effect.block)
            case events.Verify():
                life.jobs.append(effect)
                self._schedule_verification(life)
            case events.Hurry():
                self._hurry(life, effect.job)
            case events.Reject():
                self._reject(effect)
            case events.LoadBlocks():
                self._later(life, 2 * MS, partial(self._load, effect))
            case events.Again():
                self._later(life, 50, events.Proceed)
            case events.Wake():
                self._set_timer(life, effect.monotonic_ms)
            case events.TakeCheckpoint():
                self.world.after(self._random.randint(1, CHECKPOINT_US), partial(self._checkpoint, life, effect))
            case events.LoadChunk():
                self._later(life, 2 * MS, partial(self._load_chunk, effect))
            case events.SaveSnapshot():
                self._boundary()
                self.disk.snapshot = [*([] if effect.begins else self.disk.snapshot), *effect.pieces]
            case events.CheckSnapshot():
                self._later(life, self._random.randint(1, CHECKPOINT_US), partial(self._check_snapshot, effect.height))
            case events.InstallSnapshot():
                self._install(life, effect.height)
                raise _InstalledError
            case events.Shorten():
                self._boundary()
                self._sync(life)
                life.journal.compact(effect.records)
            case events.Misbehaved():
                self._accuse(effect)
            case _:
                assert_never(effect)

    def _checkpoint(self, life: _Life, effect: events.TakeCheckpoint) -> None:
        """Durable all at once, behind the database, unless the process died before."""
        if self.life is not life:
            return
        if self.store.height < effect.height:
            self.world.after(STORE_DELAY_US, partial(self._checkpoint, life, effect))
            return
        self.world.note(self.name, f"has a checkpoint of height {effect.height}")
        self.world.stats["checkpoints"] += 1
        found = Counted(effect.pieces)
        self.disk.before, self.disk.checkpoint = self.disk.checkpoint, list(found)
        if self.kept_blocks:
            self.store.prune(effect.height - self.kept_blocks)
        self._put(events.Checkpointed(effect.height, found.pieces, found.size_bytes))

    def _load_chunk(self, effect: events.LoadChunk) -> events.ChunkLoaded:
        for pieces in (self.disk.checkpoint, self.disk.before):
            if pieces is not None and read_head(iter(pieces)).header.height == effect.height:
                return events.ChunkLoaded(effect.peer, effect.height, effect.first, pieces[1:][effect.first :])
        return events.ChunkLoaded(effect.peer, effect.height, effect.first, ())

    def _check_snapshot(self, height: int) -> events.SnapshotChecked:
        return events.SnapshotChecked(height, fault_of(self.genesis, iter(self.disk.snapshot)))

    def _install(self, life: _Life, height: int) -> None:
        """It stops cleanly, and starts again from the snapshot; a kill may strike before each step."""
        self._boundary()
        self._sync(life)
        self._boundary()
        self.store.begin_at(height)
        self._boundary()
        self.disk.checkpoint, self.disk.before = self.disk.snapshot, None
        self.world.stats["snapshots"] += 1
        self.world.note(self.name, f"goes on from a snapshot of height {height}")

    def _end_turn(self, life: _Life) -> None:
        """One sync, then everything that waited for it."""
        if self.life is not life:
            return
        try:
            self._boundary()
            if life.must_sync:
                self._sync(life)
            elif life.may_sync and not life.lazy:
                life.lazy = True
                self.world.after(LAZY_SYNC_US, partial(self._sync_lazily, life))
        except _KilledError:
            self.kill()
            return
        if self.paused:
            life.held = True
            self.world.stats["turns held"] += 1
        else:
            self._leave_turn(life)

    def _leave_turn(self, life: _Life) -> None:
        life.held = False
        try:
            self._flush(life)
        except _KilledError:
            self.kill()
            return
        life.in_turn = life.syncing = life.must_sync = life.may_sync = False
        self._schedule_turn(life)

    def _sync(self, life: _Life) -> None:
        before = len(self.disk.records)
        life.journal.sync()
        life.syncing = False
        if self.is_honest:
            self.checkers.synced(self.name, self.index, self.disk.records[before:])

    def _sync_lazily(self, life: _Life) -> None:
        if self.life is life and self.paused:
            self.world.after(LAZY_SYNC_US, partial(self._sync_lazily, life))
            return
        life.lazy = False
        if self.life is life and not life.syncing:
            self._sync(life)

    def _flush(self, life: _Life) -> None:
        messages, life.messages = life.messages, []
        for peer, data, over in messages:
            self._boundary()
            if peer is None or over & self.network.connections_of(self.name, peer):
                self._leave(peer, data)
        blocks, life.blocks = life.blocks, []
        for block in blocks:
            self._boundary()
            self._deliver(life, block)

    def _deliver(self, life: _Life, block: CommittedBlock) -> None:
        header = block.header
        self.world.note(self.name, f"final: block {header.height} of view {header.view}", header.id, describe.short)
        self.world.after(STORE_DELAY_US, partial(self._write, life, block))
        if self.is_honest:
            self.checkers.delivered(self.name, self.index, block)
        self._announce(block)

    def _announce(self, block: CommittedBlock) -> None:
        for listener in self.on_final:
            listener(self, block)

    def _write(self, life: _Life, block: CommittedBlock) -> None:
        """Into the database, unless the process died before."""
        if self.life is life:
            self.store.append([block])

    def _load(self, effect: events.LoadBlocks) -> events.Loaded:
        blocks = self.store.load(effect.first, 2 * catchup.MAX_BLOCKS)
        self.world.stats["blocks from storage"] += len(blocks)
        return events.Loaded(effect.peer, effect.first, blocks)

    def _reject(self, effect: events.Reject) -> None:
        if self.is_honest:
            self.checkers.rejected(self.index, effect.ids, effect.refusal)
        self.world.note(self.name, f"rejects, {effect.refusal.code}:", effect.ids[0], describe.short)
        for name in effect.ids:
            for listener in self.on_rejected:
                listener(name, effect.refusal)

    def _accuse(self, effect: events.Misbehaved) -> None:
        self.world.stats["accusations"] += 1
        self.world.note(self.name, f"accuses {effect.peer}: {effect.reason}")
        if self.is_honest and effect.blamed:  # what is only late, or too much, is held against nobody
            self.checkers.misbehaved(self.index, effect.peer, effect.reason)

    # ------------------------------------------------------------------------------------------ timers, verification

    def _later(self, life: _Life, delay_us: int, make: Callable[[], events.Event]) -> None:
        def put() -> None:
            if self.life is life:
                self._put(make())

        self.world.after(delay_us, put)

    def _set_timer(self, life: _Life, monotonic_ms: int | None) -> None:
        life.wake += 1
        number = life.wake

        def ring() -> None:
            if self.life is life and life.wake == number:
                self._put(events.Tick())

        if monotonic_ms is not None:
            self.world.schedule(self.clock.world_us(monotonic_ms), ring)

    def _hurry(self, life: _Life, number: int) -> None:
        for job in life.jobs:
            if job.job == number:
                life.jobs.remove(job)
                life.jobs.appendleft(job)
                return

    def _schedule_verification(self, life: _Life) -> None:
        if life.jobs and not life.verifying:
            life.verifying = True
            self.world.after(VERIFY_US * max(1, len(life.jobs[0].transactions)), partial(self._verify, life))

    def _verify(self, life: _Life) -> None:
        life.verifying = False
        if self.life is not life:
            return
        job = life.jobs.popleft()
        self._put(events.Verified(job.job, self._failures(job)))
        self._schedule_verification(life)

    def _failures(self, job: events.Verify) -> tuple[tuple[int, Refused], ...]:
        failures, state = [], self.core.application.floor.state
        for position, transaction in enumerate(job.transactions):
            try:
                check_entry(state, transaction, self.genesis.chain_id, rehearsed=job.rehearse)
            except Refused as refusal:
                failures.append((position, refusal))
        return tuple(failures)

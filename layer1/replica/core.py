"""One replica: consensus, ledger, mempool, batches and catch-up behind one step.

Safety: nothing here signs or decides on its own; consensus does the one, the application the other.

Each epoch has a consensus core of its own. When the boundary of an epoch is final, the next one begins above it, in the
next view, with the set that it names; who is not in that set goes on listening. Peers that are in an earlier epoch are
answered with the finalization that ended it, and fetch the boundary like any other final block.

Consensus asks with effects (`Build`, `Validate`, `Commit`, `CatchUp`), which are answered here as soon as everything
they need is at hand, and the rest of the replica hears of it: what is final leaves the mempool, what a proposal lacks
is fetched, what is pending makes consensus work. All of it is one deterministic machine, so that whole networks run in
a simulator.

Source: docs/design/architecture.md, "Packages and the direction of imports"; consensus.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from layer1.block import Batch, CommittedBlock, batch_digest
from layer1.codec import decode, encode
from layer1.consensus import events as consensus_events
from layer1.consensus.config import Config
from layer1.consensus.core import Consensus
from layer1.consensus.events import Now
from layer1.consensus.evidence import pair
from layer1.consensus.messages import Fetch, Finalization, Message, Notarization, Nullification
from layer1.consensus.records import of_later_epochs
from layer1.crypto import HASH_BYTES, Hash, SigningKey
from layer1.errors import LocalError, Refused, RemoteError, Untimely
from layer1.header import BlockId, Header
from layer1.ledger.genesis import Genesis
from layer1.ledger.replicas import ReplicaSet
from layer1.ledger.transactions import Transaction
from layer1.replica import checkpoints, events
from layer1.replica.announcing import MAX_ANNOUNCED, Announcements
from layer1.replica.answering import Answering
from layer1.replica.application import Application, Executed, Part
from layer1.replica.batches import BatchStore, Held
from layer1.replica.catchup import CatchUpState, RecentBlocks, parts_of
from layer1.replica.checkpoints import CheckpointPolicy, Checkpoints, Counted, Published
from layer1.replica.events import Effect, Event
from layer1.replica.evidence import EvidenceBook
from layer1.replica.fetching import Fetches
from layer1.replica.generations import Generations
from layer1.replica.mempool import Entry, Mempool
from layer1.replica.messages import (
    BatchAnnounce,
    BatchData,
    Blocks,
    BlocksRequest,
    Chunk,
    ChunkRequest,
    ConsensusMessage,
    FetchBatch,
    LinkMessage,
    SnapshotOffer,
    Standing,
)
from layer1.replica.numbers import FIRST_LOCAL, number_in
from layer1.replica.records import (
    BatchRecord,
    BlockRecord,
    CheckpointRecord,
    ConsensusRecord,
    EvidenceRecord,
    FenceRecord,
    FinalRecord,
    PeerRecord,
    Record,
)
from layer1.replica.rejoin import REJOINING, standing
from layer1.replica.restart import Replay
from layer1.replica.shares import PoolLimits, Room
from layer1.replica.snapshots import FromSnapshot, Snapshots
from layer1.replica.work import WorkWatch
from layer1.statemachine import StateMachine

EXPIRY_STEP_MS = 1_000
"""How often, on the ledger clock, the pool is searched for what is past its life span."""

_CERTIFICATES = {kind.__struct_config__.tag for kind in (Notarization, Finalization, Nullification)}
"""Tags: the second byte of a record, which is an array that starts with its tag."""


def consensus_config(genesis: Genesis, replica_set: ReplicaSet) -> Config:
    """What consensus must know in the epoch of this set."""
    parameters = genesis.parameters
    return Config(
        chain_id=genesis.chain_id,
        epoch=replica_set.epoch,
        replicas=replica_set.keys,
        replica_set=replica_set.hash,
        fault_model=replica_set.fault_model,
        term_views=parameters.term_views,
        drift_bound_ms=parameters.drift_bound_ms,
        max_step_ms=parameters.max_step_ms,
        heartbeat_ms=parameters.heartbeat_ms,
        view_timeout_ms=parameters.view_timeout_ms,
        max_view_timeout_ms=max(30_000, parameters.view_timeout_ms),
        rebroadcast_ms=min(250, parameters.view_timeout_ms),
        stall_timeout_ms=max(2_000, parameters.view_timeout_ms),
        inclusion_timeout_ms=parameters.inclusion_timeout_ms,
        max_term_ms=max(60_000, parameters.view_timeout_ms),
    )


_STILL_DONE = (consensus_events.Persist, consensus_events.Send, consensus_events.Broadcast, consensus_events.Accuse)
"""What consensus asks for that is still done when its epoch is over: others may lack what made the boundary final."""


class ReplicaCore:
    """A replica without its input and output.

    Use: create it, run :meth:`restore` to its end, then feed :meth:`step`, `Begin` first.
    """

    def __init__(
        self,
        genesis: Genesis,
        key: SigningKey,
        index: int,
        limits: PoolLimits | None = None,
        policy: CheckpointPolicy | None = None,
        *,
        machine: StateMachine | None = None,
        from_snapshot: FromSnapshot = FromSnapshot.NEW,
    ) -> None:
        self.genesis = genesis
        self.index = index
        """Its number in the newest set that has it, or, while none has, any that no replica has."""
        self.config = consensus_config(genesis, genesis.replica_set)
        self.application = Application(genesis, machine)
        self.pool = Mempool(limits or PoolLimits(), genesis.parameters)
        self.batches = BatchStore(genesis.parameters)
        self.catchup = CatchUpState(self.application.trust, index)
        self.snapshots = Snapshots(genesis)
        self.generations = Generations(self.config.liars)
        self.evidence = EvidenceBook()
        self._key = key
        self._machine = machine
        self._from_snapshot = from_snapshot
        self._consensus: Consensus | None = None
        self._fence: FenceRecord | None = None
        self._first_epoch = 0
        """The first in which it votes: what it voted in those before may be forgotten."""
        self._ahead: list[bytes] = []
        """What the journal says of epochs that this replica, or its state, has yet to reach again."""
        self._answered_ms: dict[int, int] = {}
        """By peer, when it was last told, or asked, how an epoch ended."""
        self._members = genesis.replica_set
        """The set of `config`."""
        self._fetches = Fetches()
        self._validations: dict[BlockId, consensus_events.Validate] = {}
        self._missing: dict[BlockId, set[Hash]] = {}
        """By block to validate, its batches that are not here, or not verified."""
        self._jobs: dict[int, Held | list[Entry]] = {}
        self._job_of: dict[Hash, int] = {}
        self._next_job = 0
        self._recent = RecentBlocks()
        self._checkpoints = Checkpoints(policy or CheckpointPolicy())
        self.answering = Answering(self.application, self.batches, self._recent, self._checkpoints)
        self._work = WorkWatch(self.application, self.batches)
        self._announcements = Announcements(self.batches)
        self._consensus_wake_ms: int | None = None
        self._wake_ms: int | None = None
        self._expired_at_ms = 0
        self._effects: list[Effect] = []

    # ------------------------------------------------------------------------------------------------------- restart

    def restore(
        self,
        records: Iterable[bytes],
        checkpoint: Iterator[bytes] | None = None,
        stored: Iterable[CommittedBlock] | None = None,
    ) -> Iterator[CommittedBlock]:
        """Come back from the disk; yields every final block above the checkpoint, oldest first, as it is executed.

        Run it to its end.

        Args:
            records: The journal.
            checkpoint: What `TakeCheckpoint` gave last, if anything.
            stored: Rebuild the state from these blocks, from height 1 on, and go on without what they lack.

        Raises:
            LocalError: What is there does not fit together, or executing it gives other roots than it holds.
        """
        if checkpoint is not None:
            found = Counted(checkpoint)
            trust, floor = checkpoints.load(self.genesis, found, self._machine)
            self.application.resume(trust, floor)
            head = checkpoints.head_of(trust, floor)
            self._checkpoints.published = Published(head, found.pieces, found.size_bytes)
        replay = Replay(self.application, self.evidence)
        self._checkpoints.restored(self.application.floor.header.height, 0)
        if stored is not None:
            replay.rebuild(stored)
        for block in replay.run(records):
            self._recent.add(block)
            yield block
        replay.execute_pending()
        for part in replay.batches.values():
            batch = decode(part.encoded, Batch)
            ids = [transaction.id for transaction in batch.transactions]
            self.batches.add_own(part.encoded, batch, ids, 0).durable = True
        self._checkpoints.restored(self._checkpoints.height, replay.size_bytes)
        self.generations.peers = replay.generations
        self._fence, self._first_epoch = replay.fence, replay.first_epoch
        self._consensus = self._consensus_of_epoch(replay.votes)

    @property
    def checkpoint_height(self) -> int:
        """Of the last final block that a checkpoint holds; 0 if there is none."""
        return self._checkpoints.height

    def _consider_checkpoint(self) -> None:
        """Ask for one if it is due, and consensus has no newer floor: what it forgot below its own must stay below."""
        floor = self.application.floor
        height = floor.header.height
        if self._checkpoints.is_due(height) and self.consensus.last_final == floor.header:
            trust = self.application.trust
            self._checkpoints.begin(checkpoints.head_of(trust, floor), [encode(record) for record in self._base()])
            self._effects.append(events.TakeCheckpoint(height, checkpoints.pieces(trust, floor)))

    def _base(self) -> list[Record]:
        """All that a restart from the last final block needs from the journal."""
        floor, above = self.application.floor, self.application.above_floor()
        batches = {part.digest: part.encoded for executed in above for part in executed.parts}
        batches.update((held.digest, held.encoded) for held in self.batches.durable())
        return [
            CheckpointRecord(floor.header.height, floor.id, max(self._first_epoch, self.config.epoch)),
            *(PeerRecord(peer, generation) for peer, generation in self.generations.peers.items()),
            *(EvidenceRecord(evidence) for evidence in self.evidence),
            *([self._fence] if self._fence is not None else []),
            *(BatchRecord(encoded) for encoded in batches.values()),
            *(BlockRecord(executed.header, executed.digests) for executed in above),
            *(ConsensusRecord(record) for record in (*self.consensus.checkpoint(), *self._ahead)),
        ]

    def _on_checkpointed(self, event: events.Checkpointed) -> None:
        records = self._checkpoints.finish(event.height, event.pieces, event.size_bytes)
        if records is not None:
            self._effects.append(events.Shorten(records))

    # ---------------------------------------------------------------------------------------------------------- step

    @property
    def consensus(self) -> Consensus:
        """The consensus core.

        Raises:
            LocalError: The journal was not replayed yet.
        """
        if self._consensus is None:
            raise LocalError("replay the journal before the first step")
        return self._consensus

    def step(self, event: Event, now: Now) -> list[Effect]:
        """Advance by one event.

        Returns:
            Effects for the driver, to be performed in this order.

        Raises:
            Refused: A submission was not taken in; nothing changed.
            LocalError: This replica diverges from the others, or contradicts itself; it must stop.
        """
        self._effects = []
        match event:
            case events.Begin():
                self.generations.own = event.generation
                self._step_consensus(consensus_events.Started(), now)
            case events.PeerUp():
                self._on_peer_up(event)
            case events.PeerDown():
                self.catchup.part(event.peer)
            case events.FromPeer():
                self._on_message(event, now)
            case events.Submit():
                self._on_submit(event, now)
            case events.Verified():
                self._on_verified(event, now)
            case events.Loaded() | events.ChunkLoaded():
                self._effects += self.answering.on_read(event, now)
            case events.Proceed():
                self._catch_up_one_block(now)
            case events.Checkpointed():
                self._on_checkpointed(event)
            case events.SnapshotChecked():
                self._on_snapshot_checked(event)
            case events.Tick():
                self._wake_ms = None
                self._step_consensus(consensus_events.TimerFired(), now)
            case _:
                assert_never(event)
        self._finish(now)
        return self._effects

    def _finish(self, now: Now) -> None:
        """What follows from any change: batches leave, questions are asked, consensus hears of work, a wake-up."""
        self._pack(now)
        for peer, digest in self._fetches.due(now.monotonic_ms):
            self._send(peer, FetchBatch(digest))
        self._catch_up(now)
        self._tell_work(now)
        self._announce(now)
        self._consider_checkpoint()
        self._ask_wake(now)

    def _catch_up(self, now: Now) -> None:
        """Ask for what is missing: blocks, or the next part of a snapshot."""
        if self._fetches.is_hard() and not self.catchup.active:
            views = [effect.proposal.header.view for effect in self._validations.values()]
            self.catchup.aim(max(views, default=0), self.index, now.monotonic_ms)
        floor = self.application.floor.header
        if (question := self.snapshots.request(floor.height, now.monotonic_ms)) is not None:
            self._send(*question)
        if not self.snapshots.active:
            request = self.catchup.request(floor, now.monotonic_ms, snapshot=self._wants_snapshot)
            if request is not None:
                self._send(*request)

    @property
    def _wants_snapshot(self) -> bool:
        """Whether to start from one even if peers have all blocks."""
        is_new = self.application.floor.header.height == 0
        return self._from_snapshot is FromSnapshot.FAR or (self._from_snapshot is FromSnapshot.NEW and is_new)

    # -------------------------------------------------------------------------------------------------------- intake

    def _on_snapshot_checked(self, event: events.SnapshotChecked) -> None:
        """Before the restart that follows, nobody is left to believe that we still have what is in no batch."""
        effects = self.snapshots.on_checked(event, self.application.floor.header.height)
        if any(isinstance(effect, events.InstallSnapshot) for effect in effects) and (left := self.pool.give_back()):
            again = Refused("stopping", "this replica starts again from a snapshot; bring it to another one")
            self._effects.append(events.Reject(tuple(left), again))
        self._effects += effects

    def _on_submit(self, event: events.Submit, now: Now) -> None:
        if self.snapshots.active:
            raise Refused("catching_up", "this replica is far behind and fetches a snapshot; ask another one")
        state = self.application.floor.state
        unknown = [item for item in event.transactions if not self.batches.is_on_its_way(*item)]
        entries = self.pool.take(unknown, state, event.source, now.monotonic_ms)
        if entries:
            job = self._verify(entries, tuple(entry.transaction for entry in entries))
            if all(entry.room is Room.DISPUTES for entry in entries):
                self._effects.append(events.Hurry(job))

    def _verify(self, what: Held | list[Entry], transactions: tuple[Transaction, ...]) -> int:
        number, self._next_job = self._next_job, self._next_job + 1
        self._jobs[number] = what
        source = what.source if isinstance(what, Held) else self.index
        self._effects.append(events.Verify(number, transactions, source, isinstance(what, list)))
        return number

    def _on_verified(self, event: events.Verified, now: Now) -> None:
        what = self._jobs.pop(event.job, None)
        if isinstance(what, Held):
            self._on_batch_verified(what, event, now)
        elif what is not None:
            bad = dict(event.failures)
            for position, entry in enumerate(what):
                self._on_entry_verified(entry, bad.get(position))

    def _on_entry_verified(self, entry: Entry, refusal: Refused | None) -> None:
        if refusal is None:
            refusal = self.pool.verified(entry)
        elif not self.pool.reject(entry):
            return
        if refusal is not None and entry.id not in self.pool:
            self._effects.append(events.Reject((entry.id,), refusal))

    def _on_batch_verified(self, held: Held, event: events.Verified, now: Now) -> None:
        self._job_of.pop(held.digest, None)
        if self.batches.get(held.digest) is not held:
            pass  # it became final meanwhile; a block that names it again fetches it again
        elif event.failures:
            why = f"batch {held.digest.hex()} of replica {held.packer}: {event.failures[0][1]}"
            self.batches.refuse(held, why)
            self._effects.append(events.Misbehaved(held.source, why))
        else:
            self.batches.accept(held)
        self._retry_validations(held.digest, now)

    def _pack(self, now: Now) -> None:
        """Send packed batches, each once, to everybody; the journal gets them with the next sync."""
        while entries := self.pool.pack(now.monotonic_ms):
            batch = Batch(self.index, tuple(entry.transaction for entry in entries))
            encoded = encode(batch)
            held = self.batches.add_own(encoded, batch, [entry.id for entry in entries], now.monotonic_ms)
            self._make_durable(held, lazy=True)
            self._effects.append(events.TransmitAll(encode(BatchData(encoded))))

    def _announce(self, now: Now) -> None:
        digests = self._announcements.take(self._work.oldest_ms, self.application.floor.state, now.monotonic_ms)
        if digests:
            self._effects.append(events.TransmitAll(encode(BatchAnnounce(digests))))

    def _make_durable(self, held: Held, *, lazy: bool) -> None:
        if not held.durable:
            held.durable = True
            self._journal(BatchRecord(held.encoded), lazy=lazy)

    # ------------------------------------------------------------------------------------------------------ messages

    def _on_peer_up(self, event: events.PeerUp) -> None:
        """Tell a peer what it may have missed: our batches, and how far the chain is."""
        self.answering.loads.reconnected(event.peer)
        self.catchup.meet(event.peer)
        if event.peer < FIRST_LOCAL and self.generations.greet(event.peer, event.generation):
            self._journal(PeerRecord(event.peer, event.generation), lazy=False)
        handovers = self.application.trust.handovers if event.generation == REJOINING else ()
        self._send(event.peer, standing(self.consensus, self.generations.peers.get(event.peer, 0), handovers))
        own = tuple(held.digest for held in self.batches.pending() if held.packer == self.index)
        if own:
            self._send(event.peer, BatchAnnounce(own))
        finalization = self.application.floor.finalization
        if finalization is not None:
            self._send(event.peer, ConsensusMessage(finalization.epoch, finalization))

    def _on_message(self, event: events.FromPeer, now: Now) -> None:
        try:
            message: LinkMessage = decode(event.data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
            self._dispatch(event.peer, message, now)
        except RemoteError as error:
            self._effects.append(events.Misbehaved(event.peer, str(error), not isinstance(error, Untimely)))

    def _dispatch(self, peer: int, message: LinkMessage, now: Now) -> None:
        match message:
            case ConsensusMessage():
                if isinstance(message.message, Fetch) and not self.answering.may_ask(peer, now):
                    return
                self._on_consensus_message(peer, message, now)
            case BatchData():
                self._on_batch(peer, message.batch, now)
            case BatchAnnounce():
                _check_digests(message.digests)
                for digest in message.digests[:MAX_ANNOUNCED]:
                    if self.batches.get(digest) is None and self.batches.why_bad(digest) is None:
                        self._send(peer, FetchBatch(digest))
            case FetchBatch():
                self._effects += self.answering.on_fetch(peer, message.digest, now)
            case Standing():
                self.generations.hear(peer, message)
            case _:
                self._on_catch_up_message(peer, message, now)

    def _on_catch_up_message(
        self, peer: int, message: BlocksRequest | Blocks | SnapshotOffer | ChunkRequest | Chunk, now: Now
    ) -> None:
        match message:
            case BlocksRequest():
                self._effects += self.answering.on_blocks_request(peer, message, now)
            case Blocks():
                self.catchup.receive(peer, message, self.application.floor.header, now.monotonic_ms)
                if self.catchup.busy:
                    self._effects.append(events.Again())
            case SnapshotOffer():
                if self.catchup.answered(peer, now.monotonic_ms):
                    height = self.application.floor.header.height
                    self.snapshots.hear(peer, message, height)
                    if self._wants_snapshot or self.catchup.is_fruitless:
                        self.snapshots.choose(height, self.config.liars, now.monotonic_ms)
            case ChunkRequest():
                self._effects += self.answering.on_chunk_request(peer, message, now)
            case Chunk():
                self._effects += self.snapshots.on_chunk(peer, message, now.monotonic_ms)
            case _:
                assert_never(message)

    def _on_consensus_message(self, peer: int, message: ConsensusMessage, now: Now) -> None:
        """Between epochs nothing is said but how the earlier one ended."""
        epoch = self.config.epoch
        if message.epoch == epoch:
            self._step_consensus(consensus_events.Received(self._position(peer), message.message), now)
            return
        if message.epoch > epoch:
            answer = ConsensusMessage(epoch, Fetch(None, self.consensus.view, self.consensus.view))
        elif message.epoch >= 0:
            ended = self.application.trust.handovers[message.epoch].head.finalization
            assert ended is not None, "genesis ends no epoch"
            if isinstance(message.message, Finalization) and message.message.view >= ended.view:
                return  # it tells us the same, and would be told again: so to and fro for ever
            answer = ConsensusMessage(message.epoch, ended)
        else:
            raise RemoteError(f"a message of epoch {message.epoch}; they count from 0")
        again_ms = self._answered_ms.get(peer, -self.config.rebroadcast_ms) + self.config.rebroadcast_ms
        if now.monotonic_ms >= again_ms:
            self._answered_ms[peer] = now.monotonic_ms
            self._send(peer, answer)

    def _on_batch(self, peer: int, encoded: bytes, now: Now) -> None:
        wanted = batch_digest(encoded) in self._fetches
        held = self.batches.add(encoded, peer, now.monotonic_ms, wanted=wanted)
        if held is None:
            return
        self._fetches.drop(held.digest)
        if not wanted and all(map(self.application.floor.state.remembered, held.ids)):
            self.batches.remove([held.digest])
            return
        unknown = tuple(
            item
            for name, item in zip(held.ids, held.transactions, strict=True)
            if not self.batches.is_verified(name, item) and not self.pool.is_verified(name, item)
        )
        self._job_of[held.digest] = job = self._verify(held, unknown)
        if wanted or held.is_dispute:
            self._effects.append(events.Hurry(job))

    # ----------------------------------------------------------------------------------------------------- consensus

    def _step_consensus(self, event: consensus_events.Event, now: Now) -> None:
        """Step consensus, and answer what it asks until it asks no more.

        Raises:
            RemoteError: The first event is a message that breaks the protocol.
        """
        waiting = deque([event])
        try:
            while waiting and not self._is_epoch_over():
                for effect in self.consensus.step(waiting.popleft(), now):
                    if not self._is_epoch_over() or isinstance(effect, _STILL_DONE):
                        waiting.extend(self._perform(effect, now))
        except LocalError as error:
            raise LocalError(f"{error}{self.application.describe_refusals()}") from error
        if self._is_epoch_over():
            self._begin_epoch(now)

    # --------------------------------------------------------------------------------------------------------- epochs

    def _is_epoch_over(self) -> bool:
        """Whether the boundary is final here."""
        return self.application.replica_set.epoch > self.config.epoch

    @property
    def is_fenced_off(self) -> bool:
        """Whether it may have voted in this epoch without remembering: it lost its journal in an earlier one.

        See `layer1.replica.rejoin`, "Epochs".
        """
        fence, handovers = self._fence, self.application.trust.handovers
        if fence is None or fence.epoch >= len(handovers):
            return False
        return handovers[fence.epoch].head.header.view < fence.view

    def _begin_epoch(self, now: Now) -> None:
        """Go on above the boundary; what the last epoch had not made final is over with it."""
        self._validations.clear()
        self._missing.clear()
        self._fetches.keep_only(set())
        self._answered_ms.clear()
        self._consensus_wake_ms = None
        self._consensus = self._consensus_of_epoch(self._ahead)
        self._work = WorkWatch(self.application, self.batches)
        self._step_consensus(consensus_events.Started(), now)

    def _consensus_of_epoch(self, records: Sequence[bytes]) -> Consensus:
        """The consensus core of the epoch of the floor's children."""
        floor, replicas = self.application.floor, self.application.replica_set
        self._ahead = of_later_epochs(records, replicas.epoch)
        votes = replicas.epoch >= self._first_epoch and not self.is_fenced_off
        self.config, self._members = consensus_config(self.genesis, replicas), replicas
        self.generations.liars = self.config.liars
        own = replicas.number_of(self._key.public)
        known = number_in(self.application.trust.sets, self._key.public)
        self.index = self.index if known is None else known
        self.catchup.members_changed(self.index)
        position = len(replicas.seats) if own is None else replicas.numbers.index(own)
        finalization = None if floor.is_boundary else floor.finalization
        return Consensus(self.config, self._key, position, floor.header, finalization, records, votes=votes)

    def _position(self, number: int) -> int:
        """Where consensus knows a replica: in the set its position; this one behind the set, then all others."""
        position, size = self._members.position_of(number), len(self._members.seats)
        if position is not None:
            return position
        return size if number == self.index else size + 1 + number

    def _number(self, position: int) -> int:
        """The replica that consensus knows by this position."""
        numbers = self._members.numbers
        if position < len(numbers):
            return numbers[position]
        return self.index if position == len(numbers) else position - len(numbers) - 1

    def _perform(self, effect: consensus_events.Effect, now: Now) -> Sequence[consensus_events.Event]:
        match effect:
            case consensus_events.Persist():
                self._journal(ConsensusRecord(effect.record), lazy=_can_be_had_again(effect.record))
            case consensus_events.PersistBatches():
                for digest in effect.digests:
                    if (held := self.batches.get(digest)) is not None:
                        self._make_durable(held, lazy=False)
            case consensus_events.Send():
                message = ConsensusMessage(self.config.epoch, effect.message)
                self._effects.append(self.answering.serve(self._number(effect.receiver), message, now))
            case consensus_events.Broadcast():
                self._effects.append(events.TransmitAll(encode(ConsensusMessage(self.config.epoch, effect.message))))
            case consensus_events.WakeAt():
                self._consensus_wake_ms = effect.monotonic_ms
            case consensus_events.Accuse():
                self._accuse(effect)
            case _:
                return self._answer(effect, now)
        return ()

    def _accuse(self, effect: consensus_events.Accuse) -> None:
        why = f"contradiction: {_brief(effect.first)} and {_brief(effect.second)}"
        self._effects.append(events.Misbehaved(self._number(effect.replica), why))
        evidence = pair(effect.first, effect.second)
        if evidence is not None and self.evidence.add(evidence):
            self._journal(EvidenceRecord(evidence), lazy=True)

    def _answer(
        self,
        effect: consensus_events.Build | consensus_events.Validate | consensus_events.Commit | consensus_events.CatchUp,
        now: Now,
    ) -> Sequence[consensus_events.Event]:
        match effect:
            case consensus_events.Build():
                return self._build(effect, now)
            case consensus_events.Validate():
                self._validations[effect.proposal.header.id] = effect
                return self._try_validate(effect)
            case consensus_events.Commit():
                self._commit(effect.headers, effect.finalization, now)
            case consensus_events.CatchUp():
                self.catchup.aim(effect.finalization.view, self._number(effect.sender), now.monotonic_ms)
            case _:
                assert_never(effect)
        return ()

    def _build(self, effect: consensus_events.Build, now: Now) -> Sequence[consensus_events.Event]:
        candidates = (
            Part(held.digest, held.encoded, held.transactions, held.weight) for held in self.batches.shared_out()
        )
        executed = self.application.build(effect.view, effect.epoch, effect.parent, effect.wall_time, candidates)
        self._executed(executed)
        return (*self._work.news(self.consensus, now), consensus_events.Built(executed.header, executed.digests))

    def _try_validate(self, effect: consensus_events.Validate) -> Sequence[consensus_events.Event]:
        """Answer a `Validate` if every batch is here and verified; else see to it that they come."""
        proposal = effect.proposal
        header, block = proposal.header, proposal.header.id
        if header.height <= self.application.floor.header.height:
            self._forget_validation(block)
            return ()
        parts, missing = [], set[Hash]()
        for digest in proposal.batches:
            held = self.batches.get(digest)
            if (why := self.batches.why_bad(digest)) is not None:
                self._forget_validation(block)
                self.application.refuse(block, why)
                return (consensus_events.Validated(block, False, why),)
            if held is None:
                missing.add(digest)
                self._fetches.want(digest, self._holders(effect))
            elif not held.good:
                missing.add(digest)
                if (job := self._job_of.get(digest)) is not None:
                    self._effects.append(events.Hurry(job))
            else:
                parts.append(Part(held.digest, held.encoded, held.transactions, held.weight))
        self._missing[block] = missing
        if missing or not self.application.has_state(header.parent):
            return ()
        self._forget_validation(block)
        try:
            executed = self.application.validate(header, effect.parent, tuple(parts))
        except RemoteError as error:
            return (consensus_events.Validated(block, False, str(error)),)
        self._executed(executed)
        return (consensus_events.Validated(block, True),)

    def _holders(self, effect: consensus_events.Validate) -> list[int]:
        leader = self.config.leader(effect.proposal.header.view)
        positions = (effect.sender, leader, *range(len(self.config.replicas)))
        return [number for number in map(self._number, positions) if number != self.index]

    def _forget_validation(self, block: BlockId) -> None:
        self._missing.pop(block, None)
        if self._validations.pop(block, None) is not None:
            self._fetches.keep_only({d for other in self._validations.values() for d in other.proposal.batches})

    def _retry_validations(self, digest: Hash, now: Now) -> None:
        """A batch is verified, or bad. Blocks that lack others are not looked at: they may name thousands."""
        waiting = [(block, missing) for block, missing in self._missing.items() if digest in missing]
        for block, missing in waiting:
            missing.discard(digest)
            effect = self._validations.get(block)
            if effect is not None and (not missing or self.batches.why_bad(digest) is not None):
                for event in self._try_validate(effect):
                    self._step_consensus(event, now)

    def _executed(self, executed: Executed) -> None:
        """Remember a block and its batches for a restart: the vote that follows makes them durable.

        At once, because a block that becomes final before the vote may end the life of one of these batches.
        """
        for part in executed.parts:
            if (held := self.batches.get(part.digest)) is not None:
                self._make_durable(held, lazy=True)
        self._journal(BlockRecord(executed.header, executed.digests), lazy=True)
        self._work.executed(executed)

    def _commit(self, headers: Sequence[Header], finalization: Finalization, now: Now) -> None:
        floor = self.application.floor.header.height
        fresh = [header for header in headers if header.height > floor]
        for header in fresh:
            if self.application.get(header.id) is None:
                self.application.check_not_refused(header.id)
                self.catchup.aim(finalization.view, self.index, now.monotonic_ms)
                return
        self._make_final(fresh, finalization)

    def _make_final(self, headers: Sequence[Header], finalization: Finalization) -> None:
        if not headers:
            return
        digests = [digest for header in headers for digest in self._digests(header)]
        self._journal(FinalRecord(tuple(header.id for header in headers), finalization), lazy=True)
        for block in self.application.commit(headers, finalization):
            self._recent.add(block)
            self.pool.remove(output.transaction_id for output in block.outputs)
            self._effects.append(events.Deliver(block))
        self.batches.remove(digests)
        floor = self.application.floor.header
        for name in [name for name, e in self._validations.items() if e.proposal.header.height <= floor.height]:
            self._forget_validation(name)
        self._expire(floor.clock)

    def _digests(self, header: Header) -> tuple[Hash, ...]:
        executed = self.application.get(header.id)
        return () if executed is None else executed.digests

    def _expire(self, clock_ms: int) -> None:
        if clock_ms < self._expired_at_ms + EXPIRY_STEP_MS:
            return
        self._expired_at_ms = clock_ms
        self.batches.expire(clock_ms)
        dead = self.pool.expire(clock_ms)
        if dead:
            refusal = Refused("expired", f"the ledger clock is {clock_ms}, past its life span; sign a new one")
            self._effects.append(events.Reject(tuple(dead), refusal))

    # ------------------------------------------------------------------------------------------------------ catch-up

    def _catch_up_one_block(self, now: Now) -> None:
        """Execute one fetched block, so that the loop is never blocked for longer than that."""
        source = self.catchup.source
        try:
            found = self.catchup.next_block(self.application.floor.header)
        except RemoteError as error:
            self._effects.append(events.Misbehaved(source, f"in an answer to catch up by: {error}"))
            return
        if found is None:
            return
        block, segment = found
        if block.header.height > self.application.floor.header.height:
            self._execute_fetched(block.header, parts_of(block))
        if segment is not None:
            floor = self.application.floor.header.height
            fresh = [header for header in segment.headers if header.height > floor]
            for filler in segment.path if fresh else ():
                self._journal(BlockRecord(filler, ()), lazy=True)
            self._make_final([*fresh, *segment.path], segment.finalization)
            if self._is_epoch_over():
                self._begin_epoch(now)
            elif segment.headers[-1].epoch == self.config.epoch:
                self._step_consensus(consensus_events.CaughtUp(segment.headers[-1], segment.finalization), now)
        if self.catchup.busy:
            self._effects.append(events.Again())

    def _execute_fetched(self, header: Header, parts: tuple[Part, ...]) -> None:
        parent = self.application.header_of(header.parent)
        if parent is None:
            raise LocalError(f"block {header.height} is final and its parent is not here: two chains are final")
        try:
            executed = self.application.validate(header, parent, parts)
        except RemoteError:
            self.application.check_not_refused(header.id)
            raise
        for part in parts:
            held = self.batches.get(part.digest)
            if held is None or not held.durable:
                self._journal(BatchRecord(part.encoded), lazy=True)
            if held is not None:
                held.durable = True
        self._executed(executed)

    # --------------------------------------------------------------------------------------------------- work, wakes

    def _tell_work(self, now: Now) -> None:
        """Tell consensus of work, until what it does about it changes nothing any more."""
        while news := self._work.news(self.consensus, now):
            self._step_consensus(news[0], now)

    def _ask_wake(self, now: Now) -> None:
        wakes = (
            self._consensus_wake_ms,
            self.pool.pack_at_ms(),
            self._fetches.wake_ms(),
            self.snapshots.wake_ms() if self.snapshots.active else self.catchup.wake_ms(),
            self._work.wake_ms(now),
            self._announcements.at_ms(self._work.oldest_ms),
        )
        wake = min((time for time in wakes if time is not None), default=None)
        if wake != self._wake_ms:
            self._wake_ms = wake
            self._effects.append(events.Wake(wake))

    # ---------------------------------------------------------------------------------------------------------- small

    def _journal(self, record: Record, *, lazy: bool) -> None:
        encoded = encode(record)
        self._checkpoints.note(encoded)
        self._effects.append(events.Journal(encoded, lazy))

    def _send(self, peer: int, message: LinkMessage) -> None:
        self._effects.append(events.Transmit(peer, encode(message)))


def _can_be_had_again(record: bytes) -> bool:
    """Whether a record of consensus is a certificate: then nothing waits for its sync.

    It binds nobody: what it certifies, q replicas made durable before they voted. Every vote that follows from it
    stands behind it in the journal and takes it along. This spares one sync of three in each block.
    """
    return len(record) > 1 and record[1] in _CERTIFICATES


def _check_digests(digests: Sequence[Hash]) -> None:
    if any(len(digest) != HASH_BYTES for digest in digests):
        raise RemoteError(f"an announcement of digests that are not all of {HASH_BYTES} bytes")


def _brief(message: Message) -> str:
    return f"{type(message).__name__} of view {getattr(message, 'view', getattr(message, 'start', '?'))}"

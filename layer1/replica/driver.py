"""A running replica: the core with its journal, links, timers, storage and HTTP API.

Safety: nothing of a turn of the loop leaves before everything that the turn journaled is durable.

Whatever happens within one turn of the event loop goes through the core at once; its records are appended, and at the
end of the turn there is one sync, then the messages leave, then callers hear what is final (group commit). Signatures
are verified inline in slices of about a millisecond with the loop given back in between: measured, executor threads
and process pools starve beside a busy loop. The database is written behind all this, by a thread.

Source: docs/design/consensus.md, "Persist before sending", "Mempool and batches"; limits.md.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import assert_never

from layer1 import disk
from layer1.api.app import create_app, create_metrics_app
from layer1.api.backend import NO_DATABASE, Head, Located, Series
from layer1.block import CommittedBlock
from layer1.certificates import ServerCertificate, renew
from layer1.collector import settle_memory
from layer1.config import CONFIG_NAME, Peer, ReplicaConfig, load_config, load_machine, read_genesis, read_key
from layer1.consensus.events import Now
from layer1.consensus.evidence import Evidence
from layer1.crypto import Hash, PublicKey
from layer1.dataformat import mark_format
from layer1.errors import LocalError, Refused, RemoteError, StartAgain, WedgeError
from layer1.httpd.server import ApiServer, serve
from layer1.journal import Journal
from layer1.ledger.replicas import ReplicaSet
from layer1.ledger.transactions import Transaction
from layer1.link import Link
from layer1.proof import Handover
from layer1.release import RELEASE
from layer1.replica import catchup, events, telemetry
from layer1.replica.checkpointing import CheckpointTask
from layer1.replica.checkpoints import Counted
from layer1.replica.core import ReplicaCore
from layer1.replica.following import BlockSubscription
from layer1.replica.installing import finish_install, make_ready
from layer1.replica.mempool import check_entry
from layer1.replica.messages import WIRE_VERSION
from layer1.replica.numbers import UNNUMBERED, number_in
from layer1.replica.peers import PeerLinks
from layer1.replica.pruning import HistoryPolicy, Pruner
from layer1.replica.rejoining import rejoin
from layer1.replica.snapshots import FromSnapshot
from layer1.replica.snapshotting import SnapshotFiles
from layer1.replica.startup import check_journal, come_back
from layer1.replica.verifying import VerificationQueue
from layer1.replica.waiting import Waiting
from layer1.replica.writer import StoreWriter
from layer1.storage.database import Outage, file_of
from layer1.storage.store import Store

DISK_WATCH_S = 5.0
"""Between two looks at the room on the disk: what is written meanwhile is far below `DiskPolicy.stop_mib`."""
LAZY_SYNC_S = 0.05
"""After which lazy records are synced if nothing else was: what is lost until then is fetched from peers again."""
SWITCH_INTERVAL_S = 0.0005
"""How long the database's thread may hold the interpreter while the loop wants it; a tenth of Python's default."""

_log = logging.getLogger(__name__)


class Replica:
    """One replica: ``await start()``, ``await wait()``, ``await stop()``. Implements `layer1.api.backend.Backend`."""

    def __init__(self, config: ReplicaConfig, *, rebuild: bool = False, rejoin: bool = False) -> None:
        """Read key and genesis.

        Args:
            config: Where everything is.
            rebuild: Pass over the checkpoint, and execute all blocks anew, from storage and from the peers.
            rejoin: The journal is lost, damaged or an old copy: ask the peers, and begin a new one.

        Raises:
            LocalError: One is missing or wrong, or they do not fit the configuration.
        """
        self.config = config
        self.genesis = read_genesis(config.genesis)
        self._key = read_key(config.key)
        self._check_identity(config.peers)
        self._rebuild = rebuild
        self._rejoin = rejoin
        number = self.genesis.replica_set.number_of(self._key.public)
        own = UNNUMBERED if number is None else number
        machine = load_machine(config.machine)
        self.core = ReplicaCore(
            self.genesis,
            self._key,
            own,
            config.limits,
            config.checkpoints,
            machine=machine,
            from_snapshot=_from_snapshot(config.history),
        )
        self._epoch = 0
        """The last one that links and log know of."""
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark_format(config.data)
        self.store = Store.open(config.database_url, self.genesis.chain_id, self._key.public)
        self._journal: Journal | None = None
        self._writer: StoreWriter | None = None
        self._pruner: Pruner | None = None
        self._servers: list[ApiServer] = []
        """The API's, and that of the metrics if it is another."""
        self._certificate: ServerCertificate | None = None
        self._peers = PeerLinks(config, self.genesis, self._key, self._generation, self, sets=self._sets)
        self._checkpoint: CheckpointTask | None = None
        self._snapshots = SnapshotFiles(config.checkpoint, config.snapshot, self.genesis, machine)
        self._loads: set[asyncio.Task[None]] = set()
        self._turn = _Turn()
        self._lazy = False
        """Whether a sync of lazy records is on its way."""
        self._syncs = telemetry.Syncs()
        database = file_of(config.database_url)
        self._places = [config.data] if database is None else [config.data, database.parent]
        """Where room is needed."""
        self._room: disk.Room | None = None
        self._disk_timer: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._verifying = VerificationQueue(self._check_entry, self._step)
        self._waiting = Waiting()
        self._subscriptions: set[BlockSubscription] = set()
        self._failed: asyncio.Future[None] | None = None
        self._stopped = False
        self.misbehaved: Counter[int] = Counter()
        """Messages dropped, by peer."""
        self.api_port = 0
        self.metrics_port = 0
        """0 if the API serves them."""
        self.link_port = 0

    # ------------------------------------------------------------------------------------------------ start and stop

    async def start(self) -> None:
        """Come back from the journal, listen, dial, and take part.

        Raises:
            LocalError: The journal or the store cannot be used, or an address is taken.
        """
        self._failed = asyncio.get_running_loop().create_future()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        link, api = self.config.link, self.config.api
        self._watch_disk()
        if self._failed.done():
            await self._failed
        try:
            if self._rejoin:
                await rejoin(self.config, self.genesis, self._key)
            self._journal = check_journal(self.config.journal)
            installed = await asyncio.to_thread(finish_install, self.config, self.store)
            self._snapshots.clear()
            checkpoint = None if self._rebuild else self.config.checkpoint
            await come_back(self.core, self._journal, self.store, checkpoint, may_lag=installed is not None)
            if not self._rebuild:  # it may be damaged: whoever rebuilds passes over it
                self._snapshots.publish()
            self._writer = StoreWriter(self.store, self._fail_from_thread)
            self._pruner = Pruner(self.config.history, self.store, self._writer)
            self._pruner.checkpointed(self._snapshots.oldest() or self.core.checkpoint_height)
            self.link_port = await self._peers.listen()
            await self._serve()
        except OSError as error:
            places = [str(place) for place in (link, api, self.config.http.metrics) if place is not None]
            raise LocalError(
                f"cannot listen on {' and '.join(places)}: {error}; free them or configure others"
            ) from error
        self._step(events.Begin(self._generation()))
        self._tell_epoch()
        self._peers.dial()
        settle_memory()
        _log.info("%s listens on %s (links) and %s (API)", self._name, self.link_port, self.api_port)

    async def _serve(self) -> None:
        """Serve the API, and the metrics where they are wanted.

        Raises:
            LocalError: The certificate cannot be used.
            OSError: An address is taken.
        """
        address, http, reuse = self.config.api, self.config.http, self.config.reuse_port
        if http.certificate is not None and http.key is not None:
            self._certificate = ServerCertificate(http.certificate, http.key)
        app = create_app(self, rate=self.config.rate, metrics_apart=http.metrics is not None)
        ssl = None if self._certificate is None else self._certificate.context
        self._servers.append(await serve(app, address.host, address.port, ssl, reuse_port=reuse))
        self.api_port = self._servers[0].port
        if http.metrics is not None:
            self._servers.append(await serve(create_metrics_app(app), http.metrics.host, http.metrics.port))
            self.metrics_port = self._servers[1].port

    def reload(self) -> None:
        """Go on with the certificate and the peers that are in their files now, or with those before."""
        if self._is_over:
            return
        renew(self._certificate)
        try:
            peers = load_config(self.config.home).peers
            self._check_identity(peers)
        except LocalError as error:
            _log.error("the peers are not loaded again, those before stay: %s", error)
            return
        self.config = replace(self.config, peers=peers)
        self._peers.reconfigure(self.config)
        _log.info("%d peers were loaded again from %s", len(peers), self.config.home / CONFIG_NAME)
        self._tell_missing()

    async def wait(self) -> None:
        """Until the replica fails.

        Raises:
            LocalError: Why it stopped.
        """
        assert self._failed is not None, "started"
        await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """Stop taking part; everything in hand is journaled and stored. Harmless when repeated."""
        if self._stopped:
            return
        self._stopped = True
        for timer in (self._timer, self._disk_timer):
            if timer is not None:
                timer.cancel()
        self._verifying.end()
        for task in self._loads:
            task.cancel()
        await asyncio.gather(*self._loads, return_exceptions=True)
        for subscription in list(self._subscriptions):
            subscription.end()
        for server in self._servers:
            await server.close()
        await self._peers.stop()
        if self._pruner is not None:
            self._pruner.end()
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)
        if self._checkpoint is not None:
            self._checkpoint.end()
        self._snapshots.close()
        if self._journal is not None:
            with suppress(LocalError):
                self._journal.sync()
            self._journal.close()
        self.store.close()

    def _check_identity(self, peers: Sequence[Peer]) -> None:
        own, keys = self._key.public, [peer.key for peer in peers]
        if own in keys:
            raise LocalError(
                f"{self.config.key} holds the key of peers[{keys.index(own)}], {own.hex()}: two processes with one "
                "key would sign against each other. Put this replica's own key there; if it is, take that peer away"
            )

    def _sets(self) -> Sequence[ReplicaSet]:
        return self.core.application.trust.sets

    @property
    def index(self) -> int | None:
        """Its number; None while no replica set has it."""
        return None if self.core.index == UNNUMBERED else self.core.index

    @property
    def is_member(self) -> bool:
        """Whether it belongs to the replica set."""
        return self._key.public in self.core.application.replica_set.keys

    @property
    def _name(self) -> str:
        return f"replica {self.index}" if self.index is not None else f"the replica with key {self._key.public.hex()}"

    def _tell_epoch(self) -> None:
        """The replica set is another one: links follow, and people are told what became of this replica."""
        members = self.core.application.replica_set
        self._epoch = members.epoch
        self._peers.renumber()
        _log.info(
            "epoch %d: the replica set is %s, %d of them make a quorum",
            members.epoch, ", ".join(map(str, members.numbers)), members.quorum,
        )  # fmt: skip
        if not self.is_member:
            _log.warning("%s listens: it is not in the replica set", self._name)
        self._tell_missing()

    def _tell_missing(self) -> None:
        for seat in self.core.application.replica_set.seats:
            if seat.key != self._key.public and self.config.peer(seat.key) is None:
                _log.warning(
                    "replica %d has no address here, it has to dial us: name %s in [[peers]] of %s, then SIGHUP",
                    seat.number, seat.key.hex(), self.config.home / CONFIG_NAME,
                )  # fmt: skip

    def _watch_disk(self) -> None:
        """Warn while there is room, stop before there is none, and look again soon."""
        if self._is_over:
            return
        self._disk_timer = asyncio.get_running_loop().call_later(DISK_WATCH_S, self._watch_disk)
        try:
            room = disk.look(self._places, self.config.disk)
        except OSError as error:  # what cannot be looked at cannot be written either, and that stops it
            _log.warning("cannot tell how much room there is: %s", error)
            return
        if room.is_over:
            self._fail(LocalError(room.reason()))
            return
        if room.is_low and not (self._room is not None and self._room.is_low):
            _log.warning("%s", room.warning())
        elif self._room is not None and self._room.is_low and not room.is_low:
            _log.info("there is room again on the disk of %s", room.path)
        self._room = room

    def _generation(self) -> int:
        assert self._journal is not None, "started"
        return self._journal.generation

    def _fail(self, error: WedgeError) -> None:
        """Stop at once: nothing of this turn leaves."""
        self._turn.clear()
        if self._failed is not None and not self._failed.done():
            if isinstance(error, StartAgain):
                _log.info("%s starts again: %s", self._name, error)
            else:
                _log.error("%s stops: %s", self._name, error)
            self._failed.set_exception(error)

    def _fail_from_thread(self, error: LocalError) -> None:
        assert self._failed is not None, "started"
        self._failed.get_loop().call_soon_threadsafe(self._fail, error)

    @property
    def _is_over(self) -> bool:
        return self._stopped or self._failed is None or self._failed.done()

    # ------------------------------------------------------------------------------------------------------ the turn

    def _step(self, event: events.Event) -> None:
        """Put one event through the core; what follows is performed at the end of the turn.

        Raises:
            Refused: A submission was not taken in.
        """
        if self._is_over:
            return
        now = Now(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)
        try:
            for effect in self.core.step(event, now):
                self._perform(effect)
            if self.core.config.epoch != self._epoch:
                self._epoch = self.core.config.epoch
                asyncio.get_running_loop().call_soon(self._tell_epoch)
        except Refused:
            raise
        except (LocalError, RemoteError) as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a step that broke off may have left half a change: stop, don't guess
            _log.exception("%s cannot go on", self._name)
            self._fail(LocalError(f"a fault of this program while it handled {type(event).__name__}: {error!r}"))

    def _perform(self, effect: events.Effect) -> None:
        turn = self._turn
        match effect:
            case events.Journal():
                assert self._journal is not None, "started"
                self._journal.append(effect.record)
                turn.must_sync |= not effect.lazy
                turn.may_sync = True
            case events.Shorten():
                self._shorten(effect.records)
                return
            case events.Transmit():
                if (link := self._peers.links.get(effect.peer)) is not None:
                    turn.messages.append((link, effect.data))
            case events.TransmitAll():
                turn.messages.append((None, effect.data))
            case events.Deliver():
                turn.blocks.append(effect.block)
            case _:
                self._perform_now(effect)
                return
        if not turn.scheduled:
            turn.scheduled = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _perform_now(
        self,
        effect: events.Verify
        | events.Hurry
        | events.Reject
        | events.LoadBlocks
        | events.Again
        | events.Wake
        | events.TakeCheckpoint
        | events.LoadChunk
        | events.SaveSnapshot
        | events.CheckSnapshot
        | events.InstallSnapshot
        | events.Misbehaved,
    ) -> None:
        """What promises nothing to anybody need not wait for the sync."""
        match effect:
            case events.Verify():
                self._verifying.put(effect)
            case events.Hurry():
                self._verifying.hurry(effect.job)
            case events.Reject():
                for name in effect.ids:
                    self._waiting.settle(name, None, effect.refusal)
            case events.LoadBlocks():
                self._load(effect)
            case events.Again():
                asyncio.get_running_loop().call_soon(self._step, events.Proceed())
            case events.Wake():
                self._set_timer(effect.monotonic_ms)
            case events.TakeCheckpoint():
                self._take_checkpoint(effect)
            case events.Misbehaved():
                self._judge(effect)
            case _:
                self._perform_snapshot(effect)

    def _perform_snapshot(
        self, effect: events.LoadChunk | events.SaveSnapshot | events.CheckSnapshot | events.InstallSnapshot
    ) -> None:
        match effect:
            case events.LoadChunk():
                asyncio.get_running_loop().call_soon(self._step, self._snapshots.load(effect))
            case events.SaveSnapshot():
                self._snapshots.save(effect)
            case events.CheckSnapshot():
                self._start_load(self._check_snapshot(effect.height))
            case events.InstallSnapshot():
                self._install(effect.height)
            case _:
                assert_never(effect)

    def _judge(self, effect: events.Misbehaved) -> None:
        """Count it. Whoever does too much of it loses its link, and has to wait for another."""
        peer = effect.peer
        self.misbehaved[peer] += 1
        _log.debug("replica %d broke the protocol: %s", peer, effect.reason)
        if effect.blamed and peer != self.core.index and (pause_s := self._peers.charge(peer)):
            _log.warning("replica %d is cut off for %.0f s, at last for this: %s", peer, pause_s, effect.reason)

    def _end_turn(self) -> None:
        """One sync, then everything that waited for it."""
        turn, self._turn = self._turn, _Turn()
        if self._is_over or self._journal is None:
            return
        try:
            if turn.must_sync:
                with self._syncs.timed():
                    self._journal.sync()
            elif turn.may_sync and not self._lazy:
                self._lazy = True
                asyncio.get_running_loop().call_later(LAZY_SYNC_S, self._sync_lazily)
            for link, data in turn.messages:
                self._peers.send(link, data)
        except LocalError as error:
            self._fail(error)
            return
        if turn.blocks:
            self._deliver(turn.blocks)

    def _sync_lazily(self) -> None:
        self._lazy = False
        if self._journal is not None and not self._is_over:
            try:
                self._journal.sync()
            except LocalError as error:
                self._fail(error)

    def _take_checkpoint(self, effect: events.TakeCheckpoint) -> None:
        assert self._writer is not None, "started"
        pruner = self._pruner
        assert pruner is not None, "as the writer"

        counted = Counted(effect.pieces)

        def done(height: int) -> None:
            try:
                self._snapshots.publish()
            except LocalError as error:
                self._fail(error)
            self._step(events.Checkpointed(height, counted.pieces, counted.size_bytes))
            pruner.checkpointed(self._snapshots.oldest() or height)

        path = self.config.checkpoint
        effect = replace(effect, pieces=counted)
        self._checkpoint = CheckpointTask(path, effect, self.store, self._writer, done=done, failed=self._fail)

    def _install(self, height: int) -> None:
        """Leave a snapshot ready, and stop: the next start begins with it, and with this journal."""
        try:
            make_ready(self.config)
        except LocalError as error:
            self._fail(error)
        else:
            self._fail(StartAgain(f"a snapshot of height {height} is ready to go on from"))

    async def _check_snapshot(self, height: int) -> None:
        try:
            self._step(await self._snapshots.check(height))
        except LocalError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - unseen, it would be awaited for ever
            _log.exception("%s cannot go on", self._name)
            self._fail(LocalError(f"a fault of this program while it checked a snapshot: {error!r}"))

    def _shorten(self, records: Sequence[bytes]) -> None:
        assert self._journal is not None, "started"
        before = self._journal.size_bytes
        self._journal.sync()  # what was appended is among the records: it must not stand behind them again
        self._journal.compact(records)
        _log.info("the journal was shortened from %d to %d bytes", before, self._journal.size_bytes)

    def _check_entry(self, transaction: Transaction, rehearsed: bool) -> None:
        check_entry(self.core.application.floor.state, transaction, self.genesis.chain_id, rehearsed=rehearsed)

    def _deliver(self, blocks: Sequence[CommittedBlock]) -> None:
        assert self._writer is not None, "started"
        self._writer.put(blocks)
        for block in blocks:
            self._waiting.final(block)
            for subscription in tuple(self._subscriptions):
                subscription.put(block)

    def _set_timer(self, monotonic_ms: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if monotonic_ms is not None:
            delay_s = max(0.0, monotonic_ms / 1000 - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._step, events.Tick())

    # --------------------------------------------------------------------------------------------------------- links

    def refuse(self, peer: int, generation: int) -> bytes | None:
        """See `layer1.replica.peers.Host`: who runs on an old copy of its journal gets no link."""
        told = self.core.generations.refuse(peer, generation)
        if told is not None:
            known = self.core.generations.peers[peer]
            _log.warning("replica %d runs on journal %d, it had %d: an old copy", peer, generation, known)
        return told

    def link_up(self, peer: int, generation: int) -> None:
        """See `layer1.replica.peers.Host`."""
        self._step(events.PeerUp(peer, generation))

    def received(self, peer: int, data: bytes) -> None:
        """See `layer1.replica.peers.Host`."""
        self._step(events.FromPeer(peer, data))

    def link_down(self, peer: int) -> None:
        """See `layer1.replica.peers.Host`."""
        self._step(events.PeerDown(peer))

    def _load(self, effect: events.LoadBlocks) -> None:
        self._start_load(self._load_blocks(effect))

    def _start_load(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def _load_blocks(self, effect: events.LoadBlocks) -> None:
        blocks: Sequence[CommittedBlock] = ()
        try:
            blocks = await asyncio.to_thread(self.store.blocks, effect.first, 2 * catchup.MAX_BLOCKS)
        except Outage as error:  # the writer warns: the peer is answered, and asks another replica
            _log.debug("blocks from height %d on cannot be read now: %s", effect.first, error)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("blocks from height %d on cannot be read for replica %d", effect.first, effect.peer)
        self._step(events.Loaded(effect.peer, effect.first, blocks))

    # ------------------------------------------------------------------------------------------------------- backend

    def head(self) -> Head:
        """The last final block and its state."""
        floor = self.core.application.floor
        return Head(floor.header, floor.finalization, floor.path, floor.state)

    def status(self) -> Mapping[str, int | str | bool | None]:
        """Numbers for people and metrics."""
        core, consensus = self.core, self.core.consensus.status()
        numbers = core.application.trust.set_of(core.config.epoch).numbers
        return {
            **consensus,
            "leader": numbers[consensus["leader"]],
            "height": core.application.floor.header.height,
            "epoch": core.config.epoch,
            "member": self.is_member,
            "peers_connected": len(self._peers.links),
            "peers": len(self._others()),
            "catching_up": core.catchup.active,
            "pool_transactions": len(core.pool),
            "pool_disputes": core.pool.disputes,
            "pool_bytes": core.pool.size_bytes,
            "pending_batches": len(core.batches),
            "verifying": len(self._verifying),
            "generation": 0 if self._journal is None else self._journal.generation,
            "waiting_for_database": 0 if self._writer is None else self._writer.waiting,
            "vote_from": core.consensus.vote_from,
            "checkpoint_height": core.checkpoint_height,
            "oldest_block": self.store.oldest(),
            "journal_bytes": 0 if self._journal is None else self._journal.size_bytes,
            "misbehaved": sum(self.misbehaved.values()),
            "cut_off": sum(self._peers.cut_off.values()),
            "strangers": self._peers.strangers,
            "disk_free_bytes": 0 if self._room is None else self._room.free_bytes,
            "disk_low": self._room is not None and self._room.is_low,
            "release": RELEASE,
            "wire_version": WIRE_VERSION,
        }

    def series(self) -> Sequence[Series]:
        """What tells which peer is slow, and why views end."""
        return telemetry.series(
            self.core.consensus.seen,
            numbers=self.core.application.replica_set.numbers,
            own=self.core.index,
            links=self._peers.links,
            counters={"misbehaved": self.misbehaved, "cut_off": self._peers.cut_off},
            syncs=self._syncs,
            now_ms=time.monotonic_ns() // 1_000_000,
        )

    def endpoints(self) -> Sequence[Mapping[str, str | int | bool | None]]:
        """The replicas in the set, by position, then those that listen; with what is known of them here."""
        members = self.core.application.replica_set
        keys = dict.fromkeys([*members.keys, self._key.public, *self._others()])
        return [self._endpoint(key, members) for key in keys]

    def _others(self) -> list[PublicKey]:
        """All keys but ours that a link is wanted with: those in the set, and those that are configured."""
        known = dict.fromkeys([*self.core.application.replica_set.keys, *(peer.key for peer in self.config.peers)])
        return [key for key in known if key != self._key.public]

    def _endpoint(self, key: PublicKey, members: ReplicaSet) -> Mapping[str, str | int | bool | None]:
        own, peer, number = key == self._key.public, self.config.peer(key), number_in(self._sets(), key)
        link = self.config.link if own else peer.link if peer is not None else None
        return {
            "index": number,
            "key": key.hex(),
            "member": key in members.keys,
            "position": members.keys.index(key) if key in members.keys else None,
            "api": self.config.url if own else peer.api or None if peer is not None else None,
            "link": None if link is None else str(link),
            "connected": own or self._peers.is_linked(key),
            "problem": self._peers.problems.get(key),
        }

    def evidence(self) -> Sequence[Evidence]:
        """Contradicting votes that this replica caught."""
        return tuple(self.core.evidence)

    def handovers(self) -> Sequence[Handover]:
        """How each replica set gave over to the next."""
        return tuple(self.core.application.trust.handovers)

    def submit(self, transactions: Sequence[Transaction], source: str = "") -> list[Hash]:
        """Take transactions into the pool, all or none; their ids.

        Raises:
            Refused: See `layer1.api.backend.Backend.submit`.
        """
        if self._is_over:
            raise Refused("stopping", "this replica is stopping; ask another one")
        named = [(transaction.id, transaction) for transaction in transactions]
        self._step(events.Submit(named, source))
        ids = [name for name, _ in named]
        self._waiting.opened(name for name, transaction in named if self.core.pool.is_here(name, transaction))
        return ids

    async def wait_final(self, ids: Sequence[Hash], timeout_ms: int) -> dict[Hash, Located]:
        """Wait until all are final or refused, or the time is over.

        Raises:
            Refused: ``bad_signature``, ``share_full`` or ``expired``: none of them is final, and all were refused.
                ``busy``: the database does not answer, and some may have become final long ago; the others are taken.
        """
        done = asyncio.Event()
        waiter = self._waiting.add(ids, done.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_ms / 1000):
                    await self._look_up([name for name in waiter.missing if not self._waiting.is_open(name)])
                    if waiter.missing:
                        await done.wait()
        finally:
            self._waiting.remove(waiter)
        if waiter.refusal is not None and not waiter.found and not waiter.missing:
            raise waiter.refusal
        return waiter.found

    async def _look_up(self, ids: Sequence[Hash]) -> None:
        """Find in the database what became final long ago.

        Raises:
            Refused: ``busy``: it does not answer.
        """
        if not ids:
            return
        try:
            found = await asyncio.to_thread(lambda: [self.store.transaction(name) for name in ids])
        except Outage:
            raise Refused("busy", NO_DATABASE) from None
        for stored in found:
            if stored is not None:
                place = Located(stored.height, stored.position, stored.output)
                self._waiting.settle(stored.output.transaction_id, place)

    def subscribe(self) -> BlockSubscription:
        """Follow final blocks from now on."""
        subscription = BlockSubscription(self._subscriptions.discard)
        self._subscriptions.add(subscription)
        if self._is_over:
            subscription.end()
        return subscription


class _Turn:
    """What waits for the end of a turn."""

    __slots__ = ("blocks", "may_sync", "messages", "must_sync", "scheduled")

    def __init__(self) -> None:
        self.must_sync = self.may_sync = self.scheduled = False
        self.messages: list[tuple[Link | None, bytes]] = []
        """To all, or over this link: an answer goes where the question came from, not to another life of the peer."""
        self.blocks: list[CommittedBlock] = []

    def clear(self) -> None:
        """Forget it: the replica stops."""
        self.messages.clear()
        self.blocks.clear()


def _from_snapshot(history: HistoryPolicy) -> FromSnapshot:
    """Who keeps all blocks gives none up that it has."""
    if not history.start_from_snapshot:
        return FromSnapshot.PRUNED
    return FromSnapshot.FAR if history.keep_blocks else FromSnapshot.NEW

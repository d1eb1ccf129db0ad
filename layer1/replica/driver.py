"""A running replica: the core with its journal, links, timers, storage and HTTP API. The only file here that awaits.

Safety: nothing of a turn of the loop leaves before everything that the turn journaled is durable.

Whatever happens within one turn of the event loop goes through the core at once; its records are appended, and at the
end of the turn there is one sync, then the messages leave, then callers hear what is final (group commit). Signatures
are verified inline in slices of about a millisecond with the loop given back in between: measured, executor threads
and process pools starve beside a busy loop. The database is written behind all this, by a thread.

Source: docs/design/consensus.md, "Persist before sending", "Mempool and batches"; limits.md.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import assert_never

from layer1.api.app import create_app
from layer1.api.backend import Head, Located
from layer1.api.server import ApiServer, serve
from layer1.block import CommittedBlock
from layer1.codec import decode, encode
from layer1.config import ReplicaConfig, read_genesis, read_key
from layer1.consensus.events import Now
from layer1.consensus.evidence import Evidence
from layer1.crypto import Hash, PublicKey
from layer1.errors import LocalError, Refused, RemoteError, WedgeError
from layer1.journal import Journal
from layer1.ledger.state import State
from layer1.ledger.transactions import Transaction
from layer1.link import Link, LinkClosed, LinkServer, connect
from layer1.replica import catchup, events
from layer1.replica.core import ReplicaCore
from layer1.replica.mempool import check_entry
from layer1.replica.messages import WIRE_VERSION, Greeting
from layer1.replica.waiting import Waiting
from layer1.replica.writer import StoreWriter
from layer1.storage.store import Store

SLICE_S = 0.001
"""CPU time of signature verification before the loop gets its turn."""
LAZY_SYNC_S = 0.05
"""After which lazy records are synced if nothing else was: what is lost until then is fetched from peers again."""
REPLAY_BULK = 200
"""Blocks between two writes to the database while the journal is replayed."""
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 2.0
"""Between two attempts to reach a peer; a restarted one is back within this."""
SUBSCRIPTION_BLOCKS = 1_024
"""How far a follower may lag before it is dropped."""
SWITCH_INTERVAL_S = 0.0005
"""How long the database's thread may hold the interpreter while the loop wants it; a tenth of Python's default."""

_log = logging.getLogger(__name__)


class Replica:
    """One replica: ``await start()``, ``await wait()``, ``await stop()``. Implements `layer1.api.backend.Backend`."""

    def __init__(self, config: ReplicaConfig) -> None:
        """Read key and genesis.

        Raises:
            LocalError: One is missing or wrong, or they do not fit the configuration.
        """
        self.config = config
        self.index = config.index
        self.genesis = read_genesis(config.genesis)
        self._key = read_key(config.key)
        self._check_identity()
        self.core = ReplicaCore(self.genesis, self._key, config.index, config.limits)
        self.store = Store.open(config.database_url, self.genesis.chain_id)
        self._journal: Journal | None = None
        self._writer: StoreWriter | None = None
        self._api: ApiServer | None = None
        self._server = LinkServer(self._key, self.genesis.chain_id, self._admit, self._on_link, greeting=self._greeting)
        self._links: dict[int, Link] = {}
        self._dialers: list[asyncio.Task[None]] = []
        self._loads: set[asyncio.Task[None]] = set()
        self._turn = _Turn()
        self._lazy = False
        """Whether a sync of lazy records is on its way."""
        self._timer: asyncio.TimerHandle | None = None
        self._jobs: deque[_Job] = deque()
        self._verifying = False
        self._waiting = Waiting()
        self._subscriptions: set[BlockSubscription] = set()
        self._failed: asyncio.Future[None] | None = None
        self._stopped = False
        self.misbehaved: Counter[int] = Counter()
        """Messages dropped, by peer."""
        self.api_port = 0
        self.link_port = 0

    # ------------------------------------------------------------------------------------------------ start and stop

    async def start(self) -> None:
        """Come back from the journal, listen, dial, and take part.

        Raises:
            LocalError: The journal or the store cannot be used, or an address is taken.
        """
        self._failed = asyncio.get_running_loop().create_future()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        await self._replay()
        self._writer = StoreWriter(self.store, self._fail_from_thread)
        link, api, reuse = self.config.link, self.config.api, self.config.reuse_port
        try:
            self.link_port = await self._server.start(link.host, link.port, reuse_port=reuse)
            self._api = await serve(create_app(self), api.host, api.port, reuse_port=reuse)
        except OSError as error:
            raise LocalError(f"cannot listen on {link} and {api}: {error}; free them or configure others") from error
        self.api_port = self._api.port
        self._step(events.Begin())
        self._dialers = [
            asyncio.create_task(self._dial(peer.index)) for peer in self.config.peers if peer.index > self.index
        ]
        _settle_memory()
        _log.info("replica %d listens on %s (links) and %s (API)", self.index, self.link_port, self.api_port)

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
        if self._timer is not None:
            self._timer.cancel()
        for task in (*self._dialers, *self._loads):
            task.cancel()
        await asyncio.gather(*self._dialers, *self._loads, return_exceptions=True)
        for subscription in list(self._subscriptions):
            subscription.end()
        if self._api is not None:
            await self._api.close()
        await self._server.stop()
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)
        if self._journal is not None:
            with suppress(LocalError):
                self._journal.sync()
            self._journal.close()
        self.store.close()

    def _check_identity(self) -> None:
        replicas, index = self.genesis.replicas, self.config.index
        if not 0 <= index < len(replicas) or replicas[index] != self._key.public:
            raise LocalError(
                f"{self.config.key} is not the key of replica {index} in {self.config.genesis}: take key, index and "
                "genesis from one `layer1 init`"
            )
        others = {peer.index for peer in self.config.peers}
        missing = set(range(len(replicas))) - others - {index}
        if missing or len(others) != len(replicas) - 1:
            raise LocalError(f"peers: {sorted(others)} are configured, the genesis has {len(replicas)} replicas")

    async def _replay(self) -> None:
        if not self.config.journal.is_dir():
            raise LocalError(
                f"the journal {self.config.journal} is missing. A replica that starts without it might vote against "
                "its own votes. Put it back; if it is lost for good, this replica counts as faulty"
            )
        self._journal = Journal.open(self.config.journal)
        blocks: list[CommittedBlock] = []
        started = time.monotonic()
        for block in self.core.restore(self._journal.replay()):
            blocks.append(block)
            if len(blocks) >= REPLAY_BULK:
                await asyncio.to_thread(self.store.append, blocks)
                blocks = []
        await asyncio.to_thread(self.store.append, blocks)
        height, took_ms = self.core.application.floor.header.height, (time.monotonic() - started) * 1000
        _log.info("replica %d is back at height %d after %.0f ms", self.index, height, took_ms)

    def _fail(self, error: WedgeError) -> None:
        """Stop at once: nothing of this turn leaves."""
        self._turn.clear()
        if self._failed is not None and not self._failed.done():
            _log.error("replica %d stops: %s", self.index, error)
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
        except Refused:
            raise
        except (LocalError, RemoteError) as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a step that broke off may have left half a change: stop, don't guess
            _log.exception("replica %d cannot go on", self.index)
            self._fail(LocalError(f"a fault of this program while it handled {type(event).__name__}: {error!r}"))

    def _perform(self, effect: events.Effect) -> None:
        turn = self._turn
        match effect:
            case events.Journal():
                assert self._journal is not None, "started"
                self._journal.append(effect.record)
                turn.must_sync |= not effect.lazy
                turn.may_sync = True
            case events.Transmit():
                turn.messages.append((effect.peer, effect.data))
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
        | events.Misbehaved,
    ) -> None:
        """What promises nothing to anybody need not wait for the sync."""
        match effect:
            case events.Verify():
                self._jobs.append(_Job(effect.job, effect.transactions, rehearsed=effect.rehearse))
                self._schedule_verification()
            case events.Hurry():
                self._hurry(effect.job)
            case events.Reject():
                for name in effect.ids:
                    self._waiting.settle(name, None, effect.refusal)
            case events.LoadBlocks():
                self._load(effect)
            case events.Again():
                asyncio.get_running_loop().call_soon(self._step, events.Proceed())
            case events.Wake():
                self._set_timer(effect.monotonic_ms)
            case events.Misbehaved():
                self.misbehaved[effect.peer] += 1
                _log.debug("replica %d broke the protocol: %s", effect.peer, effect.reason)
            case _:
                assert_never(effect)

    def _end_turn(self) -> None:
        """One sync, then everything that waited for it."""
        turn, self._turn = self._turn, _Turn()
        if self._is_over or self._journal is None:
            return
        try:
            if turn.must_sync:
                self._journal.sync()
            elif turn.may_sync and not self._lazy:
                self._lazy = True
                asyncio.get_running_loop().call_later(LAZY_SYNC_S, self._sync_lazily)
            for peer, data in turn.messages:
                self._send(peer, data)
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

    def _send(self, peer: int | None, data: bytes) -> None:
        if peer is None:
            for link in self._links.values():
                link.send_nowait(data)
        elif (link := self._links.get(peer)) is not None:  # type: ignore[assignment]
            link.send_nowait(data)

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

    # -------------------------------------------------------------------------------------------------- verification

    def _hurry(self, number: int) -> None:
        for job in self._jobs:
            if job.number == number:
                self._jobs.remove(job)
                self._jobs.appendleft(job)
                return

    def _schedule_verification(self) -> None:
        if not self._verifying:
            self._verifying = True
            asyncio.get_running_loop().call_soon(self._verify_slice)

    def _verify_slice(self) -> None:
        """Verify for about a millisecond, then give the loop back."""
        self._verifying = False
        until = time.perf_counter() + SLICE_S
        while self._jobs and not self._is_over:
            job = self._jobs[0]
            while job.position < len(job.transactions):
                if time.perf_counter() >= until:
                    self._schedule_verification()
                    return
                job.verify_next(self.core.application.floor.state, self.genesis.chain_id)
            self._jobs.popleft()
            self._step(events.Verified(job.number, tuple(job.failures)))

    # --------------------------------------------------------------------------------------------------------- links

    def _greeting(self) -> bytes:
        assert self._journal is not None, "started"
        return encode(Greeting(WIRE_VERSION, self._journal.generation))

    def _peer_of(self, key: PublicKey, greeting: bytes) -> tuple[int, int]:
        """Index and journal generation of who proved to hold `key`.

        Raises:
            RemoteError: No replica, or none that we may talk to.
        """
        if key not in self.genesis.replicas:
            raise RemoteError(f"{key.hex()} is no replica")
        said, index = decode(greeting, Greeting), self.genesis.replicas.index(key)
        if said.wire_version != WIRE_VERSION:
            raise RemoteError(f"replica {index} speaks wire version {said.wire_version}, this one {WIRE_VERSION}")
        known = self.core.generations.get(index, 0)
        if said.generation < known:
            raise RemoteError(f"replica {index} runs on journal {said.generation}, it had {known}: an old copy")
        return index, said.generation

    def _admit(self, key: PublicKey, greeting: bytes) -> bool:
        """Only replicas of a lower index dial us."""
        try:
            return self._peer_of(key, greeting)[0] < self.index
        except RemoteError as error:
            _log.debug("a link was refused: %s", error)
            return False

    async def _on_link(self, link: Link) -> None:
        """Serve one link to its end."""
        try:
            index, generation = self._peer_of(link.peer, link.greeting)
        except RemoteError as error:
            _log.warning("a link was refused: %s", error)
            return
        before, self._links[index] = self._links.get(index), link
        if before is not None:
            await before.close("replaced by a newer link")
        self._step(events.PeerUp(index, generation))
        try:
            while not self._is_over:
                self._step(events.FromPeer(index, await link.receive()))
        except LinkClosed as error:
            _log.debug("the link to replica %d ended: %s", index, error)
        finally:
            if self._links.get(index) is link:
                del self._links[index]
                self._step(events.PeerDown(index))

    async def _dial(self, index: int) -> None:
        """Keep a link to this replica, as long as we run."""
        peer, key = self.config.peer(index), self.genesis.replicas[index]
        assert peer is not None, "checked at the start"
        backoff_s = FIRST_BACKOFF_S
        while not self._is_over:
            try:
                link = await connect(
                    peer.link.host,
                    peer.link.port,
                    self._key,
                    self.genesis.chain_id,
                    expect=key,
                    greeting=self._greeting(),
                )
            except LinkClosed as error:
                _log.debug("replica %d: %s", index, error)
            else:
                backoff_s = FIRST_BACKOFF_S
                try:
                    await self._on_link(link)
                except Exception:  # noqa: BLE001 - as for links that we accept: it ends, and is made anew
                    _log.exception("serving the link with replica %d failed", index)
                finally:
                    await link.close()
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads attempts, guards nothing
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    def _load(self, effect: events.LoadBlocks) -> None:
        task = asyncio.create_task(self._load_blocks(effect))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def _load_blocks(self, effect: events.LoadBlocks) -> None:
        blocks: Sequence[CommittedBlock] = ()
        try:
            blocks = await asyncio.to_thread(self.store.blocks, effect.first, 2 * catchup.MAX_BLOCKS)
        except Exception:  # noqa: BLE001 - the peer is answered, and asks another replica
            _log.exception("blocks from height %d on cannot be read for replica %d", effect.first, effect.peer)
        self._step(events.Loaded(effect.peer, effect.first, blocks))

    # ------------------------------------------------------------------------------------------------------- backend

    def head(self) -> Head:
        """The last final block and its state."""
        floor = self.core.application.floor
        return Head(floor.header, floor.finalization, (), floor.state)

    def status(self) -> Mapping[str, int | str | bool | None]:
        """Numbers for people and metrics."""
        core, consensus = self.core, self.core.consensus.status()
        return {
            **consensus,
            "height": core.application.floor.header.height,
            "peers_connected": len(self._links),
            "peers": len(self.config.peers),
            "catching_up": core.catchup.active,
            "pool_transactions": len(core.pool),
            "pool_bytes": core.pool.size_bytes,
            "pending_batches": len(core.batches),
            "verifying": sum(len(job.transactions) - job.position for job in self._jobs),
            "journal_bytes": 0 if self._journal is None else self._journal.size_bytes,
            "misbehaved": sum(self.misbehaved.values()),
            "strangers": sum(self._server.rejected.values()),
        }

    def endpoints(self) -> Sequence[Mapping[str, str | int | bool | None]]:
        """All replicas, with what is known of them here."""
        found: list[Mapping[str, str | int | bool | None]] = []
        for index, key in enumerate(self.genesis.replicas):
            peer = self.config.peer(index)
            own = peer is None
            found.append(
                {
                    "index": index,
                    "key": key.hex(),
                    "api": f"http://{self.config.api}" if peer is None else peer.api or None,
                    "link": str(self.config.link if peer is None else peer.link),
                    "connected": own or index in self._links,
                }
            )
        return found

    def evidence(self) -> Sequence[Evidence]:
        """Contradicting votes that this replica caught."""
        return tuple(self.core.evidence)

    def submit(self, transactions: Sequence[Transaction]) -> list[Hash]:
        """Take transactions into the pool, all or none; their ids.

        Raises:
            Refused: See `layer1.api.backend.Backend.submit`.
        """
        if self._is_over:
            raise Refused("stopping", "this replica is stopping; ask another one")
        named = [(transaction.id, transaction) for transaction in transactions]
        self._step(events.Submit(named))
        ids = [name for name, _ in named]
        self._waiting.opened(name for name, transaction in named if self.core.pool.is_here(name, transaction))
        return ids

    async def wait_final(self, ids: Sequence[Hash], timeout_ms: int) -> dict[Hash, Located]:
        """Wait until all are final or refused, or the time is over.

        Raises:
            Refused: ``bad_signature`` or ``expired``: none of them is final, and all were refused.
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
        """Find in the database what became final long ago."""
        if not ids:
            return
        for stored in await asyncio.to_thread(lambda: [self.store.transaction(name) for name in ids]):
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
        self.messages: list[tuple[int | None, bytes]] = []
        self.blocks: list[CommittedBlock] = []

    def clear(self) -> None:
        """Forget it: the replica stops."""
        self.messages.clear()
        self.blocks.clear()


class _Job:
    """Signatures to verify."""

    __slots__ = ("failures", "number", "position", "rehearsed", "transactions")

    def __init__(self, number: int, transactions: Sequence[Transaction], *, rehearsed: bool) -> None:
        self.number = number
        self.transactions = transactions
        self.rehearsed = rehearsed
        self.position = 0
        self.failures: list[tuple[int, Refused]] = []

    def verify_next(self, state: State, chain_id: Hash) -> None:
        try:
            check_entry(state, self.transactions[self.position], chain_id, rehearsed=self.rehearsed)
        except Refused as refusal:
            self.failures.append((self.position, refusal))
        self.position += 1


class BlockSubscription:
    """A bounded queue of final blocks; a reader that is too slow is dropped."""

    def __init__(self, forget: Callable[[BlockSubscription], None]) -> None:
        self._forget = forget
        self._blocks: deque[CommittedBlock] = deque()
        self._news = asyncio.Event()
        self._over = False

    async def get(self) -> CommittedBlock | None:
        """The next block; None when this reader was dropped or the replica stops."""
        while not self._blocks:
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        return self._blocks.popleft()

    def put(self, block: CommittedBlock) -> None:
        """Add a block, or drop a reader that is too slow."""
        if len(self._blocks) >= SUBSCRIPTION_BLOCKS:
            self._blocks.clear()
            self.end()
            return
        self._blocks.append(block)
        self._news.set()

    def end(self) -> None:
        """No more blocks come."""
        self._over = True
        self._news.set()
        self._forget(self)

    def close(self) -> None:
        """Stop following."""
        self.end()


def _settle_memory() -> None:
    """Collect once, then leave alone what lives long: full collections of a large state take too long (limits.md)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)

"""Layer 1 in one process: its real consensus cores over its real ledger, on fake time and a wire that one can cut.

ledger = Ledger((ALICE, BOB))
ledger.order(ledger.transfer(ALICE, BOB, 5))

`Consensus` and `Application` are what a replica runs; this is a driver of theirs that is small enough to read. Left
out: journals and restarts, since nobody comes back here; the mempool, since a batch reaches everybody at once unless a
lesson says otherwise; link handshakes. A faulty replica is silent (`mute`), or *two* honest cores with one key that
speak to different halves of the others (`twins`): such a pair can say every contradiction there is to say.

Source: docs/design/consensus.md; for twins, Bano et al., Twins: BFT Systems Made Robust (2021).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import count, zip_longest

from msgspec.structs import replace

from layer1.block import Batch, CommittedBlock, batch_digest
from layer1.codec import encode
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
from layer1.consensus.messages import Message
from layer1.consensus.quorum import FaultModel
from layer1.crypto import Domain, Hash, PublicKey, SigningKey, digest
from layer1.errors import RemoteError
from layer1.header import Header
from layer1.ledger.admission import verify_transaction
from layer1.ledger.genesis import Allocation, Currency, Genesis, Parameters
from layer1.ledger.state import State
from layer1.ledger.transactions import Output, Payload, Transaction, Transfer, sign_transaction
from layer1.replica.application import Application, Part
from layer1.replica.core import consensus_config

DELAY_MS = 10
"""One message delay."""
START_MS = 1_700_000_000_000
FUNDS = 1_000
"""Minor units that everybody has at first."""


@cache
def key_of(name: str) -> SigningKey:
    """The same key for the same name, always: lessons give the same output every time."""
    return SigningKey(digest(Domain.LOG, name.encode()))


class Replica:
    """One running core with its state. A traitor's two cores are two of these, with one index."""

    def __init__(self, ledger: Ledger, index: int, name: str) -> None:
        self.ledger, self.index, self.name = ledger, index, name
        self.key = key_of(f"replica {index}")
        self.app = Application(ledger.genesis)
        floor = self.app.floor
        self.core = Consensus(
            consensus_config(ledger.genesis, ledger.genesis.replica_set), self.key, index, floor.header
        )
        self.final: list[CommittedBlock] = []
        self.waiting: dict[Hash, Part] = {}
        """Batches that no final block of this replica holds."""
        self.accused: set[int] = set()
        """Replicas that contradicted themselves before this one's eyes."""
        self.crashed = False
        self._working = False
        self._newest: Header | None = None
        """The executed block of the highest view: what the next one most likely extends."""
        self._wake_ms: int | None = None

    @property
    def state(self) -> State:
        """After the last final block."""
        return self.app.floor.state

    @property
    def now(self) -> Now:
        """The fake clock."""
        return Now(self.ledger.now_ms, START_MS + self.ledger.now_ms)

    def step(self, event: Event) -> None:
        """Give the core an event and perform what it answers."""
        if self.crashed or (isinstance(event, TimerFired) and self._wake_ms != self.ledger.now_ms):
            return
        try:
            effects = self.core.step(event, self.now)
        except RemoteError:
            return  # dropped, as the protocol says
        for effect in effects:
            self._perform(effect)
        self.tell_work()

    def tell_work(self) -> None:
        """Tell the core whether there is something to order that no block on the way to being final holds."""
        newest, head = self._newest, self.core.tip.id
        if newest is not None and (newest.view >= self.core.view or newest.id in self.core.chain.certified_views):
            head = newest.id
        coming = self.app.included(head)
        working = any(digest not in coming for digest in self.waiting)
        if working != self._working:
            self._working = working
            self.step(WorkChanged(working, self.ledger.now_ms if working else None))

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(receiver, message):
                self.ledger.post(self, (receiver,), message)
            case Broadcast(message):
                self.ledger.post(self, range(len(self.ledger.genesis.replicas)), message)
            case Build(view, epoch, parent, wall_time):
                block = self.app.build(view, epoch, parent, wall_time, self.waiting.values())
                self._executed(block.header)
                self.ledger.later(0, self, Built(block.header, block.digests))
            case Validate():
                self.ledger.later(0, self, self._validate(effect))
            case Commit(headers, finalization):
                self._committed(self.app.commit(headers, finalization))
            case CatchUp():
                self.ledger.later(DELAY_MS, self, effect)
            case WakeAt(at_ms):
                self._wake_ms = at_ms
                if at_ms is not None:
                    self.ledger.later(at_ms - self.ledger.now_ms, self, TimerFired())
            case Accuse(replica):
                self.accused.add(replica)
            case Persist() | PersistBatches():
                pass  # nobody restarts here

    def _validate(self, asked: Validate) -> Validated:
        proposal = asked.proposal
        try:
            self.app.validate(proposal.header, asked.parent, self.ledger.parts(proposal.batches))
        except RemoteError as error:
            return Validated(proposal.vote.block, False, str(error))
        self._executed(proposal.header)
        return Validated(proposal.vote.block, True)

    def _executed(self, header: Header) -> None:
        if self._newest is None or header.view > self._newest.view:
            self._newest = header

    def _committed(self, blocks: Iterable[CommittedBlock]) -> None:
        for block in blocks:
            self.final.append(block)
            for encoded in block.batches:
                self.waiting.pop(batch_digest(encoded), None)

    def catch_up(self) -> None:
        """Take the final blocks that are missing here from whoever can be heard and has them."""
        for peer in self.ledger.replicas:
            news = [b for b in peer.final if b.header.height > self.app.floor.header.height]
            if news and peer.index != self.index and self.ledger.hears(self, peer):
                last = news[-1]
                for block in news:
                    digests = [batch_digest(encoded) for encoded in block.batches]
                    self.app.validate(block.header, self.app.floor.header, self.ledger.parts(digests))
                    self._committed(self.app.commit((block.header,), block.finalization))
                self.step(CaughtUp(last.header, last.finalization))
                return


class Ledger:
    """n replicas, a wire, and the people who have money."""

    def __init__(
        self,
        people: Sequence[SigningKey],
        *,
        replicas: int = 4,
        fault_model: FaultModel = "byzantine",
        twins: int | None = None,
    ) -> None:
        """Start all replicas.

        Args:
            people: Who has `FUNDS` from the start.
            replicas: n.
            fault_model: What the quorum is made for: n > 3f (byzantine) or n > 2f (omission).
            twins: Index of a replica that is two, named like ``0a`` and ``0b``.
        """
        self.genesis = Genesis(
            name="lesson",
            salt=bytes(16),
            currency=Currency("WDG", 2),
            allocations=tuple(Allocation(person.public, FUNDS) for person in people),
            replicas=tuple(key_of(f"replica {i}").public for i in range(replicas)),
            fault_model=fault_model,
            wall_time=START_MS,
            parameters=Parameters(),
        )
        self.now_ms = 0
        self.sent: Counter[str] = Counter()
        """Messages by kind; one to three replicas is three."""
        self.sides: tuple[frozenset[str], ...] = ()
        """Names of replicas that hear each other; empty while all do."""
        self.muted: set[str] = set()
        """Replicas whose messages are all lost: send omission."""
        self._batches: dict[Hash, Part] = {}
        self._order, self._salts = count(), count(1)
        self._queue: list[tuple[int, int, Replica, Event | CatchUp]] = []
        self.replicas: list[Replica] = []
        for index in range(replicas):
            names = (f"{index}a", f"{index}b") if index == twins else (str(index),)
            self.replicas += [Replica(self, index, name) for name in names]
        for replica in self.replicas:
            replica.step(Started())

    def __getitem__(self, name: str | int) -> Replica:
        """The replica of this name."""
        return next(replica for replica in self.replicas if replica.name == str(name))

    @property
    def quorum(self) -> int:
        """Votes in a certificate: q = n - f."""
        return self.genesis.replica_set.quorum

    # ------------------------------------------------------------------------------------------------------ the wire

    def hears(self, receiver: Replica, sender: Replica) -> bool:
        """Whether a message of `sender` reaches `receiver` now."""
        together = not self.sides or any(receiver.name in side and sender.name in side for side in self.sides)
        return together and sender.name not in self.muted and not sender.crashed

    def post(self, sender: Replica, indexes: Iterable[int], message: Message) -> None:
        """Send to all who run as one of these replicas."""
        for receiver in self.replicas:
            if receiver.index in indexes and receiver.index != sender.index and self.hears(receiver, sender):
                self.sent[type(message).__name__] += 1
                self.later(DELAY_MS, receiver, Received(sender.index, message))

    def later(self, delay_ms: int, replica: Replica, event: Event | CatchUp) -> None:
        """Give `replica` an event after a delay."""
        heapq.heappush(self._queue, (self.now_ms + max(delay_ms, 0), next(self._order), replica, event))

    def parts(self, digests: Iterable[Hash]) -> tuple[Part, ...]:
        """Batches by name."""
        return tuple(self._batches[digest] for digest in digests)

    def cut(self, *sides: Iterable[str]) -> None:
        """Let only replicas of one side hear each other; without sides, let all do again."""
        self.sides = tuple(frozenset(side) for side in sides)

    # ----------------------------------------------------------------------------------------------------- using it

    def sign(self, payload: Payload, *signers: SigningKey) -> Transaction:
        """A transaction that these accounts sign."""
        until = max(replica.state.clock for replica in self.replicas) + 500_000
        blank = Transaction(payload, until, next(self._salts).to_bytes(16, "big"))
        chain_id = self.genesis.chain_id
        signed = replace(blank, signatures=tuple(sign_transaction(blank, chain_id, key) for key in signers))
        verify_transaction(signed, chain_id)
        return signed

    def transfer(self, payer: SigningKey, payee: PublicKey, amount: int) -> Transaction:
        """Pay."""
        return self.sign(Transfer(payer.public, payee, amount), payer)

    def submit(self, transaction: Transaction, *names: str) -> None:
        """Give a transaction to these replicas, or to all."""
        encoded = encode(Batch(0, (transaction,)))
        part = Part(batch_digest(encoded), encoded, (transaction,))
        self._batches[part.digest] = part
        for replica in self.replicas:
            if not names or replica.name in names:
                replica.waiting[part.digest] = part
                replica.tell_work()

    def run(self, for_ms: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, at most until something holds; whether it came to hold."""
        end_ms = self.now_ms + for_ms
        while not until():
            if not self._queue or self._queue[0][0] > end_ms:
                self.now_ms = end_ms
                return until()
            self.now_ms, _, replica, event = heapq.heappop(self._queue)
            if isinstance(event, CatchUp):
                replica.catch_up()
            else:
                replica.step(event)
        return True

    def order(self, transaction: Transaction, for_ms: int = 30_000) -> Output:
        """Submit a transaction and believe its output as soon as f+1 replicas give the same one.

        Raises:
            TimeoutError: It is not final in time.
        """
        self.submit(transaction)
        if not self.run(for_ms, lambda: self.output(transaction) is not None):
            raise TimeoutError(f"not final within {for_ms} ms: see that {self.quorum} replicas hear each other")
        output = self.output(transaction)
        assert output is not None
        return output

    def blocks(self) -> list[CommittedBlock]:
        """The final blocks that f+1 replicas show alike, oldest first."""
        agreed: list[CommittedBlock] = []
        for shown in zip_longest(*(replica.final for replica in self.replicas)):
            blocks = {block.header.id: block for block in shown if block is not None}
            said = {
                (r.index, block.header.id) for r, block in zip(self.replicas, shown, strict=True) if block is not None
            }
            (name, voices), *_ = Counter(name for _, name in said).most_common()
            if voices <= self.genesis.replica_set.faults:
                break
            agreed.append(blocks[name])
        return agreed

    def output(self, transaction: Transaction) -> Output | None:
        """What f+1 replicas say became of a transaction; one of them is honest."""
        said = {(replica.index, output_at(replica, transaction)) for replica in self.replicas}  # twins have one voice
        voices = Counter(output for _, output in said if output is not None)
        return next((output for output, count in voices.items() if count > self.genesis.replica_set.faults), None)


def output_at(replica: Replica, transaction: Transaction) -> Output | None:
    """What one replica says became of a transaction; None if no final block has it there."""
    name = transaction.id
    return next((o for block in replica.final for o in block.outputs if o.transaction_id == name), None)


def contradiction(replicas: Iterable[Replica]) -> tuple[Replica, Replica, int] | None:
    """Two replicas and a height at which different blocks are final for them; None if there is no such height."""
    seen: dict[int, tuple[Replica, Hash]] = {}
    for replica in replicas:
        for block in replica.final:
            first, name = seen.setdefault(block.header.height, (replica, block.header.id))
            if name != block.header.id:
                return first, replica, block.header.height
    return None

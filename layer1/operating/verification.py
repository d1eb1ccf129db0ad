"""Checks a replica's data from genesis to head, and says what is damaged, where, and what helps.

What: the journal's turns and records, this replica's own votes among them; every block in the database, with its
certificate, executed anew from the first on; every row that the database derives from them; the checkpoint; and the
blocks that only the journal holds yet.

Safety: nothing is changed, and nothing is believed that a quorum did not sign or that does not follow from what it
signed. The journal is held meanwhile, so no replica runs on it.

Where the database begins above a later block than genesis, what came before cannot be checked, and the verdict says
so: the checkpoint is then believed as far as a quorum signed it, and blocks below it are compared with their headers.

One damage hides as little as possible: where the blocks in the database end, the journal is executed from the
checkpoint on, if that is sound.

Source: docs/design/consensus.md, "Persist before sending", "Execution and state"; decision 014.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from layer1.block import CommittedBlock
from layer1.config import ReplicaConfig, load_machine, read_genesis, read_key
from layer1.consensus.certificates import Checker, votes_of
from layer1.consensus.evidence import Witness, verify
from layer1.consensus.messages import Finalization, Finalize, Notarization, Notarize, Nullification, Nullify, Proposal
from layer1.consensus.records import decode_record as decode_vote_record
from layer1.crypto import PublicKey
from layer1.dataformat import check_format
from layer1.errors import LocalError, Refused, RemoteError
from layer1.header import BlockId
from layer1.journal import Damaged, Examined, examine
from layer1.ledger.genesis import Genesis
from layer1.operating.keeping import Link
from layer1.proof import Trust, check_path, trusted_config
from layer1.replica import checkpoints
from layer1.replica.application import Application, Floor
from layer1.replica.evidence import EvidenceBook
from layer1.replica.installing import ready_path
from layer1.replica.records import (
    BlockRecord,
    ConsensusRecord,
    EvidenceRecord,
    FinalRecord,
    Record,
    decode_record,
)
from layer1.replica.restart import Replay, part_of
from layer1.storage.checkpoint import read_checkpoint
from layer1.storage.database import DatabaseFault, Outage
from layer1.storage.store import NoStore, Store

BULK = 200
"""Blocks in one read of the database."""

REJOIN = (
    "put the very journal back, not an old copy; if it is lost, start with --rejoin: then the replica asks its peers, "
    "and votes again where it cannot have voted before"
)
WAIT = "verify again when the database's server answers"
REFILL = "move the database away and start with --rebuild: it is filled anew, from the journal and the peers"
REBUILD = "delete the checkpoint and start with --rebuild: all blocks are executed anew, and no vote is forgotten"

RESTORE = (
    "put the checkpoint and the database back that belong together; or move the database away and start with "
    "--rebuild: then the replica takes its state from its peers; or give it a snapshot with `layer1 snapshot load`"
)

Progress = Callable[[str, int, int], None]
"""Told what is being checked, how much of it is done, and how much there is (0: not known)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One damage."""

    where: str
    what: str
    remedy: str


@dataclass(slots=True)
class Verdict:
    """What a check came to."""

    chain_id: str = ""
    key: str = ""
    """Of this replica, in hex; empty if it cannot be read."""
    height: int = 0
    """Of the last final block that was reached."""
    first_block: int = 1
    """Height of the first that is kept; nothing is known of those before."""
    stored_blocks: int = 0
    """In the database, checked and executed."""
    compared_blocks: int = 0
    """In the database below the checkpoint, certified and compared with their headers, and not executed."""
    transactions: int = 0
    """Executed in them."""
    checkpoint_height: int | None = None
    records: dict[str, int] = field(default_factory=dict)
    """In the journal, by kind."""
    notes: list[str] = field(default_factory=list)
    """What is no damage and yet worth knowing."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify_home(config: ReplicaConfig, progress: Progress = lambda *_: None) -> Verdict:
    """Check everything that a replica keeps.

    Raises:
        LocalError: It runs, a newer release wrote it, there is no genesis to check against, or a snapshot is half in
            place.
    """
    genesis = read_genesis(config.genesis)
    check_format(config.data)
    if (ready := ready_path(config)).exists():
        raise LocalError(
            f"the snapshot {ready} was being put in place when the replica ended, and the next start completes that: "
            "start the replica, stop it, and verify then"
        )
    return _Verification(config, genesis, progress).run()


class _Verification:
    """One check of one home."""

    def __init__(self, config: ReplicaConfig, genesis: Genesis, progress: Progress) -> None:
        self._config = config
        self._genesis = genesis
        self._progress = progress
        self._machine = load_machine(config.machine)
        self._application = Application(genesis, self._machine)
        self._checkpoint: Floor | None = None
        self._trust = Trust(genesis)
        """With the replica sets of the checkpoint, if there is one."""
        self._final: dict[int, BlockId] = {}
        """What the journal calls final, by height, and in the last epoch that does."""
        self._public: PublicKey = b""
        """The key of this replica; empty if it cannot be read."""
        self._whole = True
        """Whether every block up to here was there and sound."""
        self.verdict = Verdict(genesis.chain_id.hex())

    def run(self) -> Verdict:
        self._check_key()
        if not self._config.journal.is_dir():
            self._find(f"the journal {self._config.journal}", "it is missing", REJOIN)
            self._check_state(None)
            return self.verdict
        try:
            with examine(self._config.journal) as journal:
                self._final = _final_blocks(journal)
                self._check_state(journal)
                self._check_records(journal)
        except Damaged as error:
            self._find(f"the journal {self._config.journal}", str(error), REJOIN)
            self._check_state(None)
        return self.verdict

    def _find(self, where: str, what: str, remedy: str) -> None:
        self.verdict.findings.append(Finding(where, what, remedy))

    def _check_key(self) -> None:
        try:
            self._public = read_key(self._config.key).public
        except LocalError as error:
            self._find_key(str(error))
            return
        self.verdict.key = self._public.hex()
        if self._config.peer(self._public) is not None:
            self._find_key(f"{self._public.hex()} is that of another replica, which is configured among the peers")

    def _find_key(self, what: str) -> None:
        remedy = "put the key of this replica back; without it the replica cannot take part"
        self._find(f"the key {self._config.key}", what, remedy)

    # --------------------------------------------------------------------------------------------------- the journal

    def _check_records(self, journal: Examined) -> None:
        """Every record decodes, is signed, and contradicts no other."""
        where = f"the journal {self._config.journal}"
        if journal.torn_bytes:
            self.verdict.notes.append(f"the journal ends in {journal.torn_bytes} bytes that a crash tore: no damage")
        checks = _RecordChecks(self._application.trust, self._public)
        for number, data in enumerate(journal.records()):
            self._progress("journal", number, 0)
            try:
                checks.check(decode_record(data))
            except _NotOurs as error:
                self._find_key(f"record {number} of the journal: {error}")
                break
            except (LocalError, RemoteError, Refused) as error:
                self._find(where, f"record {number}: {error}", REJOIN)
                break
        self.verdict.records = dict(sorted(checks.counts.items()))

    def _replay(self, journal: Examined) -> None:
        """Execute what only the journal holds."""
        replay = Replay(self._application, EvidenceBook())
        try:
            for block in replay.run(journal.records()):
                self._progress("blocks in the journal", block.header.height, 0)
            replay.execute_pending()
        except LocalError as error:
            lacks_blocks = not self._whole and self._checkpoint is None
            remedy = "mend what is said above first" if lacks_blocks else REJOIN
            self._find(f"the journal {self._config.journal}", str(error), remedy)

    # ------------------------------------------------------------------------------------- checkpoint, blocks and head

    def _check_state(self, journal: Examined | None) -> None:
        self._load_checkpoint()
        self._check_store()
        below = self._application.floor.header.height
        if self._checkpoint is not None and below < self._checkpoint.header.height:
            if self._whole:
                what = f"it ends at block {below}, the checkpoint is of block {self._checkpoint.header.height}"
                self._find("the database", what, REFILL)
            self._application.resume(self._trust, self._checkpoint)
        if journal is not None:
            self._replay(journal)
        self.verdict.height = self._application.floor.header.height

    def _load_checkpoint(self) -> None:
        path = self._config.checkpoint
        self._progress("checkpoint", 0, 0)
        try:
            pieces = read_checkpoint(path)
            if pieces is not None:
                self._trust, self._checkpoint = checkpoints.load(self._genesis, pieces, self._machine)
                self.verdict.checkpoint_height = self._checkpoint.header.height
        except LocalError as error:
            self._find(f"the checkpoint {path}", str(error), REBUILD)

    def _check_store(self) -> None:
        try:
            store = Store.open(self._config.database_url, self._genesis.chain_id, create=False)
        except NoStore as error:
            if self._checkpoint is None:
                self.verdict.notes.append(f"{error} yet: the next start fills it from the journal")
                return
            self._whole = False
            self._find("the database", str(error), REFILL)
            return
        except LocalError as error:
            self._whole = False
            self._find("the database", str(error), WAIT if isinstance(error.__cause__, Outage) else REFILL)
            return
        try:
            if store.oldest() == 1 or self._begin_later(store):
                self._check_blocks(store)
        finally:
            store.close()

    def _begin_later(self, store: Store) -> bool:
        """Go on from the checkpoint, where the database lacks the blocks that lead there; False if that cannot be."""
        checkpoint, first = self._checkpoint, store.oldest()
        self.verdict.first_block = first
        height = 0 if checkpoint is None else checkpoint.header.height
        if checkpoint is None or not first - 1 <= height <= store.height:
            self._whole = False
            of = "there is no checkpoint" if checkpoint is None else f"the checkpoint is of block {height}"
            what = f"it holds blocks {first} to {store.height}, and {of}: nothing of them was checked"
            self._find("the database", what, RESTORE)
            return False
        self._application.resume(self._trust, checkpoint)
        said = f"blocks 1 to {first - 1} are not kept: neither they were checked, nor that block {height} follows"
        if first <= height:
            said += f". Blocks {first} to {height} have their certificates and what these cover, and were not executed"
        self.verdict.notes.append(f"{said}. The state of block {height} is the one that a quorum signed")
        return True

    def _check_blocks(self, store: Store) -> None:
        checker, height = self._application.trust.checker(0), 0
        begun, link = self._application.floor, Link(store.base.height, store.base.id)
        try:
            self._progress("database file", 0, 0)
            if faults := store.faults():
                self._find("the database", "; ".join(faults).replace("\n", " "), REFILL)
            for blocks in _bulks(store):
                done = []
                for block in blocks:
                    height = block.header.height
                    if checker.epoch != block.header.epoch:
                        checker = self._application.trust.checker(block.header.epoch)
                    if height <= begun.header.height:
                        self._compare_block(block, link, checker, begun)
                        done.append(block)
                    else:
                        link.reaches(begun.header.height)
                        done.append(self._check_block(block, checker))
                    self._progress("blocks in the database", height, store.height)
                    checker.forget_below(block.header.view)
                self._check_rows(store, done)
            link.reaches(begun.header.height)
        except (DatabaseFault, Outage) as error:
            self._whole = False
            remedy = WAIT if isinstance(error, Outage) else REFILL
            self._find(f"the database behind block {height}", str(error), remedy)
        except (RemoteError, LocalError) as error:
            self._whole = False
            self._find(f"block {height} in the database", str(error), REFILL)

    def _check_block(self, block: CommittedBlock, checker: Checker) -> CommittedBlock:
        """Execute a block upon the one before.

        Returns:
            It as the database must hold it.

        Raises:
            RemoteError: It is not certified, not the next one, or executing it gives something else.
            LocalError: As above.
        """
        floor, header = self._application.floor, block.header
        if header.height != floor.header.height + 1:
            raise RemoteError(f"it comes after block {floor.header.height}: blocks are missing")
        check_path(header, block.path, block.finalization)
        checker.certificate(block.finalization)
        self._compare_journal(block)
        self._application.validate(header, floor.header, tuple(part_of(encoded) for encoded in block.batches))
        committed = self._application.commit_alone(block)
        self.verdict.stored_blocks += 1
        self.verdict.transactions += len(committed.transactions)
        if self._checkpoint is not None and self._checkpoint.header.height == header.height:
            self._compare_checkpoint(self._checkpoint)
        return committed

    def _compare_block(self, block: CommittedBlock, link: Link, checker: Checker, checkpoint: Floor) -> None:
        """Compare a block with its header, where the state before it is not at hand.

        Raises:
            RemoteError: See `Link.follow`; or the checkpoint or the journal knows another one.
        """
        link.follow(block, checker)
        self._compare_journal(block)
        if block.header.height == checkpoint.header.height and block.header.id != checkpoint.id:
            raise RemoteError(f"it is {block.header.id.hex()}, the checkpoint is of {checkpoint.id.hex()}")
        self.verdict.compared_blocks += 1

    def _compare_journal(self, block: CommittedBlock) -> None:
        header = block.header
        if self._final.get(header.height, header.id) != header.id:
            raise RemoteError(
                f"it is {header.id.hex()}, but the journal says {self._final[header.height].hex()} is final"
            )

    def _check_rows(self, store: Store, blocks: Sequence[CommittedBlock]) -> None:
        """What is queried says the same as the blocks."""
        tables = store.differences(blocks)
        if tables:
            span = f"blocks {blocks[0].header.height} to {blocks[-1].header.height}"
            what = f"{span}, as they are or as they execute, give other rows in {', '.join(tables)}"
            self._find(f"the database, {span}", what, REFILL)

    def _compare_checkpoint(self, checkpoint: Floor) -> None:
        where, found = f"the checkpoint {self._config.checkpoint}", self._application.floor
        if checkpoint.id != found.id:
            what = f"it is of block {checkpoint.id.hex()}; block {found.header.height} here is {found.id.hex()}"
            self._find(where, what, REBUILD)
            return
        if checkpoint.state.snapshot() != found.state.snapshot():
            self._find(where, f"its records of block {found.header.height} differ from those of execution", REBUILD)


class _NotOurs(LocalError):
    """The journal was written with another key."""


class _RecordChecks:
    """What can be said of a journal's records without executing anything."""

    def __init__(self, trust: Trust, key: PublicKey) -> None:
        self.counts: Counter[str] = Counter()
        self._final: dict[tuple[int, int], BlockId] = {}
        """By epoch and height: what an epoch built behind its last block is final in it alone."""
        self._places: dict[BlockId, tuple[int, int]] = {}
        self._trust = trust
        self._key = key
        self._of_epoch: dict[int, tuple[int, Checker, Witness]] = {}
        """Where this replica stands in the set, none if behind all; who checks; who remembers."""

    def check(self, record: Record) -> None:
        """Take the next one.

        Raises:
            RemoteError: A signature of it is wrong.
            LocalError: It contradicts an earlier one.
        """
        self.counts[type(record).__name__.removesuffix("Record").lower()] += 1
        match record:
            case ConsensusRecord():
                self._check_consensus(record.record)
            case BlockRecord():
                self._places[record.header.id] = record.header.epoch, record.header.height
            case FinalRecord():
                self._check_final(record)
            case EvidenceRecord():
                verify(record.evidence, self._trust.voters(record.evidence.epoch))
            case _:
                pass

    def _check_consensus(self, data: bytes) -> None:
        match record := decode_vote_record(data):
            case Notarize() | Finalize() | Nullify():
                self._check_vote(record)
            case Proposal():
                position, checker, _ = self._epoch(record.vote.epoch)
                checker.vote(record.vote)
                if record.vote.replica == position:
                    self._check_vote(record.vote)
            case Notarization() | Finalization() | Nullification():
                position, checker, _ = self._epoch(record.epoch)
                checker.certificate(record)
                for vote in votes_of(record):
                    if vote.replica == position:
                        self._check_vote(vote)
            case _:
                pass

    def _check_vote(self, vote: Notarize | Finalize | Nullify) -> None:
        """Of this replica."""
        position, checker, witness = self._epoch(vote.epoch)
        checker.vote(vote)
        if vote.replica != position:
            voter = self._trust.set_of(vote.epoch).keys[vote.replica]
            if self._key:
                raise _NotOurs(f"this replica voted with key {voter.hex()}, not with {self._key.hex()}")
            self._key = voter
            self._of_epoch.clear()
            _, _, witness = self._epoch(vote.epoch)
        if (other := witness.see(vote)) is not None:
            raise LocalError(f"this replica contradicted itself: it signed {other} and {vote}")

    def _check_final(self, record: FinalRecord) -> None:
        _, checker, _ = self._epoch(record.finalization.epoch)
        checker.certificate(record.finalization)
        for block in record.blocks:
            place = self._places.get(block)
            if place is not None and (other := self._final.setdefault(place, block)) != block:
                raise LocalError(f"blocks {other.hex()} and {block.hex()} of height {place[1]} are final")

    def _epoch(self, epoch: int) -> tuple[int, Checker, Witness]:
        if epoch not in self._of_epoch:
            replicas = self._trust.set_of(epoch)
            checker = self._trust.checker(epoch)
            position = replicas.keys.index(self._key) if self._key in replicas.keys else len(replicas.keys)
            config = trusted_config(self._trust.genesis, replicas)
            self._of_epoch[epoch] = position, checker, Witness(config, checker)
        return self._of_epoch[epoch]


def _final_blocks(journal: Examined) -> dict[int, BlockId]:
    """What the journal calls final, by height; a later epoch knows better than the one before, which built filler."""
    final: dict[int, BlockId] = {}
    heights: dict[BlockId, int] = {}
    with suppress(LocalError, RemoteError):  # told by those who look closer
        for data in journal.records():
            match record := decode_record(data):
                case BlockRecord():
                    heights[record.header.id] = record.header.height
                case FinalRecord():
                    final.update((heights[block], block) for block in record.blocks if block in heights)
                case _:
                    pass
    return final


def _bulks(store: Store) -> Iterator[Sequence[CommittedBlock]]:
    first = store.oldest()
    while blocks := store.blocks(first, BULK):
        yield blocks
        first = blocks[-1].header.height + 1

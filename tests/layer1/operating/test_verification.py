"""`layer1 verify`: what is sound passes, each damage is found where it is, and the remedy it names helps."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from layer1.codec import decode, encode
from layer1.config import ReplicaConfig, load_config, read_genesis, read_key
from layer1.consensus.certificates import Signer
from layer1.consensus.messages import Notarize
from layer1.consensus.records import encode_record
from layer1.crypto import HASH_BYTES, SigningKey
from layer1.errors import LocalError
from layer1.journal import HEADER_BYTES, Journal
from layer1.ledger.image import Remembered
from layer1.operating.verification import REBUILD, REFILL, REJOIN, verify_home
from layer1.replica.core import consensus_config
from layer1.replica.records import ConsensusRecord
from layer1.storage.checkpoint import CheckpointFile, read_checkpoint
from tests.layer1.operating.homes import PAID, finalize_together
from tests.layer1.replica.network import BOB
from tests.layer1.replica.test_checkpointing import BLOCKS, checkpointed, new_home, pay, started
from tests.layer1.test_cli import invoke

pytestmark = pytest.mark.slow


def fingerprint(directory: Path) -> dict[str, str]:
    """Of every file that matters; SQLite's shared memory does not."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def database(home: ReplicaConfig) -> Path:
    return home.data / "ledger.sqlite"


def sql(statement: str) -> Callable[[ReplicaConfig], None]:
    def damage(home: ReplicaConfig) -> None:
        connection = sqlite3.connect(database(home))
        assert connection.execute(statement).rowcount > 0, "the damage is one"
        connection.commit()
        connection.close()

    return damage


def flip(path: Callable[[ReplicaConfig], Path], place: float) -> Callable[[ReplicaConfig], None]:
    """One bit, so far into what is in use."""

    def damage(home: ReplicaConfig) -> None:
        data = bytearray(path(home).read_bytes())
        data[int(len(bytes(data).rstrip(b"\0")) * place)] ^= 1
        path(home).write_bytes(data)

    return damage


def last_segment(home: ReplicaConfig) -> Path:
    return sorted(home.journal.glob("segment-*"))[-1]


def settled_bit(home: ReplicaConfig) -> None:
    """In what a compaction settled; the last turn of all could be one that a crash tore."""
    with last_segment(home).open("r+b") as file:
        file.seek(HEADER_BYTES + 60)
        byte = file.read(1)[0]
        file.seek(HEADER_BYTES + 60)
        file.write(bytes([byte ^ 1]))


def forget_ids(home: ReplicaConfig) -> None:
    """A checkpoint with a good checksum that remembers one transaction too few."""
    found = read_checkpoint(home.checkpoint)
    assert found is not None
    pieces = list(found)
    for number, piece in enumerate(pieces[1:], 1):
        if piece[1] == Remembered.__struct_config__.tag:
            some = decode(piece, Remembered)
            pieces[number] = encode(Remembered(some.lot, some.ids[HASH_BYTES:]))
    file = CheckpointFile(home.checkpoint)
    for piece in pieces:
        file.add(piece)
    file.publish()


def contradict(home: ReplicaConfig) -> None:
    """A second, signed notarize vote in a view in which this replica notarized another block."""
    genesis, key = read_genesis(home.genesis), read_key(home.key)
    config = consensus_config(genesis, genesis.replica_set)
    with Journal.open(home.journal) as journal:
        list(journal.replay())
        for block in (bytes(32), bytes([1]) * 32):
            vote: Notarize = Signer(config, key, genesis.replicas.index(key.public)).notarize(10**6, block)
            journal.append(encode(ConsensusRecord(encode_record(vote))))
        journal.sync()


def other_key(home: ReplicaConfig) -> None:
    home.key.write_text(SigningKey(b"?" * 32).seed().hex())


def remove(path: Callable[[ReplicaConfig], Path]) -> Callable[[ReplicaConfig], None]:
    def damage(home: ReplicaConfig) -> None:
        found = path(home)
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return damage


DAMAGES: dict[str, tuple[Callable[[ReplicaConfig], None], str, str, str]] = {
    "a bit of the journal": (settled_bit, "the journal", "damaged at byte", REJOIN),
    "no journal": (remove(lambda home: home.journal), "the journal", "missing", REJOIN),
    "a contradiction": (contradict, "the journal", "this replica contradicted itself", REJOIN),
    "a bit of the checkpoint": (flip(lambda home: home.checkpoint, 0.5), "the checkpoint", "is damaged", REBUILD),
    "a forgotten id": (forget_ids, "the checkpoint", "is certified", REBUILD),
    "no database": (remove(database), "the database", "there is no database", REFILL),
    "the last blocks": (
        sql(f"DELETE FROM blocks WHERE height > {BLOCKS}"), "the database", f"ends at block {BLOCKS}", REFILL
    ),
    "a block": (sql("DELETE FROM blocks WHERE height = 3"), "block 4 in the database", "comes after block 2", REFILL),
    "a certificate": (
        sql("UPDATE blocks SET finalization = (SELECT finalization FROM blocks WHERE height = 4) WHERE height = 3"),
        "block 3 in the database", "the path leads to", REFILL,
    ),
    "a header": (
        sql("UPDATE blocks SET header = (SELECT header FROM blocks WHERE height = 4) WHERE height = 3"),
        "block 4 in the database", "blocks are missing", REFILL,
    ),
    "contents": (
        sql("UPDATE blocks SET batches = (SELECT batches FROM blocks WHERE height = 4) WHERE height = 3"),
        "block 3 in the database", "batches root", REFILL,
    ),
    "bytes of a block": (
        sql("UPDATE blocks SET header = x'00' WHERE height = 3"), "in the database", "do not decode", REFILL
    ),
    "an output": (
        sql("UPDATE transactions SET output = (SELECT output FROM transactions WHERE height = 4) WHERE height = 3"),
        "the database, blocks 1 to", "other rows in transactions", REFILL,
    ),
    "a code": (sql("UPDATE transactions SET code = 'lost' WHERE height = 3"), "the database", "transactions", REFILL),
    "a history": (sql("DELETE FROM history WHERE height = 3"), "the database, blocks 1 to", "history", REFILL),
    "another chain": (sql("UPDATE meta SET value = '00' WHERE name = 'chain'"), "the database", "belongs to", REFILL),
    "the key": (other_key, "the key", "this replica voted with key", "put the key of this replica back"),
}  # fmt: skip


def test_what_is_sound_is_called_so_and_left_alone(home: ReplicaConfig) -> None:
    """ "Checks a data directory from genesis to head": every block, the checkpoint, the journal to its end."""
    before = fingerprint(home.home)
    verdict = verify_home(home)
    assert verdict.findings == []
    assert verdict.height >= PAID
    assert verdict.transactions == PAID
    assert verdict.stored_blocks == verdict.height
    assert verdict.checkpoint_height == 2 * BLOCKS
    assert verdict.records["final"] >= 2
    assert fingerprint(home.home) == before


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_found_where_it_is(home: ReplicaConfig, name: str) -> None:
    damage, where, what, remedy = DAMAGES[name]
    damage(home)
    findings = verify_home(home).findings
    assert findings
    first = findings[0]
    assert where in first.where
    assert what in first.what
    assert remedy in first.remedy


def test_any_page_of_the_database_that_is_lost_is_found(home: ReplicaConfig) -> None:
    """Those of indexes, too, which no block is read through."""
    sound, page = database(home).read_bytes(), 4096
    for start in range(0, len(sound), page):
        database(home).write_bytes(sound[:start] + bytes(page) + sound[start + page :])
        assert verify_home(home).findings[0].where.startswith("the database"), start // page


def test_two_damages_are_both_told(home: ReplicaConfig) -> None:
    for name in ("a bit of the checkpoint", "a code", "the key"):
        DAMAGES[name][0](home)
    wheres = [finding.where.split()[1].strip(",") for finding in verify_home(home).findings]
    assert wheres == ["checkpoint", "database", "key"]


def test_blocks_that_only_the_journal_holds_are_executed(home: ReplicaConfig) -> None:
    """The database lags behind; where it ends above the checkpoint, a start makes up for it."""
    sql(f"DELETE FROM blocks WHERE height > {2 * BLOCKS}")(home)
    verdict = verify_home(home)
    assert verdict.findings == []
    assert verdict.stored_blocks == 2 * BLOCKS
    assert verdict.height >= PAID


def test_what_stands_behind_a_damaged_block_is_still_reached(home: ReplicaConfig) -> None:
    DAMAGES["a block"][0](home)
    verdict = verify_home(home)
    assert len(verdict.findings) == 1
    assert verdict.height >= PAID, "from the checkpoint on"


def test_a_torn_end_is_no_damage(home: ReplicaConfig) -> None:
    path = last_segment(home)
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    path.write_bytes(data[: end + 8] + b"torn" + data[end + 12 :])
    verdict = verify_home(home)
    assert verdict.sound
    assert "a crash tore" in verdict.notes[0]


def test_a_ledger_that_never_ran_is_sound(tmp_path: Path) -> None:
    verdict = verify_home(load_config(new_home(tmp_path)))
    assert verdict.sound
    assert "there is no database" in verdict.notes[0]


def test_blocks_that_one_certificate_made_final_are_sound(home: ReplicaConfig) -> None:
    """Such as the first two of a ledger of four: the path of the one is the other, which is executed after it."""
    finalize_together(home, 1, 3)
    finalize_together(home, BLOCKS - 1, BLOCKS + 2)
    finalize_together(home, 2 * BLOCKS - 1, 2 * BLOCKS + 1)
    verdict = verify_home(home)
    assert (verdict.findings, verdict.sound) == ([], True)
    assert verdict.stored_blocks >= PAID


@pytest.mark.parametrize("name", ["a bit of the checkpoint", "a forgotten id"])
async def test_the_remedy_helps(home: ReplicaConfig, name: str) -> None:
    """As the text says. Those that take peers: `test_lost_disks.py`, and `test_checkpoints.py` without storage."""
    DAMAGES[name][0](home)
    (finding,) = verify_home(home).findings
    assert finding.remedy == REBUILD
    home.checkpoint.unlink()
    async with started(home.home, rebuild=True) as replica:
        assert replica.head().state.balance(BOB.public) == PAID
        await pay(replica, 1)
        await checkpointed(replica, PAID)
    assert verify_home(home).findings == []


async def test_a_running_replica_is_not_checked(home: ReplicaConfig) -> None:
    async with started(home.home):
        with pytest.raises(LocalError, match="stop the replica first"):
            verify_home(home)


def test_exit_codes_and_words(home: ReplicaConfig, capfd: pytest.CaptureFixture[str]) -> None:
    """0 sound; 1 damaged, with where, what and remedy for people and programs alike."""
    code, out, err = invoke(capfd, "verify", home.home)
    assert (code, err) == (0, "")
    assert out.startswith("SOUND: the replica in")
    DAMAGES["a code"][0](home)
    code, out, _ = invoke(capfd, "verify", home.home)
    assert code == 1
    assert "DAMAGE 1: the database" in out and "remedy: move the database away" in out and "DAMAGED in 1 place:" in out
    code, out, _ = invoke(capfd, "verify", home.home, "--json")
    told = json.loads(out)
    assert (code, told["sound"], len(told["findings"])) == (1, False, 1)
    assert invoke(capfd, "verify", home.home / "data")[0] == 1


def test_progress_is_told(home: ReplicaConfig) -> None:
    told: dict[str, tuple[int, int]] = {}
    verdict = verify_home(home, lambda what, done, total: told.update({what: (done, total)}))
    assert list(told) == ["checkpoint", "database file", "blocks in the database", "journal"]
    assert told["blocks in the database"] == (verdict.stored_blocks, verdict.stored_blocks)

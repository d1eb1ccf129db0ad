"""`layer1 verify`, `inspect`, `export` and `start --rebuild` where the database begins above a later block."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from layer1.codec import decode, encode
from layer1.config import ReplicaConfig
from layer1.consensus.messages import Finalization
from layer1.errors import LocalError
from layer1.ledger.transactions import Output
from layer1.operating.exporting import Format, What, export
from layer1.operating.verification import REBUILD, REFILL, RESTORE, verify_home
from layer1.replica.installing import ready_path
from layer1.storage.store import Store
from tests.layer1.operating.homes import PAID
from tests.layer1.operating.test_verification import database, fingerprint, flip, sql
from tests.layer1.replica.network import BOB
from tests.layer1.replica.test_checkpointing import BLOCKS, checkpointed, pay, started
from tests.layer1.test_cli import invoke

pytestmark = pytest.mark.slow

CHECKPOINT = 2 * BLOCKS
FIRST = CHECKPOINT - 2
"""Of three blocks below and at the checkpoint."""


def prune(config: ReplicaConfig, below: int) -> None:
    store = Store.open(config.database_url)
    while store.prune(below, 100):
        pass
    assert store.oldest() == below
    store.close()


@pytest.fixture
def pruned(home: ReplicaConfig) -> ReplicaConfig:
    prune(home, FIRST)
    return home


def test_what_is_kept_is_checked_and_what_is_not_is_said(pruned: ReplicaConfig) -> None:
    """ "Never call unverified things verified"."""
    before = fingerprint(pruned.home)
    verdict = verify_home(pruned)
    assert verdict.findings == []
    assert (verdict.first_block, verdict.compared_blocks) == (FIRST, 3)
    assert verdict.stored_blocks == verdict.height - CHECKPOINT
    (note,) = verdict.notes
    assert f"blocks 1 to {FIRST - 1} are not kept: neither they were checked, nor that block {CHECKPOINT}" in note
    assert f"Blocks {FIRST} to {CHECKPOINT} have their certificates" in note
    assert "were not executed" in note
    assert fingerprint(pruned.home) == before


def test_the_words_do_not_say_more_than_was_done(pruned: ReplicaConfig, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = invoke(capfd, "verify", pruned.home)
    assert code == 0
    assert out.startswith("note: blocks 1 to 7 are not kept: neither they were checked")
    assert "SOUND as far as blocks are kept, from 8 on: the replica in" in out
    assert "3 stored blocks from 8 on compared with their headers, " in out
    told = json.loads(invoke(capfd, "verify", pruned.home, "--json")[1])
    assert (told["first_block"], told["compared_blocks"], len(told["notes"])) == (8, 3, 1)


def test_a_store_that_begins_right_above_its_checkpoint_is_sound(home: ReplicaConfig) -> None:
    """As after a snapshot."""
    prune(home, CHECKPOINT + 1)
    verdict = verify_home(home)
    assert (verdict.findings, verdict.first_block, verdict.compared_blocks) == ([], CHECKPOINT + 1, 0)
    assert "were not executed" not in verdict.notes[0]


def rewrite(table: str, column: str, kind: type[Any], change: Callable[[Any], Any]) -> Callable[[ReplicaConfig], None]:
    """Of block 9, in a way that decodes."""

    def damage(home: ReplicaConfig) -> None:
        connection = sqlite3.connect(database(home))
        (found,) = connection.execute(f"SELECT {column} FROM {table} WHERE height = 9").fetchone()
        changed = encode(change(decode(found, kind)))
        assert changed != found
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE height = 9", (changed,))
        connection.commit()
        connection.close()

    return damage


def forged(certificate: Finalization) -> Finalization:
    (place, signature), *rest = certificate.signatures
    return structs.replace(certificate, signatures=((place, bytes([signature[0] ^ 1]) + signature[1:]), *rest))


DAMAGES: dict[str, tuple[Callable[[ReplicaConfig], None], str, str, str]] = {
    "no checkpoint": (
        lambda home: home.checkpoint.unlink(), "the database", "there is no checkpoint: nothing of them was", RESTORE
    ),
    "a bit of the checkpoint": (flip(lambda home: home.checkpoint, 0.5), "the checkpoint", "is damaged", REBUILD),
    "a checkpoint that is too old": (
        lambda home: prune(home, CHECKPOINT + 2), "the database", "the checkpoint is of block 10: nothing", RESTORE
    ),
    "another base": (
        sql("UPDATE meta SET value = '7 ' || hex(zeroblob(32)) || ' 0' WHERE name = 'base'"),
        "block 8 in the database", "its parent is", REFILL,
    ),
    "the first block": (sql("DELETE FROM blocks WHERE height = 8"), "block 9", "comes after block 7", REFILL),
    "a block": (sql("DELETE FROM blocks WHERE height = 9"), "block 10", "it comes after block 8", REFILL),
    "the checkpoint's block": (
        sql("DELETE FROM blocks WHERE height = 10"), "block 11 in the database", "blocks 10 to 10 are missing", REFILL
    ),
    "a certificate": (
        sql("UPDATE blocks SET finalization = (SELECT finalization FROM blocks WHERE height = 10) WHERE height = 9"),
        "block 9 in the database", "the path leads to", REFILL,
    ),
    "contents": (
        sql("UPDATE blocks SET batches = (SELECT batches FROM blocks WHERE height = 10) WHERE height = 9"),
        "block 9 in the database", "batches root", REFILL,
    ),
    "a transaction": (
        sql("UPDATE transactions SET body = (SELECT body FROM transactions WHERE height = 10) WHERE height = 9"),
        "block 9 in the database", "has the output of", REFILL,
    ),
    "an output": (
        sql("UPDATE transactions SET output = (SELECT output FROM transactions WHERE height = 10) WHERE height = 9"),
        "block 9 in the database", "has the output of", REFILL,
    ),
    "a signature": (
        rewrite("blocks", "finalization", Finalization, forged), "block 9 in the database", "signature", REFILL
    ),
    "an outcome": (
        rewrite("transactions", "output", Output, lambda output: structs.replace(output, message="never mind")),
        "block 9 in the database", "outputs root", REFILL,
    ),
    "a transaction and its output": (
        sql("UPDATE transactions SET (body, output) = (SELECT body, output FROM transactions WHERE height = 10) "
            "WHERE height = 9"),
        "block 9 in the database", "transactions root", REFILL,
    ),
    "a transaction that is gone": (
        sql("DELETE FROM transactions WHERE height = 9"), "block 9 in the database", "transactions root", REFILL
    ),
    "a code": (sql("UPDATE transactions SET code = 'lost' WHERE height = 9"), "the database", "transactions", REFILL),
    "a history": (sql("DELETE FROM history WHERE height = 9"), "the database, blocks 8 to", "history", REFILL),
    "a block above": (
        sql("UPDATE blocks SET batches = (SELECT batches FROM blocks WHERE height = 10) WHERE height = 11"),
        "block 11 in the database", "batches root", REFILL,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_of_what_is_kept_is_found(pruned: ReplicaConfig, name: str) -> None:
    damage, where, what, remedy = DAMAGES[name]
    damage(pruned)
    first = verify_home(pruned).findings[0]
    assert (where in first.where, what in first.what, remedy in first.remedy) == (True, True, True), first


def test_a_snapshot_half_in_place_is_not_judged(home: ReplicaConfig) -> None:
    shutil.copy(home.checkpoint, ready_path(home))
    with pytest.raises(LocalError, match="was being put in place when the replica ended"):
        verify_home(home)


def test_where_it_begins_is_shown(pruned: ReplicaConfig, capfd: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(invoke(capfd, "inspect", pruned.home, "--json")[1])
    assert (facts["database"]["oldest_block"], facts["checkpoint"]["being_put_in_place"]) == (FIRST, False)


def exported(home: ReplicaConfig, what: What, **bounds: int) -> tuple[list[dict[str, object]], list[str]]:
    out, told = io.StringIO(), list[str]()
    first, last = bounds.get("first", 1), bounds.get("last")
    export(home, what, Format.JSONL, out, first=first, last=last, tell=told.append)
    return [json.loads(line) for line in out.getvalue().splitlines()], told


def test_an_export_says_what_it_lacks(pruned: ReplicaConfig, capfd: pytest.CaptureFixture[str]) -> None:
    rows, told = exported(pruned, What.BLOCKS)
    assert [row["height"] for row in rows][:2] == [FIRST, FIRST + 1]
    assert told == ["blocks 1 to 7 are not kept here: the lines begin with block 8"]
    assert exported(pruned, What.BLOCKS, first=9)[1] == []
    assert exported(pruned, What.TRANSACTIONS, first=3, last=5) == ([], ["blocks 3 to 5 are not kept here: no lines"])
    code, out, err = invoke(capfd, "export", pruned.home, "blocks")
    assert (code, out.count("\n"), err) == (0, len(rows), f"note: {told[0]}\n")
    rows, told = exported(pruned, What.ACCOUNTS)
    assert (sum(int(str(row["balance"])) for row in rows), told) == (1_000, [])


def test_accounts_are_not_guessed(pruned: ReplicaConfig) -> None:
    pruned.checkpoint.unlink()
    with pytest.raises(LocalError, match=r"block 8 in the database follows on block 7, .* that of block 0: put"):
        exported(pruned, What.ACCOUNTS)


async def test_a_replica_alone_does_not_rebuild_what_it_cannot(pruned: ReplicaConfig) -> None:
    """It would begin at genesis and contradict what was final: nobody else has the blocks or the state."""
    with pytest.raises(LocalError, match=r"begins with block 8.*no other replica.*Put the checkpoint back"):
        async with started(pruned.home, rebuild=True):
            pass
    async with started(pruned.home) as replica:
        assert replica.head().state.balance(BOB.public) == PAID
        await pay(replica, BLOCKS)
        await checkpointed(replica, CHECKPOINT + BLOCKS)
    assert verify_home(pruned).findings == []
    assert database(pruned).exists()

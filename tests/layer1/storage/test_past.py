"""Blocks leave the store, and a store begins above them: on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql
from msgspec.structs import replace

from layer1.crypto import Hash
from layer1.errors import LocalError
from layer1.ledger.agreements import Final, GroupAgreement, initial_certificate, sign_final
from layer1.ledger.transactions import CloseGroup, Transaction
from layer1.storage import past, tables
from layer1.storage.past import Base
from layer1.storage.store import Store
from tests.layer1.api.stand_in import ALICE, ALICE_KEY, BOB, BOB_KEY, CAROL, Chain, make_genesis, signed

EMPTIED = (tables.blocks, tables.transactions, tables.history)
GROUPS = (tables.groups, tables.members)


@pytest.fixture
def chain() -> Chain:
    """Ten blocks with everything in them: block 2 opens a group, block 6 closes it, 4 has no transaction.

    Carol is concerned by the closing alone.
    """
    chain = Chain(make_genesis())
    for height in range(1, 11):
        transactions = [chain.transfer(height), chain.transfer(10**9), chain.transfer(1, BOB, ALICE.public)]
        if height == 2:
            transactions.append(chain.opening())
        if height == 6:
            transactions.append(closing(chain, group_of(chain)))
        chain.commit([] if height == 4 else transactions)
    assert [output.code for output in chain.blocks[5].outputs] == ["ok", "insufficient_balance", "ok", "ok"]
    return chain


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store.open(database_url)
    yield opened
    opened.close()


def group_of(chain: Chain) -> Hash:
    """The one that block 2 opened."""
    (name,) = (output.group_id for output in chain.blocks[1].outputs if output.group_id is not None)
    return name


def closing(chain: Chain, name: Hash) -> Transaction:
    """Both members agree: Alice gets 100, Carol, for Bob, 50."""
    chain.salt += 1
    final = Final(name, 0, initial_certificate(chain.agreement(), name).header.hash, 0, (100, 50))
    signatures = tuple(sign_final(key, chain.genesis.chain_id, final) for key in (ALICE_KEY, BOB_KEY))
    return signed(chain.genesis, CloseGroup(final, signatures), [], chain.state.clock + 300_000, chain.salt)


def rows(store: Store, *which: sql.Table) -> dict[str, list[tuple[object, ...]]]:
    """All rows, by table."""
    with store._engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(sql.select(table))), key=repr)
            for table in which or (*EMPTIED, *GROUPS)
        }


def above(store: Store, height: int) -> dict[str, list[tuple[object, ...]]]:
    """What is to stay when the blocks up to this height go: the dumb way, every row looked at."""
    found = rows(store)
    for table in EMPTIED:
        place = list(table.columns.keys()).index("height")
        found[table.name] = [row for row in found[table.name] if int(str(row[place])) > height]
    return found


def prune_all(store: Store, below: int, limit: int = 100) -> int:
    count = 0
    while deleted := store.prune(below, limit):
        count += deleted
    return count


@pytest.mark.parametrize("below", range(1, 11))
def test_blocks_go_with_everything_that_belongs_to_them(chain: Chain, store: Store, below: int) -> None:
    store.append(chain.blocks)
    kept = above(store, below - 1)
    assert prune_all(store, below) == below - 1
    assert rows(store) == kept
    assert (store.oldest(), store.height) == (below, 10)
    assert [block.header.height for block in store.blocks(1, 100)] == list(range(below, 11))
    assert store.block(below - 1) is None


def test_pruning_takes_the_oldest_first_and_no_more_than_it_is_told(chain: Chain, store: Store) -> None:
    store.append(chain.blocks)
    assert [store.prune(8, 3) for _ in range(4)] == [3, 3, 1, 0]
    assert store.oldest() == 8
    assert store.prune(5, 3) == 0


def test_large_blocks_go_one_at_a_time(chain: Chain, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever appends waits for a slice: it is small, whatever the blocks hold."""
    monkeypatch.setattr(past, "SLICE_TRANSACTIONS", 2)
    store.append(chain.blocks)
    assert [store.prune(6, 100) for _ in range(6)] == [1, 1, 1, 1, 1, 0]
    monkeypatch.setattr(past, "SLICE_TRANSACTIONS", 6)
    assert [store.prune(10, 100) for _ in range(4)] == [1, 2, 1, 0], "3 and 4 transactions, twice 3, 3"


def test_many_addresses_are_named_a_few_at_a_time(chain: Chain, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "NAMES_AT_ONCE", 1)
    store.append(chain.blocks)
    kept = above(store, 6)
    prune_all(store, 7)
    assert rows(store) == kept


def test_the_last_block_always_stays(chain: Chain, store: Store) -> None:
    assert store.prune(5, 100) == 0
    store.append(chain.blocks[:3])
    assert prune_all(store, 99) == 2
    assert (store.oldest(), store.height) == (3, 3)
    store.append(chain.blocks)
    assert store.height == 10


def test_a_pruned_store_remembers_where_it_begins_and_goes_on(chain: Chain, database_url: str) -> None:
    store = Store.open(database_url)
    store.append(chain.blocks[:6])
    prune_all(store, 4)
    store.close()
    again = Store.open(database_url)
    header = chain.headers[3]
    assert again.base == Base(3, header.id, header.clock)
    again.append(chain.blocks)
    assert [summary.header.height for summary in again.summaries(100)] == list(range(10, 3, -1))
    again.close()


def test_a_group_stays_in_the_index_and_its_closing_in_the_histories(chain: Chain, store: Store) -> None:
    """It was opened in a block that is gone; the ledger knows it, and a later closing concerns its members."""
    store.append(chain.blocks[:5])
    prune_all(store, 5)
    assert [group.id for group in store.groups(10, member=ALICE_KEY.public)] == [group_of(chain)]
    store.append(chain.blocks)
    assert [stored.height for stored in store.group_history(group_of(chain), 10)] == [6]
    assert (6, 3) in [(stored.height, stored.position) for stored in store.account_history(CAROL.public, 100)]


def test_a_reader_whom_pruning_overtakes_sees_no_half_of_a_block(
    chain: Chain, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the headers, and not yet the transactions."""
    store.append(chain.blocks)
    read = store._contents

    def overtaken(*arguments: object) -> object:
        prune_all(store, 6)
        return read(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(store, "_contents", overtaken)
    found = store.blocks(3, 100)
    assert [block.header.height for block in found if block.transactions] == [6, 7, 8, 9, 10]
    assert all(len(block.transactions) == len(chain.blocks[block.header.height - 1].transactions) for block in found)


# ------------------------------------------------------------------------------------------------------ beginning anew


def groups_of(chain: Chain) -> list[tuple[Hash, GroupAgreement]]:
    return [(group_of(chain), chain.agreement())]


@pytest.mark.parametrize("stored", [0, 3, 7])
def test_a_store_begins_with_the_child_of_a_block(chain: Chain, database_url: str, stored: int) -> None:
    """Empty, or with blocks that end before it: those go, since a gap is before the next one."""
    header = chain.headers[7]
    store = Store.open(database_url)
    store.append(chain.blocks[:stored])
    heard: list[int] = []
    store.on_append(heard.append)
    store.begin_at(header, groups_of(chain))
    assert all(found == [] for found in rows(store, *EMPTIED).values())
    assert heard == [7]
    store.close()
    store = Store.open(database_url)
    assert (store.height, store.oldest(), store.base) == (7, 8, Base(7, header.id, header.clock))
    store.make_durable(7)
    with pytest.raises(LocalError, match="block 9 cannot follow block 7"):
        store.append(chain.blocks[8:])
    other = replace(chain.blocks[7], header=replace(chain.blocks[7].header, parent=bytes(32)))
    with pytest.raises(LocalError, match="another history"):
        store.append([other])
    store.append(chain.blocks[6:9])
    assert [block.header.height for block in store.blocks(1, 10)] == [8, 9]
    store.close()


@pytest.mark.parametrize("at", [3, 6, 9])
def test_beginning_at_a_block_that_is_here_keeps_those_above(chain: Chain, store: Store, at: int) -> None:
    store.append(chain.blocks)
    kept = above(store, at)
    store.begin_at(chain.headers[at], groups_of(chain))
    assert rows(store) == kept
    assert (store.oldest(), store.height) == (at + 1, 10)


def test_beginning_twice_is_beginning_once(chain: Chain, store: Store) -> None:
    store.append(chain.blocks[:3])
    store.begin_at(chain.headers[7], groups_of(chain))
    store.append(chain.blocks[7:])
    found = rows(store)
    store.begin_at(chain.headers[7], groups_of(chain))
    assert rows(store) == found


def test_groups_that_a_snapshot_brought_are_found_and_their_closing_too(chain: Chain, store: Store) -> None:
    store.begin_at(chain.headers[5], groups_of(chain))
    assert [(group.id, group.opened) for group in store.groups(10, member=CAROL.public)] == [(group_of(chain), (5, 0))]
    store.append(chain.blocks)
    assert (6, 3) in [(stored.height, stored.position) for stored in store.account_history(CAROL.public, 100)]
    assert store.differences(chain.blocks[5:]) == []


def test_a_store_does_not_begin_where_blocks_are_gone(chain: Chain, store: Store) -> None:
    store.append(chain.blocks)
    prune_all(store, 6)
    found = rows(store)
    with pytest.raises(LocalError, match="begins above block 5 and cannot begin above block 4"):
        store.begin_at(chain.headers[4])
    with pytest.raises(LocalError, match="cannot begin above block 0"):
        store.begin_at(chain.headers[0])
    assert rows(store) == found
    assert (store.oldest(), store.height) == (6, 10)


@pytest.mark.parametrize(("at", "base"), [(4, 0), (7, 7), (10, 0)])
def test_a_block_of_another_history_is_no_beginning(chain: Chain, store: Store, at: int, base: int) -> None:
    store.append(chain.blocks)
    if base:
        store.begin_at(chain.headers[base])
    found = rows(store)
    with pytest.raises(LocalError, match="another history"):
        store.begin_at(replace(chain.headers[at], wall_time=1))
    assert rows(store) == found


class Crash(Exception):
    """The process ends here."""


def test_a_crash_while_blocks_go_leaves_a_store_that_goes_on(
    chain: Chain, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(database_url)
    store.append(chain.blocks)

    def crash(*_: object) -> int:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Store, "prune", crash)
        with pytest.raises(Crash):
            store.begin_at(chain.headers[6])
    store.close()
    again = Store.open(database_url)
    assert len(rows(again, tables.blocks)["blocks"]) == 10, "nothing was deleted yet"
    assert (again.oldest(), again.height) == (7, 10)
    assert [block.header.height for block in again.blocks(1, 100)] == [7, 8, 9, 10]
    assert [block.header.height for block in again.blocks(1, 2)] == [7, 8], "what is left over takes no room"
    assert again.summaries(100)[-1].header.height == 7
    again.append([chain.commit()])
    assert again.prune(1, 2) == 2, "what is left over goes, whoever asks for whatever"
    again.begin_at(chain.headers[6])
    assert rows(again) == above(again, 6)
    assert [block.header.height for block in again.blocks(1, 100)] == [7, 8, 9, 10, 11]
    again.close()


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_a_beginning_is_durable_before_anything_relies_on_it(
    request: pytest.FixtureRequest, tmp_path: Path, chain: Chain, kind: str
) -> None:
    """A checkpoint is put in place next: no loss of power may leave it without the store that follows on it."""
    store = Store.open(tmp_path / "a.db" if kind == "sqlite" else request.getfixturevalue("postgres").new_url())
    said: list[str] = []
    sql.event.listen(store._engine, "before_cursor_execute", lambda *heard: said.append(heard[2]))
    store.begin_at(chain.headers[3])
    written = next(number for number, statement in enumerate(said) if "meta" in statement and "SELECT" not in statement)
    durable = {"sqlite": "PRAGMA synchronous=FULL", "postgresql": "SET LOCAL synchronous_commit = on"}[kind]
    assert durable in said[:written]
    if kind == "sqlite":
        assert "PRAGMA synchronous=NORMAL" in said[written:]
    store.close()


def test_older_releases_refuse_a_store_that_begins_later(chain: Chain, store: Store) -> None:
    """They would take it for one with a gap; one that holds all is as it was."""
    store.append(chain.blocks)
    told = sql.select(tables.meta.c.value).where(tables.meta.c.name == "format")
    with store._engine.connect() as connection:
        assert connection.scalar(told) == "1"
    store.prune(2, 1)
    with store._engine.connect() as connection:
        assert connection.scalar(told) == "2"


def test_an_empty_database_gives_its_room_back(tmp_path: Path, chain: Chain) -> None:
    """SQLite would keep it; what a snapshot replaces may be most of the disk."""
    store = Store.open(tmp_path / "a.db")
    store.append(chain.blocks)
    store.append([chain.commit([chain.transfer() for _ in range(200)]) for _ in range(5)])
    store.close()
    before = (tmp_path / "a.db").stat().st_size
    store = Store.open(tmp_path / "a.db")
    store.begin_at(replace(chain.tip, height=99))
    store.close()
    assert (tmp_path / "a.db").stat().st_size < before / 4


def test_what_is_pruned_makes_room_for_what_comes(tmp_path: Path, chain: Chain) -> None:
    """The file does not shrink, and does not grow any more."""
    store, sizes = Store.open(tmp_path / "a.db"), list[int]()
    store.append(chain.blocks)
    for _ in range(12):
        store.append([chain.commit([chain.transfer() for _ in range(20)]) for _ in range(5)])
        prune_all(store, store.height - 10)
        with store._engine.connect() as connection:
            sizes.append(connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    store.close()
    assert sizes[-1] == sizes[5], sizes

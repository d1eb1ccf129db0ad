"""What a tower holds on its disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from msgspec import structs

from layer1.errors import LocalError
from layer2.tower import Guarded, Load
from tests.layer2.tower_world import Watched
from wallet.watchtower.store import TowerStore, period_class


def entry(version: int = 1, group: int = 0, customer: int = 0, period_ms: int = 60_000) -> Guarded:
    watched = Watched()
    watched.entrust(version)
    held = watched.held[watched.customer(0)]
    names = {"group_id": bytes([group]) * 32, "customer": bytes([customer]) * 32}
    return structs.replace(held, period_ms=period_ms, **names)


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    store = TowerStore(tmp_path / "tower.db")
    assert (store.groups, store.height, store.classes) == (0, None, {})
    store.write([entry(3), entry(4, group=1), entry(5, group=1, customer=7)], height=12)
    store.close()
    again = TowerStore(tmp_path / "tower.db")
    assert (again.groups, again.height) == (3, 12)
    assert again.get(bytes(32), bytes(32)) == entry(3)
    assert [each.version for each in again.of_group(b"\x01" * 32)] == [4, 5]
    assert again.load(b"\x07" * 32) == Load(3, 1)
    again.close()


def test_an_update_replaces_and_the_file_does_not_grow(tmp_path: Path) -> None:
    """ "An entry is replaced in place, so the file is as long as the entries are"; with its log, which is bounded."""
    store = TowerStore(tmp_path / "tower.db")
    first = entry(1)
    store.write([first])
    certificate = first.certificate
    for version in range(2, 60):
        header = structs.replace(certificate.header, version=version)
        store.write([structs.replace(first, certificate=structs.replace(certificate, header=header))])
    assert store.groups == 1
    held = store.get(bytes(32), bytes(32))
    assert held is not None and held.version == 59
    store.close()
    assert (tmp_path / "tower.db").stat().st_size < 64_000


def test_what_is_forgotten_is_gone_and_counted(tmp_path: Path) -> None:
    store = TowerStore(tmp_path / "tower.db")
    store.write([entry(group=g, period_ms=60_000 * (1 + g % 2)) for g in range(4)])
    assert store.classes == {period_class(60_000): 2, period_class(120_000): 2}
    store.write(drop=[(bytes(32), bytes(32)), (b"x" * 32, bytes(32))])
    assert store.groups == 3 and store.classes[period_class(60_000)] == 1
    assert store.get(bytes(32), bytes(32)) is None and not store.holds(bytes(32))
    store.write([entry(group=1, period_ms=60_000)])
    assert store.groups == 3 and store.classes == {period_class(60_000): 2, period_class(120_000): 1}
    store.close()


def test_rounds_go_through_all_groups_of_a_class(tmp_path: Path) -> None:
    store = TowerStore(tmp_path / "tower.db")
    store.write([entry(group=g) for g in range(5)] + [entry(group=3, customer=9), entry(group=9, period_ms=5_000)])
    class_ = period_class(60_000)
    first = store.page(class_, b"", 3)
    assert first == [bytes([g]) * 32 for g in (0, 1, 2)]
    assert store.page(class_, first[-1], 3) == [bytes([g]) * 32 for g in (3, 4)]
    store.close()


def test_a_commit_is_synced(tmp_path: Path) -> None:
    """A receipt says "durable": SQLite must sync each commit, which WAL alone does not do."""
    store = TowerStore(tmp_path / "tower.db")
    assert store.synchronous == 2, "FULL"
    store.close()


def test_a_file_that_is_none_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tower.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(LocalError, match="restore it from a backup"):
        TowerStore(tmp_path / "tower.db")


def test_a_damaged_row_stops_the_tower(tmp_path: Path) -> None:
    store = TowerStore(tmp_path / "tower.db")
    store.write([entry(3)])
    with sqlite3.connect(tmp_path / "tower.db") as other:
        other.execute("UPDATE guarded SET entry = x'00'")
    with pytest.raises(LocalError, match="damaged"):
        store.get(bytes(32), bytes(32))
    store.close()


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    store = TowerStore(tmp_path / "tower.db")
    with sqlite3.connect(tmp_path / "tower.db") as other:
        other.execute("DROP TABLE guarded")
    with pytest.raises(LocalError, match="look after the disk"):
        store.write([entry(3)])
    assert store.groups == 0
    store.close()

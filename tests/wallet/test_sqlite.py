"""The SQLite files of a home: private, and synced where that is promised."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa

from layer1.errors import LocalError
from wallet.api.store import Store
from wallet.history import History
from wallet.invoices.book import InvoiceBook
from wallet.sqlite import open_file
from wallet.towers import TowerBook
from wallet.watchtower.store import TowerStore

FILES = (Store, History, InvoiceBook, TowerBook, TowerStore)


def _opened(path: Path, *, synced: bool) -> sa.Engine:
    return open_file(path, lambda connection: connection.exec_driver_sql("SELECT 1"), synced=synced, remedy="mend it")


@pytest.mark.parametrize(("synced", "expected"), [(True, 2), (False, 1)])
def test_a_commit_waits_for_the_disk_where_that_is_asked(tmp_path: Path, synced: bool, expected: int) -> None:
    engine = _opened(tmp_path / "a.db", synced=synced)
    with engine.connect() as first, engine.connect() as second:  # each connection, not the first alone
        for connection in (first, second):
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == expected
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_its_owners_alone_also_one_that_an_earlier_release_made(tmp_path: Path, kind: type) -> None:
    fresh, old = tmp_path / "fresh.db", tmp_path / "old.db"
    sqlite3.connect(old).close()
    old.touch(mode=0o644)
    for path in (fresh, old):
        kind(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_database_is_refused_with_the_remedy_and_left_alone(tmp_path: Path, kind: type) -> None:
    text, place = tmp_path / "text.db", tmp_path / "place.db"
    text.write_text("a letter of a thousand words, which is no database of anybody" * 100)
    place.mkdir()
    before = place.stat().st_mode
    for path in (text, place):
        with pytest.raises(LocalError, match=r"cannot be opened \(.+\): .{10,}"):
            kind(path)
    assert text.read_text().startswith("a letter")
    assert place.stat().st_mode == before

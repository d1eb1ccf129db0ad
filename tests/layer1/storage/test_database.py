"""How a database is reached: what is an outage, and that no password is ever seen."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sql

from layer1.errors import LocalError
from layer1.storage import rows
from layer1.storage.database import Outage, describe, explained, holds_password, open_engine
from layer1.storage.store import Store
from tests.layer1.api.stand_in import Chain, make_genesis
from tests.postgres import PASSWORD, Server, binaries

SECRET = "opensesame"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ledger:pass@{SECRET}@127.0.0.1:1/ledger",  # an unescaped @: the rest is read as a host
        f"postgresql://ledger:pass@x:{SECRET}@127.0.0.1/ledger",  # and here as a port
        f"postgresql://ledger:{SECRET}@127.0.0.1:port/ledger",
        f"postgresql://ledger:{SECRET}@127.0.0.1:1/ledger",
        f"postgresql://ledger@127.0.0.1:1/ledger?password={SECRET}",
        f"postgresql://ledger@127.0.0.1:1/ledger?pasword={SECRET}",
        f"postgresql+asyncpg://ledger:{SECRET}@127.0.0.1:1/ledger",
        f"mysql://ledger:{SECRET}@127.0.0.1:1/ledger",
        f"{SECRET}@nonsense",
    ],
)
def test_no_error_shows_a_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Libraries quote what they cannot read; neither our text, nor what caused it, nor a log may do so."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(LocalError) as caught:
        Store.open(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in caplog.text


def test_which_urls_are_secret() -> None:
    """Those that cannot be read are, if they have what stands behind a password."""
    assert holds_password(f"postgresql://ledger:{SECRET}@127.0.0.1/ledger")
    assert holds_password(f"postgresql://ledger:pass@{SECRET}@127.0.0.1/ledger")
    assert holds_password(f"postgresql:///ledger?sslpassword={SECRET}")
    assert not holds_password("sqlite:////var/lib/ledger.db")
    assert not holds_password("postgresql://ledger@/ledger?host=/run/postgresql")


def test_a_database_is_named_without_secrets() -> None:
    """For `layer1 inspect` and `layer1 reset`."""
    assert describe(f"postgresql://ledger:{SECRET}@db:5432/wedge?sslpassword={SECRET}") == "wedge on db"
    assert describe("sqlite:////var/lib/ledger.db") == "/var/lib/ledger.db"
    with pytest.raises(LocalError) as caught:
        describe(f"postgresql://ledger:pass@{SECRET}@127.0.0.1/ledger")
    assert SECRET not in str(caught.value)


@pytest.mark.postgresql
def test_a_wrong_password_is_refused_and_not_shown(postgres: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(LocalError, match="password authentication failed") as caught:
        Store.open(postgres.url(password=SECRET))
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caplog.text


@pytest.mark.postgresql
def test_a_right_password_is_not_shown_either(postgres: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = Store.open(postgres.new_url())
    with store._engine.begin() as connection:
        connection.exec_driver_sql("drop table blocks cascade")
    with pytest.raises(LocalError) as caught:
        store.append([Chain(make_genesis()).commit()])
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(vars(store)) + postgres.log()
    store.close()
    assert "blocks" in shown
    assert PASSWORD not in shown


@pytest.mark.postgresql
def test_a_database_that_takes_not_every_text_is_refused(postgres: Server) -> None:
    postgres.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(LocalError, match="has the encoding LATIN1; make it with"):
        Store.open(postgres.url("latin"))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("57P01", Outage),  # the server is being stopped
        ("57P03", Outage),  # it is starting
        ("53300", Outage),  # too many connections
        ("53100", Outage),  # its disk is full
        ("40001", Outage),  # serialization failure
        ("25006", Outage),  # a standby
        (None, Outage),  # nobody answered
        ("42P01", LocalError),  # no such table
        ("23505", LocalError),  # a row twice
        ("22021", LocalError),  # a text that no text column takes
    ],
)
def test_an_outage_is_what_may_end_by_itself(state: str | None, expected: type[Exception]) -> None:
    error = psycopg.OperationalError("words of the driver")
    error.sqlstate = state
    with pytest.raises(expected, match="this failed: words of the driver"), explained("this failed", "Mend it"):
        raise sql.exc.OperationalError("select secret", {"value": "secret"}, error)


@pytest.mark.postgresql
def test_a_lock_that_somebody_holds_is_an_outage(postgres: Server) -> None:
    """A maintainer's lock must not hold up the writer in silence, with all blocks to come behind it in memory."""
    chain, url = Chain(make_genesis()), postgres.new_url()
    store = Store.open(f"{url}&options=-clock_timeout%3D20")
    blocks = [chain.commit(), chain.commit()]
    store.append(blocks[:1])
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE blocks")
        with pytest.raises(Outage, match="canceling statement due to lock timeout"):
            store.append(blocks)
        with pytest.raises(Outage, match="canceling statement due to lock timeout"):
            store.block(1)
    store.append(blocks)
    assert store.height == 2
    store.close()


@pytest.mark.postgresql
def test_a_connection_that_breaks_while_it_writes_is_an_outage(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the rows are on their way; nothing of them stays, and the next try has a connection of its own."""
    chain, store = Chain(make_genesis()), Store.open(postgres.new_url())
    blocks = [chain.commit([chain.transfer()])]
    original = rows._type_name

    def break_it(*arguments: Any) -> str:
        if arguments[0].table.name == "transactions":
            postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'wedge'")
        return original(*arguments)

    monkeypatch.setattr(rows, "_type_name", break_it)
    with pytest.raises(Outage, match="storing blocks 1 to 1 failed"):
        store.append(blocks)
    monkeypatch.setattr(rows, "_type_name", original)
    store.append(blocks)
    assert len(store.outputs(1)) == 1
    store.close()


@pytest.mark.postgresql
def test_nothing_is_waited_for_without_end(postgres: Server) -> None:
    engine = open_engine(postgres.new_url())
    with engine.connect() as connection:
        bounds = [connection.exec_driver_sql(f"SHOW {name}_timeout").scalar() for name in ("lock", "statement")]
    engine.dispose()
    assert bounds == ["5s", "1min"]


def test_an_sqlite_file_that_another_process_holds_is_an_outage(tmp_path: Path) -> None:
    """A backup may hold it for longer than we wait."""
    chain, store = Chain(make_genesis()), Store.open(tmp_path / "a.db")
    sql.event.listen(store._engine, "checkout", lambda raw, *_: raw.execute("PRAGMA busy_timeout=1"))
    holder = open_engine(tmp_path / "a.db")
    blocks = [chain.commit()]
    with holder.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(Outage, match="storing blocks 1 to 1 failed: database is locked"):
            store.append(blocks)
        connection.rollback()
    store.append(blocks)
    assert store.height == 1
    store.close()
    holder.dispose()


def test_without_postgresql_its_tests_fail_and_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is skipped in silence proves nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssertionError, match="apt-get install postgresql"):
        binaries(tmp_path)

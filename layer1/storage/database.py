"""How a database is reached: SQLite by default, PostgreSQL by configuration; and what its errors mean.

Safety: no text that leaves this module holds a URL or a part of one, so no password gets into a log or an error.

Libraries quote what they cannot read, and a password with an unescaped ``@`` makes them read the rest of it as a
host; so a URL is checked here, and none of their complaints about it is passed on.

An error is an outage (:class:`Outage`) when the same statement may well succeed later: the server is restarting, out
of reach, out of connections, full, or another process holds SQLite's file. Everything else is a fault.

Source: docs/design/architecture.md, "Two kinds of storage"; decision 019; PostgreSQL, appendix A, "Error codes".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from layer1.errors import LocalError, NotYet

BUSY_TIMEOUT_MS = 5_000
"""How long SQLite waits for another process that holds the file, such as a backup."""
CONNECT_TIMEOUT_S = 5
"""How long a server may take to let us in."""
SILENCE_MS = 10_000
"""After which a server that acknowledges nothing counts as gone; left to itself, the system waits for many minutes."""
LOCK_TIMEOUT_MS = 5_000
"""How long a statement waits on the server for somebody else's lock, such as a maintainer's."""
STATEMENT_TIMEOUT_MS = 60_000
"""How long a statement may take; the longest of ours, 2,000 transactions, takes a fraction of a second."""
POOL_SIZE = 16
"""Connections at most: a writer, and readers in threads of their own."""

_SQLITE_DRIVERS = ("sqlite", "sqlite+pysqlite")
_POSTGRESQL_DRIVERS = ("postgresql", "postgres", "postgresql+psycopg")
_FORMS = "write sqlite:////path/to/file or postgresql://user:password@host:5432/database"
_TRANSIENT_CLASSES = ("08", "40", "53", "57")
"""SQLSTATE classes: connection, rolled back, out of resources, an operator intervened."""
_TRANSIENT_STATES = ("25006", "55P03")
"""SQLSTATEs: a standby that takes no writes (yet), a lock that is held."""


class DatabaseFault(LocalError):
    """The database failed, and will again. Nothing was changed."""


class Outage(NotYet):
    """The database does not answer, or cannot just now. Nothing was changed; the same may be asked again."""


def open_engine(url: str | Path) -> sql.Engine:
    """An engine for a URL, or for the path of an SQLite file. Nothing is connected yet.

    Raises:
        LocalError: The URL cannot be read or is of a kind that is not supported, or its driver is missing.
    """
    parsed = sql.URL.create("sqlite", database=str(url)) if isinstance(url, Path) else _parse(url)
    if parsed.drivername in _SQLITE_DRIVERS:
        return _open_sqlite(parsed)
    if parsed.drivername in _POSTGRESQL_DRIVERS:
        return _open_postgresql(parsed)
    raise LocalError(f"databases of the kind {parsed.drivername[:40]!r} are not supported: {_FORMS}")


def holds_password(url: str) -> bool:
    """Whether somebody who reads this URL learns a secret."""
    try:
        parsed = _parse(url)
    except LocalError:
        return "@" in url
    return bool(parsed.password) or any("password" in name for name in parsed.query)


def passwords_in(url: str) -> list[str]:
    """The secrets in this URL; all of it if it cannot be read."""
    try:
        parsed = _parse(url)
    except LocalError:
        return [url] if holds_password(url) else []
    values = [value for name, value in parsed.query.items() if "password" in name]
    return [str(secret) for secret in (parsed.password, *values) if secret]


def file_of(url: str) -> Path | None:
    """SQLite's file; None if this is a server's URL.

    Raises:
        LocalError: It cannot be read.
    """
    parsed = _parse(url)
    return Path(parsed.database) if parsed.drivername in _SQLITE_DRIVERS and parsed.database else None


def describe(url: str) -> str:
    """Which database that is, for people, without what nobody may see.

    Raises:
        LocalError: It cannot be read.
    """
    parsed = _parse(url)
    if (path := file_of(url)) is not None:
        return str(path)
    return f"{parsed.database or ''} on {parsed.host or 'a local server'}"


@contextmanager
def explained(doing: str, remedy: str) -> Iterator[None]:
    """Turn the library's errors into ours.

    Args:
        doing: What failed, such as "the store cannot be read".
        remedy: What to do when it is no outage.

    Raises:
        Outage: The same may be tried again.
        DatabaseFault: It may not.
    """
    try:
        yield
    except SQLAlchemyError as error:
        if is_outage(error):
            raise Outage(f"{doing}: {cause(error)}") from error
        raise DatabaseFault(f"{doing}: {cause(error)}. {remedy}") from error


def is_outage(error: SQLAlchemyError) -> bool:
    """Whether the same may be tried again."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    original: Any = error.orig
    if (name := getattr(original, "sqlite_errorname", None)) is not None:
        return str(name).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    state = getattr(original, "sqlstate", "")
    if state is None:  # the server never spoke: no connection was made, or it broke
        return isinstance(error, sql.exc.OperationalError)
    return str(state).startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT_STATES


def cause(error: SQLAlchemyError) -> str:
    """The driver's own words: SQLAlchemy's repeat the statement, and all its values."""
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]


def _parse(url: str) -> sql.URL:
    try:
        parsed = sql.make_url(url)
    except (SQLAlchemyError, ValueError):
        parsed = None
    if parsed is None or "@" in (parsed.host or ""):
        raise LocalError(
            f"the database's URL cannot be read: {_FORMS}; in user and password, write special characters as % and "
            "two hexadecimal digits, such as %40 for @"
        )
    return parsed


def _open_sqlite(url: sql.URL) -> sql.Engine:
    if url.database in {None, "", ":memory:"}:
        raise LocalError("a store needs a file: its readers and its writer are different connections")
    engine = sql.create_engine(url, pool_size=POOL_SIZE // 2, max_overflow=POOL_SIZE // 2)
    sql.event.listen(engine, "connect", _configure_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "cache_size=-65536",
        "wal_autocheckpoint=16384",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _open_postgresql(url: sql.URL) -> sql.Engine:
    """Timeouts are defaults: what the URL says goes first. A connection is looked at before it is used again."""
    defaults: dict[str, str | int] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": SILENCE_MS,
        "keepalives_idle": SILENCE_MS // 1_000,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "application_name": "wedge",
    }
    try:
        engine = sql.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=POOL_SIZE // 2,
            max_overflow=POOL_SIZE // 2,
            pool_pre_ping=True,
            connect_args={name: value for name, value in defaults.items() if name not in url.query},
        )
    except ImportError:
        raise LocalError(
            "PostgreSQL needs its driver: pip install 'wedge-channels[postgresql]' (or 'psycopg[binary]')"
        ) from None
    except (SQLAlchemyError, ValueError, TypeError):
        raise LocalError(f"the database's URL cannot be used: {_FORMS}") from None
    sql.event.listen(engine, "connect", _configure_postgresql)
    return engine


def _configure_postgresql(connection: Any, _record: Any) -> None:
    """Wait for nothing without end, unless the operator set other bounds; and take every text."""
    with connection.cursor() as cursor:
        for name, bound_ms in (("lock_timeout", LOCK_TIMEOUT_MS), ("statement_timeout", STATEMENT_TIMEOUT_MS)):
            asked = "SELECT set_config(%s, %s, false) WHERE current_setting(%s) = '0'"
            cursor.execute(asked, (name, str(bound_ms), name))
    connection.commit()
    found = connection.info.parameter_status("server_encoding")
    if found != "UTF8":
        connection.close()
        raise LocalError(f"the database has the encoding {found}; make it with: CREATE DATABASE name ENCODING 'UTF8'")

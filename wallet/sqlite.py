"""The SQLite files of a home: how each is opened, and what a commit in it waits for.

*Safety:* a file is its owner's alone, and with it the ones that SQLite keeps beside it, which take over its mode.

Source: docs/design/architecture.md, "Two kinds of storage"; SQLite, "Write-Ahead Logging" and "PRAGMA synchronous".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from layer1.errors import LocalError
from layer1.storage.database import cause

OWNER_ONLY = 0o600


def open_file(
    path: Path,
    prepare: Callable[[sa.Connection], object],
    *,
    synced: bool,
    remedy: str,
    pragmas: tuple[str, ...] = (),
) -> sa.Engine:
    """Open or make a file, with its tables.

    Args:
        path: Of the file.
        prepare: Makes the tables that are missing.
        synced: Whether a commit is on the disk when it returns; else a loss of power may take the newest ones away.
        remedy: What a person can do when it cannot be opened.
        pragmas: Others for each connection, such as ``cache_size=-65536``.

    Raises:
        LocalError: It cannot be opened, or is no file of ours.
    """
    engine = sa.create_engine(f"sqlite:///{path}")
    settings = ("journal_mode=WAL", f"synchronous={'FULL' if synced else 'NORMAL'}", *pragmas)
    sa.event.listen(engine, "connect", lambda connection, _: _configure(connection, settings))
    try:
        _make_private(path)
        with engine.begin() as connection:
            prepare(connection)
    except (OSError, sa.exc.SQLAlchemyError) as error:
        engine.dispose()
        why = cause(error) if isinstance(error, sa.exc.SQLAlchemyError) else error.strerror
        raise LocalError(f"{path} cannot be opened ({why}): {remedy}") from None
    return engine


def _make_private(path: Path) -> None:
    """Also what an earlier release made. A file that is there is not opened: closing it would end SQLite's locks."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY))
    except FileExistsError:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and stat.S_IMODE(mode) & ~OWNER_ONLY:
            path.chmod(OWNER_ONLY)


def _configure(connection: Any, settings: tuple[str, ...]) -> None:
    cursor = connection.cursor()
    for setting in settings:
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()

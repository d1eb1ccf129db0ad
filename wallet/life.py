"""Whether the files of a home are the originals, or a copy of them, perhaps an old one.

*Safety:* a home whose mark does not fit is taken for a copy, and trusts nothing in its journal before others have shown
what they hold (`layer2.recovering`). One that is taken for a copy wrongly loses nothing but time.

A file system gives each file its inode number, and stamps each change of it (ctime); no program sets either. So the
mark, ``life``, holds random bytes, and ``life.seen`` says which inode and ctime that file had when this home wrote it.
What cp, rsync, tar or a backup program makes of the two never fits, neither elsewhere nor put back in place. Both are
written anew at each start and every ten minutes, so that a part of a home that is put back is noticed as well, if it is
older than that. ``life.seen`` also says how far the journal was then: one that was put back alone ends before that.

What no file can tell is that the whole file system went back: a snapshot of a disk or of a virtual machine. Whoever has
a second one, which is not part of the snapshots, names a directory there in ``WALLET_LIFE_DIRECTORY``: the newest mark
is kept there too. A file system whose inode numbers change by themselves (FAT, some network mounts) makes each start
look like a copy's.

Source: docs/design/groups.md, "Coming back from nothing"; decision 040.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from layer1.errors import LocalError
from layer1.files import private_directory, sync_directory, write_durably

DIRECTORY_VARIABLE = "WALLET_LIFE_DIRECTORY"
RENEWED_EVERY_S = 600.0
"""How often a wallet that is open writes its mark anew."""
TOKEN_BYTES = 16
T = TypeVar("T")
Place = tuple[int, int]
"""How far a journal goes: `layer1.journal.Journal.place`."""
_log = logging.getLogger(__name__)


class _Mark(msgspec.Struct, frozen=True):
    """The content of ``life``."""

    name: str
    """Of this home and no copy of it; 16 random bytes, in hexadecimal."""
    token: str
    """Of this writing, likewise."""


class _Stamp(msgspec.Struct, frozen=True):
    """What the file system says of the file with this token."""

    token: str
    inode: int
    changed_ns: int | None
    """Its ctime; None while it has yet to get its name."""


class _Seen(msgspec.Struct, frozen=True):
    """The content of ``life.seen``: one stamp, or two while the mark is being replaced."""

    stamps: tuple[_Stamp, ...]
    journal: Place | None = None
    """How far the journal was then, at least; None if that is not told."""


class Life:
    """The mark of one home. Only whoever holds the home's lock may write it."""

    def __init__(self, home: Path) -> None:
        self._path = home / "life"
        self._seen_path = home / "life.seen"

    @property
    def is_original(self) -> bool:
        """Whether the mark is there, and is the file that this home wrote last."""
        mark, seen = _read(self._path, _Mark), _read(self._seen_path, _Seen)
        if mark is None or seen is None or not any(self._fits(mark, stamp) for stamp in seen.stamps):
            return False
        outside = self._outside(mark.name)
        known = None if outside is None else _read(outside, tuple[str, ...])
        return known is None or mark.token in known

    def knows(self, journal: Place) -> bool:
        """Whether a journal that ends there goes as far as this home has seen it: else it is an old copy."""
        seen = _read(self._seen_path, _Seen)
        return seen is None or seen.journal is None or journal >= seen.journal

    def renew(self, *, copied: bool = False, journal: Place | None = None) -> None:
        """Write the mark anew: from now on the files of this home are the originals. Durable on return.

        Args:
            copied: They were not until now: get a new name too, for the original may live on.
            journal: How far the journal is, durably; None for a home without one.

        Raises:
            LocalError: The disk does not take it.
        """
        old = None if copied else _read(self._path, _Mark)
        mark = _Mark(os.urandom(TOKEN_BYTES).hex() if old is None else old.name, os.urandom(TOKEN_BYTES).hex())
        try:
            self._replace(old, mark, journal)
        except OSError as error:
            raise LocalError(f"{self._path} cannot be written: {error}; look after the disk") from None

    def _replace(self, old: _Mark | None, mark: _Mark, journal: Place | None) -> None:
        """A crash between any two steps leaves a mark that fits: the old one, or the new one."""
        temporary = self._path.with_name(".life.next")
        temporary.unlink(missing_ok=True)
        write_durably(temporary, msgspec.json.encode(mark))
        stamps = () if old is None else (_stamp(old, self._path),)
        coming = _Stamp(mark.token, temporary.stat().st_ino, None)
        write_durably(self._seen_path, msgspec.json.encode(_Seen((*stamps, coming), journal)))
        if (outside := self._outside(mark.name)) is not None:
            private_directory(outside.parent)
            write_durably(outside, msgspec.json.encode([mark.token, *([] if old is None else [old.token])]))
        temporary.replace(self._path)
        sync_directory(self._path.parent)
        write_durably(self._seen_path, msgspec.json.encode(_Seen((_stamp(mark, self._path),), journal)))

    def _fits(self, mark: _Mark, stamp: _Stamp) -> bool:
        now = self._path.stat()
        return (mark.token, now.st_ino) == (stamp.token, stamp.inode) and stamp.changed_ns in (None, now.st_ctime_ns)

    def _outside(self, name: str) -> Path | None:
        directory = os.environ.get(DIRECTORY_VARIABLE)
        return Path(directory).expanduser() / name if directory else None


async def keep_alive(home: Path, journal: Callable[[], Place | None] = lambda: None) -> None:
    """Renew the mark of a home that is open, until cancelled; a mark that cannot be renewed goes on fitting."""
    while True:
        await asyncio.sleep(RENEWED_EVERY_S)
        try:
            Life(home).renew(journal=journal())
        except LocalError as error:
            _log.warning("%s", error)


def _stamp(mark: _Mark, path: Path) -> _Stamp:
    now = path.stat()
    return _Stamp(mark.token, now.st_ino, now.st_ctime_ns)


def _read(path: Path, kind: type[T]) -> T | None:
    """What a file holds; None if it is not there, or holds something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, ValueError, RecursionError):
        return None

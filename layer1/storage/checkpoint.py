"""A checkpoint as one file: pieces with their lengths, and a checksum over all of them at the end.

Safety: the file has its name only when all of it is durable, and is read only if all of it is as it was written.

It is written under another name, synced, renamed into place and its directory synced; a crash before the last step
leaves the one before. The checksum is against accidents of the disk, not against whoever may write there.

Source: docs/design/consensus.md, "Persist before sending".
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from layer1.errors import LocalError
from layer1.files import sync_directory

_MAGIC = b"WEDGEC1\n"
_LENGTH = struct.Struct("<I")
_END = 2**32 - 1
"""In place of a length: the checksum follows, and nothing else."""
_DIGEST_BYTES = 32
_READ_BYTES = 2**20


class CheckpointFile:
    """A checkpoint being written. End it with :meth:`publish` or :meth:`discard`."""

    def __init__(self, path: Path) -> None:
        """Begin one that is to stand at `path`.

        Raises:
            LocalError: It cannot be written, as in all methods.
        """
        self._path = path
        self._new = path.with_name(path.name + ".new")
        self._checksum = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        try:
            file = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file: BinaryIO = os.fdopen(file, "wb")
            self._write(_MAGIC)
        except OSError as error:
            raise self._failure(error) from error

    def add(self, piece: bytes) -> None:
        """Append a piece."""
        try:
            self._write(_LENGTH.pack(len(piece)))
            self._write(piece)
        except OSError as error:
            raise self._failure(error) from error

    def publish(self) -> int:
        """Make it durable and give it its name; its size, bytes. Takes as long as the disk needs."""
        try:
            self._write(_LENGTH.pack(_END))
            self._file.write(self._checksum.digest())
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
            self._file.close()
            os.rename(self._new, self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            raise self._failure(error) from error
        return size

    def discard(self) -> None:
        """Leave the one before in place. Harmless when it was published."""
        self._file.close()
        self._new.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._checksum.update(data)
        self._file.write(data)

    def _failure(self, error: OSError) -> LocalError:
        return LocalError(f"the checkpoint {self._new} cannot be written: {error}; make room or look after the disk")


class CheckpointReader:
    """The pieces of one published checkpoint, by number, even when a newer one has its name. Close it when done."""

    def __init__(self, path: Path) -> None:
        """Open the one that is there, and note where its pieces stand.

        Raises:
            LocalError: It cannot be read, or is none.
        """
        self._path = path
        self._starts: list[int] = []
        try:
            self._file = path.open("rb")
            try:
                self._index()
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise LocalError(f"the checkpoint {path} cannot be read: {error}") from error

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def read(self, first: int, size_bytes: int) -> list[bytes]:
        """Pieces from number `first` on, until they have so many bytes; none behind the last.

        Raises:
            LocalError: The disk failed.
        """
        pieces, size = list[bytes](), 0
        try:
            for start in self._starts[max(first, 0) :]:
                self._file.seek(start)
                pieces.append(self._file.read(_LENGTH.unpack(self._file.read(_LENGTH.size))[0]))
                size += len(pieces[-1])
                if size >= size_bytes:
                    break
        except OSError as error:
            raise LocalError(f"the checkpoint {self._path} cannot be read: {error}") from error
        return pieces

    def _index(self) -> None:
        magic, start = self._file.read(len(_MAGIC)), len(_MAGIC)
        while magic == _MAGIC and len(length := self._file.read(_LENGTH.size)) == _LENGTH.size:
            (size,) = _LENGTH.unpack(length)
            if size == _END:
                return
            self._starts.append(start)
            start += _LENGTH.size + size
            self._file.seek(start)
        raise LocalError(f"{self._path} is no checkpoint that this version reads")


def read_checkpoint(path: Path) -> Iterator[bytes] | None:
    """The pieces of the checkpoint at `path`, or None if there is none. All of it is checked before the first piece.

    Raises:
        LocalError: It is damaged, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            end, identity = _check(file, path), _identity(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LocalError(f"the checkpoint {path} cannot be read: {error}") from error
    return _pieces(path, end, identity)


def _check(file: BinaryIO, path: Path) -> int:
    """Compare the checksum; where the pieces end."""
    size = os.fstat(file.fileno()).st_size
    rest = end = size - _DIGEST_BYTES
    checksum = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    while rest > 0:
        data = file.read(min(rest, _READ_BYTES))
        if not data:
            break
        checksum.update(data)
        rest -= len(data)
    if end < len(_MAGIC) + _LENGTH.size or checksum.digest() != file.read():
        raise LocalError(
            f"the checkpoint {path} is damaged: its {size} bytes do not have the checksum at their end. Start with "
            "--rebuild: then all blocks are executed anew, from storage and from the peers, and no vote is forgotten"
        )
    return end - _LENGTH.size


def _identity(file: BinaryIO) -> tuple[int, int]:
    """Of the file itself, whatever has its name now."""
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino


def _pieces(path: Path, end: int, identity: tuple[int, int]) -> Iterator[bytes]:
    with path.open("rb") as file:
        if _identity(file) != identity:
            raise LocalError(f"the checkpoint {path} was replaced by a newer one while it was read; try again")
        if file.read(len(_MAGIC)) != _MAGIC:
            raise LocalError(f"{path} is no checkpoint that this version reads; start with --rebuild")
        while file.tell() < end:
            yield file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0])

"""The append-only journal that keeps a replica, or a wallet, from contradicting itself.

What: records go in at the end, :meth:`Journal.sync` makes everything since the last one durable (group commit), and
after a restart :meth:`Journal.replay` gives all of them back in order.

*Safety:* whatever was appended before a sync that returned is replayed after any crash, or the journal refuses to
open; it never silently forgets the middle of its history.

One sync writes one *turn*: the records of that turn behind a length, a checksum and the generation. A turn starts
only when the turn before it is durable, so a damaged turn that no sound one follows is the write which a crash tore,
and nothing of it was ever confirmed: it is dropped. A damaged turn before a sound one, inside a segment that is not
the last, or in what a compaction settled, was confirmed once: :class:`LocalError`. Every segment has random bytes of
its own in front of each turn, so no record, whoever chose its bytes, can pass for a turn.

A segment gets its full size, and a durable header in a block that nothing overwrites, before it gets its name; syncs
then overwrite reserved space, which spares the file system a change of length. A compaction writes one new segment
whose header says that it is the first of the set, and renames it into place: that one step ends the old contents.
After an error of the disk nobody knows what it holds, so the journal refuses everything until it is opened again;
opening writes the last turn once more, since the operating system may remember what the disk never got.

Assumption: the disk writes a sector of 512 bytes wholly or not at all, and tells the truth about a sync. The loss of
the last confirmed turn as a whole, or an old copy of the directory, cannot be seen from here; the generation that
peers remember is against that.

*Source:* docs/design/consensus.md, "Persist before sending".
*Deviation:* length, checksum and generation stand once per turn, not per record. A torn write may lose its first
sector and keep its second; judged record by record, that looks like damage in the middle.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from mmap import mmap
from pathlib import Path
from typing import Self

from layer1.errors import LocalError
from layer1.files import sync_directory

HEADER_BYTES = 4096
"""Room of a segment's header: a block of its own, so that no later write can tear it."""
BLOCK_BYTES = 64 * 1024
"""Of what was reserved, looked at together."""
COMPACTION_TURN_BYTES = 2**20
"""A compaction closes a turn when its records exceed this, so that opening needs little memory at a time."""
FILL_BYTES = 64 * 1024
"""Reserved space is written with zeros so much at a time, with the turn that first reaches it. A file system like ext4
has to note of each block that was never written that it is now, in a transaction that every sync in the system waits
for: without this nearly each sync of a busy journal paid for one."""
MAX_RECORD_BYTES = 2**30
"""Far above any block; a length beyond it is a mistake of the caller."""

_MAGIC = b"WEDGEJ1\n"
_HEADER = struct.Struct("<8sQQQQQ8s")
_TURN = struct.Struct("<8sQQI")
_LENGTH = struct.Struct("<I")
_CHECKSUM = struct.Struct("<I")
_PLACE = struct.Struct("<QQQQ")
_NAME = re.compile(r"segment-(\d{12})$")
_REMEDY = "Records that were confirmed are lost. Do not continue from a copy, which may be old"


class Damaged(LocalError):
    """What was confirmed cannot be read back. The text names file and offset."""


@dataclass(slots=True)
class _Segment:
    """One file of the journal, as its header describes it."""

    path: Path
    number: int
    base: int
    """Number of the first segment of this set; what is older was replaced by a compaction."""
    generation: int
    size: int
    """Bytes of the whole file, reserved at its creation."""
    settled: int
    """Everything before this offset was durable when the file got its name."""
    marker: bytes = field(default_factory=lambda: os.urandom(8))
    """Random, in front of every turn: finds turns behind damage, and cannot be forged from a record."""
    end: int = HEADER_BYTES
    """Offset behind the last durable turn."""

    def header(self) -> bytes:
        """The first bytes of the file, with their checksum."""
        place = (self.number, self.base, self.generation, self.size, self.settled)
        fields = _HEADER.pack(_MAGIC, *place, self.marker)
        return fields + _CHECKSUM.pack(zlib.crc32(fields))

    def turn(self, offset: int, records: bytes) -> bytes:
        """The bytes of one turn that starts at ``offset``."""
        checksum = self._checksum(offset, records)
        return _TURN.pack(self.marker, self.generation, len(records), checksum) + records

    def read_turn(self, data: mmap, offset: int) -> bytes | None:
        """The records of the turn at ``offset`` of the file's ``data``, or None where there is no sound turn."""
        start = offset + _TURN.size
        if start > len(data):
            return None
        marker, generation, length, checksum = _TURN.unpack_from(data, offset)
        if marker != self.marker or generation != self.generation or length > len(data) - start:
            return None
        records = data[start : start + length]
        return records if checksum == self._checksum(offset, records) else None

    def _checksum(self, offset: int, records: bytes) -> int:
        place = _PLACE.pack(self.number, self.generation, offset, len(records))
        return zlib.crc32(records, zlib.crc32(place, zlib.crc32(self.marker)))


class Journal:
    """An open journal. One process at a time; no method is safe against a second thread.

    Attributes:
        generation: 1 in a new journal; rises only by :meth:`compact`.
        dropped_bytes: Length of the torn end that opening dropped, for a note in the log.
    """

    generation: int
    dropped_bytes: int

    def __init__(self, directory: Path, lock: int, segment_bytes: int) -> None:
        """Use :meth:`open`."""
        self._directory = directory
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._file = -1
        self._filled = 0
        """Offset in the last segment, up to which its blocks were written, if only with zeros."""
        self._buffer = bytearray()
        self._replayed = False
        self._refusal = ""
        self.generation = 1
        self.dropped_bytes = 0

    @classmethod
    def open(cls, directory: Path, *, segment_bytes: int = 16 * 2**20) -> Journal:
        """Open or create the journal in ``directory``, reading and checking everything in it.

        Args:
            directory: Holds nothing but this journal; created with mode 0700.
            segment_bytes: Size that new segments reserve; a turn or compaction that needs more gets more.

        Raises:
            Damaged: A part that was confirmed is missing or not as it was.
            LocalError: Another process holds it, or the disk failed.
        """
        if segment_bytes < 2 * HEADER_BYTES:
            raise LocalError(f"segments of {segment_bytes} bytes are too small: use {2 * HEADER_BYTES} or more")
        try:
            journal = cls(directory, _lock(directory), segment_bytes)
        except OSError as error:
            raise LocalError(f"cannot open the journal {directory}: {error}; check path, owner and mode") from error
        try:
            with journal._guard("opening it"):
                journal._load()
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def create(cls, directory: Path, records: Iterable[bytes], generation: int) -> None:
        """Make a journal with these contents in a directory that is not there yet, wholly or not at all.

        Raises:
            LocalError: It is there, or cannot be written.
        """
        new = directory.with_name(directory.name + ".new")
        if directory.exists():
            raise LocalError(f"{directory} is there already: move it away first")
        shutil.rmtree(new, ignore_errors=True)
        with cls.open(new) as journal:
            journal.compact(records, generation=generation)
        try:
            os.rename(new, directory)
            sync_directory(directory.parent)
        except OSError as error:
            raise LocalError(f"cannot make the journal {directory}: {error}") from error

    @property
    def size_bytes(self) -> int:
        """Bytes in use by what is durable, headers included and reserved space not: when to compact."""
        return sum(segment.end for segment in self._segments)

    @property
    def place(self) -> tuple[int, int]:
        """How far what is durable goes: number of the last segment, and the offset in it.

        It only rises, also by compactions: a journal that is found below where it was is an old copy.
        """
        last = self._segments[-1]
        return last.number, last.end

    def replay(self) -> Iterator[bytes]:
        """All records found at opening, oldest first. Usable once, before anything is compacted."""
        self._check_usable()
        if self._replayed:
            raise LocalError(f"the journal {self._directory} was replayed already: keep what the first replay gave")
        self._replayed = True
        return _records([replace(segment) for segment in self._segments])

    def append(self, record: bytes) -> None:
        """Put ``record`` behind all others; durable after the next :meth:`sync`."""
        self._check_usable()
        _pack(self._buffer, record)

    def sync(self) -> None:
        """Make everything appended durable: one write, one fdatasync; nothing if nothing was appended.

        Raises:
            LocalError: The disk did not confirm. Nothing of this turn may leave, and the journal is frozen.
        """
        if not self._buffer:
            self._check_usable()
            return
        with self._guard("syncing it"):
            records = bytes(self._buffer)
            segment = self._segments[-1]
            if segment.end + _TURN.size + len(records) > segment.size:
                segment = self._add_segment(_TURN.size + len(records))
            turn = segment.turn(segment.end, records)
            _write(self._file, turn + self._filler(segment, segment.end + len(turn)), segment.end)
            os.fdatasync(self._file)
            segment.end += len(turn)
            self._buffer.clear()

    def _filler(self, segment: _Segment, end: int) -> bytes:
        """Zeros from the end of a turn on, as there are already for whoever reads: see :data:`FILL_BYTES`."""
        if end <= self._filled:
            return b""
        self._filled = min(end + -end % FILL_BYTES, segment.size)
        return bytes(self._filled - end)

    def compact(self, records: Iterable[bytes], *, generation: int | None = None) -> None:
        """Replace all durable contents by ``records``, wholly or, after a crash, not at all.

        What was appended and not yet synced stays, to be written behind them by the next :meth:`sync`.

        Args:
            records: May read from :meth:`replay`. If it raises, the journal is as before.
            generation: The new generation, if it is to rise.

        Raises:
            LocalError: The generation would fall, or the disk failed: then the journal is frozen.
        """
        self._check_usable()
        generation = self.generation if generation is None else generation
        if generation < self.generation:
            raise LocalError(f"generation {generation} is below the journal's {self.generation}: it only rises")
        number = self._segments[-1].number + 1
        new = _Segment(_path(self._directory, number), number, number, generation, 0, HEADER_BYTES)
        with self._guard("compacting it"):
            file = _create(self._directory)
        try:
            for turn in _turns(records):
                with self._guard("compacting it"):
                    data = new.turn(new.end, turn)
                    _write(file, data, new.end)
                    new.end += len(data)
            new.settled = new.end
            with self._guard("compacting it"):
                self._replace_all(file, new)
        finally:
            if file != self._file:
                os.close(file)

    def close(self) -> None:
        """Release the directory. What was not synced is lost, as in a crash. Harmless when repeated."""
        if self._lock >= 0:
            if self._file >= 0:
                os.close(self._file)
            os.close(self._lock)
        self._file = self._lock = -1
        self._refusal = self._refusal or f"the journal {self._directory} is closed: open it again"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _guard(self, doing: str) -> Iterator[None]:
        """Freeze the journal if what is inside fails half-way."""
        self._check_usable()
        try:
            yield
        except OSError as error:
            self._refusal = _refusal(self._directory, doing, error)
            raise LocalError(self._refusal) from error
        except BaseException as error:
            self._refusal = f"the journal {self._directory} is frozen: {doing} was interrupted ({error!r})"
            raise

    def _check_usable(self) -> None:
        if self._refusal:
            raise LocalError(self._refusal)

    def _load(self) -> None:
        """Find the current set of segments, check it, and make its end fit for appending."""
        (self._directory / "new").unlink(missing_ok=True)
        numbers = _numbers(self._directory)
        if not numbers:
            self._add_segment(0)
            return
        self._segments = _check_set(self._directory, numbers)
        last = self._segments[-1]
        self.generation = last.generation
        self._file = os.open(last.path, os.O_RDWR)
        self._mend_end(last)
        _delete(self._directory, [number for number in numbers if number < last.base])

    def _mend_end(self, segment: _Segment) -> None:
        """Erase a torn turn, and write the last sound one again: it may be in memory and not on the disk."""
        with _contents(segment.path) as data:
            self.dropped_bytes = _end_of_written(data, segment.end) - segment.end
            _write(self._file, bytes(self.dropped_bytes), segment.end)
            last = data.rfind(segment.marker, HEADER_BYTES, segment.end)
            if last >= 0:
                _write(self._file, data[last : segment.end], last)
        os.fsync(self._file)
        sync_directory(self._directory)

    def _add_segment(self, needed_bytes: int) -> _Segment:
        """Continue the set in a new segment with room for a turn of ``needed_bytes``."""
        number = self._segments[-1].number + 1 if self._segments else 1
        base = self._segments[0].number if self._segments else 1
        size = max(self._segment_bytes, HEADER_BYTES + needed_bytes)
        segment = _Segment(_path(self._directory, number), number, base, self.generation, size, settled=HEADER_BYTES)
        file = _create(self._directory)
        try:
            _publish(file, segment)
            file, self._file = self._file, file
            self._filled = 0
            self._segments.append(segment)
        finally:
            if file >= 0:
                os.close(file)
        return segment

    def _replace_all(self, file: int, new: _Segment) -> None:
        new.size = max(self._segment_bytes, new.end)
        _publish(file, new)
        old, self._segments = self._segments, [new]
        os.close(self._file)
        self._file, self._filled = file, 0
        self.generation = new.generation
        _delete(self._directory, [segment.number for segment in old])


def _refusal(directory: Path, doing: str, error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return (
            f"the journal {directory} is frozen: the disk is full ({doing} failed: {error}). Nothing that was "
            "acknowledged is lost: make room, then start again"
        )
    return (
        f"the journal {directory} is frozen: {doing} failed ({error}), and what the disk holds is not known; look "
        "after the disk, then start again"
    )


def _lock(directory: Path) -> int:
    """Create the directory where it is missing and take its lock; the lock's file descriptor."""
    if not directory.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(directory.parent)
    file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise LocalError(
            f"another process holds the journal {directory}: stop it first, or use another directory; two writers "
            "would sign contradictions"
        ) from error
    return file


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep everybody else from opening the journal there, sound or not.

    Raises:
        LocalError: A process holds it.
    """
    lock = _lock(directory)
    try:
        yield
    finally:
        os.close(lock)


@dataclass(frozen=True, slots=True)
class Examined:
    """A journal as somebody finds it who changes nothing."""

    generation: int
    segments: tuple[Path, ...]
    size_bytes: int
    """In use by what is durable, headers included and reserved space not."""
    torn_bytes: int
    """At the end: what a crash tore, and opening drops."""
    _found: tuple[_Segment, ...]

    def records(self) -> Iterator[bytes]:
        """All records, oldest first; as often as one likes while it is held."""
        return _records([replace(segment) for segment in self._found])


@contextmanager
def examine(directory: Path) -> Iterator[Examined]:
    """Check a whole journal as opening it does, and leave it as it is. Nobody can open it meanwhile.

    Raises:
        Damaged: A part that was confirmed is missing or not as it was.
        LocalError: It is missing, a process holds it, or the disk failed.
    """
    try:
        lock = os.open(directory / "lock", os.O_RDONLY)
    except FileNotFoundError:
        lock = -1  # a copy without it: then nobody can hold it either
    except OSError as error:
        raise LocalError(f"cannot read the journal {directory}: {error}; check path, owner and mode") from error
    try:
        if lock >= 0:
            _share(lock, directory)
        yield _examine(directory)
    finally:
        if lock >= 0:
            os.close(lock)


def _share(lock: int, directory: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        raise LocalError(f"a process holds the journal {directory}: stop the replica first") from error


def _examine(directory: Path) -> Examined:
    try:
        numbers = _numbers(directory)
        if not numbers:
            raise Damaged(f"{directory} holds no segment. {_REMEDY}")
        found = _check_set(directory, numbers)
        with _contents(found[-1].path) as data:
            torn = _end_of_written(data, found[-1].end) - found[-1].end
    except OSError as error:
        raise LocalError(f"cannot read the journal {directory}: {error}; check path, owner and mode") from error
    size = sum(segment.end for segment in found)
    return Examined(found[-1].generation, tuple(segment.path for segment in found), size, torn, tuple(found))


def _numbers(directory: Path) -> list[int]:
    return sorted(int(match[1]) for match in map(_NAME.match, os.listdir(directory)) if match)


def _check_set(directory: Path, numbers: list[int]) -> list[_Segment]:
    """The current set of segments, each read and checked.

    Raises:
        Damaged: See :func:`_check_segment`.
    """
    base = _read_header(_path(directory, numbers[-1])).base
    found = [
        _check_segment(_path(directory, number), base, number == numbers[-1]) for number in range(base, numbers[-1] + 1)
    ]
    for segment in found:
        if segment.generation != found[-1].generation:
            _damaged(segment, 0, f"it has generation {segment.generation}, the last has {found[-1].generation}")
    return found


def _path(directory: Path, number: int) -> Path:
    return directory / f"segment-{number:012d}"


def _create(directory: Path) -> int:
    """A segment to be: under a name that opening ignores and deletes."""
    return os.open(directory / "new", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)


def _publish(file: int, segment: _Segment) -> None:
    """Reserve the space, make everything durable, and only then give the file its name."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, segment.size)
    else:
        os.ftruncate(file, segment.size)
    _write(file, segment.header(), 0)
    os.fsync(file)
    os.rename(segment.path.parent / "new", segment.path)
    sync_directory(segment.path.parent)


def _write(file: int, data: bytes, offset: int) -> None:
    """Write all of ``data``: one call, unless the system takes less."""
    written = os.pwrite(file, data, offset)
    while written < len(data):
        written += os.pwrite(file, data[written:], offset + written)


def has_segments(directory: Path) -> bool:
    """Whether there is a journal, sound or not: opening one where there is none would begin a new one.

    Raises:
        LocalError: Nobody knows, for the directory cannot be read.
    """
    try:
        return any(map(_NAME.fullmatch, os.listdir(directory)))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise LocalError(f"cannot read the journal {directory}: {error}; check path, owner and mode") from error


def generation_of(directory: Path) -> int:
    """The generation of the journal there, by its newest segment that can be read; 0 if none can."""
    for path in sorted(directory.glob("segment-*"), reverse=True):
        try:
            return _read_header(path).generation
        except (LocalError, OSError, struct.error):
            continue
    return 0


def set_aside(directory: Path) -> Path:
    """Give a journal that is not to be used any more another name; that name.

    Raises:
        LocalError: Another process holds it.
    """
    lock = _lock(directory)
    try:
        aside = next(
            path for number in count(1) if not (path := directory.with_name(f"{directory.name}.lost-{number}")).exists()
        )
        os.rename(directory, aside)
        sync_directory(directory.parent)
    except OSError as error:
        raise LocalError(f"the journal {directory} cannot be set aside: {error}") from error
    finally:
        os.close(lock)
    return aside


def _delete(directory: Path, numbers: list[int]) -> None:
    for number in numbers:
        _path(directory, number).unlink(missing_ok=True)


def _pack(buffer: bytearray, record: bytes) -> None:
    if len(record) > MAX_RECORD_BYTES:
        raise LocalError(f"a record of {len(record)} bytes exceeds {MAX_RECORD_BYTES}: split it")
    buffer += _LENGTH.pack(len(record))
    buffer += record


def _turns(records: Iterable[bytes]) -> Iterator[bytes]:
    """Pack ``records`` into turns of bounded size."""
    buffer = bytearray()
    for record in records:
        _pack(buffer, record)
        if len(buffer) >= COMPACTION_TURN_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def _records(segments: list[_Segment]) -> Iterator[bytes]:
    with ExitStack() as stack:
        for segment in segments:
            try:
                data = stack.enter_context(_contents(segment.path))
            except OSError as error:
                raise LocalError(f"cannot replay {segment.path}: {error}; replay before compacting") from error
            for _, turn in _sound_turns(segment, data):
                yield from _split(turn)
            stack.close()


def _split(turn: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(turn):
        start = offset + _LENGTH.size
        offset = start + _LENGTH.unpack_from(turn, offset)[0]
        yield turn[start:offset]


@contextmanager
def _contents(path: Path) -> Iterator[mmap]:
    """A whole file, read into pages of their own: they go back to the system, which a heap that has grown does not.

    It is not mapped: a disk that fails would end the process, without a word.
    """
    with path.open("rb", buffering=0) as file, mmap(-1, max(1, os.fstat(file.fileno()).st_size)) as data:
        with memoryview(data) as view:
            offset = 0
            while count := file.readinto(view[offset:]):
                offset += count
        yield data


def _end_of_written(data: mmap, start: int) -> int:
    """Offset behind the last byte that is not zero, or `start`."""
    for offset in reversed(range(start, len(data), BLOCK_BYTES)):
        if written := data[offset : offset + BLOCK_BYTES].rstrip(b"\0"):
            return offset + len(written)
    return start


def _sound_turns(segment: _Segment, data: mmap) -> Iterator[tuple[int, bytes]]:
    """Every turn up to the first that is not sound, with the offset behind it."""
    offset = HEADER_BYTES
    while (records := segment.read_turn(data, offset)) is not None:
        offset += _TURN.size + len(records)
        yield offset, records


def _read_header(path: Path) -> _Segment:
    with path.open("rb") as file:
        data = file.read(HEADER_BYTES)
    fields, checksum = data[: _HEADER.size], data[_HEADER.size : _HEADER.size + _CHECKSUM.size]
    if checksum != _CHECKSUM.pack(zlib.crc32(fields)) or not fields.startswith(_MAGIC):
        raise Damaged(f"{path}: damaged at byte 0: no sound header. {_REMEDY}")
    _, number, base, generation, size, settled, marker = _HEADER.unpack(fields)
    return _Segment(path, number, base, generation, size, settled, marker)


def _check_segment(path: Path, base: int, is_last: bool) -> _Segment:
    """Read a whole segment and find its end.

    Raises:
        LocalError: It is missing or damaged, other than by a torn write at the end of the last segment.
    """
    if not path.exists():
        raise Damaged(f"{path}: missing, though a later segment is here. {_REMEDY}")
    segment = _read_header(path)
    with _contents(path) as data:
        _check_contents(segment, data, base, is_last=is_last)
    return segment


def _check_contents(segment: _Segment, data: mmap, base: int, *, is_last: bool) -> None:
    path = segment.path
    if (path, base) != (_path(path.parent, segment.number), segment.base):
        _damaged(segment, 0, f"its header is of segment {segment.number} in the set from {segment.base}, not {base}")
    if len(data) != segment.size:
        _damaged(segment, len(data), f"the file has {len(data)} bytes, its header says {segment.size}")
    for end, _ in _sound_turns(segment, data):
        segment.end = end
    if segment.end < segment.settled:
        _damaged(segment, segment.end, f"no sound turn, and a compaction wrote up to byte {segment.settled}")
    if any_later := _find_sound(segment, data):
        _damaged(segment, segment.end, f"no sound turn, and one follows at byte {any_later}")
    if not is_last and _end_of_written(data, segment.end) > segment.end:
        _damaged(segment, segment.end, "no sound turn, and this is not the last segment")


def _find_sound(segment: _Segment, data: mmap) -> int | None:
    """Offset of a sound turn behind the end, if there is one."""
    offset = data.find(segment.marker, segment.end)
    while offset >= 0 and segment.read_turn(data, offset) is None:
        offset = data.find(segment.marker, offset + 1)
    return offset if offset >= 0 else None


def _damaged(segment: _Segment, offset: int, why: str) -> None:
    raise Damaged(f"{segment.path}: damaged at byte {offset}: {why}. {_REMEDY}")

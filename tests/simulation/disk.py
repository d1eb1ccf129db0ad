"""The journal of a simulated replica, record by record: what `layer1.journal.Journal` promises and no more.

What was appended is durable when `sync` has returned. A crash during a sync leaves any part of that turn from its
start on, or nothing: the real journal drops a torn turn as a whole, the core must survive either. A crash at any other
time leaves what was synced. A copy can be taken and brought back: the machine restored from yesterday's backup.

Source: docs/design/consensus.md, "Persist before sending"; decision 007.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random


@dataclass
class Disk:
    """What outlives a process: its synced records, their generation, and the last checkpoint."""

    records: list[bytes] = field(default_factory=list)
    generation: int = 1
    checkpoint: list[bytes] | None = None
    """The pieces of the last one."""
    before: list[bytes] | None = None
    """Those of the one before, which a peer may be fetching."""
    snapshot: list[bytes] = field(default_factory=list)
    """On its way from a peer."""
    is_lost: bool = False
    """It is a new one: what was on the old one is gone for good."""

    def copy(self) -> Disk:
        """A backup."""
        return Disk(list(self.records), self.generation, self.checkpoint)

    def restore(self, backup: Disk) -> None:
        """Bring a backup back."""
        self.records, self.generation, self.checkpoint = list(backup.records), backup.generation, backup.checkpoint


class Journal:
    """An open journal on a disk, with the methods of the real one that a replica uses."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._buffer: list[bytes] = []
        self._is_closed = False

    @property
    def generation(self) -> int:
        """As peers remember it."""
        return self._disk.generation

    @property
    def size_bytes(self) -> int:
        """Of everything durable."""
        return sum(map(len, self._disk.records))

    @property
    def unsynced(self) -> int:
        """Records that a crash would lose."""
        return len(self._buffer)

    def replay(self) -> Iterator[bytes]:
        """Everything durable, oldest first."""
        return iter(list(self._disk.records))

    def append(self, record: bytes) -> None:
        """Durable after the next sync."""
        assert not self._is_closed, "a dead process writes nothing"
        self._buffer.append(record)

    def sync(self) -> None:
        """Make everything appended durable."""
        assert not self._is_closed, "a dead process writes nothing"
        self._disk.records += self._buffer
        self._buffer.clear()

    def compact(self, records: Iterable[bytes], *, generation: int | None = None) -> None:
        """Replace all that is durable, wholly; what was appended and not synced stays to be synced."""
        assert not self._is_closed, "a dead process writes nothing"
        generation = self._disk.generation if generation is None else generation
        assert generation >= self._disk.generation, "the generation only rises"
        self._disk.records, self._disk.generation = list(records), generation

    def crash(self, random: Random, *, while_syncing: bool) -> int:
        """The process is gone. Returns how many records of the last turn reached the disk nevertheless."""
        kept = random.randint(0, len(self._buffer)) if while_syncing else 0
        self._disk.records += self._buffer[:kept]
        self._buffer.clear()
        self._is_closed = True
        return kept

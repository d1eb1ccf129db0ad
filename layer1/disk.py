"""How much room a replica's disks have, and when to say so or to stop.

Safety: a replica that stops for want of room has everything on the disk that it acknowledged.

That holds in any case: a turn that cannot be synced leaves nothing (`layer1.journal`). Stopping a little earlier, while
there is room, spares the journal's end, the checkpoint in work and the database a disk that fails in the middle.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True, slots=True)
class DiskPolicy:
    """When a disk counts as nearly full. 0 turns the one or the other off."""

    warn_mib: int = 1_024
    """Warn while less than this is free, in MiB, where the journal or the SQLite database is."""
    stop_mib: int = 64
    """Stop cleanly, and do not start, while less than this is free, in MiB. The journal alone takes 16 at a time."""

    def __post_init__(self) -> None:
        for name in ("warn_mib", "stop_mib"):
            if getattr(self, name) < 0:
                raise ValueError(f"disk.{name} is {getattr(self, name)}; write 0 or more")
        if 0 < self.warn_mib <= self.stop_mib:
            raise ValueError(
                f"disk.warn_mib is {self.warn_mib}, disk.stop_mib {self.stop_mib}: nobody would be warned before the "
                "stop; raise the first"
            )


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on the fullest disk."""

    path: Path
    free_bytes: int
    policy: DiskPolicy

    @property
    def is_low(self) -> bool:
        """Whether to warn."""
        return self.free_bytes < self.policy.warn_mib * MIB

    @property
    def is_over(self) -> bool:
        """Whether to stop."""
        return self.free_bytes < self.policy.stop_mib * MIB

    def warning(self) -> str:
        """For people, what to do included."""
        return (
            f"the disk of {self.path} is nearly full: {self.free_bytes // MIB} MiB are free, the replica stops below "
            f"{self.policy.stop_mib} (disk.stop_mib). Make room"
        )

    def reason(self) -> str:
        """Why it stops."""
        return (
            f"the disk of {self.path} is full: {self.free_bytes // MIB} MiB are free, less than disk.stop_mib = "
            f"{self.policy.stop_mib}. The replica does not go on; everything that it acknowledged is on the disk. Make "
            "room, then start it again"
        )


def look(places: Iterable[Path], policy: DiskPolicy, free: Callable[[Path], int] | None = None) -> Room:
    """The room where there is least of it.

    Args:
        places: Directories, one or more.
        policy: See there.
        free: Tells free bytes; asks the system if it is not given.
    """
    return min((Room(place, (free or _free)(place), policy) for place in places), key=lambda room: room.free_bytes)


def _free(place: Path) -> int:
    return shutil.disk_usage(place).free

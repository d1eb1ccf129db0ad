"""What a witness holds, read from its journal; it needs no key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from layer1.codec import decode
from layer1.crypto import format_address
from layer1.journal import Journal
from layer2.engaging import Promised
from layer2.witness import HoldingSnapshot, Kept, Taken, WitnessClaimed
from wallet.home import Home
from wallet.witness.desk import DeskRecord, Dropped


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """One group."""

    group: str
    members: tuple[str, ...]
    """Addresses."""
    version: int
    """Of the certificate that is held."""
    claimed: bool
    """Whether it was wedged, and this witness claimed."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"group": self.group, "members": list(self.members), "version": self.version, "claimed": self.claimed}

    def __str__(self) -> str:
        state = "claimed" if self.claimed else "open"
        return f"{self.group[:12]}  version {self.version}, {state}  {', '.join(self.members)}"


def list_held(home: Home) -> list[HeldGroup]:
    """The groups of a witness that is not being served.

    Raises:
        Refused: ``home_busy``.
        LocalError: The journal is damaged.
    """
    taken: dict[bytes, Taken] = {}
    version: dict[bytes, int] = {}
    claimed: set[bytes] = set()
    lock = home.lock()
    try:
        journal = Journal.open(home.path / "witness")
        try:
            for data in journal.replay():
                record: DeskRecord = decode(data, DeskRecord)  # type: ignore[arg-type]  # a union of structs
                match record:
                    case Taken():
                        taken[record.group_id], version[record.group_id] = record, 0
                    case HoldingSnapshot():
                        taken[record.group_id] = record.taken
                        version[record.group_id] = record.certificate.header.version
                        claimed |= {record.group_id} if record.claim is not None else set()
                    case Kept():
                        version[record.group_id] = record.certificate.header.version
                    case WitnessClaimed():
                        claimed.add(record.group_id)
                    case Dropped():
                        taken.pop(record.group_id, None)
                    case Promised():
                        pass  # layer 1 has not opened it
        finally:
            journal.close()
    finally:
        lock.release()
    return [
        HeldGroup(
            name.hex(),
            tuple(format_address(member.funding) for member in each.agreement.members),
            version[name],
            name in claimed,
        )
        for name, each in taken.items()
    ]

"""What stands in the events of ``/events``, by kind, field by field. As in :mod:`layer1.api.views`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from layer1.httpd.views import View


class BlockEvent(View, frozen=True):
    """Data of a ``block`` event."""

    height: int
    id: str
    clock: int
    wall_time: int
    transactions: int
    proof: str
    """HeadProof: who follows along can tell that the block is final."""


class TransactionEvent(View, frozen=True):
    """Data of a ``transaction`` event."""

    id: str
    height: int
    index: int
    kind: str
    code: str
    group: str | None
    sender: str | None = None
    recipient: str | None = None
    amount: int | None = None


class GroupEvent(View, frozen=True):
    """Data of a ``group`` event."""

    group: str
    height: int
    change: Literal["opened", "changed", "wedged", "reported", "closed", "locks"]
    transaction: str | None
    """What did it; null for what a deadline does."""
    version: int
    """Highest version that the ledger has seen."""
    deadline: int | None = None
    """With ``wedged`` and ``reported``: ledger clock, ms; null if no clock does anything."""
    revealing: str | None = None
    """With ``reported``: claims or deadline, if the dispute is over and the body of its version is missing."""
    reason: str | None = None
    """With ``closed``: final, claims or deadline."""
    epoch: int | None = None
    """With ``changed``: the new one, in which versions begin at 0 again."""
    locks: list[int] | None = None
    """With ``locks``: those that went to somebody, by id; the group itself says to whom."""


class ReplicaEvent(View, frozen=True):
    """Data of a ``replica`` event: it was shown to have contradicted itself."""

    replica: int
    """Its number."""
    key: str
    height: int
    change: Literal["marked"]
    transaction: str
    contradiction: str
    """notarized_twice, finalized_twice or finalized_and_nullified."""
    evidence: str
    """Its id."""


EventView = TransactionEvent | GroupEvent | ReplicaEvent | BlockEvent

EVENTS: Mapping[str, type[View]] = {
    "transaction": TransactionEvent,
    "group": GroupEvent,
    "replica": ReplicaEvent,
    "block": BlockEvent,
}
"""Data by kind. Transactions come first, the block last."""

KINDS = tuple(EVENTS)

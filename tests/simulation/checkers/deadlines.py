"""Deadlines: the first wedge fixes the end of a dispute; what comes later counts for nothing, and then it settles.

Reckoned from the transactions and outputs of final blocks alone, with the words of the design.

Source: docs/design/groups.md, rules 8, 9 and 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from layer1.block import CommittedBlock
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.events import GroupClosed
from layer1.ledger.execute import OK
from layer1.ledger.genesis import Genesis
from layer1.ledger.transactions import OpenGroup, Payload, Report, Transaction, Wedge
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference


@dataclass
class _Dispute:
    deadline_ms: int
    version: int
    """The highest that was accepted in time."""


class Deadlines(Checker):
    """All disputes of a run."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self._height = 0
        self._periods_ms: dict[Hash, int] = {}
        """By group, its challenge period."""
        self._disputes: dict[Hash, _Dispute] = {}
        self._reports: dict[Hash, Report] = {}

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        height, clock = block.header.height, block.header.clock
        if height != self._height + 1:
            return
        self._height = height
        for transaction, output in zip(block.transactions, block.outputs, strict=True):
            if output.code == OK and output.group_id is not None:
                self._take(output.group_id, transaction.payload, clock)
            elif output.code == "stale_report":
                self._check_stale(transaction.payload)
        for event in block.events:
            if isinstance(event, GroupClosed):
                self._close(event, clock)
        late = [group for group, dispute in self._disputes.items() if dispute.deadline_ms <= clock]
        if late and len(self._disputes) <= self.genesis.parameters.due_per_block:
            due = self._disputes[late[0]].deadline_ms
            self.fail(f"group {late[0].hex()[:8]} was due at {due}; after block {height}, of {clock}, it is not closed")

    def submitted(self, transaction: Transaction) -> None:
        if isinstance(transaction.payload, Report):
            self._reports[transaction.id] = transaction.payload

    def rejected(self, replica: int, ids: Sequence[Hash], refusal: Refused) -> None:
        """A replica tries reports on its last final state, so that stale ones enter no block."""
        if refusal.code == "stale_report":
            for name in ids:
                self._check_stale(self._reports.get(name))

    def _take(self, group: Hash, payload: Payload, clock: int) -> None:
        if isinstance(payload, OpenGroup):
            self._periods_ms[group] = payload.agreement.challenge_period_ms
        elif isinstance(payload, Wedge | Report):
            version = payload.certificate.header.version if payload.certificate is not None else 0
            dispute = self._disputes.setdefault(group, _Dispute(clock + self._periods_ms[group], 0))
            if clock >= dispute.deadline_ms:
                self.fail(f"a report to group {group.hex()[:8]} counts at {clock}, due was {dispute.deadline_ms}")
            dispute.version = max(dispute.version, version)

    def _check_stale(self, report: Payload | None) -> None:
        if not isinstance(report, Report) or report.certificate is None or report.group_id not in self._disputes:
            return
        version, accepted = report.certificate.header.version, self._disputes[report.group_id].version
        if version > accepted:
            self.fail(f"version {version} is called stale for group {report.group_id.hex()[:8]}, at {accepted} so far")

    def _close(self, event: GroupClosed, clock: int) -> None:
        dispute = self._disputes.pop(event.group_id, None)
        if event.transaction_id is not None or dispute is None:
            return
        if clock < dispute.deadline_ms:
            self.fail(f"group {event.group_id.hex()[:8]} settles at {clock}, due is {dispute.deadline_ms}")
        if event.version != dispute.version:
            self.fail(
                f"group {event.group_id.hex()[:8]} settles on version {event.version}, {dispute.version} was reported"
            )

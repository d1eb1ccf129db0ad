"""Deadlines: the first wedge fixes the end of a dispute; what comes later counts for nothing, and then it settles.

The first plea doubles the period, a witnessed group may have none, and a body that nobody has brought is waited for.
Reckoned from the transactions and outputs of final blocks, with the words of the design.

Source: docs/design/groups.md, rules 8, 9 and 11 to 13, and "Witnessed groups".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from layer1.block import CommittedBlock
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.events import Event, GroupClosed, GroupReported
from layer1.ledger.execute import OK
from layer1.ledger.genesis import Genesis
from layer1.ledger.transactions import ChangeGroup, OpenGroup, Payload, Plea, Report, Reveal, Transaction, Wedge
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference


@dataclass
class _Dispute:
    deadline_ms: int | None
    """None if no clock ends it."""
    version: int = 0
    """The highest that was accepted in time."""
    known: bool = True
    """Whether somebody has brought its body."""
    pleaded: bool = False
    waiting: bool = False
    """It is over, but for the body."""


class Deadlines(Checker):
    """All disputes of a run."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self._height = 0
        self._windows_ms: dict[Hash, int | None] = {}
        """By group, from wedge to settlement; None if no clock settles it."""
        self._disputes: dict[Hash, _Dispute] = {}
        self._reports: dict[Hash, Report] = {}

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        height, clock = block.header.height, block.header.clock
        if height != self._height + 1:
            return
        self._height = height
        self._follow(block.events, clock, due=True)  # deadlines first: no transaction of this block was in time for one
        for transaction, output in zip(block.transactions, block.outputs, strict=True):
            if output.code == OK and output.group_id is not None:
                self._take(output.group_id, transaction.payload, clock)
            elif output.code == "stale_report":
                self._check_stale(transaction.payload)
        self._follow(block.events, clock, due=False)
        late = [group for group, dispute in self._disputes.items() if _is_over(dispute, clock)]
        if late and len(self._disputes) <= self.genesis.parameters.due_per_block:
            due = self._disputes[late[0]].deadline_ms
            self.fail(f"group {late[0].hex()[:8]} was due at {due}; after block {height}, of {clock}, it is not closed")

    def _follow(self, events: Sequence[Event], clock: int, *, due: bool) -> None:
        """What deadlines did, or what transactions did."""
        for event in events:
            if isinstance(event, GroupClosed) and due is (event.transaction_id is None):
                self._close(event, clock)
            elif isinstance(event, GroupReported) and event.revealing and due is (event.transaction_id is None):
                self._wait(event)

    def submitted(self, transaction: Transaction) -> None:
        if isinstance(transaction.payload, Report):
            self._reports[transaction.id] = transaction.payload

    def rejected(self, replica: int, ids: Sequence[Hash], refusal: Refused) -> None:
        """A replica tries reports on its last final state, so that stale ones enter no block."""
        if refusal.code == "stale_report":
            for name in ids:
                self._check_stale(self._reports.get(name))

    def _take(self, group: Hash, payload: Payload, clock: int) -> None:
        match payload:
            case OpenGroup(agreement):
                self._windows_ms[group] = _window_ms(agreement)
            case ChangeGroup(successor):
                self._windows_ms[group] = _window_ms(successor.agreement)
            case Wedge(certificate, body) | Report(_, certificate, body):
                dispute = self._dispute(group, clock)
                if certificate is None:
                    return
                if certificate.header.version > dispute.version:
                    dispute.version, dispute.known = certificate.header.version, body is not None
                elif certificate.header.version == dispute.version:
                    dispute.known = dispute.known or body is not None
            case Plea():
                dispute, window = self._dispute(group, clock), self._windows_ms[group]
                if dispute.deadline_ms is not None and window is not None and not dispute.pleaded:
                    dispute.deadline_ms += window
                dispute.pleaded = True
            case Reveal():
                self._dispute(group, clock).known = True
            case _:
                pass

    def _dispute(self, group: Hash, clock: int) -> _Dispute:
        """That of this group, from now on at the latest."""
        if group not in self._disputes:
            window = self._windows_ms[group]
            self._disputes[group] = _Dispute(None if window is None else clock + window)
        dispute = self._disputes[group]
        if _is_over(dispute, clock):
            self.fail(f"a report to group {group.hex()[:8]} counts at {clock}, due was {dispute.deadline_ms}")
        return dispute

    def _wait(self, event: GroupReported) -> None:
        dispute = self._disputes[event.group_id]
        if dispute.known and event.transaction_id is None:  # else a later transaction of the block may have brought it
            self.fail(f"group {event.group_id.hex()[:8]} waits for the body of version {event.version}, which is known")
        dispute.waiting = True

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
        if not dispute.known:
            self.fail(f"group {event.group_id.hex()[:8]} is paid by version {event.version}, whose body nobody brought")
        if dispute.deadline_ms is None or clock < dispute.deadline_ms:
            self.fail(f"group {event.group_id.hex()[:8]} settles at {clock}, due is {dispute.deadline_ms}")
        if event.version != dispute.version:
            self.fail(
                f"group {event.group_id.hex()[:8]} settles on version {event.version}, {dispute.version} was reported"
            )


def _window_ms(agreement: GroupAgreement) -> int | None:
    if agreement.witnesses:
        return agreement.witness_timeout_ms or None
    return agreement.challenge_period_ms


def _is_over(dispute: _Dispute, clock: int) -> bool:
    return not dispute.waiting and dispute.deadline_ms is not None and dispute.deadline_ms <= clock

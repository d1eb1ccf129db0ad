"""One group on layer 1, its two members, and a watchtower that may be killed between any two effects.

The core of the tower and the rules of layer 1 are the product's; its disk, its links and the blocks are simulated. What
is on the disk survives; a receipt that left is out, whatever happens after.

Source: docs/design/groups.md, rules 8 to 17; decision 032.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from msgspec import structs

from layer1.crypto import PublicKey
from layer1.errors import Refused
from layer1.ledger import disputes, settlement
from layer1.ledger.agreements import sign_claim
from layer1.ledger.records import Group, Status
from layer1.ledger.transactions import Report, Reveal, Wedge
from layer2 import tower as core
from layer2.promises import TowerReceipt, check_broken
from tests.layer2.harness import CHAIN
from tests.layer2.tower_world import POLICY, TOWER, Watched

PERIOD_MS = 60_000


class Killed(Exception):
    """The tower's process is gone, in the middle of what it did."""


class Court:
    """Layer 1 for one group: the ledger's own functions, and a clock."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.clock_ms = 5_000
        self.refused: list[str] = []

    def bring(self, payload: Wedge | Report | Reveal) -> None:
        """A transaction, in a block of its own."""
        self.clock_ms += 1
        self._fall_due()
        try:
            match payload:
                case Wedge():
                    self.group = disputes.wedge(self.group, payload, self.clock_ms)
                case Report():
                    self.group = disputes.report(self.group, payload, self.clock_ms)
                case Reveal():
                    self.group = disputes.reveal(self.group, payload.body, self.clock_ms)
        except Refused as refusal:
            self.refused.append(refusal.code)

    def wait(self, duration_ms: int) -> None:
        """Time passes, and what falls due does."""
        self.clock_ms += duration_ms
        self._fall_due()

    def _fall_due(self) -> None:
        due = self.group.deadline_ms
        if self.group.status is Status.WEDGED and due is not None and self.clock_ms >= due:
            self.group = settlement.fall_due(self.group, max(self.clock_ms, due))


@dataclass
class TowerProcess:
    """A tower: its disk, and what it did."""

    watched: Watched
    court: Court
    disk: dict[PublicKey, core.Guarded] = field(default_factory=dict)
    receipts: list[TowerReceipt] = field(default_factory=list)
    """That left, to whomever."""
    fuse: int | None = None
    """Effects until it is killed."""
    kills: int = 0

    def _burn(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.fuse = None
                self.kills += 1
                raise Killed

    def serve(self, message: core.Entrust, member: int) -> str:
        """A customer brings a version; the refusal's code, or nothing."""
        customer = self.watched.customer(member)
        held = self.disk.get(customer)
        shown = self.court.group if core.needs_look(held, message.header) else None
        visit = core.Visit(customer, message, held, shown, core.Load(0, 0), self.court.clock_ms)
        try:
            self._perform(core.entrust(POLICY, TOWER.public, visit))
        except Refused as refusal:
            return refusal.code
        except Killed:
            return "killed"
        return ""

    def look(self) -> None:
        """It looks at layer 1, as it does eight times in a period."""
        try:
            self._perform(core.answer(list(self.disk.values()), self.court.group))
        except Killed:
            pass
        for customer, guarded in list(self.disk.items()):
            if core.is_over(guarded, self.court.clock_ms):
                del self.disk[customer]

    def _perform(self, effects: list[core.Effect]) -> None:
        for effect in effects:
            self._burn()
            match effect:
                case core.Keep(guarded):
                    self.disk[guarded.customer] = guarded
                case core.Promise():
                    self.receipts.append(core.receipt_signed(effect, TOWER, CHAIN))
                case core.Show():
                    pass
                case core.Submit(report):
                    self.court.bring(report)
                case core.Drop(_, customer):
                    self.disk.pop(customer, None)
            self._burn()


class Village:
    """A group whose members sign anything, and their tower."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"{seed}/towers")
        self.watched = Watched()
        self.court = Court(self.watched.open)
        self.tower = TowerProcess(self.watched, self.court)

    def wedge(self, version: int, member: int = 1) -> None:
        """A member wedges with a version, and claims that it signed nothing above."""
        watched, origin = self.watched, self.court.group.origin
        certificate = watched.certificate(version) if version else structs.replace(self.court.group.certificate)
        body = watched.body(version) if version else self.court.group.body
        header = certificate.header if version else origin
        self.court.bring(Wedge(certificate, body, sign_claim(watched.key(member), member, version, header)))

    def settle(self) -> Group:
        """All deadlines pass; the honest member comes back and reveals what it holds (rule 12)."""
        self.court.wait(2 * PERIOD_MS)
        if self.court.group.status is Status.WEDGED:
            self.court.bring(Reveal(self.watched.id, self.watched.body(self.court.group.version)))
        assert self.court.group.status is Status.CLOSED, "the group never ended"
        return self.court.group

    def broken(self) -> list[TowerReceipt]:
        """Receipts of which anybody could show that the tower broke them."""
        found = []
        for receipt in self.tower.receipts:
            try:
                check_broken(CHAIN, receipt, self.court.group)
            except Refused:
                continue
            found.append(receipt)
        return found


def check_money(village: Village) -> None:
    """What was locked is paid out, bounties among it, and who did not lie keeps its bond."""
    group = village.court.group
    paid = sum(group.payouts) + sum(bounty.units for bounty in group.bounties)
    assert paid == group.agreement.funding_units + group.agreement.bond_units, "money was made or lost"
    assert group.forfeits[0] is None, "the honest member was slashed"

"""A group, its certified versions, and a watchtower's entries of it: what the tests of towers share."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import structs

from layer1.crypto import ZERO_HASH, PublicKey, SigningKey
from layer1.ledger import records as ledger
from layer1.ledger.agreements import (
    Body,
    Certificate,
    Delegation,
    GroupAgreement,
    GroupHeader,
    sign_delegation,
    sign_state,
)
from layer1.ledger.genesis import Parameters
from layer1.ledger.opening import open_group
from layer2.sealing import seal_body
from layer2.tower import Effect, Entrust, Guarded, Keep, Load, Policy, Visit, entrust
from tests.layer2.harness import CHAIN, agreement, key

TOWER, PAYOUT = key("tower"), key("tower's savings").public
POLICY = Policy(
    payout=PAYOUT, least_bounty=5, keep_ms=1_000_000, least_period_ms=1_000, max_groups=10, max_groups_each=3
)
CLOCK_MS = 5_000


@dataclass
class Watched:
    """One group that a tower guards; both members are its customers."""

    terms: GroupAgreement = field(default_factory=agreement)
    epoch: int = 0

    def __post_init__(self) -> None:
        self.open = open_group(self.terms, bytes(32), self.terms.chain_id, Parameters(), 1_000)
        self.id = self.open.group_id
        self.held: dict[PublicKey, Guarded] = {}

    def key(self, member: int) -> SigningKey:
        return key(f"group {member}")

    def customer(self, member: int) -> PublicKey:
        return self.terms.members[member].funding

    def body(self, version: int) -> Body:
        paid = min(version, 1000)
        return Body((1000 - paid, 1000 + paid), b"", (version, 0), version.to_bytes(16, "big"))

    def header(self, version: int) -> GroupHeader:
        return GroupHeader(CHAIN, self.id, self.epoch, version, ZERO_HASH, ZERO_HASH, self.body(version).hash)

    def certificate(self, version: int) -> Certificate:
        header = self.header(version)
        return Certificate(header, tuple(sign_state(self.key(i), header) for i in range(len(self.terms.members))))

    def delegation(self, member: int, bounty: int = 5, payout: PublicKey = PAYOUT) -> Delegation:
        return sign_delegation(self.key(member), CHAIN, Delegation(self.id, self.epoch, member, payout, bounty, b""))

    def message(self, version: int, member: int = 0, bounty: int = 5) -> Entrust:
        sealed = seal_body(self.key(member), self.header(version), self.body(version))
        return Entrust(self.certificate(version), sealed, self.delegation(member, bounty))

    def visit(self, message: Entrust, member: int = 0, clock_ms: int = CLOCK_MS, load: Load | None = None) -> Visit:
        customer = self.customer(member)
        return Visit(customer, message, self.held.get(customer), self.open, load or Load(0, 0), clock_ms)

    def entrust(self, version: int, member: int = 0, bounty: int = 5) -> list[Effect]:
        effects = entrust(POLICY, TOWER.public, self.visit(self.message(version, member, bounty), member))
        for effect in effects:
            if isinstance(effect, Keep):
                self.held[effect.guarded.customer] = effect.guarded
        return effects

    def wedged(self, version: int, by: int = 1, clock_ms: int = 10_000) -> ledger.Group:
        """Layer 1 after a wedge with this version."""
        certificate = self.certificate(version) if version else Certificate(self.open.origin, ())
        return structs.replace(
            self.open,
            status=ledger.Status.WEDGED,
            certificate=certificate,
            wedged_by=by,
            wedged_clock_ms=clock_ms,
            deadline_ms=clock_ms + self.terms.challenge_period_ms,
        )

    def closed(self, version: int, clock_ms: int = 10_000) -> ledger.Group:
        """Layer 1 after the deadline of a dispute that began at `clock_ms`."""
        wedged = self.wedged(version, clock_ms=clock_ms)
        return structs.replace(
            wedged,
            status=ledger.Status.CLOSED,
            reason=ledger.Reason.DEADLINE,
            closed_clock_ms=wedged.deadline_ms,
        )

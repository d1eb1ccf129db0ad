"""What all people of a network know: who has channels with whom, and what payer and payee agreed on.

They know it over all lives of their wallets, as invoices and payments are durable before anything follows from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from layer1.crypto import Hash
from tests.simulation.groups.wallet import wallet_keys
from tests.simulation.networks.member import FEE, MARGIN_MS
from wallet.onion.packet import Binding, Origin, build
from wallet.onion.route import Hop, Route

LONGEST_MS = 8 * MARGIN_MS
"""No lock is offered that lives longer."""
MOST_HOPS = 3


@dataclass(frozen=True)
class Plan:
    """What a payee is going to do with a lock."""

    intent: str
    """claim, release or forget."""
    left_ms: int
    """It does so when so much of the lock's time is left, or at once, if less is left."""


Draw = Callable[[Random], Plan]


def any_plan(random: Random) -> Plan:
    """Most are claimed at once; some late, or not at all."""
    intent = random.choices(("claim", "release", "forget"), (7, 2, 1))[0]
    return Plan(intent, LONGEST_MS if random.random() < 0.6 else random.randint(0, 5 * MARGIN_MS))


@dataclass(frozen=True)
class Payment:
    """One attempt of one person to pay another."""

    preimage: bytes
    path: tuple[int, ...]
    """Wallets, payer and payee included."""
    amount: int
    """What the payee is to get."""
    plan: Plan
    short: int = 0
    """Its payer leaves so much less to the first hub than that asks for."""

    @property
    def hash(self) -> Hash:
        """Of all its locks."""
        return sha256(self.preimage).digest()

    @property
    def sent(self) -> int:
        """What the payer locks: all hubs take their fee."""
        return self.amount + FEE * (len(self.path) - 2) - self.short


@dataclass
class Town:
    """Of one run."""

    chain_id: Hash
    channels: list[tuple[Hash, tuple[int, int]]] = field(default_factory=list)
    """Group and its two wallets."""
    payments: dict[Hash, list[Payment]] = field(default_factory=dict)
    """By hash, all attempts; they have one payer and one payee."""

    def neighbours(self, seat: int) -> Iterator[tuple[Hash, int]]:
        """Channels of a wallet, and with whom."""
        for group_id, (a, b) in self.channels:
            if seat in (a, b):
                yield group_id, b if seat == a else a

    def draw_path(self, random: Random, payer: int) -> tuple[int, ...]:
        """Over up to two hubs."""
        path = [payer]
        while len(path) <= MOST_HOPS and (len(path) == 1 or random.random() < 0.6):
            onward = sorted({seat for _, seat in self.neighbours(path[-1]) if seat not in path})
            if not onward:
                break
            path.append(random.choice(onward))
        return tuple(path)

    def draw_payment(self, random: Random, payer: int, plan: Plan, amount: int) -> Payment:
        """A new one; now and then one more part of a payment that was begun."""
        mine = [each for attempts in self.payments.values() for each in attempts if each.path[0] == payer]
        if mine and random.random() < 0.05:
            return random.choice(mine)
        path = self.draw_path(random, payer)
        short = random.randint(1, FEE) if len(path) > 2 and random.random() < 0.05 else 0
        return Payment(random.randbytes(32), path, amount, plan, short)

    def packet(self, payment: Payment, group_id: Hash, expiry_ms: int, session: bytes) -> tuple[bytes, Origin]:
        """For the hops of a payment."""
        nodes = [wallet_keys(seat).spending.public for seat in payment.path[1:]]
        amounts = [payment.amount + FEE * (len(nodes) - 1 - place) for place in range(len(nodes))]
        amounts[0] = payment.sent
        route = Route(group_id, tuple(map(Hop, nodes, amounts)), expiry_ms)
        binding = Binding(self.chain_id, payment.hash, expiry_ms)
        return build(route, binding, session, total=payment.amount, payment_secret=payment.hash[:16])

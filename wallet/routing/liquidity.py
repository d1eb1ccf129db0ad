"""What is known of where the money in a channel is, and the chance that it suffices.

*Model.* Of a channel with capacity c, the first node's balance x is anywhere between two bounds `low` and `high`, each
value as likely as the others; at first low = 0 and high = c. The first node can send a with the chance P(x >= a) =
(high + 1 - a) / (high + 1 - low), cut to 0..1; the second has c - x. What payments teach moves the bounds:

- a hop refused to send a for want of money: x < a;
- a lock of a stood there and was taken back, since a later hop refused: x >= a;
- a was paid: x >= a, and x is a less now.

*Forgetting.* Balances move by others' payments. A bound drifts back to where it was at first, half of the way in each
half-life. A bound that contradicts the other pushes it away: what was learnt last counts.

Source: Pickhardt, Tikhomirov, Biryukov, Nowostawski: Security and Privacy of Lightning Network Payments with
Uncertain Channel Balances (2021), section 3 (uniform prior, conditional on failures and successes).
Deviation: bounds decay, so that a failure of yesterday bars nothing today.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

HALF_LIFE_MS = 3_600_000
"""After an hour half of what was learnt is forgotten."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of the first node's balance in a channel, as of one moment."""

    capacity: int
    low: float
    """At least so much; 0 <= low <= high."""
    high: float
    """At most so much; high <= capacity."""
    at_ms: int = 0
    """When that was known, on this machine's clock."""

    @classmethod
    def unknown(cls, capacity: int) -> Bounds:
        """Before anything was learnt."""
        return cls(capacity, 0.0, float(capacity))

    def at(self, now_ms: int, half_life_ms: int = HALF_LIFE_MS) -> Bounds:
        """The same after some time: both bounds have drifted back."""
        left = 0.5 ** (max(now_ms - self.at_ms, 0) / half_life_ms)
        return replace(self, low=self.low * left, high=self.capacity - (self.capacity - self.high) * left, at_ms=now_ms)

    def flipped(self) -> Bounds:
        """The same, told of the second node's balance."""
        return replace(self, low=self.capacity - self.high, high=self.capacity - self.low)

    def chance(self, amount: int) -> float:
        """That the first node can send `amount` minor units; 0 to 1."""
        return chance(self.low, self.high, amount)

    def cannot_send(self, amount: int) -> Bounds:
        """The first node refused to send so much."""
        high = min(self.high, max(float(amount - 1), 0.0))
        return replace(self, low=min(self.low, high), high=high)

    def can_send(self, amount: int) -> Bounds:
        """The first node could have sent so much: a lock stood there, and was taken back."""
        low = max(self.low, min(float(amount), float(self.capacity)))
        return replace(self, low=low, high=max(self.high, low))

    def sent(self, amount: int) -> Bounds:
        """The first node has paid so much."""
        could = self.can_send(amount)
        return replace(could, low=max(could.low - amount, 0.0), high=max(could.high - amount, 0.0))


def chance(low: float, high: float, amount: int) -> float:
    """P(x >= amount) for x uniform on the integers low..high."""
    return min(max((high + 1 - amount) / (high + 1 - low), 0.0), 1.0)

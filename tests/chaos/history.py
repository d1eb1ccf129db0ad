"""What clients did and saw: transfers of amounts that cannot be confused, and reads of balances.

Every transfer of an account has an amount of its own, a power of two. So one balance tells which of the account's
transfers it holds, incoming and outgoing ones, and a history of balances is one of sets.

Units: times are monotonic seconds, amounts minor units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

EXPONENTS = 45
"""Transfers that one account can have: 32 accounts with 2^45 each stay below all the money there may be (2^53)."""


@dataclass(frozen=True, slots=True)
class Move:
    """A transfer that a client means to make."""

    sender: int
    """Index of an account."""
    recipient: int
    amount: int
    """A power of two that neither account has in another transfer."""


@dataclass(slots=True, eq=False)
class Write:
    """A transfer that was brought to the ledger."""

    client: int
    move: Move
    invoked: float
    returned: float = math.inf
    """When it was acknowledged as final; infinite while its fate is unknown."""
    dead: bool = False
    """It is known that it never executes."""

    def __str__(self) -> str:
        move, fate = self.move, "dead" if self.dead else "unknown"
        if self.returned < math.inf:
            fate = f"final at {self.returned:.3f}"
        return (
            f"client {self.client} at {self.invoked:.3f} moves 2^{move.amount.bit_length() - 1} "
            f"from {move.sender} to {move.recipient}: {fate}"
        )


@dataclass(slots=True, eq=False)
class Read:
    """A balance that a client was given."""

    client: int
    account: int
    balance: int
    invoked: float
    returned: float

    def __str__(self) -> str:
        return (
            f"client {self.client} from {self.invoked:.3f} to {self.returned:.3f} reads {self.balance:,} on "
            f"account {self.account}"
        )


@dataclass(slots=True)
class History:
    """All operations, in no order."""

    balances: Sequence[int]
    """Of the genesis, by account."""
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)

    def seen(self, read: Read) -> frozenset[Write]:
        """Which transfers of its account a balance holds.

        Raises:
            ValueError: It is no sum of transfers that were ever made.
        """
        own = {write.move.amount: write for write in self.writes if read.account in _accounts(write.move)}
        spent = {amount for amount, write in own.items() if write.move.sender == read.account}
        # Each incoming transfer that executed and each outgoing one that did not is one bit of this.
        bits = read.balance - self.balances[read.account] + sum(spent)
        if bits < 0 or bits & ~sum(own):
            raise ValueError(f"{read}, which no transfers make of {self.balances[read.account]:,}")
        return frozenset(write for amount, write in own.items() if bool(bits & amount) != (amount in spent))


def _accounts(move: Move) -> tuple[int, int]:
    return move.sender, move.recipient


def plan_moves(accounts: int, random: Random) -> Iterator[Move]:
    """Random transfers between accounts, until one of those drawn has no amount left."""
    free: Mapping[int, set[int]] = {account: set(range(EXPONENTS)) for account in range(accounts)}
    while True:
        sender, recipient = random.sample(range(accounts), 2)
        both = free[sender] & free[recipient]
        if not both:
            return
        exponent = min(both)
        free[sender].discard(exponent)
        free[recipient].discard(exponent)
        yield Move(sender, recipient, 1 << exponent)

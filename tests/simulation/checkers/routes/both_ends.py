"""Both ends: no payment is credited twice, none is paid that was not asked for, and where all on its way are honest its
two ends agree: what one paid, less the fees, the other has.

Whoever offers a lock under a hash whose preimage is out gives it away to any hop: of a payment that was made more than
once, as no wallet of ours does, some of it arrives if any of it was paid (decision 041, "What is durable").

Source: issue 6: "no payment credited twice", "every payment ends as paid, failed or refunded, with both ends agreeing".
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from layer1.crypto import Hash
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts
from tests.simulation.checkers.routes.flows import Flow, Flows, flows
from tests.simulation.networks.town import Payment, Town


class BothEnds(GroupChecker):
    """Payer and payee."""

    def __init__(self, facts: Facts, town: Town, honest: AbstractSet[int]) -> None:
        """`honest` are wallets that follow the protocol, and never lost data."""
        super().__init__(facts)
        self._town, self._honest = town, honest

    def finish(self) -> None:
        found = flows(self.facts)
        for hashed, attempts in self._town.payments.items():
            self._check(hashed, attempts, found)

    def _check(self, hashed: Hash, attempts: list[Payment], found: Flows) -> None:
        payer, payee = attempts[0].path[0], attempts[0].path[-1]
        name = f"payment {hashed.hex()[:8]} of wallet {payer} to wallet {payee}"
        paid, got = found.get((payer, hashed), Flow()), found.get((payee, hashed), Flow())
        if payer in self._honest and paid.went_locks > len(attempts):
            self.fail(f"{name} was made {len(attempts)} times, and is paid {paid.went_locks} times")
        if payer in self._honest and paid.went > sum(each.sent for each in attempts):
            self.fail(f"{name} costs {paid.went} units, and {sum(each.sent for each in attempts)} were asked for")
        if {seat for each in attempts for seat in each.path} <= self._honest:
            made_once = len(attempts) == 1
            agree = got.came_locks == paid.went_locks if made_once else 0 < got.came_locks <= paid.went_locks
            if not agree and (paid.went_locks or got.came_locks):
                self.fail(f"{name} is paid {paid.went_locks} times, and credited {got.came_locks} times")
            if made_once and got.came_locks and (got.came, paid.went) != (attempts[0].amount, attempts[0].sent):
                self.fail(f"{name} of {attempts[0].amount} units brings {got.came}, and costs {paid.went}")
        elif payee in self._honest and got.came_locks > len(attempts) and payer in self._honest:
            self.fail(f"{name} was made {len(attempts)} times, and is credited {got.came_locks} times")

"""A payment in several parts: through several channels, or where no single one suffices.

*Algorithm.* A payment goes in one part if that has a chance of at least :data:`GOOD`. Else it is also tried in two
halves, each by the same rule, the second one knowing what the first takes; and the cheaper of both ways is taken, the
price of the risk counted as in `wallet.routing.search`. The first half may spend its share of the largest fee, the
second what is left. Halving ends at `max_parts` parts, or at :data:`LEAST_PART` units. Nothing is tried that is not as
cheap as searching: of n parts at most 2 n searches are made. All of them share their prices, and what is known of the
network from below: only for each size of part is that found anew (`wallet.routing.prices`).

Parts pay with one hash and one expiry; the payee claims them together or not at all.

Source: docs/decisions/039. Deviation from Pickhardt and Richter (2021), who solve one min-cost flow: a base fee per
part makes the flow problem hard, and halving keeps exact fees and limits for at most a few percent more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from layer1.errors import Refused, check
from wallet.routing.network import Network
from wallet.routing.paths import Direction, Path, Query
from wallet.routing.prices import Prices
from wallet.routing.search import find_part

MAX_PARTS = 16
Taken = Mapping[Direction, int]
"""What parts that were found take; minor units."""
LEAST_PART = 2
"""Minor units that are still halved."""
GOOD = 0.8
"""A single path with this chance is not worth dividing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of one payment."""

    parts: tuple[Path, ...]

    @property
    def amount(self) -> int:
        """What arrives, minor units."""
        return sum(part.amount for part in self.parts)

    @property
    def fee(self) -> int:
        """What all hops keep."""
        return sum(part.fee for part in self.parts)

    @property
    def cost(self) -> float:
        """Fees and the price of the risk."""
        return sum(part.cost for part in self.parts)

    @property
    def chance(self) -> float:
        """That all parts work at the first try."""
        return prod(part.chance for part in self.parts)


def find_plan(network: Network, query: Query, max_parts: int = MAX_PARTS) -> Plan:
    """The parts in which to pay. `query.max_fee` holds for all together.

    Raises:
        Refused: As :func:`find_path`, if there is no way in at most so many parts.
    """
    check(query.amount >= 1, "bad_amount", f"a payment of {query.amount} units; the least is 1")
    prices = Prices(network, replace(query, aversion=query.price))  # of the whole: halves are not worth half as much
    return _plan(prices, query.amount, query.max_fee, {}, max_parts)


def _plan(prices: Prices, amount: int, max_fee: int, taken: Taken, max_parts: int) -> Plan:
    if amount > prices.room(taken):
        raise Refused("no_route", f"no paths together carry {amount} units")
    whole, refusal = None, None
    try:
        whole = Plan((find_part(prices, amount, max_fee, taken),))
    except Refused as error:
        refusal = error
        if error.code != "no_route":
            raise
    if max_parts < 2 or amount < LEAST_PART or (whole is not None and whole.chance >= GOOD):
        return _either(whole, None, refusal)
    try:
        halves = _halves(prices, amount, max_fee, taken, max_parts)
    except Refused as error:
        return _either(whole, None, refusal or error)
    return _either(whole, halves, refusal)


def _either(whole: Plan | None, halves: Plan | None, refusal: Refused | None) -> Plan:
    found = [plan for plan in (whole, halves) if plan is not None]
    if not found:
        assert refusal is not None, "there is no plan for a reason"
        raise refusal
    return min(found, key=lambda plan: (plan.cost, len(plan.parts)))


def _halves(prices: Prices, amount: int, max_fee: int, taken: Taken, max_parts: int) -> Plan:
    larger = amount - amount // 2
    share = -(-max_fee * larger // amount)
    first = _plan(prices, larger, share, taken, max_parts // 2)
    rest = max_fee - first.fee, in_flight(taken, first), max_parts - len(first.parts)
    second = _plan(prices, amount - larger, *rest)
    return Plan((*first.parts, *second.parts))


def in_flight(before: Mapping[Direction, int], plan: Plan) -> dict[Direction, int]:
    """What is taken of each channel, and direction, once these parts are under way."""
    taken = dict(before)
    for leg in (leg for part in plan.parts for leg in part.legs):
        taken[leg.direction] = taken.get(leg.direction, 0) + leg.amount
    return taken

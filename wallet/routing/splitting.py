"""A payment in several parts: through several channels, or where no single one suffices.

*Algorithm.* A payment goes in one part if that has a chance of at least :data:`GOOD`. Else it is also tried in two
halves, each by the same rule, the second one knowing what the first takes; and the cheaper of both ways is taken, the
price of the risk counted as in `wallet.routing.search`. The first half may spend its share of the largest fee, the
second what is left. Halving ends at `max_parts` parts, or at :data:`LEAST_PART` units. Nothing is tried that is not as
cheap as searching: of n parts at most 2 n searches are made.

Parts pay with one hash and one expiry; the payee claims them together or not at all.

Source: docs/decisions/039. Deviation from Pickhardt and Richter (2021), who solve one min-cost flow: a base fee per
part makes the flow problem hard, and halving keeps exact fees and limits for at most a few percent more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from layer1.errors import Refused
from wallet.routing.network import Network
from wallet.routing.paths import Direction, Path, Query
from wallet.routing.search import find_path

MAX_PARTS = 16
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
    query = replace(query, aversion=query.price)  # of the whole: halves are not worth half as much
    return _plan(network, query, max_parts)


def _plan(network: Network, query: Query, max_parts: int) -> Plan:
    whole, refusal = None, None
    try:
        whole = Plan((find_path(network, query),))
    except Refused as error:
        refusal = error
        if error.code != "no_route":
            raise
    if max_parts < 2 or query.amount < LEAST_PART or (whole is not None and whole.chance >= GOOD):
        return _either(whole, None, refusal)
    try:
        halves = _halves(network, query, max_parts)
    except Refused as error:
        return _either(whole, None, refusal or error)
    return _either(whole, halves, refusal)


def _either(whole: Plan | None, halves: Plan | None, refusal: Refused | None) -> Plan:
    found = [plan for plan in (whole, halves) if plan is not None]
    if not found:
        assert refusal is not None, "there is no plan for a reason"
        raise refusal
    return min(found, key=lambda plan: (plan.cost, len(plan.parts)))


def _halves(network: Network, query: Query, max_parts: int) -> Plan:
    larger = query.amount - query.amount // 2
    share = -(-query.max_fee * larger // query.amount)
    first = _plan(network, replace(query, amount=larger, max_fee=share), max_parts // 2)
    taken = in_flight(query.in_flight, first)
    rest = replace(query, amount=query.amount - larger, in_flight=taken, max_fee=query.max_fee - first.fee)
    second = _plan(network, rest, max_parts - len(first.parts))
    return Plan((*first.parts, *second.parts))


def in_flight(before: Mapping[Direction, int], plan: Plan) -> dict[Direction, int]:
    """What is taken of each channel, and direction, once these parts are under way."""
    taken = dict(before)
    for leg in (leg for part in plan.parts for leg in part.legs):
        taken[leg.direction] = taken.get(leg.direction, 0) + leg.amount
    return taken

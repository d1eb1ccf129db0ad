"""Routes of an open wallet: `Wallet.routes`.

    await wallet.routes.ready(report)
    found = wallet.routes.find(Wish(payee, 2_500, expiry_ms))
    ...                                                     # lock along found.route
    wallet.routes.learn(found, Outcome.refused(1, Code.NO_LIQUIDITY))

The search, and the libraries that it takes, are loaded when somebody asks for a route: a wallet that never does pays
nothing for them.

Source: docs/design/groups.md, rules 21 to 23; decisions 039 and 042.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from layer1.crypto import Hash, PublicKey
from layer1.errors import Refused, check
from layer1.ledger.genesis import MAX_MONEY
from wallet.invoices.invoice import MAX_HINTS, Hint
from wallet.onion.failure import Code
from wallet.onion.route import Route
from wallet.requests import Report, no_report
from wallet.routing.bottleneck import NONE_OF_OURS, Attempt, Known, explain
from wallet.routing.graph import ChannelGraph
from wallet.routing.learning import Failure, Learnt, Try, learn
from wallet.routing.paths import Direction, Leg, Path, Query

if TYPE_CHECKING:
    from wallet.routing.network import Network

REBUILD_MS = 10_000
"""A network that lacks some of the newest channels is good for so long."""
FEW = 100
"""Of so many channels, one new one is reason enough to compile the network anew."""
MAX_PARTS = 16
FEW_PARTS = 4
"""In so many at most, when it is to be found why there is no way."""
OF_AMOUNT = (Code.NO_LIQUIDITY, Code.AMOUNT_TOO_LARGE)
"""After which less may pass."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A payment, or a part of one, for which a route is wanted."""

    payee: PublicKey
    """Its identity; our own for a circle."""
    amount: int
    """Minor units that arrive."""
    expiry_ms: int
    """Of all its locks, on the ledger clock (rule 22)."""
    max_fee: int = MAX_MONEY
    """Minor units; of all parts together."""
    avoid: frozenset[Direction] = frozenset()
    """Not to be used by this payment; what failed lately for other payments is left out by itself."""
    in_flight: Mapping[Direction, int] = field(default_factory=dict)
    """Minor units that its other parts take."""
    hints: tuple[Hint, ...] = ()
    """From its invoice."""
    first: Hash | None = None
    """The channel of ours to leave by."""
    last: Hash | None = None
    """The channel of ours to come back by, in a circle."""
    max_parts: int = MAX_PARTS


@dataclass(frozen=True, slots=True)
class Found:
    """A route, and what is thought of it."""

    route: Route
    path: Path

    @property
    def fee(self) -> int:
        """What the hops between keep, minor units."""
        return self.path.fee

    @property
    def chance(self) -> float:
        """That it works, 0 to 1."""
        return self.path.chance

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Its locks, from ours on: over which channel, from whom to whom, how much, at which fee and chance."""
        return self.path.legs

    def leg_of(self, place: int) -> Leg | None:
        """The lock that a hop did not offer, by its number in `Route.hops`; -1 for ourselves, None for the payee."""
        return self.legs[place + 1] if -1 <= place < len(self.legs) - 1 else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a lock along a route."""

    is_paid: bool
    place: int | None = None
    """Who refused: its number in `Route.hops`; -1 for ourselves; None if it did not say so legibly, or in time."""
    code: Code | None = None
    """What it said, if anything."""

    @classmethod
    def paid(cls) -> Self:
        """The preimage was seen."""
        return cls(True)

    @classmethod
    def refused(cls, place: int, code: Code | None) -> Self:
        """A hop said so: what is in `Told`. Place -1 if we could not offer the first lock."""
        return cls(False, place, code)

    @classmethod
    def lost(cls) -> Self:
        """Some hop kept it until it expired, or made the failure unreadable; nobody knows which."""
        return cls(False)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a desk needs of its wallet."""

    address: PublicKey
    """Ours."""
    spendable: Callable[[], Mapping[Hash, int]]
    """What a lock can send now over each channel of ours that is open and connected, minor units."""
    receivable: Callable[[], Mapping[Hash, int]]
    """What its peer can send us, likewise."""
    clock_ms: Callable[[], int]
    """The ledger clock."""
    now_ms: Callable[[], int]
    """This machine's."""
    money: Callable[[int], str] = lambda units: f"{units} units"
    """How people read an amount."""
    read: Callable[[Report], Awaitable[None]] | None = None
    """Reads the graph, once, and has it followed; None if it is all there."""


class RouteDesk:
    """Finds routes, and learns from what became of them."""

    def __init__(self, graph: ChannelGraph, surroundings: Surroundings) -> None:
        self.graph = graph
        self._around = surroundings
        self._learnt = Learnt()
        self._network: Network | None = None
        self._compiled_ms = 0

    async def ready(self, report: Report = no_report) -> None:
        """Return when the graph is read; it is followed from then on.

        Without a ledger that answers, what is known by then has to do: our own channels, and what neighbours say.
        """
        if self._around.read is not None:
            await self._around.read(report)

    def find(self, wish: Wish) -> Found:
        """The best route for all of it in one part.

        Raises:
            Refused: ``no_route``, which names the bottleneck and the remedy; ``unknown_node``, ``bad_amount`` or
                ``bad_channel``.
        """
        from wallet.routing.search import find_path  # noqa: PLC0415 - only when needed

        network, query = self._compiled(wish), self._query(wish)
        try:
            return self._found(find_path(network, query), wish)
        except Refused as refusal:
            raise self._why(refusal, query, lambda other: find_path(network, other), in_parts=False) from None

    def split(self, wish: Wish) -> tuple[Found, ...]:
        """The best routes for all of it, in as many parts as help; `max_fee` is that of all together.

        Raises:
            Refused: As :meth:`find`.
        """
        from wallet.routing.splitting import find_plan  # noqa: PLC0415 - only when needed

        network, query = self._compiled(wish), self._query(wish)
        try:
            plan = find_plan(network, query, wish.max_parts)
        except Refused as refusal:
            attempt = lambda other: find_plan(network, other, min(wish.max_parts, FEW_PARTS))  # noqa: E731
            raise self._why(refusal, query, attempt, in_parts=wish.max_parts > 1) from None
        return tuple(self._found(path, wish) for path in plan.parts)

    def learn(self, found: Found, outcome: Outcome) -> None:
        """Remember what became of a route: the next search knows it."""
        now_ms = self._around.now_ms()
        for tried in _tries(found, outcome):
            learn(self._learnt, self.graph.channels, tried, now_ms)
        self._learnt.forget(now_ms)
        if self._network is not None:
            for leg in found.legs:
                if (known := self._learnt.of(leg.channel)) is not None:
                    self._network.teach(leg.channel, known)

    def hints(self) -> tuple[Hint, ...]:
        """Over whom we are reached, for our invoices: the neighbours that can send us most, by their own terms."""
        found = []
        for channel_id, units in self._around.receivable().items():
            peer = self._peer(channel_id)
            terms = None if peer is None else self.graph.terms(channel_id, peer)
            if peer is not None and terms is not None and terms.enabled and units >= terms.min_amount:
                found.append((units, Hint(peer, channel_id, terms.fee_base, terms.fee_ppm)))
        return tuple(hint for _, hint in sorted(found, key=lambda each: -each[0])[:MAX_HINTS])

    def _peer(self, channel_id: Hash) -> PublicKey | None:
        channel = self.graph.channels.get(channel_id)
        others = () if channel is None else [node for node in channel.nodes if node != self._around.address]
        return next(iter(others), None)

    def _query(self, wish: Wish) -> Query:
        now_ms = self._around.now_ms()
        return Query(
            self._around.address,
            wish.payee,
            wish.amount,
            self._around.spendable(),
            max_fee=wish.max_fee,
            life_ms=wish.expiry_ms - self._around.clock_ms(),
            now_ms=now_ms,
            avoid=wish.avoid | self._learnt.resting(now_ms),
            in_flight=wish.in_flight,
            first=wish.first,
            last=wish.last,
            hints=wish.hints,
        )

    @staticmethod
    def _found(path: Path, wish: Wish) -> Found:
        return Found(path.route(wish.expiry_ms), path)

    def _why(self, refusal: Refused, query: Query, attempt: Attempt, *, in_parts: bool) -> Refused:
        if refusal.code != "no_route":
            return refusal
        longest_ms = 0.0 if self._network is None else self._network.longest_ms
        known = Known(longest_ms, any(self._learnt.bounds()))
        return explain(query, attempt, self._around.money, known, in_parts=in_parts)

    def _compiled(self, wish: Wish) -> Network:
        """The graph as arrays, as new as this search needs it. What has changed may end a rest: query it afterwards."""
        check(bool(self._around.spendable()), "no_route", NONE_OF_OURS)
        now_ms = self._around.now_ms()
        if self._network is None or self._is_stale(self._network, wish, now_ms):
            from wallet.routing.network import Network  # noqa: PLC0415 - only when needed

            self.graph.changed = set()
            self._network, self._compiled_ms = Network(self.graph, self._learnt.bounds()), now_ms
        changed, self.graph.changed = self.graph.changed or set(), set()
        for topic in changed:
            self._refresh(self._network, *topic)
        return self._network

    def _is_stale(self, network: Network, wish: Wish, now_ms: int) -> bool:
        """Whether channels are missing that matter: ours, the payee's, many, or some for long."""
        missing = self.graph.opened - network.opened
        ours = any(network.edge(channel, self._around.address) is None for channel in self._around.spendable())
        matters = ours or wish.payee not in network.number or missing * FEW > len(self.graph.channels)
        return missing > 0 and (matters or not 0 <= now_ms - self._compiled_ms < REBUILD_MS)

    def _refresh(self, network: Network, channel_id: Hash, node: PublicKey) -> None:
        """Put in what has changed since."""
        if channel_id not in self.graph.channels:
            network.close(channel_id)
        elif (terms := self.graph.terms(channel_id, node)) is not None:
            network.announce(terms)
            self._learnt.wake((channel_id, node))


def _tries(found: Found, outcome: Outcome) -> list[Try]:
    """What an outcome says of the locks: those before the one that was not made stood, and came back."""
    path, place = found.path, outcome.place
    if outcome.is_paid:
        return [Try(path)]
    if place is None:
        return [Try(path, number, only=True) for number in range(1, len(path.legs))]
    if not 0 <= place < len(path.legs):
        return []  # we could not offer it ourselves: what our channels can do, we know
    return [Try(path, place + 1, Failure.LIQUIDITY if outcome.code in OF_AMOUNT else Failure.OTHER)]

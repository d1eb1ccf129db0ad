"""One scenario: which replica has a twin, where terms and views begin, and how the network is cut in each round.

Rounds are delimited in one of two ways. *By view*, as in the paper: the partition of round r decides whom messages
about the r-th view reach, from the first such message on for `round_ms`. *By time*: it decides whom messages sent
between r and r + 1 times `round_ms` reach; so it can cut a proposal from its votes and votes from their certificate.
After the last round everything gets through, and all honest replicas must finalize new blocks within a bound.

Source: Bano et al., Twins: BFT Systems Made Robust (OPODIS 2021), section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from layer1.consensus.core import Consensus
from tests.layer1.consensus.network import config, verify
from tests.simulation.kernel import breakdown
from tests.simulation.result import Result
from tests.simulation.twins.network import DELAY_MS, Cut, MakeCore, Network
from tests.simulation.twins.partitions import Partition, random_partition, sequences

TIMERS: dict[str, Any] = {
    "view_timeout_ms": 100,
    "rebroadcast_ms": 50,
    "stall_timeout_ms": 200,
    "inclusion_timeout_ms": 1_000,
    "max_view_timeout_ms": 400,
    "max_term_ms": 2_000,
    "heartbeat_ms": 1_000,
    "drift_bound_ms": 400,
}
"""In proportion to a delay of 10 ms, as on a fast network: a view takes three delays, and a timeout three views."""
MAX_REMEMBERED = 100_000
"""Signature checks; then the memo starts anew."""
NEW_BLOCKS = 2
"""That every honest replica must call final after the last round."""


class StuckError(AssertionError):
    """A healed network did not go on."""


@dataclass(frozen=True)
class Options:
    """All that a run follows from."""

    seed: int
    """Its number among those of its kind."""
    kind: str
    """``exhaustive`` or ``random``."""
    replicas: int
    twins: tuple[int, ...]
    """Which replicas have one."""
    term_views: int
    first_view: int
    by_view: bool
    round_ms: int
    rounds: tuple[Partition, ...]
    """By round, the part of each instance: first one of every replica, then the twins."""

    def __str__(self) -> str:
        how = f"of {self.round_ms} ms" + (" from the first message of their view on" if self.by_view else "")
        cuts = " ".join("".join(map(str, partition)) for partition in self.rounds)
        return (
            f"{self.kind} {self.seed}: {self.replicas} replicas, twins of {', '.join(map(str, self.twins))}, terms of "
            f"{self.term_views}, from view {self.first_view} on, rounds {how}: {cuts}"
        )


# ------------------------------------------------------------------------------------------------ all small scenarios

SMALL_REPLICAS = 4
SMALL_ROUNDS = 3
SMALL_PARTS = 2
SMALL_ROUND_MS: dict[bool, tuple[int, ...]] = {True: (150,), False: (DELAY_MS, 150)}
"""By view: a round outlasts a timeout. By time: a round is one step of all messages, or outlasts a timeout."""
SHAPES = tuple(
    (twin, term_views, first_view, by_view, round_ms)
    for by_view, lengths in SMALL_ROUND_MS.items()
    for round_ms in lengths
    for term_views in (1, 2, 3)
    for first_view in range(1, term_views + 1)
    for twin in range(SMALL_REPLICAS)
)
"""Which replica has the twin, L, where in a term it begins, how rounds are delimited.

Later first views only rename replicas, and which replica leads first does not matter when every one has the twin once.
"""


def small_sequences() -> tuple[tuple[Partition, ...], ...]:
    """All ways to cut four replicas and a twin into at most two parts, three times, up to swapping the twins.

    The twin of replica t stands last; a sequence is written for t = 0.
    """
    return sequences(SMALL_REPLICAS + 1, SMALL_PARTS, SMALL_ROUNDS, (0, SMALL_REPLICAS))


def small_count() -> int:
    """How many small scenarios there are."""
    return len(SHAPES) * len(small_sequences())


def small_in_words() -> str:
    """The bound of the small scenarios."""
    return (
        f"{small_count():,} small scenarios: {SMALL_REPLICAS} replicas, one with a twin; {SMALL_ROUNDS} rounds, "
        f"each with any cut into at most {SMALL_PARTS} parts ({len(small_sequences()):,} sequences up to swapping the "
        f"twins); in {len(SHAPES)} shapes: whose twin, terms of 1, 2 or 3 views, where in a term it begins, rounds "
        f"by view or by time"
    )


def small(number: int) -> Options:
    """One of all small scenarios; neighbours differ in shape."""
    sequence, shape = divmod(number, len(SHAPES))
    twin, term_views, first_view, by_view, round_ms = SHAPES[shape]
    rounds = tuple(_with_twin(partition, twin) for partition in small_sequences()[sequence])
    return Options(number, "exhaustive", SMALL_REPLICAS, (twin,), term_views, first_view, by_view, round_ms, rounds)


def _with_twin(partition: Partition, twin: int) -> Partition:
    """A partition that was written for replica 0 with a twin, with another replica in its place."""
    parts = list(partition)
    parts[0], parts[twin] = parts[twin], parts[0]
    return tuple(parts)


# ---------------------------------------------------------------------------------------------- larger ones, at random


def at_random(seed: int) -> Options:
    """The larger scenario of a seed."""
    random = Random(f"{seed}/twins")
    replicas = random.choice((4, 4, 4, 5, 7))
    twins = tuple(sorted(random.sample(range(replicas), (replicas - 1) // 3)))
    term_views = random.choice((1, 2, 3, 8))
    by_view = random.random() < 0.3
    return Options(
        seed=seed,
        kind="random",
        replicas=replicas,
        twins=twins,
        term_views=term_views,
        first_view=random.randint(1, term_views * replicas),
        by_view=by_view,
        round_ms=random.choice((50, 150, 300) if by_view else (DELAY_MS, 2 * DELAY_MS, 50, 120, 300)),
        rounds=tuple(random_partition(random, replicas + len(twins)) for _ in range(random.randint(4, 24))),
    )


KINDS: dict[str, Callable[[int], Options]] = {"exhaustive": small, "random": at_random}

# ------------------------------------------------------------------------------------------------------------ a run


def term_ms() -> int:
    """The longest that a term may last: the longest timeout or the stall timer, and what is said again."""
    longest: int = max(TIMERS["max_view_timeout_ms"], TIMERS["stall_timeout_ms"]) + 4 * TIMERS["rebroadcast_ms"]
    return longest


def bound_ms(options: Options) -> int:
    """How long it may take after the last round until every honest replica has new final blocks.

    Twins may lead f terms in a row and spoil each. One more for what went on in the last round, and one for the blocks.
    """
    return (len(options.twins) + 2) * term_ms()


def simulate(options: Options, *, make: MakeCore = Consensus, keep_trace: bool = False) -> Result:
    """Run a scenario; what was violated is in the result."""
    chosen = config(options.replicas, term_views=options.term_views, **TIMERS)
    run = _Run(options)
    network = Network(chosen, options.twins, options.first_view, run.cut, keep_trace=keep_trace)
    result = Result(options)
    run.network = network
    try:
        network.start(make)
        result.healed_ms = run.finish()
    except AssertionError as violation:
        result.error = f"{type(violation).__name__}: {violation}"
    except Exception as bug:  # noqa: BLE001 - one run that breaks down must not end all others unnamed
        result.error = breakdown(bug)
    result.height = max(instance.disk.floor.height for instance in network.instances)
    result.steps = network.steps
    result.stats = {"messages": network.sent, "lost messages": network.lost, "accusations": network.accusations}
    result.trace = network.lines or []
    if verify.cache_info().currsize > MAX_REMEMBERED:
        verify.cache_clear()
    return result


def run_small(number: int) -> Result:
    """One of all small scenarios."""
    return simulate(small(number))


def run_random(seed: int) -> Result:
    """The larger scenario of a seed."""
    return simulate(at_random(seed))


class _Run:
    """The rounds of one run."""

    network: Network

    def __init__(self, options: Options) -> None:
        self.options = options
        self.cut: Cut = self._cut_by_view if options.by_view else self._cut_by_time
        self._begun_ms: dict[int, int] = {}
        """By round, when its first message was sent."""

    def _cut_by_time(self, sender: int, receiver: int, _view: int) -> bool:
        number = self.network.now_ms // self.options.round_ms
        rounds = self.options.rounds
        return number < len(rounds) and rounds[number][sender] != rounds[number][receiver]

    def _cut_by_view(self, sender: int, receiver: int, view: int) -> bool:
        number, now_ms = view - self.options.first_view, self.network.now_ms
        if not 0 <= number < len(self.options.rounds):
            return False
        if now_ms >= self._begun_ms.setdefault(number, now_ms) + self.options.round_ms:
            return False
        parts = self.options.rounds[number]
        return parts[sender] != parts[receiver]

    def finish(self) -> int:
        """Run through all rounds and until every honest replica has new final blocks; how long that took, ms."""
        network, options = self.network, self.options
        limit_ms = bound_ms(options)
        if not options.by_view:
            network.run(len(options.rounds) * options.round_ms)
        else:
            self._run_through_views(limit_ms)
        start_ms = network.now_ms
        goal = max(instance.disk.floor.height for instance in network.honest) + NEW_BLOCKS
        network.note("network", "heals")
        if not network.run(start_ms + limit_ms, lambda: self._all_at(goal)):
            states = [instance.core.status() for instance in network.honest]
            raise StuckError(f"not {NEW_BLOCKS} new final blocks in {limit_ms} ms after the last round: {states}")
        return network.now_ms - start_ms

    def _run_through_views(self, limit_ms: int) -> None:
        """Until an honest replica has left the last view that has a round, and that round is over."""
        network, last = self.network, self.options.first_view + len(self.options.rounds)
        most_ms = len(self.options.rounds) * (self.options.round_ms + term_ms()) + limit_ms
        if not network.run(most_ms, lambda: any(instance.core.view >= last for instance in network.honest)):
            raise StuckError(f"nobody reached view {last} in {most_ms} ms")
        ends = [begun_ms + self.options.round_ms for begun_ms in self._begun_ms.values()]
        network.run(max(ends))

    def _all_at(self, height: int) -> bool:
        return all(instance.disk.floor.height >= height for instance in self.network.honest)

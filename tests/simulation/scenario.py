"""One seed, one run: which network, which faults, a safety phase, then a liveness phase.

In the safety phase anything may happen, to any number of replicas, but at most f are Byzantine. Then the network heals,
all honest replicas run, the Byzantine ones go on, and everything that clients submitted must be final everywhere, or
dead, within `liveness_bound_ms`.

Source: docs/design/style.md, "How their tests read".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from layer1.consensus.config import Config
from layer1.errors import WedgeError
from layer1.replica.catchup import RETRY_MS
from layer1.replica.core import ReplicaCore
from tests.simulation.byzantine import ROLES
from tests.simulation.checkers import all_checkers
from tests.simulation.checkers.base import Checkers
from tests.simulation.faults import KINDS, Faults
from tests.simulation.kernel import MS, World
from tests.simulation.ledger import genesis, replica_key
from tests.simulation.network import CALM, PROFILES, Network, Profile
from tests.simulation.replica import MakeCore, Replica
from tests.simulation.signatures import shared_signature_checks
from tests.simulation.workload import Workload

LOOK_US = 50 * MS
"""How often the liveness phase looks whether it is over."""


@dataclass(frozen=True)
class Options:
    """What kind of run a seed stands for."""

    seed: int
    replicas: int = 4
    term_views: int = 1
    duration_ms: int = 6_000
    """Of the safety phase."""
    profile: Profile = CALM
    faults: tuple[str, ...] = ()
    roles: tuple[tuple[int, str], ...] = ()
    """Byzantine replicas by index."""
    pause_ms: int = 300
    """Mean time between two acts of one client."""

    @classmethod
    def from_seed(cls, seed: int) -> Options:
        """The run that a seed stands for."""
        random = Random(f"{seed}/options")
        replicas = random.choice((4, 4, 4, 5, 7))
        faulty = (replicas - 1) // 3
        byzantine = random.sample(range(replicas), random.choice((0, *range(faulty + 1), faulty)))
        kinds = random.sample(sorted(KINDS), random.choice((0, 1, 1, 2, 2, 3, 5)))
        return cls(
            seed=seed,
            replicas=replicas,
            term_views=random.choice((1, 3, 8, 64)),
            duration_ms=random.randint(2_000, 8_000),
            profile=random.choice(PROFILES),
            faults=tuple(kinds),
            roles=tuple((index, random.choice(sorted(ROLES))) for index in sorted(byzantine)) if ROLES else (),
            pause_ms=random.choice((150, 300, 800)),
        )

    def __str__(self) -> str:
        roles = ", ".join(f"{role} {index}" for index, role in self.roles) or "nobody Byzantine"
        return (
            f"seed {self.seed}: {self.replicas} replicas, terms of {self.term_views}, {self.profile.name} network, "
            f"{self.duration_ms} ms, faults: {', '.join(self.faults) or 'none'}; {roles}"
        )


def liveness_bound_ms(config: Config) -> int:
    """Within which time, after the network healed, everything submitted is final everywhere or dead.

    The view in which it heals, and the terms of up to f faulty leaders after it, may each last until the longest view
    timeout or until the inclusion timeout; so may one term in which views drifted apart. Then an honest leader follows
    whom all honest replicas hear. Who is behind asks each peer once, twice around at worst.
    """
    longest = max(config.max_view_timeout_ms, config.inclusion_timeout_ms)
    return (config.faulty + 2) * longest + 2 * len(config.replicas) * RETRY_MS


@dataclass
class Result:
    """What came of a run."""

    options: Options
    trace_hash: str
    error: str = ""
    """What was violated; empty if nothing was."""
    height: int = 0
    steps: int = 0
    healed_ms: int = 0
    """How long it took, after the network healed, until everything was final."""
    stats: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)


class Scenario:
    """A world with its replicas, its clients and its faults."""

    def __init__(self, options: Options, *, keep_trace: bool = False, make_core: MakeCore = ReplicaCore) -> None:
        self.options = options
        self.world = World(options.seed, keep_trace=keep_trace)
        self.genesis = genesis(options.replicas, options.term_views)
        byzantine = dict(options.roles)
        honest = [index for index in range(options.replicas) if index not in byzantine]
        self.checkers = Checkers(all_checkers(self.genesis, honest))
        self.replicas = [
            Replica(self.world, self.genesis, replica_key(index), index, self.checkers, make_core=make_core)
            for index in range(options.replicas)
        ]
        self.network = Network(self.world, self.replicas, options.profile)
        for replica in self.replicas:
            replica.network = self.network
        for index, role in options.roles:
            self.replicas[index].corrupt(ROLES[role])
        self.honest = [self.replicas[index] for index in honest]
        self.workload = Workload(self.world, self.genesis, self.replicas, self.checkers, pause_us=options.pause_ms * MS)
        self.config = self.replicas[0].config

    def run(self) -> Result:
        """Both phases; what was violated is in the result."""
        error, healed_ms = "", 0
        with shared_signature_checks():
            try:
                self.safety_phase()
                healed_ms = self.liveness_phase()
                self.checkers.finish(self.world.now_us)
            except AssertionError as violation:
                error = f"{type(violation).__name__}: {violation}"
            except WedgeError as unexpected:
                error = f"unexpected {type(unexpected).__name__}: {unexpected}"
        world = self.world
        return Result(
            options=self.options,
            trace_hash=world.trace_hash,
            error=error,
            height=max(replica.height for replica in self.replicas),
            steps=world.steps,
            healed_ms=healed_ms,
            stats=dict(world.stats),
            trace=world.lines or [],
        )

    def safety_phase(self) -> None:
        """Anything may fail."""
        end_us = self.options.duration_ms * MS
        faults = self._faults = Faults(self.world, self.network, self.replicas, end_us)
        for replica in self.replicas:
            replica.start()
        self.workload.start()
        faults.start(self.options.faults)
        self.world.run(end_us)

    def liveness_phase(self) -> int:
        """Heal everything; how long it took until all was final, ms."""
        start_us, bound_us = self.world.now_us, liveness_bound_ms(self.config) * MS
        self.world.note("network", "heals")
        self.workload.stop()
        self.network.profile = CALM
        self._faults.heal()
        self.checkers.healed(start_us)
        self.workload.probe(self.honest)
        self.workload.bring_again(self.honest)
        settled = [False]
        self._look(settled)
        if not self.world.run(start_us + bound_us, lambda: settled[0]):
            self._report_stall(bound_us)
        return (self.world.now_us - start_us) // MS

    def _look(self, settled: list[bool]) -> None:
        settled[0] = not any(True for _ in self.unsettled())
        if not settled[0]:
            self.world.after(LOOK_US, lambda: self._look(settled))

    def unsettled(self) -> Iterable[str]:
        """What is still neither final at every honest replica, nor dead, nor refused."""
        clocks = [(replica, replica.core.application.floor.header.clock) for replica in self.honest if replica.alive]
        yield from (f"{replica.name} does not run" for replica in self.honest if not replica.alive)
        for pending in self.workload.unsettled():
            for replica, clock_ms in clocks:
                dead = pending.transaction.valid_until_ms < clock_ms
                if not dead and not self.workload.is_final(replica, pending.id):
                    yield f"{pending.id.hex()[:6]} is not final at {replica.name}"

    def _report_stall(self, bound_us: int) -> None:
        views = {replica.name: replica.core.consensus.status() for replica in self.honest if replica.alive}
        left = list(self.unsettled())
        raise AssertionError(
            f"Liveness: {bound_us // MS} ms after the network healed {left[:5]} of {len(left)}; views {views}"
        )


def run(seed: int, *, keep_trace: bool = False) -> Result:
    """The run of a seed."""
    return Scenario(Options.from_seed(seed), keep_trace=keep_trace).run()

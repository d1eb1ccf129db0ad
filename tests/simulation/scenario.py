"""One seed, one run: which network, which faults, a safety phase, then a liveness phase.

In the safety phase anything may happen, to any number of replicas, but at most f are Byzantine, lose their disk, or
crash for good; under omission faults nobody is Byzantine, and f is almost a half. Then the network heals, all other
honest replicas run, the Byzantine ones go on, and everything that clients submitted must be final everywhere, or dead,
within the bound of `checkers.liveness`.

Source: docs/design/style.md, "How their tests read".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from layer1.consensus import quorum
from layer1.consensus.quorum import FaultModel
from layer1.ledger.genesis import Genesis
from layer1.replica.catchup import RECENT_BLOCKS
from layer1.replica.checkpoints import CheckpointPolicy
from layer1.replica.core import ReplicaCore
from layer1.replica.snapshots import FromSnapshot
from tests.simulation.byzantine import ROLES
from tests.simulation.checkers import all_checkers
from tests.simulation.checkers.base import Checker, Checkers
from tests.simulation.checkers.liveness import Liveness
from tests.simulation.clocks import START_WALL_MS
from tests.simulation.faults import KINDS, Faults
from tests.simulation.kernel import MS, World, breakdown
from tests.simulation.ledger import genesis, replica_key
from tests.simulation.network import CALM, PROFILES, Network, Profile
from tests.simulation.operators import Operators
from tests.simulation.replica import MakeCore, Replica
from tests.simulation.result import Result
from tests.simulation.signatures import shared_signature_checks
from tests.simulation.workload import Workload

LOOK_US = 50 * MS
"""How often the liveness phase looks whether it is over."""
LATE = 0.05
"""Part of the seeds that have a late replica: their blocks take time."""
POISONING = "poisoning"
GENERAL = sorted(set(ROLES) - {POISONING})
"""Roles that can do harm in any run."""
SNAPSHOTS = 0.3
"""Part of the runs in which replicas forget old blocks, and who is far behind starts from a snapshot."""
CHANGING = 0.3
"""Part of the seeds in which the replica set changes."""
NEWCOMERS = 2
"""At most, in one change."""


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
    """Byzantine replicas by index; those that are added later have the next indices."""
    checkpoint_blocks: int = 5_000
    """Between two checkpoints of a replica."""
    lost: tuple[int, ...] = ()
    """Honest replicas that lose their disks, and rejoin; they count towards f."""
    gone: tuple[int, ...] = ()
    """Honest replicas that crash for good; they count towards f."""
    late: int | None = None
    """An honest replica that is away for most of the safety phase."""
    pause_ms: int = 300
    """Mean time between two acts of one client."""
    fault_model: FaultModel = "byzantine"
    changes: int = 0
    """Of the replica set, that operators try to make."""
    offer_blocks: int = 10_000
    """A replica that lacks so many blocks below a checkpoint is offered it."""
    kept_blocks: int = 0
    """In the storage of most replicas, below a checkpoint; 0 for all."""

    @classmethod
    def from_seed(cls, seed: int) -> Options:
        """The run that a seed stands for."""
        random = Random(f"{seed}/options")
        replicas = random.choice((4, 4, 4, 5, 7))
        faulty = (replicas - 1) // 3
        byzantine = random.sample(range(replicas), random.choice((0, *range(faulty + 1), faulty)))
        others = [index for index in range(replicas) if index not in byzantine]
        may_lose = len(byzantine) < faulty and random.random() < 0.3
        kinds = random.sample(sorted(KINDS), random.choice((0, 1, 1, 2, 2, 3, 5)))
        options = cls(
            seed=seed,
            replicas=replicas,
            term_views=random.choice((1, 3, 8, 64)),
            duration_ms=random.randint(2_000, 8_000),
            profile=random.choice(PROFILES),
            faults=tuple(kinds),
            roles=tuple((index, random.choice(GENERAL)) for index in sorted(byzantine)),
            checkpoint_blocks=random.choice((3, 10, 5_000)),
            lost=(random.choice(others),) if may_lose else (),
            pause_ms=random.choice((150, 300, 800)),
        )
        options = options.with_a_late_one(random) if random.random() < LATE else options
        return options.with_changes(Random(f"{seed}/joining and leaving")).with_snapshots(Random(f"{seed}/snapshots"))

    def with_snapshots(self, random: Random) -> Options:
        """In some of the runs replicas forget old blocks, and start from snapshots."""
        if random.random() >= SNAPSHOTS:
            return self
        options = replace(
            self,
            checkpoint_blocks=random.choice((3, 10)),
            offer_blocks=random.choice((1, 5, 20)),
            kept_blocks=random.choice((0, 1, 5, 20)),
            roles=tuple((index, POISONING if random.random() < 0.5 else role) for index, role in self.roles),
        )
        return options if options.lost or options.late is not None else options.with_an_empty_disk(random)

    def with_an_empty_disk(self, random: Random) -> Options:
        """Somebody loses its disk, if it may, or is new."""
        others = sorted(set(range(self.replicas)) - {index for index, _ in self.roles})
        if self.fault_model == "byzantine" and self.replicas - len(others) >= (self.replicas - 1) // 3:
            return replace(self, changes=max(1, self.changes), duration_ms=max(self.duration_ms, 4_000))
        return replace(self, lost=() if self.gone else (random.choice(others),))

    def with_changes(self, random: Random) -> Options:
        """In some of the runs operators change the replica set; of the newcomers, one may be Byzantine."""
        if random.random() >= CHANGING:
            return self
        changes = random.choice((1, 2, 3))
        newcomer = self.replicas + random.randrange(NEWCOMERS * changes)
        liar = ((newcomer, random.choice(GENERAL)),) if random.random() < 0.2 else ()
        return replace(self, changes=changes, roles=self.roles + liar, duration_ms=max(self.duration_ms, 4_000))

    @classmethod
    def with_omission(cls, seed: int) -> Options:
        """The run that a seed stands for under omission faults: nobody lies, and f is almost a half."""
        random = Random(f"{seed}/omission options")
        replicas = random.choice((3, 3, 3, 5, 7))
        f = quorum.faulty(replicas, "omission")
        failing = random.sample(range(replicas), random.choice((0, 1, f, f)))
        lost = random.randint(0, len(failing))
        options = cls(
            seed=seed,
            replicas=replicas,
            term_views=random.choice((1, 3, 8, 64)),
            duration_ms=random.randint(2_000, 8_000),
            profile=random.choice(PROFILES),
            faults=tuple(random.sample(sorted(KINDS), random.choice((0, 1, 1, 2, 2, 3, 5)))),
            checkpoint_blocks=random.choice((3, 10, 5_000)),
            lost=tuple(sorted(failing[:lost])),
            gone=tuple(sorted(failing[lost:])),
            pause_ms=random.choice((150, 300, 800)),
            fault_model="omission",
        )
        options = options.with_a_late_one(random) if random.random() < LATE else options
        return options.with_snapshots(Random(f"{seed}/omission snapshots"))

    def with_a_late_one(self, random: Random) -> Options:
        """Busy enough that it comes back further behind than the memory of its peers reaches; it counts towards f."""
        roles = self.roles[: (self.replicas - 1) // 3 - 1]
        honest = sorted(set(range(self.replicas)) - {index for index, _ in roles})
        return replace(
            self,
            term_views=max(8, self.term_views),
            duration_ms=4_000,
            profile=CALM,
            faults=self.faults[:1],
            roles=roles,
            lost=(),
            gone=(),
            late=random.choice(honest),
            pause_ms=25,
        )

    def __str__(self) -> str:
        roles = ", ".join(f"{role} {index}" for index, role in self.roles) or "nobody Byzantine"
        roles += "".join(f", {index} loses its disk" for index in self.lost)
        roles += "".join(f", {index} crashes for good" for index in self.gone)
        roles += "" if self.late is None else f", {self.late} comes late"
        roles += f", {self.changes} changes of the set" if self.changes else ""
        if self.offer_blocks < self.duration_ms:
            roles += f", snapshots for who lacks {self.offer_blocks}, {self.kept_blocks or 'all'} blocks kept"
        return (
            f"seed {self.seed}: {self.replicas} replicas, {self.fault_model} faults, terms of {self.term_views}, "
            f"{self.profile.name} network, {self.duration_ms} ms, checkpoints every {self.checkpoint_blocks} blocks, "
            f"faults: {', '.join(self.faults) or 'none'}; {roles}"
        )


class Scenario:
    """A world with its replicas, its clients and its faults."""

    def __init__(self, options: Options, *, keep_trace: bool = False, make_core: MakeCore = ReplicaCore) -> None:
        self.options = options
        self.world = World(options.seed, keep_trace=keep_trace)
        self.genesis = self.make_genesis(options)
        byzantine = dict(options.roles)
        everybody = range(options.replicas + NEWCOMERS * options.changes)
        honest = [index for index in everybody if index not in byzantine]
        checkers = self.make_checkers(honest)
        (self.liveness,) = [checker for checker in checkers if isinstance(checker, Liveness)]
        self.liveness.gone = frozenset(options.gone)
        self.checkers = Checkers(checkers)
        self.replicas = [
            Replica(
                self.world,
                self.genesis,
                replica_key(index),
                index,
                self.checkers,
                policy=CheckpointPolicy(blocks=options.checkpoint_blocks, offer_blocks=options.offer_blocks),
                make_core=make_core,
            )
            for index in everybody
        ]
        for replica in self.replicas[options.replicas :]:
            replica.away = True
        self._choose_histories()
        self.network = Network(self.world, self.replicas, options.profile)
        for replica in self.replicas:
            replica.network = self.network
        for index, role in options.roles:
            self.replicas[index].corrupt(ROLES[role])
        self.honest = [self.replicas[index] for index in honest]
        self.workload = Workload(self.world, self.genesis, self.replicas, self.checkers, pause_us=options.pause_ms * MS)
        faulty = {*byzantine, *options.lost, *options.gone, *(() if options.late is None else (options.late,))}
        self.operators = Operators(self.world, self.genesis, self.replicas, self.workload, faulty)

    def _choose_histories(self) -> None:
        random = self.world.random("histories")
        for replica in self.replicas if self.options.offer_blocks < 10_000 else ():
            replica.from_snapshot = random.choice(list(FromSnapshot))
            replica.kept_blocks = random.choice((0, self.options.kept_blocks, self.options.kept_blocks))

    def make_genesis(self, options: Options) -> Genesis:
        """Of the ledger."""
        return genesis(options.replicas, options.term_views, options.fault_model)

    def make_checkers(self, honest: Sequence[int]) -> list[Checker]:
        """All that judges these replicas, and what they serve."""
        return all_checkers(self.genesis, honest)

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
            except Exception as bug:  # noqa: BLE001 - one run that breaks down must not end all others unnamed
                error = breakdown(bug)
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
            if replica.role is not None and not replica.away:
                replica.role.begin()
        random = self.world.random("lost disk")
        for index in self.options.lost:
            self._lose_disks(self.replicas[index], random, end_us)
        for index in self.options.gone:
            self._crash_for_good(self.replicas[index], end_us)
        if self.options.late is not None:
            self._send_away(self.replicas[self.options.late], end_us)
        self.workload.start()
        faults.start(self.options.faults)
        if self.options.changes:
            self.operators.start(self.options.changes, end_us)
        self.world.run(end_us)

    def _lose_disks(self, replica: Replica, random: Random, end_us: int) -> None:
        for _ in range(random.choice((1, 1, 2))):
            lost_us = random.randint(0, end_us)
            self.world.schedule(lost_us, replica.lose_disk)
            self.world.schedule(lost_us + random.randint(1, 1_000) * MS, replica.start)

    def _crash_for_good(self, replica: Replica, end_us: int) -> None:
        def crash() -> None:
            replica.away = True
            replica.kill()
            self.world.stats["gone for good"] += 1

        self.world.schedule(self.world.random(f"gone {replica.index}").randint(0, end_us), crash)

    def _send_away(self, replica: Replica, end_us: int) -> None:
        random = self.world.random("late")

        def leave() -> None:
            replica.away = True
            replica.kill()

        def come_back() -> None:
            replica.away = False
            replica.start()
            behind = max(other.height for other in self.replicas) - replica.height
            self.world.stats["behind all memory"] += behind > RECENT_BLOCKS

        self.world.schedule(random.randint(0, end_us // 10), leave)
        self.world.schedule(random.randint(end_us * 3 // 4, end_us), come_back)

    def liveness_phase(self) -> int:
        """Heal everything; how long it took until all was final, ms."""
        start_us = self.world.now_us
        self.world.note("network", "heals")
        self.workload.stop()
        self.network.profile = CALM
        self._faults.heal()
        self.operators.heal()
        self.liveness.is_changing = self.operators.agreed is not None
        self.liveness.away = {replica.index for replica in self.honest if replica.away}
        timeouts = [replica.core.consensus.status()["view_timeout_ms"] for replica in self.honest if replica.is_running]
        faulty = len(self.options.roles) + len(self.options.lost) + len(self.options.gone)
        running = [replica for replica in self.honest if replica.is_running]
        self.checkers.healed(start_us, max(timeouts, default=0), faulty, self._ahead_ms(running))
        self.workload.probe(running)
        self.workload.bring_again(running)
        settled = [False]
        self._look(settled)
        self.world.run(start_us + self.liveness.bound_us, lambda: settled[0])
        return (self.world.now_us - start_us) // MS

    def _ahead_ms(self, running: list[Replica]) -> int:
        """How long honest replicas refuse what follows the newest block: a quorum's clocks were too far ahead."""
        newest_ms = max((replica.core.consensus.tip.wall_time for replica in running), default=0)
        bound_ms = self.genesis.parameters.drift_bound_ms
        return max(0, newest_ms - START_WALL_MS - self.world.now_ms - bound_ms)

    def _look(self, settled: list[bool]) -> None:
        settled[0] = not any(True for _ in self.liveness.unsettled())
        if not settled[0]:
            self.world.after(LOOK_US, lambda: self._look(settled))


def run(seed: int, *, keep_trace: bool = False) -> Result:
    """The run of a seed."""
    return Scenario(Options.from_seed(seed), keep_trace=keep_trace).run()


def run_omission(seed: int, *, keep_trace: bool = False) -> Result:
    """The run of a seed in which all faults are omissions."""
    return Scenario(Options.with_omission(seed), keep_trace=keep_trace).run()

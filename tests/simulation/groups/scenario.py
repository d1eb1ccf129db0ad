"""One seed, one run of wallets over a ledger: who is dishonest, what fails, a safety phase, then a liveness phase.

In the safety phase anything may happen to replicas and wallets, but at most f replicas and, of each channel, one member
are dishonest. Then everything heals, all honest processes run, and users end what they have: everything must be over
within the bound of `checkers.groups.closes`.

An honest member's state must win, without exception, since it always reaches layer 1 in time. In most runs the
challenge period outlasts the safety phase by what the ledger needs to take a report after it. In the others only what
rule 18 counts on goes wrong, f Byzantine replicas among it, and the period is the sum of rule 18, as `wallet.period`
has it.

Source: docs/design/groups.md; README.md, "Assumptions".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random

from msgspec import structs

from layer1.consensus import quorum
from layer1.consensus.quorum import FaultModel
from layer1.ledger.genesis import Allocation, Genesis
from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.records import Status
from layer1.replica.core import consensus_config
from tests.simulation import faults as replica_faults
from tests.simulation.byzantine import ROLES as REPLICA_ROLES
from tests.simulation.checkers import all_checkers
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.groups.base import GroupCheckers
from tests.simulation.checkers.groups.bonds import Bonds
from tests.simulation.checkers.groups.books import Books
from tests.simulation.checkers.groups.closes import Closes, bound_ms
from tests.simulation.checkers.groups.facts import Facts
from tests.simulation.checkers.groups.final_state import FinalState
from tests.simulation.checkers.groups.one_word import OneWord
from tests.simulation.checkers.groups.payments import Payments
from tests.simulation.checkers.groups.trust import Trust
from tests.simulation.checkers.liveness import worst_bound_ms as ledger_bound_ms
from tests.simulation.groups.api import Api
from tests.simulation.groups.faults import KINDS, WalletFaults
from tests.simulation.groups.roles import CHANGING, ROLES
from tests.simulation.groups.roles.role import Role
from tests.simulation.groups.standins import simulated_time_and_chance
from tests.simulation.groups.users import User
from tests.simulation.groups.wallet import WalletProcess, savings, wallet_keys
from tests.simulation.kernel import MS
from tests.simulation.ledger import genesis
from tests.simulation.network import CALM, PROFILES, Network, Profile
from tests.simulation.result import Result
from tests.simulation.scenario import LOOK_US, Options, Scenario
from wallet.period import least_safe_ms

WALLET_FUNDS = 10_000
"""What each wallet has at first, minor units."""
HARMLESS = ("break", "mute", "split", "slow disk")
"""Faults of wallets that keep none of them from the ledger."""
OMISSION = 0.15
"""Part of the seeds whose ledger is made for omission faults."""
MOST_WALLETS = 4
"""Of one run."""


@cache
def wallets_genesis(replicas: int, term_views: int, fault_model: FaultModel = "byzantine") -> Genesis:
    """The genesis of all runs of this shape."""
    base = genesis(replicas, term_views, fault_model)
    wallets = tuple(Allocation(wallet_keys(i).spending.public, WALLET_FUNDS) for i in range(MOST_WALLETS))
    return structs.replace(base, name="wallets", allocations=base.allocations + wallets)


def tight_period_ms(genesis: Genesis) -> int:
    """The sum of rule 18 for a wallet that is served, but for the burst of reports, which no run makes.

    Such a wallet's watcher looks at least eight times in a period.
    """
    rest_ms = least_safe_ms(genesis, 0, groups=0)
    return rest_ms * 8 // 7


@dataclass(frozen=True)
class GroupOptions(Options):
    """What kind of run a seed stands for."""

    wallets: int = 3
    wallet_profile: Profile = CALM
    """Of the links between wallets."""
    wallet_faults: tuple[str, ...] = ()
    wallet_roles: tuple[tuple[int, str], ...] = ()
    """Dishonest wallets by index."""
    user_pause_ms: int = 100
    """Mean time between two acts of one user."""
    tight: bool = False
    """Whether the challenge period is no longer than rule 18 asks for."""
    resizes: bool = False
    """Whether users pay into open channels, and take out of them."""
    kind = "groups"

    @classmethod
    def from_seed(cls, seed: int) -> GroupOptions:
        """The run that a seed stands for."""
        random = Random(f"{seed}/group options")
        replicas = random.choice((4, 4, 4, 4, 7))
        byzantine = random.sample(range(replicas), random.choice((0, 0, 1, (replicas - 1) // 3)))
        wallets = random.choice((2, 3, 3, 4))
        dishonest = random.sample(range(wallets), random.choice((0, 0, 1, 1, wallets - 1)) if ROLES else 0)
        kinds = sorted(KINDS)
        options = cls(
            seed=seed,
            replicas=replicas,
            term_views=random.choice((1, 8, 64)),
            duration_ms=random.randint(3_000, 12_000),
            profile=random.choice((CALM, CALM, *PROFILES)),
            faults=tuple(random.sample(sorted(replica_faults.KINDS), random.choice((0, 0, 1, 2)))),
            roles=tuple((i, random.choice(sorted(REPLICA_ROLES))) for i in sorted(byzantine)) if REPLICA_ROLES else (),
            pause_ms=3_000,
            wallets=wallets,
            wallet_profile=random.choice(PROFILES),
            wallet_faults=tuple(random.sample(kinds, random.choice((0, 1, 1, 2, 3, 5)))),
            wallet_roles=tuple((i, random.choice(sorted(ROLES))) for i in sorted(dishonest)),
            user_pause_ms=random.choice((30, 100, 300)),
        )
        options = options._tightened() if random.random() < 0.25 else options
        return options._with_omission_alone(random) if random.random() < OMISSION else options

    def _tightened(self) -> GroupOptions:
        """The same, longer than a challenge period, with no fault that rule 18 does not count on."""
        kept = tuple(kind for kind in self.wallet_faults if kind in HARMLESS)
        calm = replace(self, profile=CALM, faults=(), wallet_faults=kept, tight=True)
        return replace(calm, duration_ms=30_000 + 2 * self.duration_ms, user_pause_ms=500)

    def _with_omission_alone(self, random: Random) -> GroupOptions:
        """The same over a ledger of which f crash for good, and nobody lies."""
        replicas = random.choice((3, 3, 5))
        gone = random.sample(range(replicas), random.choice((0, quorum.faulty(replicas, "omission"))))
        return replace(self, replicas=replicas, roles=(), gone=tuple(sorted(gone)), fault_model="omission")

    def __str__(self) -> str:
        roles = ", ".join(f"{role} {index}" for index, role in self.wallet_roles) or "nobody dishonest"
        return (
            f"{super().__str__()}; {self.wallets} wallets, {self.wallet_profile.name} links, faults: "
            f"{', '.join(self.wallet_faults) or 'none'}; {roles}{'; period by rule 18' if self.tight else ''}"
        )


class GroupScenario(Scenario):
    """A world with replicas, wallets, users and faults."""

    def __init__(self, options: GroupOptions, *, keep_trace: bool = False) -> None:
        self._group_options = options
        super().__init__(options, keep_trace=keep_trace)
        names = [f"wallet{i}" for i in range(options.wallets)]
        apis = [Api(self.world, replica, self.checkers) for replica in self.replicas]
        self.wallets = [
            WalletProcess(self.world, self.genesis, i, apis, self.group_checkers, names) for i in range(options.wallets)
        ]
        self._wallet_network = Network(  # wallets rely on their links: nothing of them is a datagram
            self.world, self.wallets, options.wallet_profile, is_datagram=lambda _: False
        )
        for wallet in self.wallets:
            wallet.network = self._wallet_network
        for index, role in options.wallet_roles:
            self.wallets[index].corrupt((ROLES | CHANGING)[role])
        self.closes.books = {wallet.index: wallet.home for wallet in self.wallets if wallet.is_honest}
        self.users = [
            User(
                wallet,
                [o for o in self.wallets if o is not wallet],
                self.period_ms,
                options.user_pause_ms / 1e3,
                resizes=options.resizes,
            )
            for wallet in self.wallets
        ]

    def make_genesis(self, options: Options) -> Genesis:
        """With money for the wallets."""
        return wallets_genesis(options.replicas, options.term_views, options.fault_model)

    @property
    def period_ms(self) -> int:
        """Challenge period: at its end, the network has been good for long enough to take a report."""
        if self._group_options.tight:
            return tight_period_ms(self.genesis)
        config, parameters = consensus_config(self.genesis, self.genesis.replica_set), self.genesis.parameters
        return self.options.duration_ms + ledger_bound_ms(config) + 2 * parameters.drift_bound_ms + 5_000

    def make_checkers(self, honest: Sequence[int]) -> list[Checker]:
        """Those of layer 1, and the facts from which those of groups judge."""
        options = self._group_options
        checkers = all_checkers(self.genesis, honest)
        dishonest = dict(options.wallet_roles)
        good = [i for i in range(options.wallets) if i not in dishonest]
        names = {wallet_keys(i).spending.public: i for i in range(options.wallets)}
        facts = Facts(self.genesis, honest, checkers[0].reference, names, good)
        limit_ms = bound_ms(
            consensus_config(self.genesis, self.genesis.replica_set), self.genesis.parameters, self.period_ms
        )
        self.closes = Closes(facts, limit_ms)
        accounts = {i: (wallet_keys(i).spending.public, savings(i)) for i in good}
        trusted = {key: i for key, i in names.items() if i in good}
        self.group_checkers = GroupCheckers(
            [
                FinalState(facts),
                Bonds(facts),
                self.closes,
                Books(facts, accounts, WALLET_FUNDS),
                Payments(facts),
                OneWord(facts),
                Trust(facts, trusted),
            ]
        )
        facts.on_ledger += [self.group_checkers.on_ledger, self._count]
        return [*checkers, facts]

    def _count(self, before: LedgerGroup | None, after: LedgerGroup) -> None:
        """What became of groups: shows that a run did what it was meant to."""
        name, stats = after.group_id.hex()[:6], self.world.stats
        self.world.note("ledger", f"group {name} is {after.status} at version {after.version}, {after.payouts}")
        if before is not None:
            stats["bonds forfeited"] += sum(after.forfeited) - sum(before.forfeited)
            stats["wedges"] += before.status is Status.OPEN and after.status is Status.WEDGED
        if after.reason is not None:
            stats[f"closed by {after.reason}"] += 1

    def run(self) -> Result:
        """Both phases; what was violated is in the result."""
        with simulated_time_and_chance():
            try:
                return super().run()
            finally:
                self._bury()

    def safety_phase(self) -> None:
        """Anything may fail."""
        end_us = self.options.duration_ms * MS
        self._wallet_faults = WalletFaults(self.world, self._wallet_network, self.wallets, end_us)
        for wallet in self.wallets:
            self.world.after(1_000 * MS, wallet.start)
            if wallet.role is not None:
                self._act(wallet, wallet.role)
        self._wallet_faults.start(self._group_options.wallet_faults)
        super().safety_phase()

    def liveness_phase(self) -> int:
        """Heal everything, end everything; how long it took until all was over, ms."""
        start_us = self.world.now_us
        self._wallet_network.profile = CALM
        self._wallet_faults.heal()
        self.group_checkers.healed(self.group_checkers.facts.clock_ms)
        for wallet, user in zip(self.wallets, self.users, strict=True):
            (user.end if wallet.is_honest else user.stop)()
        super().liveness_phase()
        settled = [False]
        self._look_at_groups(settled)
        self.world.run(self.world.now_us + 2 * self.closes.limit_ms * MS, lambda: settled[0])
        self.group_checkers.finish()
        return (self.world.now_us - start_us) // MS

    def _act(self, wallet: WalletProcess, role: Role) -> None:
        """Dishonest wallets do something now and then, in both phases."""
        if wallet.alive and not wallet.paused:
            role.remember()
            role.act()
        pause_us = int(role.random.expovariate(1.0) * 400 * MS)
        self.world.after(pause_us, lambda: self._act(wallet, role))

    def _look_at_groups(self, settled: list[bool]) -> None:
        over = not any(True for _ in self.closes.unended())
        settled[0] = over or self.closes.overdue
        if not settled[0]:
            self.world.after(LOOK_US, lambda: self._look_at_groups(settled))

    def _bury(self) -> None:
        """Leave no task of a simulated process to the garbage collector."""
        for wallet in self.wallets:
            wallet.kill()
            wallet.bury()


def run_groups(seed: int, *, keep_trace: bool = False) -> Result:
    """The run of a seed."""
    return GroupScenario(GroupOptions.from_seed(seed), keep_trace=keep_trace).run()

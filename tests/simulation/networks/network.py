"""One seed, one network: channels between pairs, locks in them, an adversary, faults, and the end of it all.

As a story of groups (`tests.simulation.stories.story`), of wallets that have locks; the first phase is long enough for
locks to expire in it, and in the end each lock has to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from layer1.ledger.agreements import Limits
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts
from tests.simulation.checkers.locks.ends import LockEnds
from tests.simulation.checkers.locks.outcomes import LockOutcomes
from tests.simulation.checkers.locks.payees import LockPayees
from tests.simulation.checkers.locks.payers import LockPayers
from tests.simulation.checkers.locks.signatures import LockSignatures
from tests.simulation.checkers.routes.both_ends import BothEnds
from tests.simulation.checkers.routes.no_loss import NoLoss
from tests.simulation.networks.member import FEE, MARGIN_MS, WalletProcess, simulated_files
from tests.simulation.networks.options import NetworkOptions, drawn
from tests.simulation.networks.owner import NetworkOwner
from tests.simulation.networks.plots import PLOTS
from tests.simulation.networks.town import LONGEST_MS, Town
from tests.simulation.result import Result
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.owner import Owner
from tests.simulation.stories.plot import Plot
from tests.simulation.stories.story import Story, stories_genesis


class Network(Story):
    """A world of wallets with channels."""

    plots: ClassVar[Mapping[str, type[Plot]]] = PLOTS
    deposit: ClassVar[int] = 1_500
    audit_every: ClassVar[int] = 8
    member_type: ClassVar[type[MemberProcess]] = WalletProcess
    options: NetworkOptions

    def __init__(self, options: NetworkOptions, *, keep_trace: bool = False) -> None:
        self.whole = set(range(options.size)) - set(options.liars)
        """Honest wallets that never lost data."""
        self.town = Town(stories_genesis().chain_id)
        super().__init__(options, keep_trace=keep_trace)
        self.town.channels += zip(self.agreements, options.channels, strict=True)

    @property
    def limit_ms(self) -> int:
        """Locks that were offered last may have to expire first, and those of a closed group pend until then."""
        return super().limit_ms + LONGEST_MS + 6 * MARGIN_MS

    def run(self) -> Result:
        with simulated_files():
            return super().run()

    def lose_data(self, seat: int, kept: float | None) -> None:
        super().lose_data(seat, kept)
        self.whole.discard(seat)

    def _owner(self, seat: int) -> Owner:
        random, pause_s = self.world.random(f"owner {seat}"), self.options.pause_ms / 1_000
        return NetworkOwner(self.homes(seat), random, pause_s, self.town)

    def _groups(self) -> list[tuple[int, ...]]:
        return list(self.options.channels)

    def _limits(self) -> Limits:
        return Limits(max_locks=self.options.max_locks)

    def _more_checkers(self, facts: Facts) -> list[GroupChecker]:
        self.no_loss = NoLoss(facts, self.town, self.whole)
        takes_long = MARGIN_MS if not self.options.faults else 3 * MARGIN_MS
        return [
            LockOutcomes(facts),
            LockSignatures(facts, MARGIN_MS // 2, FEE),
            LockPayees(facts, takes_long),
            LockPayers(facts),
            LockEnds(facts),
            self.no_loss,
            BothEnds(facts, self.town, self.whole),
        ]


def run_network(seed: int, *, keep_trace: bool = False) -> Result:
    """The run of a seed."""
    return Network(drawn(seed, PLOTS), keep_trace=keep_trace).run()

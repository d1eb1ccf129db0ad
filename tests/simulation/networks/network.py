"""One seed, one network: channels between pairs, locks in them, an adversary, faults, and the end of it all.

As a story of groups (`tests.simulation.stories.story`), of wallets that have locks; the first phase is long enough for
locks to expire in it, and in the end each lock has to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from layer1.crypto import Hash
from layer1.ledger.agreements import Limits
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts
from tests.simulation.checkers.locks.ends import LockEnds
from tests.simulation.checkers.locks.outcomes import LockOutcomes
from tests.simulation.checkers.locks.payees import LockPayees
from tests.simulation.checkers.locks.payers import LockPayers
from tests.simulation.checkers.locks.signatures import LockSignatures
from tests.simulation.networks.member import MARGIN_MS, WalletProcess, simulated_files
from tests.simulation.networks.options import NetworkOptions, drawn
from tests.simulation.networks.owner import LONGEST_MS, Deal, LockOwner
from tests.simulation.networks.plots import PLOTS
from tests.simulation.result import Result
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.owner import Owner
from tests.simulation.stories.plot import Plot
from tests.simulation.stories.story import Story


class Network(Story):
    """A world of wallets with channels."""

    plots: ClassVar[Mapping[str, type[Plot]]] = PLOTS
    deposit: ClassVar[int] = 2_000
    member_type: ClassVar[type[MemberProcess]] = WalletProcess
    options: NetworkOptions

    def __init__(self, options: NetworkOptions, *, keep_trace: bool = False) -> None:
        self.deals: dict[Hash, Deal] = {}
        super().__init__(options, keep_trace=keep_trace)

    @property
    def limit_ms(self) -> int:
        """Locks that were offered last may have to expire first, and those of a closed group pend until then."""
        return super().limit_ms + LONGEST_MS + 6 * MARGIN_MS

    def run(self) -> Result:
        with simulated_files():
            return super().run()

    def _owner(self, seat: int) -> Owner:
        random, pause_s = self.world.random(f"owner {seat}"), self.options.pause_ms / 1_000
        return LockOwner(self.homes(seat), random, pause_s, self.deals)

    def _groups(self) -> list[tuple[int, ...]]:
        return list(self.options.channels)

    def _limits(self) -> Limits:
        return Limits(max_locks=self.options.max_locks)

    def _more_checkers(self, facts: Facts) -> list[GroupChecker]:
        takes_long = MARGIN_MS if not self.options.faults else 3 * MARGIN_MS
        return [
            LockOutcomes(facts),
            LockSignatures(facts, MARGIN_MS // 2),
            LockPayees(facts, takes_long),
            LockPayers(facts),
            LockEnds(facts),
        ]


def run_network(seed: int, *, keep_trace: bool = False) -> Result:
    """The run of a seed."""
    return Network(drawn(seed, PLOTS), keep_trace=keep_trace).run()

"""A watchtower that lies, while its customers sleep: alone, or beside an honest one.

Alone it can let a stale wedge stand: nothing else stands between the liar and the money then. It harms nobody but who
slept, nobody loses its bond by it, and its broken receipt proves what it did.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from layer1.crypto import Hash
from layer1.ledger.agreements import Delegation
from layer1.ledger.records import Group, Reason, Status
from layer1.ledger.transactions import Report, Reveal
from tests.simulation.stories.plots.asleep import Asleep
from tests.simulation.stories.plots.stale_wedge import StaleAt
from tests.simulation.stories.tower import TowerProcess

Lie = Callable[["LyingTower", TowerProcess, Group], None]


def says_nothing(plot: LyingTower, tower: TowerProcess, group: Group) -> None:
    """It is paid by the liar, and sleeps."""


def reports_an_old_version(plot: LyingTower, tower: TowerProcess, group: Group) -> None:
    """With the DELEGATE of its customer."""
    versions = plot.versions(tower, group.group_id)
    if versions:
        plot.report(tower, group.group_id, versions[plot.options.step % len(versions)])


def raises_its_bounty(plot: LyingTower, tower: TowerProcess, group: Group) -> None:
    """A DELEGATE that nobody signed so."""
    versions = plot.versions(tower, group.group_id)
    if versions:
        plot.report(tower, group.group_id, versions[-1], lambda d: replace(d, bounty=2 * d.bounty))


def forges_a_version(plot: LyingTower, tower: TowerProcess, group: Group) -> None:
    """Above all that was signed."""
    versions = plot.versions(tower, group.group_id)
    if versions:
        entrusted = tower.archive[group.group_id, versions[-1]]
        header = replace(entrusted.header, version=versions[-1] + 3)
        plot.story.ledger.bring(Report(group.group_id, replace(entrusted.certificate, header=header), None))


LIES: tuple[Lie, ...] = (says_nothing, reports_an_old_version, raises_its_bounty, forges_a_version)


class StaleBeside(StaleAt):
    """It knows that the tower is its friend."""

    when = 1.01

    def act(self) -> None:
        """What its friend brought without a body it reveals: it wants its own money, too."""
        super().act()
        for group_id, states in self.known.items():
            shown = self.host.ledger.state.group(group_id)
            if shown is not None and shown.revealing is not None and shown.version in states:
                self.host.bring(Reveal(group_id, states[shown.version][1]))


class LyingTower(Asleep):
    """The last tower lies."""

    fixed = {"towers": 2, "standby": None}

    def begin(self) -> None:
        self.corrupt(StaleBeside)
        self.alone = self.options.step // len(LIES) % 2 == 0
        for tower in [self.liar, *([self.story.towers[0]] if self.alone else [])]:
            tower.is_honest = tower.watches = False
        self.story.world.after(self.options.duration_ms * 1_000 + self.story.period_ms * 500, self._lie)

    @property
    def liar(self) -> TowerProcess:
        """The one that does something."""
        return self.story.towers[-1]

    @property
    def watching(self) -> list[TowerProcess]:
        return [tower for tower in self.story.towers if tower.is_honest]

    def versions(self, tower: TowerProcess, group_id: Hash) -> list[int]:
        """What it was brought."""
        return sorted(version for group, version in tower.archive if group == group_id)

    def report(
        self,
        tower: TowerProcess,
        group_id: Hash,
        version: int,
        change: Callable[[Delegation], Delegation] = lambda delegation: delegation,
    ) -> None:
        """A version, under its customer's DELEGATE."""
        entrusted = tower.archive[group_id, version]
        self.story.ledger.bring(Report(group_id, entrusted.certificate, None, delegation=change(entrusted.delegation)))

    def _lie(self) -> None:
        for facts in self.story.facts.groups.values():
            if facts.ledger.status is Status.WEDGED and facts.ledger.revealing is None:
                LIES[self.options.step % len(LIES)](self, self.liar, facts.ledger)

    def check(self) -> None:
        """What the liar broke, its receipts show."""
        super().check()
        for group_id, facts in self.story.facts.groups.items():
            group = facts.ledger
            began_ms = group.wedged_clock_ms or 0
            before = [r for r in self.liar.receipts if r.group_id == group_id and r.clock_ms <= began_ms]
            promised = max((r.version for r in before if r.epoch == group.epoch), default=0)
            if self.alone and group.reason is Reason.DEADLINE and group.version < promised:
                self.story.world.stats["receipts broken"] += 1
                assert self.liar.broken(group), f"Promises: nobody can show that receipt {promised} was broken"

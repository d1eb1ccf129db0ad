"""A standby is promoted while the head still runs, again and again; both are killed, cut off, and linked anew."""

from __future__ import annotations

from layer2.chain import Leading, Shown
from layer2.chain_standby import step_down
from tests.simulation.groups.roles.role import Role
from tests.simulation.groups.roles.wedging_stale import WedgingStale
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.plot import Plot
from wallet.headship import Standing


class Promotion(Plot):
    """Two heads never show two things at one version."""

    needs_standby = True

    def begin(self) -> None:
        self.corrupt(WedgingStale if self.options.step % 3 == 0 else Role)
        for _ in range(self.random.choice((1, 1, 2, 3))):
            self.at(self.random.uniform(0.1, 1.0), self._promote)
        for _ in range(self.random.choice((0, 1, 2))):
            self.at(self.random.uniform(0.1, 1.0), self._part)
        self.at(0.5, self._step_down)

    def _promote(self) -> None:
        """Whoever follows is asked to lead."""
        for home in self._homes():
            if home.standby is not None and home.loop is not None:
                with home.loop.running():
                    home.loop.spawn(home.promote(), "its user promotes it")

    def _part(self) -> None:
        """The two homes lose each other for a while."""
        first, second = self._homes()
        exchange, pair = self.story.exchange, frozenset((first.name, second.name))
        exchange.part(first.name, second.name)
        self.story.world.after(self.random.randint(100, 3_000) * 1_000, lambda: exchange.parted.discard(pair))

    def _step_down(self) -> None:
        """An old head becomes the standby, when its user sees that another home leads."""
        shown = self.story.ledger.state.appointed(self._homes()[0].key.public)
        for home, other in (self._homes(), self._homes()[::-1]):
            role = home.home.standing.role if home.home.standing is not None else None
            if shown is not None and isinstance(role, Leading) and shown.head != role.name and shown.term > role.term:
                home.home.standing = Standing(step_down(role, Shown(shown.term, shown.head)))
                if other.home.standing is not None:
                    other.home.standing = Standing(other.home.standing.role, f"{home.name}:1")
                home.kill()
        self.story.world.after(1_000_000, self._step_down)

    def _homes(self) -> tuple[MemberProcess, MemberProcess]:
        first, second = self.story.homes(self.options.standby or 0)  # there is one: `needs_standby`
        return first, second

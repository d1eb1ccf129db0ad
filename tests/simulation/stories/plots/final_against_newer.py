"""FINAL against a newer state: it keeps what all signed, goes on, wedges, and brings the FINAL when it likes."""

from __future__ import annotations

from random import Random

from layer1.errors import WedgeError
from layer1.ledger.transactions import CloseGroup
from layer2.events import Payload
from tests.simulation.groups.roles.going_on import GoingOn
from tests.simulation.groups.roles.role import Host
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.plot import Plot


class KeepingFinal(GoingOn):
    """Whatever layer 1 takes first, it hopes to gain by the other."""

    host: MemberProcess

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._finals: list[CloseGroup] = []

    def act(self) -> None:
        chance = self.random.random()
        for group_id, group in self.seen.items():
            if group.final is None or group.closed:
                continue
            if chance < 0.2:
                self.host.bring(self.wedge(group_id, self.old_version(group_id)))
            elif chance < 0.4:
                self.host.bring(self.wedge(group_id, max(self.known[group_id])))
        if self._finals and chance > 0.8:
            self.host.bring(self.random.choice(self._finals))

    def brings(self, payload: Payload) -> bool:
        if isinstance(payload, CloseGroup):
            self._finals.append(payload)
            return False
        return True


class FinalAgainstNewer(Plot):
    """Somebody asks for the end together in the middle of the first phase."""

    def begin(self) -> None:
        self.corrupt(KeepingFinal)
        self.at(self.random.uniform(0.3, 0.8), self._ask)

    def _ask(self) -> None:
        member = self.story.members[self.random.choice(self.story.honest_seats)]
        life = member.life
        if life is None:
            return

        async def ask() -> None:
            for group_id in list(life.parts.host.groups):
                try:
                    life.parts.submitter.bring(await life.parts.host.close_cooperatively(group_id))
                except WedgeError as error:
                    self.story.world.note(member.name, f"does not end it together: {error}")

        with life.loop.running():
            life.loop.spawn(ask(), "asking for the end")

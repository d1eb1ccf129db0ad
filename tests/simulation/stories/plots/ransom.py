"""A body withheld for ransom: layer 1 gets headers without bodies, and whoever could reveal them waits for an offer.

An honest member holds every body that it signed, and reveals. In some runs it has lost all its data: then it pleads,
the one who hides loses its bond, and gives in when there is nothing more to gain.
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.ledger.records import Forfeit, Status
from layer1.ledger.transactions import CloseGroup, Report, Reveal, Wedge
from layer2.events import Payload
from layer2.messages import FinalProposal, Newest, decode_message
from tests.simulation.groups.roles.role import Role
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.options import PLAIN
from tests.simulation.stories.plot import Plot


class Hiding(Role):
    """It brings headers alone."""

    host: MemberProcess
    gives_in = False

    def act(self) -> None:
        for group_id, group in self.seen.items():
            if group.closed or self.host.part < 0.6:
                continue
            if self.gives_in:
                shown = self.host.ledger.state.group(group_id)
                state = self.known[group_id].get(shown.version) if shown is not None else None
                if state is not None:
                    self.host.bring(Reveal(group_id, state[1]))
            elif group.ledger is None:
                certificate, _ = self.known[group_id][max(self.known[group_id])]
                self.host.bring(Wedge(certificate, None, self.claim(group_id, certificate)))

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        """Nobody gets a body from it in another way."""
        return () if isinstance(decode_message(data), Newest | FinalProposal) else (data,)

    def brings(self, payload: Payload) -> bool:
        match payload:
            case Reveal() | CloseGroup():
                return False
            case Report(certificate=certificate, body=body) if body is not None:
                self.host.bring(Report(payload.group_id, certificate, None, payload.claims))
                return False
            case Wedge(certificate=certificate, body=body, claim=claim) if body is not None:
                self.host.bring(Wedge(certificate, None, claim))
                return False
            case _:
                return True


class Ransom(Plot):
    """Layer 1 never falls back to an older body."""

    shapes = PLAIN

    def begin(self) -> None:
        self.corrupt(Hiding)
        if self.options.step % 2 and not self.options.towers:
            for seat in self.story.honest_seats:
                self.at(0.55, lambda seat=seat: self.story.lose_data(seat, None))  # type: ignore[misc]

    def end(self) -> None:
        """Nobody pays; in the end it wants its own money, too."""
        self.story.world.after(2 * self.story.period_ms * 1_000 + 10_000_000, self._give_in)

    def _give_in(self) -> None:
        for seat in self.options.liars:
            role = self.story.members[seat].role
            assert isinstance(role, Hiding), "that is its role"
            role.gives_in = True

    def check(self) -> None:
        """Who hid the body from one who pleaded for it has lost its bond."""
        for facts in self.story.facts.groups.values():
            group = facts.ledger
            hidden = [i for i, why in enumerate(group.forfeits) if why is Forfeit.HIDDEN]
            self.story.world.stats["ransoms that cost the bond"] += len(hidden)
            assert group.status is Status.CLOSED, "Ransom: a group is held for ransom for ever"

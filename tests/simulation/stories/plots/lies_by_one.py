"""A claim that lies by one: the version below its newest, or nothing above its newest, and it has signed one more."""

from __future__ import annotations

from layer1.crypto import Hash
from layer1.ledger.agreements import Claim, sign_claim
from layer1.ledger.transactions import Report, Wedge
from layer2.events import Payload
from tests.simulation.groups.roles.role import Role
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.plot import Plot


class LyingByOne(Role):
    """A small lie."""

    host: MemberProcess

    def act(self) -> None:
        if self.host.step % 2 == 0 and self.host.part > 0.6:
            for group_id, group in self.seen.items():
                if not group.closed and group.ledger is None:
                    version = self._below(group_id)
                    self.host.bring(Wedge(*self.known[group_id][version], self._lie(group_id, version)))

    def brings(self, payload: Payload) -> bool:
        """What its honest half would claim, less one."""
        match payload:
            case Wedge(claim=claim) if claim.group_id in self.known:
                version = self._below(claim.group_id)
                self.host.bring(Wedge(*self.known[claim.group_id][version], self._lie(claim.group_id, version)))
                return False
            case Report(group_id=group_id, claims=(_,)) if group_id in self.known:
                lie = self._lie(group_id, self._below(group_id))
                self.host.bring(Report(group_id, None, None, (lie,)))
                return False
            case _:
                return True

    def _below(self, group_id: Hash) -> int:
        """One below the newest that it holds; or the newest, when it has signed one more."""
        versions = sorted(self.known[group_id])
        signed_more = self.seen[group_id].highest.version > versions[-1]
        return versions[-1] if signed_more and self.host.step % 4 < 2 else versions[max(len(versions) - 2, 0)]

    def _lie(self, group_id: Hash, version: int) -> Claim:
        """Version s, and nothing above."""
        place, (certificate, _) = self.seen[group_id].place, self.known[group_id][version]
        return sign_claim(place.key, place.index, version, certificate.header)


class LiesByOne(Plot):
    """Rule 15: provably false, if an accepted certificate says so."""

    def begin(self) -> None:
        self.corrupt(LyingByOne)

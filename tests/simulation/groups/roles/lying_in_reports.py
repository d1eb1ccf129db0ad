"""When a group is in dispute it claims less than it signed, and reports old certificates."""

from __future__ import annotations

from layer1.ledger.transactions import ChangeGroup, CloseGroup, Plea, RegisterPreimages, Report, Reveal
from layer2.events import Payload
from tests.simulation.groups.roles.role import Role


class LyingInReports(Role):
    """Claims what suits it."""

    def act(self) -> None:
        for group_id, group in self.seen.items():
            if not group.closed and group.ledger is not None and self.random.random() < 0.3:
                certificate, body = self.known[group_id][self.old_version(group_id)]
                self.host.bring(Report(group_id, certificate, body, (self.claim(group_id, certificate),)))

    def brings(self, payload: Payload) -> bool:
        if isinstance(payload, CloseGroup | ChangeGroup):
            return self.random.random() < 0.5
        if isinstance(payload, Plea | Reveal | RegisterPreimages):
            return True
        group_id = payload.group_id if isinstance(payload, Report) else payload.claim.group_id
        if group_id not in self.known:
            return True
        certificate, _ = self.known[group_id][self.old_version(group_id)]
        if isinstance(payload, Report):
            self.host.bring(Report(group_id, None, None, (self.claim(group_id, certificate),)))
        else:
            self.host.bring(self.wedge(group_id, certificate.header.version))
        return False

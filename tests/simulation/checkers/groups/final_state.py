"""Final state: a group closes on a version at least as new as any that an honest member called committed, and its own.

Source: docs/design/groups.md, rules 3, 8, 9 and 14.
"""

from __future__ import annotations

from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.records import Reason, Status
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import EPOCH


class FinalState(GroupChecker):
    """What layer 1 settles on."""

    def on_ledger(self, before: LedgerGroup | None, after: LedgerGroup) -> None:
        if before is not None and after.epoch > before.epoch:
            self._check_base(after)
        if after.status is not Status.CLOSED:
            return
        name = after.group_id.hex()[:8]
        facts = self.facts.groups[after.group_id]
        version = facts.settled_version
        assert version is not None, "it is closed"
        for member in facts.honest.values():
            if version < member.committed:
                self.fail(
                    f"group {name} closes by {after.reason} on version {version}, wallet {member.wallet} had version "
                    f"{member.committed} committed"
                )
            if version % EPOCH and version > max(member.signed, default=0):
                self.fail(f"group {name} closes on version {version}, which wallet {member.wallet} never signed")
            by_claims = after.reason is not Reason.FINAL and version % EPOCH
            if by_claims and member.signed[version] != after.certificate.header:
                self.fail(f"group {name} closes on another version {version} than wallet {member.wallet} signed")

    def _check_base(self, after: LedgerGroup) -> None:
        """Rule 24: an epoch ends on the newest version that anybody signed in it."""
        facts = self.facts.groups[after.group_id]
        base = facts.bases[-1]
        for member in facts.honest.values():
            newest = max((each for each in member.signed if each // EPOCH == base // EPOCH), default=base)
            if (newest != base and base % EPOCH) or newest > base:
                self.fail(
                    f"group {after.group_id.hex()[:8]} goes on from version {base % EPOCH}, wallet {member.wallet} had "
                    f"signed version {newest % EPOCH}"
                )

    def finish(self) -> None:
        """Nothing became committed after the end."""
        for group_id, facts in self.facts.groups.items():
            for member in facts.honest.values():
                version = facts.settled_version
                if version is not None and member.committed > version:
                    self.fail(
                        f"wallet {member.wallet} calls version {member.committed} of group {group_id.hex()[:8]} "
                        f"committed, which closed on version {version}"
                    )

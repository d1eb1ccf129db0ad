"""One head: two homes of one wallet never show two things at one version, nor two claims, nor two ends.

Source: docs/decisions/031; docs/design/groups.md, rule 5.
"""

from __future__ import annotations

from layer1.crypto import Hash
from layer1.ledger.transactions import Report, Wedge
from layer2.events import Payload
from layer2.messages import Accept, FinalAccept, FinalProposal, Message, Propose
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import EPOCH, Facts


class OneHead(GroupChecker):
    """All signatures that left any home of a wallet: signing is deterministic, so equal things have equal ones."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._shown: dict[tuple[Hash, int, str], bytes] = {}

    def sent(self, wallet: int, peer: int, message: Message) -> None:
        match message:
            case Propose(header=header):
                self._show(wallet, header.group_id, f"version {header.epoch}/{header.version}", message.signature)
            case Accept(group_id=group_id, version=version):
                member = self.facts.member(wallet, group_id)
                epoch = max(member.signed, default=0) // EPOCH if member is not None else 0
                self._show(wallet, group_id, f"version {epoch}/{version}", message.signature)
            case FinalProposal(final=final):
                self._show(wallet, final.group_id, f"the end of epoch {final.epoch}", message.signature)
            case FinalAccept(group_id=group_id):
                member = self.facts.member(wallet, group_id)
                if member is not None and member.final is not None:
                    self._show(wallet, group_id, f"the end of epoch {member.final.epoch}", message.signature)
            case _:
                pass

    def brought(self, wallet: int, payload: Payload) -> None:
        match payload:
            case Wedge(claim=claim):
                self._show(wallet, claim.group_id, f"its claim of epoch {claim.epoch}", claim.signature)
            case Report(claims=claims):
                for claim in claims:
                    self._show(wallet, claim.group_id, f"its claim of epoch {claim.epoch}", claim.signature)
            case _:
                pass

    def _show(self, wallet: int, group_id: Hash, what: str, signature: bytes) -> None:
        if self._shown.setdefault((group_id, wallet, what), signature) != signature:
            self.fail(f"wallet {wallet} shows two signatures of {what} in group {group_id.hex()[:8]}")

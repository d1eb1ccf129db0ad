"""Books: a group pays out what was put in and what was paid within it, to the unit, and no money comes from nowhere.

The balances of each version are computed by adding up the payments that honest members signed, and nothing else. In
the end each honest wallet has on layer 1 what it began with and what its closed groups left to it.

Source: docs/design/groups.md, "Objects", rules 7, 11, 15 and 16.
"""

from __future__ import annotations

from collections.abc import Mapping

from layer1.crypto import PublicKey
from layer1.ledger.records import Forfeit, Status
from layer1.ledger.records import Group as LedgerGroup
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts, GroupFacts, Member
from tests.simulation.checkers.groups.standing import Standing, standing


class Books(GroupChecker):
    """Sums."""

    def __init__(self, facts: Facts, accounts: Mapping[int, tuple[PublicKey, ...]], began_units: int) -> None:
        """`accounts` are those of each honest wallet, which began with `began_units` in all."""
        super().__init__(facts)
        self._accounts, self._began_units = dict(accounts), began_units
        self._earned: dict[int, int] = dict.fromkeys(accounts, 0)

    def on_ledger(self, before: LedgerGroup | None, after: LedgerGroup) -> None:
        if before is not None and after.epoch > before.epoch:
            self._check_change(before, after)
        if after.status is not Status.CLOSED:
            return
        self._earn_locks(before, after)
        if before is not None and before.status is Status.CLOSED:
            return  # pending locks are paid
        facts = self.facts.groups[after.group_id]
        version = facts.settled_version
        assert version is not None, "it is closed"
        for index, member in facts.honest.items():
            stands = self._standing(facts.ledger, member, version)
            locks = tuple(each.lock for each in after.locks)
            if locks != tuple(stands.locks.values()):
                self.fail(
                    f"group {after.group_id.hex()[:8]} closes on version {version} with other locks than were offered "
                    f"and not ended: {locks}, and not {tuple(stands.locks.values())}"
                )
            due = _due(facts, stands.balances)
            if after.payouts != due:
                self.fail(
                    f"group {after.group_id.hex()[:8]} pays on version {version} other sums than deposits, payments "
                    f"and bonds add up to: {after.payouts}, and not {due}"
                )
            mine = after.agreement.members[index]
            self._earned[member.wallet] += after.payouts[index] - mine.deposit - mine.bond

    def _check_change(self, before: LedgerGroup, after: LedgerGroup) -> None:
        """Everybody begins an epoch with what it had in the last one, what it paid in, less what it took out."""
        facts = self.facts.groups[after.group_id]
        assert facts.change is not None, "the epoch has begun"
        for index, member in facts.honest.items():
            paid = self._standing(before, member, facts.bases[-1]).balances
            for seat, each in enumerate(before.agreement.members):
                moved = sum(p.units for p in facts.change.deposits if p.account == each.funding)
                moved -= sum(p.units for p in facts.change.withdrawals if p.account == each.payout)
                has = after.agreement.members[seat].deposit
                if has != paid[seat] + moved:
                    self.fail(
                        f"member {seat} of group {after.group_id.hex()[:8]} begins epoch {after.epoch} with {has} "
                        f"units, and not with {paid[seat]} and the {moved} that it moved"
                    )
            self._earned[member.wallet] += paid[index] - before.agreement.members[index].deposit

    def _standing(self, group: LedgerGroup, member: Member, version: int) -> Standing:
        deposits = [each.deposit for each in group.agreement.members]
        return standing(self.facts.groups[group.group_id], member, deposits, version)

    def _earn_locks(self, before: LedgerGroup | None, after: LedgerGroup) -> None:
        """What layer 1 pays of the locks that stood at the end."""
        known = {each.lock.id for each in before.locks if each.paid_to is not None} if before is not None else set()
        for each in after.locks:
            member = self.facts.groups[after.group_id].honest.get(-1 if each.paid_to is None else each.paid_to)
            if member is not None and each.lock.id not in known:
                self._earned[member.wallet] += each.lock.amount

    def finish(self) -> None:
        state = self.facts.reference.state
        lost = {member.wallet for facts in self.facts.groups.values() for member in facts.bereft.values()}
        for wallet, accounts in self._accounts.items():
            if wallet in lost:
                continue  # what it paid, it does not know
            locked = sum(
                group.agreement.members[index].deposit + group.agreement.members[index].bond
                for group, index in self._open_groups(wallet)
            )
            has = sum(state.balance(account) for account in accounts)
            due = self._began_units + self._earned[wallet] - locked
            if has != due:
                self.fail(f"wallet {wallet} has {has} units on layer 1, its groups leave it {due}")

    def _open_groups(self, wallet: int) -> list[tuple[LedgerGroup, int]]:
        return [
            (facts.ledger, index)
            for facts in self.facts.groups.values()
            for index, member in facts.honest.items()
            if member.wallet == wallet and facts.ledger.status is not Status.CLOSED
        ]


def _due(facts: GroupFacts, balances: list[int]) -> tuple[int, ...]:
    """Each its balance and its bond; a forfeited one goes to others, the first ones getting what is left over.

    A liar's to all others, that of who was silent, or hid the body, to those who pleaded; less what delegates got.
    """
    group, due = facts.ledger, list(balances)
    for index, member in enumerate(group.agreement.members):
        why, heirs = group.forfeits[index], [index]
        if why is not None:
            heirs = [i for i in range(len(due)) if i != index and (why is Forfeit.LIE or group.pleas[i])]
        for place, heir in enumerate(heirs):
            due[heir] += member.bond // len(heirs) + (place < member.bond % len(heirs))
    for bounty in group.bounties:
        due[bounty.member] -= bounty.units
    return tuple(due)

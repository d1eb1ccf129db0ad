"""Payments: what was acknowledged as paid stays paid, what was refused never is, and nothing is paid twice.

A payment is paid if it stands in a version up to the one on which its group closed. What was neither acknowledged nor
refused may be either; its user was told that it is pending.

Source: docs/design/groups.md, rules 1, 3 and 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from layer1.crypto import Hash
from layer2.events import Committed, Rejected
from layer2.messages import Message, Submit
from layer2.payments import Pay, read_command
from layer2.records import EpochBegun, HostRecord, Signed
from layer2.value import Group
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts, GroupFacts, ordinal, payments

Name = tuple[Hash, int, bytes]
"""Group, payer's index, memo."""


class Payments(GroupChecker):
    """All payments that honest wallets issued or received."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._issued: set[tuple[Hash, int, str, int]] = set()
        self._acknowledged: set[tuple[Hash, int, str]] = set()
        self._refused: set[tuple[Hash, int, str]] = set()
        self._committed: set[tuple[Hash, int, Name]] = set()
        self._submitted: dict[tuple[Hash, int, int], str] = {}
        """By group, wallet and number, the memo of a command that was sent, or signed, in the wallet's present life."""

    def issued(self, wallet: int, group_id: Hash, memo: str, amount: int) -> None:
        self._issued.add((group_id, wallet, memo, amount))

    def acknowledged(self, wallet: int, group_id: Hash, memo: str) -> None:
        self._acknowledged.add((group_id, wallet, memo))

    def refused(self, wallet: int, group_id: Hash, memo: str) -> None:
        self._refused.add((group_id, wallet, memo))

    def rejected(self, wallet: int, group_id: Hash, event: Rejected) -> None:
        memo = self._submitted.get((group_id, wallet, event.number))
        if memo is not None:
            self._refused.add((group_id, wallet, memo))

    def sent(self, wallet: int, peer: int, message: Message) -> None:
        """A command's number is told apart from the same number of a life that a crash has ended."""
        if isinstance(message, Submit):
            for command in message.commands:
                request = read_command(command.payload)
                if isinstance(request, Pay):
                    self._submitted[message.group_id, wallet, command.number] = request.memo.decode()

    def restored(self, wallet: int, groups: Mapping[Hash, Group]) -> None:
        self._submitted = {name: memo for name, memo in self._submitted.items() if name[1] != wallet}

    def synced(self, wallet: int, records: Sequence[HostRecord]) -> None:
        """No member signs a payment in its own name that its user did not ask for."""
        for record in records:
            if isinstance(record, EpochBegun):  # numbers begin anew
                mine = (record.group_id, wallet)
                self._submitted = {name: memo for name, memo in self._submitted.items() if name[:2] != mine}
            member = self.facts.member(wallet, record.group_id)
            if isinstance(record, Signed) and member is not None:
                batch = member.batches[ordinal(record.propose.header)]
                for command in batch.commands:
                    payer, pay = command.member, read_command(command.payload)
                    if not isinstance(pay, Pay):
                        continue  # of locks: see `checkers.locks`
                    if payer == member.index == 0:  # a primary sends its own commands to nobody
                        self._submitted[record.group_id, wallet, command.number] = pay.memo.decode()
                    name = (record.group_id, wallet, pay.memo.decode(errors="replace"), pay.amount)
                    if payer == member.index and name not in self._issued:
                        self.fail(
                            f"wallet {wallet} signs a payment of {pay.amount} that its user never made: {name[2]!r}"
                        )

    def committed(self, wallet: int, group_id: Hash, event: Committed) -> None:
        """What is called committed is what was signed."""
        for payer, pay in payments(event.batch):
            self._committed.add((group_id, wallet, (group_id, payer, pay.memo)))

    def finish(self) -> None:
        for group_id, facts in self.facts.groups.items():
            if facts.settled_version is not None:
                self._check(group_id, facts, facts.settled_version)

    def _check(self, group_id: Hash, facts: GroupFacts, version: int) -> None:
        for index, member in facts.honest.items():
            if member.receipted is not None:
                continue  # it slept: what its watchtowers had not receipted it calls pending
            applied: Counter[tuple[int, bytes]] = Counter()
            for each in facts.applied(version):
                applied.update((payer, pay.memo) for payer, pay in payments(member.batches[each]))
            mine = {memo.decode() for payer, memo in applied if payer == index}
            name, wallet = group_id.hex()[:8], member.wallet
            twice = [memo for (payer, memo), count in applied.items() if count > 1 and payer == index]
            if twice:
                self.fail(f"payments of wallet {wallet} in group {name} apply more than once: {twice}")
            lost = {memo for group, who, memo in self._acknowledged if (group, who) == (group_id, wallet)} - mine
            if lost:
                self.fail(
                    f"wallet {wallet} was told of payments in group {name} that they were made, and they are not: "
                    f"{sorted(lost)}"
                )
            undead = {memo for group, who, memo in self._refused if (group, who) == (group_id, wallet)} & mine
            if undead:
                self.fail(
                    f"wallet {wallet} was told of payments in group {name} that they were refused, and they are made: "
                    f"{sorted(undead)}"
                )
            received = {key[1:] for group, who, key in self._committed if (group, who) == (group_id, wallet)}
            if missing := received - set(applied):
                self.fail(
                    f"wallet {wallet} had payments in group {name} committed that are not made: {sorted(missing)}"
                )

"""A deliberately dumb ledger: dicts, no signatures, no tree, no views. What it says, the real one must say too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class DumbGroup:
    """Members are indices; balances of version v are told by the caller."""

    bonds: list[int]
    balances: list[int]
    opened: int
    status: str = "open"
    version: int = 0
    signed: str = ""
    """Which of two headers at `version` was certified."""
    deadline: int = 0
    claims: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Member: (k, which header)."""
    forfeited: set[int] = field(default_factory=set)

    @property
    def locked(self) -> int:
        return 0 if self.status == "closed" else sum(self.balances) + sum(self.bonds)

    def judge(self) -> None:
        """Rule 15, in one line of English each."""
        for member, (k, which) in self.claims.items():
            if self.version > k:
                self.forfeited.add(member)
            if self.version == k > 0 and self.signed != which:
                self.forfeited.add(member)

    def payouts(self, balances: Sequence[int]) -> list[int]:
        due = list(balances)
        for i, bond in enumerate(self.bonds):
            if i not in self.forfeited:
                due[i] += bond
                continue
            others = [j for j in range(len(due)) if j != i]
            for unit in range(bond):
                due[others[unit % len(others)]] += 1  # dealt like cards
        return due


@dataclass
class Twin:
    """Money by name of account, groups by name."""

    accounts: dict[str, int]
    groups: dict[str, DumbGroup] = field(default_factory=dict)
    clock: int = 0
    due_per_block: int = 1_000

    def total(self) -> int:
        return sum(self.accounts.values()) + sum(group.locked for group in self.groups.values())

    def tick(self, clock: int, order: dict[str, bytes]) -> None:
        """Start a block: settle what is due, by deadline and id."""
        self.clock = clock
        due = [n for n, g in self.groups.items() if g.status == "wedged" and g.deadline <= clock]
        for name in sorted(due, key=lambda n: (self.groups[n].deadline, order[n]))[: self.due_per_block]:
            self._close(name, self.groups[name].balances)

    def transfer(self, sender: str, recipient: str, amount: int) -> bool:
        if amount < 1 or sender == recipient or self.accounts.get(sender, 0) < amount:
            return False
        self.accounts[sender] -= amount
        self.accounts[recipient] = self.accounts.get(recipient, 0) + amount
        return True

    def open(self, name: str, people: Sequence[str], deposit: int, bond: int) -> bool:
        needed = {person: people.count(person) * (deposit + bond) for person in people}
        if any(self.accounts.get(person, 0) < units for person, units in needed.items()):
            return False
        for person, units in needed.items():
            self.accounts[person] -= units
        self.groups[name] = DumbGroup([bond] * len(people), [deposit] * len(people), self.clock)
        return True

    def final(self, name: str, balances: Sequence[int]) -> bool:
        if not self._live(name):
            return False
        self._close(name, balances)
        return True

    def wedge(
        self,
        name: str,
        member: int,
        version: int,
        which: str,
        balances: Sequence[int],
        claim: tuple[int, str],
        period: int,
    ) -> bool:
        """`claim` is (k, which header at k); s is `version`."""
        group = self.groups[name]
        if not self._live(name) or (claim[0] == version and claim[1] != which):
            return False
        if group.status == "wedged":
            return self.report(name, (version, which, balances), {member: (version, *claim)})
        group.status, group.deadline = "wedged", self.clock + period
        group.version, group.signed, group.balances = version, which, list(balances)
        group.claims[member] = claim
        return True

    def report(
        self,
        name: str,
        certificate: tuple[int, str, Sequence[int]] | None,
        claims: dict[int, tuple[int, int, str]],
        double: int | None = None,
    ) -> bool:
        group = self.groups[name]
        if not self._live(name) or group.status != "wedged":
            return False
        best = max(group.version, certificate[0] if certificate else 0)
        if any(s > best for member, (s, _, _) in claims.items() if member not in group.claims):
            return False
        news = bool(certificate and certificate[0] > group.version) or any(m not in group.claims for m in claims)
        if not news and (double is None or double in group.forfeited):
            return False
        if certificate and certificate[0] > group.version:
            group.version, group.signed, group.balances = certificate[0], certificate[1], list(certificate[2])
        for member, (_, k, which) in claims.items():
            group.claims.setdefault(member, (k, which))
        group.judge()
        if double is not None:
            group.forfeited.add(double)
        if len(group.claims) == len(group.bonds):
            self._close(name, group.balances)
        return True

    def _live(self, name: str) -> bool:
        group = self.groups[name]
        return group.status == "open" or (group.status == "wedged" and self.clock < group.deadline)

    def _close(self, name: str, balances: Sequence[int]) -> None:
        group = self.groups[name]
        for i, units in enumerate(group.payouts(balances)):
            account = f"{name} payout {i}"
            self.accounts[account] = self.accounts.get(account, 0) + units
        group.status = "closed"

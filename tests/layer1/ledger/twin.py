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
    """0 for none."""
    period: int = 0
    known: bool = True
    """Whether somebody has brought the body of `version`."""
    ended: bool = False
    """The dispute is over, but for the body."""
    pleas: set[int] = field(default_factory=set)
    concurs: set[int] = field(default_factory=set)
    claims: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Member: (k, which header)."""
    why: dict[int, str] = field(default_factory=dict)
    """Member: why its bond is lost."""

    @property
    def forfeited(self) -> set[int]:
        return set(self.why)

    @property
    def locked(self) -> int:
        return 0 if self.status == "closed" else sum(self.balances) + sum(self.bonds)

    def judge(self) -> None:
        """Rule 15, in one line of English each."""
        for member, (k, which) in self.claims.items():
            if self.version > k or (self.version == k > 0 and self.signed != which):
                self.why.setdefault(member, "lie")

    def blame(self, excused: set[int], why: str) -> None:
        """Rules 12 and 13: whoever pleaded is owed something by all who are not excused."""
        for member in range(len(self.bonds)):
            if self.pleas and member not in excused:
                self.why.setdefault(member, why)

    def payouts(self, balances: Sequence[int]) -> list[int]:
        due = list(balances)
        for i, bond in enumerate(self.bonds):
            if i not in self.why:
                due[i] += bond
                continue
            others = [j for j in range(len(due)) if j != i and (self.why[i] == "lie" or j in self.pleas)]
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
        """Start a block: do what is due, by deadline and id."""
        self.clock = clock
        due = [n for n, g in self.groups.items() if g.status == "wedged" and 0 < g.deadline <= clock]
        for name in sorted(due, key=lambda n: (self.groups[n].deadline, order[n]))[: self.due_per_block]:
            group = self.groups[name]
            if group.ended:
                group.blame(group.pleas, "hidden")
                group.deadline = 0
            else:
                group.blame(group.pleas | set(group.claims), "silent")
                self._end(name)

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
        *,
        known: bool = True,
    ) -> bool:
        """`claim` is (k, which header at k); s is `version`; `known` is whether the body comes with it."""
        group = self.groups[name]
        if not self._live(name) or (claim[0] == version and claim[1] != which):
            return False
        if group.status == "wedged":
            return self.report(name, (version, which, balances, known), {member: (version, *claim)})
        group.status, group.deadline, group.period = "wedged", self.clock + period, period
        group.known = known or version == 0
        group.version, group.signed, group.balances = version, which, list(balances)
        group.claims[member] = claim
        return True

    def report(
        self,
        name: str,
        certificate: tuple[int, str, Sequence[int], bool] | None,
        claims: dict[int, tuple[int, int, str]],
        double: int | None = None,
    ) -> bool:
        group = self.groups[name]
        if not self._live(name) or group.status != "wedged" or group.ended:
            return False
        if any(member in group.pleas for member in claims if member not in group.claims):
            return False
        best = max(group.version, certificate[0] if certificate else 0)
        if any(s > best for member, (s, _, _) in claims.items() if member not in group.claims):
            return False
        higher = bool(certificate and certificate[0] > group.version)
        revealed = certificate == (group.version, group.signed, tuple(group.balances), True) and not group.known
        news = higher or revealed or any(m not in group.claims for m in claims)
        if not news and (double is None or double in group.forfeited):
            return False
        if certificate and higher:
            group.version, group.signed, group.balances = certificate[0], certificate[1], list(certificate[2])
            group.known, group.concurs = certificate[3], set()
        group.known = group.known or revealed
        for member, (_, k, which) in claims.items():
            group.claims.setdefault(member, (k, which))
        group.judge()
        if double is not None:
            group.why.setdefault(double, "lie")
        self._count(name)
        return True

    def plead(self, name: str, member: int, period: int) -> bool:
        group = self.groups[name]
        silenced = member in group.pleas or member in group.claims or member in group.why
        if not self._live(name) or silenced or (group.ended and not group.deadline):
            return False
        if group.status == "open":
            group.status, group.deadline, group.period = "wedged", self.clock + 2 * period, period
        elif not group.ended and not group.pleas:
            group.deadline += period
        group.pleas.add(member)
        return True

    def concur(self, name: str, member: int, version: int) -> bool:
        group = self.groups[name]
        spoken = member in group.claims or member in group.concurs
        if not self._live(name) or group.status != "wedged" or group.ended or spoken or version != group.version:
            return False
        group.concurs.add(member)
        self._count(name)
        return True

    def reveal(self, name: str, version: int, balances: Sequence[int]) -> bool:
        group = self.groups[name]
        right = (version, list(balances)) == (group.version, group.balances)
        if not self._live(name) or group.status != "wedged" or group.known or not right:
            return False
        group.known = True
        if group.ended:
            self._close(name, group.balances)
        return True

    def _count(self, name: str) -> None:
        group = self.groups[name]
        if len(set(group.claims) | group.concurs) == len(group.bonds):
            self._end(name)

    def _end(self, name: str) -> None:
        group = self.groups[name]
        if group.known:
            self._close(name, group.balances)
        else:
            group.ended, group.deadline = True, self.clock + group.period

    def _live(self, name: str) -> bool:
        group = self.groups[name]
        if group.status == "wedged":
            return not group.deadline or self.clock < group.deadline
        return group.status == "open"

    def _close(self, name: str, balances: Sequence[int]) -> None:
        group = self.groups[name]
        for i, units in enumerate(group.payouts(balances)):
            account = f"{name} payout {i}"
            self.accounts[account] = self.accounts.get(account, 0) + units
        group.status = "closed"

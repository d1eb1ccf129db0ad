"""Who may have a witness look on layer 1: whoever it promised something, and who was served by it once.

A look costs the witness and its replica work, and a stranger has as many names as it likes: so strangers get none.
Members of a group that was dropped may not know of its end yet, and do nothing wrong when they name it.

Source: decision 033.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator

from layer1.crypto import Hash, PublicKey
from layer1.ledger.agreements import GroupAgreement
from layer2.engaging import Promised

MOST_FORMER = 10_000
"""Groups that were dropped, newest; each was open on layer 1, so nobody drives out others' for nothing."""


class Promises:
    """What was promised and not opened yet, by the agreement's hash."""

    def __init__(self) -> None:
        self._all: dict[Hash, Promised] = {}
        self._named: Counter[PublicKey] = Counter()

    def __contains__(self, name: Hash) -> bool:
        return name in self._all

    def __iter__(self) -> Iterator[Promised]:
        return iter(self._all.values())

    def put(self, promised: Promised) -> None:
        """Keep it, in place of the same one from before."""
        self.pop(promised.agreement_hash)
        self._all[promised.agreement_hash] = promised
        self._named.update(_parties(promised))

    def pop(self, name: Hash) -> Promised | None:
        """Forget it."""
        promised = self._all.pop(name, None)
        if promised is not None:
            self._named.subtract(_parties(promised))
            for party in _parties(promised):
                if not self._named[party]:
                    del self._named[party]
        return promised

    def redeem(self, agreement: GroupAgreement, epoch: int) -> Promised | None:
        """Forget the one that a group on layer 1 was opened under; None if there is none.

        Members may change a group before its witness hears of it: it was away, and they need none for that. Then the
        agreement is another one, but all seats are still known by their wallet and key. Nobody can feign that:
        whoever opens a group signs with the key of its wallet, and whoever joins one later, with its key in the group.
        """
        exact = self.pop(agreement.hash)
        if exact is not None or epoch == 0:
            return exact
        seats = {(member.funding, member.key) for member in agreement.members}
        found = next((each for each in self if seats == set(zip(each.members, each.keys, strict=False))), None)
        return None if found is None else self.pop(found.agreement_hash)

    def forget_opened_before(self, clock_ms: int) -> None:
        """Drop those whose opening had to come before `clock_ms`, ledger clock, or then."""
        for promised in [each for each in self if each.open_before_ms <= clock_ms]:
            self.pop(promised.agreement_hash)

    def count(self, party: PublicKey) -> int:
        """How many name this wallet as a member."""
        return self._named[party]


class FormerGroups:
    """The newest groups that were dropped, and who was a member of each."""

    def __init__(self) -> None:
        self._members: OrderedDict[Hash, tuple[PublicKey, ...]] = OrderedDict()

    def __iter__(self) -> Iterator[tuple[Hash, tuple[PublicKey, ...]]]:
        return iter(self._members.items())

    def add(self, group_id: Hash, members: tuple[PublicKey, ...]) -> None:
        """Remember it, and forget the oldest if there are too many."""
        self._members[group_id] = members
        self._members.move_to_end(group_id)
        if len(self._members) > MOST_FORMER:
            self._members.popitem(last=False)

    def had(self, group_id: Hash, wallet: PublicKey) -> bool:
        """Whether this wallet was a member of it."""
        return wallet in self._members.get(group_id, ())


def _parties(promised: Promised) -> set[PublicKey]:
    return {promised.requester, *promised.members}

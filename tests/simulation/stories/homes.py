"""What outlives the processes of a story's member: as a wallet's home, with its watchtowers' receipts and its role."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from layer1.crypto import Hash, PublicKey
from layer2.promises import TowerReceipt
from tests.simulation.disk import Disk
from tests.simulation.groups.home import Home
from wallet.headship import Standing
from wallet.invoices.book import InvoiceBook
from wallet.towers import KnownTower, TowerBook

Receipts = dict[tuple[PublicKey, Hash], TowerReceipt]


@dataclass
class MemberHome(Home):
    """One home of a member; a standby is another one."""

    receipts: Receipts = field(default_factory=dict)
    standing: Standing | None = None
    """Its role file; None of a home that never had one."""
    copied: bool = False
    """Its files are a copy, which it has yet to notice (decision 040)."""
    lost: bool = False
    """It was made from the phrase: what it signed it does not know [F5]."""

    def copy(self) -> MemberHome:
        """A backup."""
        home = MemberHome(self.disk.copy(), dict(self.book), dict(self.versions), copied=True)
        home.receipts, home.standing = dict(self.receipts), self.standing
        return home

    def from_phrase(self) -> MemberHome:
        """All that the phrase and layer 1 bring back."""
        return MemberHome(Disk(), dict(self.book), standing=self.standing, lost=True)


class HomeTowers(TowerBook):
    """The towers of a member, and what they signed, without a file."""

    def __init__(self, towers: Sequence[KnownTower], receipts: Receipts, boundary: Callable[[], None]) -> None:
        self._towers = {tower.address: tower for tower in towers}
        self._receipts, self._boundary = receipts, boundary
        self.on_change = lambda _: None

    def keep(self, receipt: TowerReceipt) -> None:
        """Put a receipt in place of the one before."""
        self._boundary()
        self._receipts[receipt.tower, receipt.group_id] = receipt


class NoInvoices(InvoiceBook):
    """None: stories are about channels."""

    def __init__(self) -> None:
        self.on_put = lambda _: None

    def everything(self) -> Iterator[bytes]:
        """Nothing for a standby."""
        return iter(())


def write_standing(home: MemberHome, standing: Standing) -> None:
    """In place of `wallet.headship.write_standing`: durable on return."""
    home.standing = standing

"""The parts of an open wallet, as its components find each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from layer1.client import LedgerClient
from layer1.ledger.genesis import Genesis
from layer2.driver import GroupHost
from wallet.book import ChannelBook
from wallet.entrusting import Entruster
from wallet.forwarding.companion import Passages
from wallet.headship import Headship
from wallet.history import History
from wallet.keystore import HotKeys
from wallet.observer import WalletObserver
from wallet.signals import Signals
from wallet.submitter import Submitter
from wallet.towers import TowerBook


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that one process needs of one home; made and taken down by `wallet.wallet.Wallet`."""

    genesis: Genesis
    keys: HotKeys
    payout: bytes
    """Public key of the savings account."""
    ledger: LedgerClient
    host: GroupHost
    book: ChannelBook
    history: History
    observer: WalletObserver
    submitter: Submitter
    signals: Signals
    towers: TowerBook
    entruster: Entruster
    headship: Headship | None = None
    """None of a home that never had a standby."""
    passages: Passages = field(kw_only=True)
    """What the forwarder knows and keeps."""

    async def settled(self) -> None:
        """Wait until what was written so far may be shown to others: the standby, if there is one, has it.

        Raises:
            Refused: ``fenced``: another home leads.
        """
        if self.headship is not None:
            await self.headship.driver.settled()

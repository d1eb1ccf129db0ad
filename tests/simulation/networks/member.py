"""A wallet of a network: a member of pairs, with its locks.

Source: wallet/wallet.py, wallet/locking.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.simulation.networks.homes import ClaimFiles, NetworkHome, write_durably
from tests.simulation.stories.member import Life, MemberProcess
from wallet import locking
from wallet.locking import Locking

MARGIN_MS = 8_000
"""M of rule 22, for the ledger of a story: a look every 2 s, a block of which a client has yet to hear, four blocks of
at most a second until a transaction is in one, and the ways there and back. (The formula's 10 s for leaders that leave
it out are those of `layer1.ledger.genesis.Parameters.inclusion_timeout_ms`; here they leave it out of three blocks.)"""


class WalletProcess(MemberProcess):
    """One home of one wallet."""

    home: NetworkHome
    margin_ms = MARGIN_MS

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.home = NetworkHome()
        self.locking: Locking | None = None
        """Of the present life."""

    def equip(self, life: Life) -> None:
        """As `wallet.wallet.Wallet.__aenter__`."""
        files: Any = ClaimFiles(self.home, self.boundary)
        self.locking = life.follower.locking = Locking(life.parts, files)

    def end_life(self) -> None:
        super().end_life()
        self.locking = None


@contextmanager
def simulated_files() -> Iterator[None]:
    """Within this, `wallet.locking` keeps its files in the homes of a network, and M is that of its ledger."""
    standins: dict[str, object] = {
        "private_directory": lambda directory: directory,
        "write_durably": write_durably,
        "margin_ms": lambda genesis: MARGIN_MS,
    }
    before = {name: vars(locking)[name] for name in standins}
    vars(locking).update(standins)
    try:
        yield
    finally:
        vars(locking).update(before)

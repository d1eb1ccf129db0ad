"""What goes wrong with wallets: all that does with replicas, and what only wallets have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from tests.simulation.faults import KINDS as KINDS_OF_ALL
from tests.simulation.faults import Faults
from tests.simulation.groups.wallet import WalletProcess
from tests.simulation.kernel import MS, World
from tests.simulation.network import Network


class WalletFaults(Faults):
    """The hand that breaks wallets."""

    def __init__(self, world: World, network: Network, wallets: Sequence[WalletProcess], end_us: int) -> None:
        super().__init__(world, network, wallets, end_us)
        self.wallets = list(wallets)

    def start(self, kinds: Sequence[str]) -> None:
        """Let these kinds of fault happen from now on."""
        for kind in kinds:
            random = self.world.random(f"wallet faults {kind}")
            self.repeat(random, partial(KINDS[kind], self, random), random.randint(300, 2_000) * MS)

    def heal(self) -> None:
        """And the ledger is within reach."""
        super().heal()
        for wallet in self.wallets:
            wallet.cut.until_us, wallet.home.fails = 0, False

    def cut_off(self, random: Random) -> None:
        """A wallet does not reach the ledger for a while."""
        wallet = random.choice(self.wallets)
        wallet.cut.until_us = self.world.now_us + random.randint(100, 4_000) * MS
        self.world.note(wallet.name, "is cut off from the ledger")

    def failing_disk(self, random: Random) -> None:
        """A sync is not confirmed."""
        random.choice(self.wallets).home.fails = True


KINDS: dict[str, Callable[[WalletFaults, Random], None]] = {
    **KINDS_OF_ALL,
    "cut off": WalletFaults.cut_off,
    "failing disk": WalletFaults.failing_disk,
}

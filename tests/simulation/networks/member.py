"""A wallet of a network: a member of pairs, with its locks, its forwarder, and the switchboard between them.

Source: wallet/wallet.py, which puts them together likewise.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol

from layer1.crypto import Hash
from layer1.ledger.agreements import Lock
from layer1.ledger.records import Group as LedgerGroup
from tests.simulation.groups.loop import Killed
from tests.simulation.kernel import MS
from tests.simulation.networks.homes import ClaimFiles, NetworkHome, write_durably
from tests.simulation.stories.links import StoryLoop
from tests.simulation.stories.member import Life, MemberProcess
from wallet import follower, locking
from wallet.forwarding import companion, driver
from wallet.forwarding.driver import ForwardDriver
from wallet.forwarding.policy import Terms
from wallet.invoices import dealing
from wallet.lock_news import Ended
from wallet.locking import Locking
from wallet.onion.packet import Peeled
from wallet.switchboard import Switchboard

MARGIN_MS = 8_000
"""M of rule 22, for the ledger of a story: a look every 2 s, a block of which a client has yet to hear, four blocks of
at most a second until a transaction is in one, and the ways there and back. (The formula's 10 s for leaders that leave
it out are those of `layer1.ledger.genesis.Parameters.inclusion_timeout_ms`; here they leave it out of three blocks.)"""
FEE = 3
"""Of every hub, for each payment that it forwards."""


class Desk(Protocol):
    """Payer and payee of a wallet, as its switchboard knows them: here its owner is both."""

    def take(self, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        """A committed lock is for this wallet."""

    def shown(self, group_id: Hash, lock: Lock, preimage: bytes) -> None:
        """Of a lock that we pay."""

    def lose(self, group_id: Hash, ended: Ended) -> None:
        """A lock is gone for certain."""

    def settled(self, group_id: Hash, shown: LedgerGroup) -> None:
        """Layer 1 shows a group wedged, or closed."""


class Loud:
    """In place of a log: what a wallet would log as a fault of its own ends the run."""

    def __getattr__(self, name: str) -> Any:
        return self.fail if name in {"exception", "error"} else lambda *args, **named: None

    @staticmethod
    def fail(text: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Say what it was."""
        error = exc_info or sys.exception()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, StoryLoop), "only simulated processes run within a simulation"
        if not isinstance(error, Killed) and loop.node.is_honest:
            where = "".join(traceback.format_exception(error)[-3:]) if error is not None else ""
            loop.fail(AssertionError(f"Steadfast: {text % args}: {where}"))


class Invoices:
    """In place of `wallet.invoices.desk.InvoiceDesk`."""

    def __init__(self, desk: Desk) -> None:
        self.payer = self.payee = desk


class WalletProcess(MemberProcess):
    """One home of one wallet."""

    home: NetworkHome
    margin_ms = MARGIN_MS

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.home = NetworkHome()
        self.locking: Locking | None = None
        """Of the present life."""
        self._spared_until_us = 0

    def cut_off(self, duration_ms: int) -> None:
        """Not again for three margins: whoever does not reach layer 1 within M loses what it was to register there."""
        if self.world.now_us >= self._spared_until_us:
            self._spared_until_us = self.world.now_us + 3 * MARGIN_MS * MS
            super().cut_off(duration_ms)

    def equip(self, life: Life) -> None:
        files: Any = ClaimFiles(self.home, self.boundary)
        self.locking = life.follower.locking = Locking(life.parts, files)
        life.parts.passages.terms_of = lambda group_id: Terms(fee_base=FEE)

    def wire(self, life: Life, desk: Desk) -> None:
        """As `wallet.wallet.Wallet.__aenter__`, when it hosts its channels. What it is told is overheard."""
        assert self.locking is not None, "it lives"
        invoices: Any = Invoices(desk)
        with life.loop.running():
            forwarder = ForwardDriver(life.parts, self.locking, lambda: life.follower.clock_ms)
            forwarder.start()
            board = Switchboard(life.parts, self.locking, lambda: life.follower.clock_ms, invoices, forwarder)
            board.start()
        on_preimage, on_end = self.locking.on_preimage, self.locking.on_end

        def shown(group_id: Hash, lock: Lock, preimage: bytes) -> None:
            self.tell(lambda checkers: checkers.shown(self.index, group_id, lock, preimage))
            on_preimage(group_id, lock, preimage)

        def ended(group_id: Hash, told: Ended) -> None:
            self.world.stats[f"locks {told.how}"] += 1
            self.tell(lambda checkers: checkers.ended(self.index, group_id, told))
            on_end(group_id, told)

        self.locking.on_preimage, self.locking.on_end = shown, ended

    def end_life(self) -> None:
        super().end_life()
        self.locking = None


@contextmanager
def simulated_files() -> Iterator[None]:
    """Within this, `wallet.locking` keeps its files in the homes of a network, and M is that of its ledger."""
    places: list[tuple[ModuleType, str, object]] = [
        (locking, "private_directory", lambda directory: directory),
        (locking, "write_durably", write_durably),
        (locking, "margin_ms", lambda genesis: MARGIN_MS),
        (companion, "margin_ms", lambda genesis: MARGIN_MS),
        (follower, "_log", Loud()),
        (dealing, "_log", Loud()),
        (driver, "_log", Loud()),
    ]
    before = [(module, name, vars(module)[name]) for module, name, _ in places]
    for module, name, standin in places:
        vars(module)[name] = standin
    try:
        yield
    finally:
        for module, name, original in before:
            vars(module)[name] = original

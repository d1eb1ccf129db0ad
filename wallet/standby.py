"""``wallet standby serve``: a home that keeps what the head sends, until it is promoted and served as the head.

*Safety:* it signs one thing: the appointment that makes it the head. Its groups are opened for signing only after
layer 1 has shown that it leads, by the ordinary start of a wallet, from what it kept.

Source: docs/decisions/031; `layer2.chain_standby`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, TypeVar, cast

from layer1.client import LedgerClient, LedgerUnreachable
from layer1.crypto import PublicKey, SigningKey
from layer1.errors import LocalError, Refused
from layer1.journal import Journal
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.genesis import Genesis
from layer1.link_server import LinkServer
from layer2.chain import Following, Leading, Role, Shown
from layer2.chain_driver import StandbyDriver
from layer2.chain_standby import step_down
from layer2.driver import GroupHost
from layer2.payments import Payments
from wallet.assembly import compact_soon
from wallet.book import ChannelBook
from wallet.contacts import Contact, format_endpoint, parse_endpoint
from wallet.forwarding.companion import Passages
from wallet.headship import HomeStore, Standing, appoint, new_name, read_standing, write_standing
from wallet.home import Home
from wallet.invoices.book import InvoiceBook
from wallet.keystore import HotKeys
from wallet.life import Life, keep_alive
from wallet.observer import WalletObserver
from wallet.requests import Promote, PromotedView, Report, Request, ShowStandby, StandbyView, no_report
from wallet.server_history import open_history
from wallet.signals import Signals
from wallet.towers import TowerBook

LOOK_S = 5.0
"""Between looks at layer 1: an appointment that was asked for may come late."""
R = TypeVar("R")
_log = logging.getLogger(__name__)


async def enter(home: Home, book: ChannelBook, ledger: LedgerClient, account: PublicKey) -> Following:
    """The role of a standby: as written down, of a fresh home, or of a head that another one follows.

    Raises:
        Refused: ``not_empty``, or ``head_home``: this home leads.
        LedgerUnreachable: Whether an old head may step down cannot be seen.
    """
    standing = read_standing(home)
    if standing is None:
        if any(True for _ in book):
            raise Refused(
                "not_empty",
                "this home has channels of its own: a standby is a fresh home, made by `wallet create --phrase-file`",
            )
        role: Role = Following(new_name())
    else:
        role = standing.role
    if isinstance(role, Leading):
        shown = (await ledger.appointment(account)).value
        if shown is None or shown.head == role.name or shown.term <= role.term:
            raise Refused(
                "head_home",
                f"this home is the head, in term {role.term}: it becomes a standby when another home is promoted",
            )
        role = step_down(role, Shown(shown.term, shown.head))
    life = Life(home.path)
    original = life.is_original
    if not original:  # what the head has shown since is not here: it hands over everything before this home may lead
        role = Following(new_name())
    write_standing(home, Standing(role))
    life.renew(copied=not original)
    return role


class StandbyHome:
    """A home that follows. Use as ``async with``.

    Attributes:
        led: Set when this home leads: close this, and open the wallet.
        contact: Where the head finds it, and peers once it leads; None until it listens.
    """

    def __init__(self, home: Home, keys: HotKeys) -> None:
        self._home = home
        self._keys = keys
        self._stack = contextlib.AsyncExitStack()
        self.led = asyncio.Event()
        self.contact: str | None = None
        self.signals = Signals()

    async def __aenter__(self) -> StandbyHome:
        """Lock the home, restore what it keeps, begin to look at layer 1.

        Raises:
            Refused: ``home_busy``, ``bad_config``; as :func:`enter`.
            LocalError: What it keeps is damaged.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._home.lock().release)
            self._genesis: Genesis = self._home.genesis()
            config = self._home.config()
            light = self._home.light(keep=True)
            client = LedgerClient(config.ledger_urls, self._genesis, ca=config.ca, light=light)
            self._ledger = await stack.enter_async_context(client)
            book = ChannelBook(self._home.channels_path)
            role = await enter(self._home, book, self._ledger, self._key.public)
            self._driver = StandbyDriver(role, self._restore(book, stack), self._write, self._lead)
            for work in (self._look(), keep_alive(self._home.path)):
                stack.push_async_callback(_cancel, asyncio.create_task(work))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def _key(self) -> SigningKey:
        return self._keys.spending

    def _restore(self, book: ChannelBook, stack: contextlib.AsyncExitStack) -> HomeStore:
        history = open_history(self._home)
        stack.callback(history.close)
        towers, invoices = TowerBook(self._home.towers_path), InvoiceBook(self._home.invoices_path)
        stack.callback(towers.close)
        stack.callback(invoices.close)
        observer = WalletObserver(book, history, self.signals)

        def group_key(agreement: GroupAgreement, seat: int) -> SigningKey:
            return book.key_of(self._keys, agreement, seat)

        journal = Journal.open(self._home.journal_path)
        stack.callback(journal.close)
        machines, chain_id = {"payments/2": Payments()}, self._genesis.chain_id
        host = GroupHost(
            journal,
            self._key,
            chain_id,
            machines=machines,
            observer=observer,
            group_key=group_key,
            companion=Passages(self._genesis),
        )
        observer.on_flushed = lambda: compact_soon(host, history, observer, invoices)
        return HomeStore(host, book, history, towers, invoices)

    async def listen(self, listen: str | None) -> str:
        """Take the head's link; what to give to the head as ``--standby``.

        Raises:
            Refused: ``cannot_listen`` or ``bad_contact``.
        """
        host, port = parse_endpoint(listen or self._home.config().listen or self._home.endpoint() or "127.0.0.1:0")
        server = LinkServer(
            self._key, self._genesis.chain_id, StandbyDriver.admits(self._key.public), self._driver.attach
        )
        try:
            bound = await server.start(host, port)
        except OSError as error:
            raise Refused(
                "cannot_listen", f"{format_endpoint(host, port)} cannot be listened on ({error.strerror or error})"
            ) from None
        self._stack.push_async_callback(server.stop)
        self._home.remember_endpoint(format_endpoint(host, bound))
        self.contact = str(Contact(self._key.public, host, bound))
        return self.contact

    async def ended(self) -> None:
        """Wait until this home leads.

        Raises:
            LocalError: It can no longer keep what it is sent.
        """
        leads, failed = asyncio.ensure_future(self.led.wait()), self._driver.failure
        leads.add_done_callback(lambda _: None if failed.done() else failed.set_result(None))
        try:
            await asyncio.shield(failed)
        finally:
            leads.cancel()

    async def promote(self) -> PromotedView:
        """Ask layer 1 for the next term; on return this home leads.

        Raises:
            Refused: ``not_paired``; or ``fenced``: the head was faster.
            LedgerUnreachable: Whether it was taken is not known. It goes on as a standby, and leads if it was.
        """
        term = self._driver.ask()
        shown = await appoint(self._ledger, self._key, term, self._driver.core.role.name)
        self._show(shown.term, shown.head)
        if not self.led.is_set():
            raise Refused(
                "fenced",
                f"term {shown.term} is of home {shown.head.hex()[:12]}: it was faster, and goes on as the head; this "
                "home follows it",
            )
        return PromotedView(term=term, contact=self.contact)

    def view(self) -> StandbyView:
        """How things stand."""
        role = self._driver.core.role
        return StandbyView(
            role="standby",
            name=role.name.hex(),
            term=role.term,
            paired=role.paired,
            in_touch=self._driver.in_touch,
            waiting=0,
            endpoint=None if self.contact is None else self.contact.partition("@")[2],
            trouble=self._driver.trouble or None,
        )

    async def _look(self) -> None:
        while not self.led.is_set():
            with contextlib.suppress(LedgerUnreachable):
                shown = (await self._ledger.appointment(self._key.public)).value
                if shown is not None:
                    self._show(shown.term, shown.head)
            await asyncio.sleep(LOOK_S)

    def _show(self, term: int, head: bytes) -> None:
        if self.led.is_set():
            return
        try:
            self._driver.shown(term, head)
        except LocalError as error:
            if not self._driver.failure.done():
                self._driver.failure.set_exception(error)

    def _write(self, role: Role) -> None:
        write_standing(self._home, Standing(role))

    def _lead(self, term: int) -> None:
        _log.info("this home leads, in term %d", term)
        self.led.set()


class StandbyCommands:
    """What a standby answers: how it stands, and its promotion."""

    def __init__(self, standby: StandbyHome) -> None:
        self._standby = standby

    async def run(self, request: Request[R], report: Report = no_report) -> R:
        """Do what the request says.

        Raises:
            Refused: ``standby_home``: only a head does it.
        """
        answer: Any
        match request:
            case ShowStandby():
                answer = self._standby.view()
            case Promote():
                answer = await self._standby.promote()
            case _:
                raise Refused("standby_home", "this home is a standby: ask the head, or `wallet standby promote`")
        return cast(R, answer)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

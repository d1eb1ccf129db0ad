"""Making the parts of a wallet out of its home, and taking them down again."""

from __future__ import annotations

import asyncio
import contextlib

from msgspec import structs

from layer1.client import LedgerClient
from layer1.crypto import SigningKey
from layer1.errors import LocalError
from layer1.journal import Journal
from layer1.ledger.agreements import GroupAgreement
from layer2.driver import GroupHost
from layer2.payments import Payments
from wallet.book import ChannelBook
from wallet.entrusting import Entruster
from wallet.forwarding.companion import Passages
from wallet.headship import Headship, check_leads, check_may_lead, read_standing, take_office
from wallet.history import History
from wallet.home import Home
from wallet.invoices.book import InvoiceBook
from wallet.keystore import HotKeys, Keystore
from wallet.life import Life, keep_alive
from wallet.observer import WalletObserver
from wallet.parts import Parts
from wallet.period import margin_ms
from wallet.server_history import open_history
from wallet.signals import Signals
from wallet.submitter import Submitter
from wallet.towers import TowerBook

COMPACT_BYTES = 8 * 2**20
"""A journal that is longer is replaced by what is needed to go on, once the history has the rest."""


async def assemble(
    home: Home, keys: HotKeys, keystore: Keystore, stack: contextlib.AsyncExitStack, invoices: InvoiceBook
) -> Parts:
    """Restore everything that a home holds; `stack` takes it down in the reverse order. The home must be locked by us.

    Raises:
        Refused: ``no_ledger`` or ``bad_config``.
        Refused: ``bad_light_file``: what is believed of the ledger is damaged.
        LocalError: The journal, the book or the history is damaged.
    """
    genesis, signals = home.genesis(), Signals()
    book = ChannelBook(home.channels_path)
    history = open_history(home)
    stack.callback(history.close)
    towers = TowerBook(home.towers_path)
    stack.callback(towers.close)
    observer = WalletObserver(book, history, signals)
    observer.is_receipted = towers.is_receipted
    config = home.config()
    light = home.light(keep=True)
    ledger = await stack.enter_async_context(LedgerClient(config.ledger_urls, genesis, ca=config.ca, light=light))
    standing, headship = read_standing(home), None
    life = Life(home.path)
    journal = Journal.open(home.journal_path)
    stack.callback(journal.close)
    original = life.is_original and life.knows(journal.place)
    check_leads(standing)
    check_may_lead(standing, original=original)
    if standing is not None:
        standing = await take_office(home, standing, ledger, keys.spending)
        headship = Headship(home, standing, ledger, keys.spending, signals)
    submitter = Submitter(ledger, headship.driver.settled if headship is not None else None, payer=keys.spending)
    stack.push_async_callback(submitter.close)
    observer.on_submission = submitter.bring_ours

    def group_key(agreement: GroupAgreement, seat: int) -> SigningKey:
        return book.key_of(keys, agreement, seat)

    machines, passages = {"payments/2": Payments()}, Passages(genesis)
    host = GroupHost(
        journal,
        keys.spending,
        genesis.chain_id,
        machines=machines,
        observer=observer,
        group_key=group_key,
        successor=headship.driver if headship is not None else None,
        margin_ms=margin_ms(genesis),
        companion=passages,
    )
    if headship is not None:
        headship.begin(host, book, history, towers, invoices)
    _live_on(life, host, book, journal, original=original)
    stack.callback(_remember, life, journal)
    living = asyncio.create_task(keep_alive(home.path, lambda: journal.place))
    stack.push_async_callback(_cancel, living)
    observer.on_flushed = lambda: compact_soon(host, history, observer, invoices)
    stack.callback(compact_soon, host, history, observer, invoices)
    entruster = Entruster(keys.spending, host, towers, signals, observer.advise)
    entruster.on_receipt = observer.receipted
    if headship is not None:
        entruster.settled = headship.driver.settled
    observer.on_committed = entruster.committed
    stack.push_async_callback(entruster.close)
    return Parts(
        genesis,
        keys,
        keystore.savings_address,
        ledger,
        host,
        book,
        history,
        observer,
        submitter,
        signals,
        towers,
        entruster,
        headship,
        passages=passages,
    )


def _live_on(life: Life, host: GroupHost, book: ChannelBook, journal: Journal, *, original: bool) -> None:
    """Doubt what a copy has, durably; from then on these files are the originals.

    Raises:
        LocalError: The disk does not take it.
    """
    if not original:
        for record in book.live():
            if record.group_id in host.groups:
                host.doubt(record.group_id)
            else:
                book.put(structs.replace(record, copied=True))
        host.end_turn()
    life.renew(copied=not original, journal=journal.place)


def _remember(life: Life, journal: Journal) -> None:
    """How far the journal went, at the end."""
    with contextlib.suppress(LocalError):  # what was remembered before still fits
        life.renew(journal=journal.place)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def compact_soon(host: GroupHost, history: History, observer: WalletObserver, invoices: InvoiceBook) -> None:
    """What is not in the history yet, since a watchtower has not receipted it, is in the journal alone."""
    with contextlib.suppress(LocalError):  # a journal that is frozen, or a full disk: nothing is lost by leaving it
        if host.journal_bytes() > COMPACT_BYTES and not observer.holds_back:
            history.settle()
            invoices.settle()
            host.compact()

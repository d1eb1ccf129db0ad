"""Whether this home leads: its role on disk, its terms on layer 1, and the link to its standby.

A home that never had a standby has no role file, and nothing here concerns it. One that has, appoints itself on layer 1
before it takes a standby, and looks there at each start, and while its standby is away.

*Safety:* a home opens its groups as head only if layer 1 shows no other, or cannot be asked: then it is paired, and its
standby confirms nothing if it leads, or it leads a term alone that no standby can have followed.

Source: docs/decisions/031; `layer2.chain_head`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from layer1.client import LedgerClient, LedgerUnreachable, new_appointment
from layer1.codec import Struct, decode, encode
from layer1.crypto import SigningKey
from layer1.errors import LocalError, Refused, RemoteError, WedgeError
from layer1.files import write_durably
from layer1.ledger.records import Head
from layer2.chain import NAME_BYTES, Following, Leading, Role
from layer2.chain_driver import HeadDriver, fenced
from layer2.driver import GroupHost
from wallet.book import ChannelBook, ChannelRecord
from wallet.contacts import Contact, format_endpoint, parse_endpoint
from wallet.history import History
from wallet.home import Home
from wallet.invoices.book import InvoiceBook, Record
from wallet.invoices.records import Gift, Issued
from wallet.life import Life
from wallet.paying.records import Payment
from wallet.requests import StandbyView
from wallet.signals import Signals
from wallet.towers import TowerBook, TowerList

LOOK_S = 1.0
"""Between looks at layer 1 while the standby is away: it may have been promoted."""
CALM_LOOKS = 15
"""So many times that, while it is not."""
_log = logging.getLogger(__name__)


class Standing(Struct, tag="role/1"):
    """The role file of a home."""

    role: Role
    standby: str = ""
    """``host:port`` where a head finds its standby; empty for none."""
    fenced: int = 0
    """The term of another home that leads, as this head was shown; 0 for none."""


def new_name() -> bytes:
    """Of a home that gets its first role."""
    return os.urandom(NAME_BYTES)


def read_standing(home: Home) -> Standing | None:
    """The role file; None of a home that never had one.

    Raises:
        LocalError: It is damaged.
    """
    path = role_path(home)
    try:
        return decode(path.read_bytes(), Standing)
    except FileNotFoundError:
        return None
    except (OSError, RemoteError) as error:
        raise LocalError(f"{path} is damaged: {error}; without it nobody knows whether this home may sign") from None


def write_standing(home: Home, standing: Standing) -> None:
    """Durable on return.

    Raises:
        LocalError: The disk does not take it; what stood there stands.
    """
    try:
        write_durably(role_path(home), encode(standing))
    except OSError as error:
        raise LocalError(f"{role_path(home)} cannot be written: {error}; look after the disk, start again") from None


def role_path(home: Home) -> Path:
    """Where the role file is."""
    return home.path / "role"


def check_leads(standing: Standing | None) -> None:
    """Refuse to open a standby as a wallet: ``standby_home``."""
    if standing is not None and isinstance(standing.role, Following):
        raise Refused(
            "standby_home",
            "this home is a standby: it signs nothing. `wallet standby serve` keeps it in step with the head; "
            "`wallet standby promote` makes it the head",
        )


def check_may_lead(standing: Standing | None, *, original: bool) -> None:
    """Refuse to lead from a copy of a head that has a standby: ``old_copy``. It would replace what is newer there."""
    if standing is not None and isinstance(standing.role, Leading) and standing.role.paired and not original:
        raise Refused(
            "old_copy",
            "the files of this home are a copy of the head's, perhaps an old one; its standby has all that the head "
            "has shown: `wallet standby promote` there, and this home can become its standby. Only if the standby is "
            "lost as well: `wallet standby promote --lost` here",
        )


def check_is_standby(standing: Standing | None) -> None:
    """Refuse to promote what is none: ``head_home``."""
    if standing is None or isinstance(standing.role, Leading):
        raise Refused("head_home", "this home is no standby: a standby is promoted, in its own home")


def name_standby(home: Home, contact: Contact) -> None:
    """Say where the head finds its standby; it is taken when the wallet is opened.

    Raises:
        Refused: ``bad_contact``, ``standby_home``.
    """
    own = home.keystore().spending_address
    if contact.address != own:
        raise Refused(
            "bad_contact", "a standby is another home of this wallet, made from the same phrase: its address is ours"
        )
    standing = read_standing(home) or Standing(Leading(new_name()))
    check_leads(standing)
    write_standing(home, structs.replace(standing, standby=format_endpoint(contact.host, contact.port)))


def single() -> StandbyView:
    """How a wallet stands that never had a standby."""
    return StandbyView(
        role="single", name=None, term=0, paired=False, in_touch=False, waiting=0, endpoint=None, trouble=None
    )


def resting(home: Home) -> StandbyView:
    """How a home stands that no process serves, by its role file."""
    standing = read_standing(home)
    if standing is None:
        return single()
    role, leads = standing.role, isinstance(standing.role, Leading)
    return StandbyView(
        role="head" if leads else "standby",
        name=role.name.hex(),
        term=role.term,
        paired=role.paired and not standing.fenced,
        in_touch=False,
        waiting=0,
        endpoint=standing.standby or None,
        trouble=_at_rest(standing),
    )


def _at_rest(standing: Standing) -> str:
    if standing.fenced:
        return (
            f"another home of this wallet leads, in term {standing.fenced}: this one signs nothing any more, and can "
            "become its standby (`wallet standby serve`)"
        )
    return "this home is not being served"


async def appoint(ledger: LedgerClient, key: SigningKey, term: int, name: bytes) -> Head:
    """Ask layer 1 for a term; who has it, or a later one, as layer 1 then shows.

    Raises:
        Refused: ``empty_account``; or ``pending``: layer 1 has not shown it yet.
        LedgerUnreachable: Whether it was taken is not known: look again.
    """
    transaction = new_appointment(ledger.genesis, key, term, name, await ledger.clock())
    output = await ledger.submit(transaction)
    if output.code not in {"ok", "wrong_term"}:
        raise Refused(output.code, f"the ledger refused: {output.message}")
    shown = (await ledger.appointment(key.public)).value
    if shown is None or shown.term < term:
        raise Refused("pending", f"the ledger does not show term {term} yet: repeat this in a moment")
    return shown


async def take_office(home: Home, standing: Standing, ledger: LedgerClient, key: SigningKey) -> Standing:
    """See whether this home leads, by layer 1; a first term is asked for.

    Raises:
        Refused: ``fenced``: another home leads. ``empty_account``.
        LedgerUnreachable: A first term cannot be asked for.
    """
    role = standing.role
    assert isinstance(role, Leading), "checked before"
    try:
        shown = (await ledger.appointment(key.public)).value
    except LedgerUnreachable:
        if not role.term:
            raise
        _log.warning("the ledger cannot be asked who leads; term %d is ours as far as we know", role.term)
        return standing
    if shown is None:
        shown = await appoint(ledger, key, 1, role.name)
    if shown.head != role.name or shown.term < role.term:
        write_standing(home, structs.replace(standing, fenced=shown.term))
        raise fenced(shown.term)
    if shown.term > role.term:
        standing = structs.replace(standing, role=Leading(role.name, shown.term))
        write_standing(home, standing)
    return standing


async def take_over(home: Home, ledger: LedgerClient, key: SigningKey) -> Head:
    """Lead from a home that never had a role, or a copy of a head, after all others were lost: the next term.

    What they had signed is not here. Who runs this while one of them lives has two heads until that one looks at
    layer 1: a home that was restored signs no state in a group that it had (groups.md, [F5]), so neither slashes it.

    Raises:
        Refused: ``head_home``, ``standby_home``: it has a role; ``empty_account``, ``fenced``: somebody was faster.
        LedgerUnreachable: Whether it was taken is not known; do it again.
    """
    standing = read_standing(home)
    check_leads(standing)
    original = Life(home.path).is_original
    if standing is not None and isinstance(standing.role, Leading) and standing.role.term and original:
        raise Refused("head_home", f"this home leads term {standing.role.term}, or did: its own records count")
    name = new_name() if standing is None or not original else standing.role.name
    write_standing(home, Standing(Leading(name)))
    shown = (await ledger.appointment(key.public)).value
    if shown is None or shown.head != name:
        shown = await appoint(ledger, key, 1 if shown is None else shown.term + 1, name)
    if shown.head != name:
        raise fenced(shown.term)
    write_standing(home, Standing(Leading(name, shown.term)))
    return shown


async def check_nobody_leads(ledger: LedgerClient, key: SigningKey) -> None:
    """For a home without a role: is another home of this wallet the head?

    Raises:
        Refused: ``fenced``.
    """
    with contextlib.suppress(LedgerUnreachable):
        shown = (await ledger.appointment(key.public)).value
        if shown is not None:
            raise fenced(shown.term)


_FILES: Any = ChannelRecord | TowerList | Record
"""What a standby keeps beside the journal."""


@dataclass(frozen=True, slots=True)
class HomeStore:
    """What the head hands over, and the standby keeps: the `layer2.chain_driver.Store` of a home."""

    host: GroupHost
    book: ChannelBook
    history: History
    towers: TowerBook
    invoices: InvoiceBook

    def end_turn(self) -> None:
        """See there."""
        self.host.end_turn()

    def everything(self) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """See there."""
        files = [encode(record) for record in self.book]
        return [*files, self.towers.file(), *self.invoices.everything()], self.host.everything()

    def keep(self, files: Sequence[bytes], records: Sequence[bytes]) -> None:
        """See there. Files come first: a group's key is found by its file."""
        for file in files:
            told: ChannelRecord | TowerList | Record = decode(file, _FILES)
            match told:
                case TowerList():
                    self.towers.follow(told)
                case ChannelRecord():
                    self.book.put(told)
                case Issued() | Payment() | Gift():
                    self.invoices.put(told)
        self.host.take(records)

    def swap(self, files: Sequence[bytes], records: Sequence[bytes]) -> None:
        """See there. What the old records alone have of the history is made durable before."""
        self.history.settle()
        self.keep(files, ())
        self.host.swap(records)


class Headship:
    """The head's side of the chain, for as long as a wallet is open."""

    def __init__(self, home: Home, standing: Standing, ledger: LedgerClient, key: SigningKey, signals: Signals) -> None:
        """For a role that `take_office` confirmed."""
        assert isinstance(standing.role, Leading), "a standby opens no wallet"
        self._home = home
        self._standing = standing
        self._ledger = ledger
        self._key = key
        self._signals = signals
        self._host: GroupHost | None = None
        self._linking: asyncio.Task[None] | None = None
        self.driver = HeadDriver(standing.role, self._write, self._fenced)

    def begin(
        self, host: GroupHost, book: ChannelBook, history: History, towers: TowerBook, invoices: InvoiceBook
    ) -> None:
        """From now on each turn and each file goes to the standby: watchtowers that are used, and invoices, too."""
        self._host = host
        self.driver.store = HomeStore(host, book, history, towers, invoices)
        book.on_put = towers.on_change = invoices.on_put = self.driver.enter

    async def run(self) -> None:
        """Keep the link to the standby, and look at layer 1, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._standing.standby:
                host, port = parse_endpoint(self._standing.standby)
                link = self.driver.keep_link(host, port, self._key, self._ledger.genesis.chain_id)
                self._linking = tasks.create_task(link)
            pauses = 0
            while not self.driver.core.fenced:
                away = self.driver.core.role.paired and not self.driver.core.in_touch
                if away or pauses % CALM_LOOKS == 0:
                    with contextlib.suppress(WedgeError):
                        await self._look()
                pauses += 1
                await asyncio.sleep(LOOK_S)

    async def go_alone(self) -> StandbyView:
        """Ask layer 1 for a higher term, without a standby; what waited leaves when it has it.

        Raises:
            Refused: ``alone``, ``fenced``.
            LedgerUnreachable: Whether it was taken is not known: nothing has changed here.
        """
        term = self.driver.ask()
        shown = await appoint(self._ledger, self._key, term, self.driver.core.role.name)
        self._standing = structs.replace(self._standing, standby="")
        if self._linking is not None:
            self._linking.cancel()
        self.driver.shown(shown.term, shown.head)
        if self.driver.core.fenced:
            raise fenced(shown.term)
        return self.view()

    def view(self) -> StandbyView:
        """How things stand."""
        core = self.driver.core
        return StandbyView(
            role="head",
            name=core.role.name.hex(),
            term=core.role.term,
            paired=core.role.paired,
            in_touch=core.in_touch,
            waiting=self.driver.waiting,
            endpoint=self._standing.standby or None,
            trouble=self.driver.trouble or None,
        )

    async def _look(self) -> None:
        shown = (await self._ledger.appointment(self._key.public)).value
        if shown is not None:
            self.driver.shown(shown.term, shown.head)

    def _write(self, role: Role) -> None:
        self._standing = structs.replace(self._standing, role=role)
        write_standing(self._home, self._standing)
        self._signals.notify()

    def _fenced(self, term: int) -> None:
        error = fenced(term)
        with contextlib.suppress(LocalError):  # it is for `wallet standby show` alone
            self._standing = structs.replace(self._standing, fenced=term)
            write_standing(self._home, self._standing)
        self._signals.fail(error)
        if self._host is not None:
            self._host.freeze(error.message)

"""What outlives the processes of one wallet: its journal, its book of channels, its history, in memory.

The book is written whole and durably at each change, as the real one; what of the history was not written when the
process died is lost, as the real one's may be. A copy can be taken and brought back: yesterday's backup.

Source: wallet/book.py, wallet/history.py; docs/design/architecture.md, "Two kinds of storage".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from layer1.codec import decode, encode
from layer1.crypto import Hash, PublicKey
from layer1.errors import LocalError
from layer2.messages import Command
from layer2.records import HostRecord, JournalRecord, Noted
from tests.simulation.disk import Disk, Journal
from tests.simulation.groups.loop import Killed, ProcessLoop
from wallet.book import ChannelBook, ChannelRecord
from wallet.contacts import Contact
from wallet.history import History
from wallet.requests import EntryView
from wallet.towers import TowerBook

Boundary = Callable[[], None]
"""Called where a kill may strike: it raises `Killed` if one does."""


@dataclass
class Home:
    """The disk of one wallet."""

    disk: Disk = field(default_factory=Disk)
    book: dict[Hash, ChannelRecord] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    """What the history has, by channel."""
    slow_us: int = 0
    """How much longer the next syncs take."""
    fails: bool = False
    """The next sync is not confirmed."""

    def copy(self) -> Home:
        """A backup."""
        return Home(self.disk.copy(), dict(self.book), dict(self.versions))

    def records(self) -> Iterator[HostRecord]:
        """The journal, decoded."""
        return read_all(self.disk.records)


def read_all(records: Iterable[bytes]) -> Iterator[HostRecord]:
    """Those of groups; the companion's are left out."""
    for data in records:
        record: JournalRecord = decode(data, JournalRecord)  # type: ignore[arg-type]  # a union of structs
        if not isinstance(record, Noted):
            yield record


def read(data: bytes) -> HostRecord:
    """A record of a group."""
    (record,) = read_all([data])
    return record


class HomeJournal(Journal):
    """The journal of one life: a sync takes its time, may fail, and may be where the process dies."""

    def __init__(
        self,
        home: Home,
        loop: ProcessLoop,
        boundary: Boundary,
        strike: Boundary,
        synced: Callable[[list[bytes]], None],
    ) -> None:
        super().__init__(home.disk)
        self._home, self._loop, self._boundary, self._strike, self._synced = home, loop, boundary, strike, synced
        self.failed = ""
        self.syncing = False

    def append(self, record: bytes) -> None:
        """Durable after the next sync."""
        self._check()
        self._boundary()
        super().append(record)

    def sync(self) -> None:
        """Make everything durable; what follows in this process waits until that is done."""
        self._check()
        if not self.unsynced:
            return
        self.syncing = True
        self._boundary()
        self._strike()
        self.syncing = False
        if self._home.fails:
            self._home.fails = False
            self.failed = "the disk does not confirm"
            raise LocalError(self.failed)
        before = len(self._home.disk.records)
        super().sync()
        now_us = self._loop.world.now_us
        self._loop.busy_until_us = max(self._loop.busy_until_us, now_us) + 200 + self._home.slow_us
        self._synced(self._home.disk.records[before:])

    def _check(self) -> None:
        if self._loop.dead:
            raise Killed
        if self.failed:
            raise LocalError(self.failed)


class HomeBook(ChannelBook):
    """The book, without files."""

    def __init__(self, home: Home, loop: ProcessLoop, boundary: Boundary) -> None:
        self._directory = Path("book")
        self._home, self._loop, self._boundary = home, loop, boundary
        self._records, self._by_opening, self._live, self._next_key = {}, {}, {}, 0
        self.on_put = lambda _: None
        for record in home.book.values():
            self._note(record)

    def put(self, record: ChannelRecord) -> None:
        """Enter or replace a record; durable on return."""
        self._boundary()
        if self._loop.dead:
            raise Killed
        self._home.book[record.group_id] = record
        self._note(record)
        self.on_put(encode(record))
        self._boundary()


class HomeHistory(History):
    """Only up to which version payments are entered: that much of the history is asked for by the product itself."""

    def __init__(self, home: Home, loop: ProcessLoop) -> None:
        self._home, self._loop = home, loop
        self._unwritten: dict[str, int] = {}

    def add(
        self,
        reference: str,
        kind: str,
        amount: int,
        *,
        channel: str | None = None,
        peer: str | None = None,
        memo: str | None = None,
        payment_hash: str | None = None,
        fee: int | None = None,
        via: str | None = None,
    ) -> None:
        """Nobody asks for it."""

    def add_payments(self, channel: str, peer: str, version: int, member: int, commands: Sequence[Command]) -> None:
        """Take the payments of a version."""
        self._unwritten[channel] = version

    def flush(self) -> None:
        """Write what was added."""
        if not self._loop.dead:
            self._home.versions |= self._unwritten

    def newest(self, limit: int, channel: str | None = None) -> tuple[EntryView, ...]:
        """Nobody asks."""
        return ()

    def versions(self) -> dict[str, int]:
        """Per channel, up to which version its payments are here."""
        return dict(self._home.versions)

    def settle(self) -> None:
        """Write everything."""
        self.flush()

    def remember_contact(self, contact: Contact) -> None:
        """All wallets of a world know each other."""

    def endpoint_of(self, address: PublicKey) -> str | None:
        """They find each other, too."""
        return None


class HomeTowers(TowerBook):
    """No watchtowers: a wallet's own watch is what these runs are about."""

    def __init__(self) -> None:
        self._towers, self._receipts = {}, {}

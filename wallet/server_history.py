"""The history of a wallet in PostgreSQL, which may be away while the wallet must not.

*Safety:* what was entered is lost neither with the server nor with this process, and nobody waits for either.

Entries are written by a thread, again and again while the server does not answer. What the journal does not tell again
after a crash, which is everything but payments, stands in the file ``history.waiting`` from the moment it is entered
until the server has it; payments join it there before the journal lets go of them (`keep`, `settle`). An entry that
was written already is left alone, so a commit whose answer was lost does no harm.

While the server is away for long, payments beyond a bound are not taken, and from then on none is, until the wallet is
started again: then the journal tells all of them after the last that the server has.

Source: docs/design/architecture.md, "Two kinds of storage"; decision 019.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from layer1.crypto import PublicKey, format_address
from layer1.errors import LocalError, Refused
from layer1.files import sync_directory, write_durably
from layer1.storage.database import Outage, explained, file_of, open_engine
from wallet.contacts import Contact, format_endpoint
from wallet.history import (
    Entry,
    History,
    Place,
    Sums,
    contacts_table,
    delete_payments,
    entries_table,
    prepare,
    read_after,
    read_before,
    read_last,
    read_sums,
    read_versions,
)
from wallet.home import Home
from wallet.requests import EntryView

MAX_QUEUED_BYTES = 50 * 2**20
"""Of entries that wait; beyond it no payment is taken."""
ENTRY_BYTES = 1_000
"""What an entry takes in memory beside its payments."""
BULK_BYTES = 2**20
"""Of entries in one database transaction."""
FIRST_PAUSE_S = 0.2
"""Before the second try; twice as long before each further one."""
LONGEST_PAUSE_S = 10.0
"""Between two tries."""
_OPENING = 0x77616C6C6574
"""PostgreSQL's number for the lock that is held while tables are made: "wallet" in ASCII."""

_owner = sa.Table(
    "wallet",
    sa.MetaData(),
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.String(128), nullable=False),
)
"""``identity``: whose history this is. Both sides of a payment name it alike, so two wallets cannot share tables."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class _Waiting(msgspec.Struct):
    """The file of what the server does not have."""

    entries: list[Entry]
    contacts: dict[str, str]


class ServerHistory(History):
    """The tables of one wallet on a server. One process at a time: whoever holds the home's lock."""

    def __init__(self, url: str, owner: PublicKey, waiting: Path, *, first_pause_s: float = FIRST_PAUSE_S) -> None:
        """Open it, or, if the server does not answer, go on without until it does.

        Args:
            url: Of the database.
            owner: The wallet's spending account.
            waiting: Where to keep what the server does not have.
            first_pause_s: See `FIRST_PAUSE_S`.

        Raises:
            LocalError: The URL is wrong, the tables are another wallet's, or the file is damaged.
        """
        kept = _read(waiting)
        self._engine = open_engine(url)
        self._identity = format_address(owner)
        self._waiting = waiting
        self._queue = [dict.fromkeys(entries_table.columns.keys()[1:]) | entry for entry in kept.entries]
        self._queued_bytes = sum(map(_size, self._queue))
        self._contacts = dict(kept.contacts)
        self._unsaved = kept.contacts
        self._lossy = False
        """Whether a payment was not taken, so that no later one may be."""
        self._prepared = False
        self._queueing = threading.Lock()
        """Held to look at or change what waits."""
        self._writing = threading.Lock()
        """Held by whoever talks to the server for it."""
        self._wake, self._ending = threading.Event(), threading.Event()
        self._first_pause_s = first_pause_s
        try:
            self._prepare()
        except Outage as error:
            _log.warning("%s; the wallet goes on without, and writes the history later", error)
        except LocalError:
            self._engine.dispose()
            raise
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()
        self._wake.set()

    # ------------------------------------------------------------------------------------------------ what is entered

    def _take(self, entry: Entry) -> None:
        is_payment = entry["version"] is not None
        with self._queueing:
            if is_payment and (self._lossy or self._queued_bytes + _size(entry) > MAX_QUEUED_BYTES):
                if not self._lossy:
                    _log.error("%s", _misses_payments())
                self._lossy = True
                return
            self._queue.append(entry)
            self._queued_bytes += _size(entry)
            if not is_payment:
                self._try_to_keep()
        if not is_payment:
            self.flush()

    def remember_contact(self, contact: Contact) -> None:
        """Keep where a peer was last reached."""
        address, endpoint = format_address(contact.address), format_endpoint(contact.host, contact.port)
        with self._queueing:
            self._contacts[address] = self._unsaved[address] = endpoint
            self._try_to_keep()
        self.flush()

    def endpoint_of(self, address: PublicKey) -> str | None:
        """Where a peer was last reached, ``host:port``; None also while the server was never reached."""
        with self._queueing:
            return self._contacts.get(format_address(address))

    def flush(self) -> None:
        """Have what was added written soon."""
        self._wake.set()

    def keep(self) -> None:
        """See :meth:`History.keep`: it is written to the file of what waits."""
        with self._queueing:
            if self._lossy:
                raise LocalError(_misses_payments())
            if self._queue or self._unsaved:
                self._write_waiting()
        self.flush()

    def settle(self) -> None:
        """See :meth:`keep`: what the server has is durable there."""
        self.keep()

    def _try_to_keep(self) -> None:
        """What was done is done, whether the disk takes a note of it or not."""
        try:
            self._write_waiting()
        except LocalError as error:
            _log.error("%s; until the history's database has it, it is in memory only", error)

    def _write_waiting(self) -> None:
        try:
            write_durably(self._waiting, msgspec.msgpack.encode(_Waiting(self._queue, self._unsaved)))
        except OSError as error:
            raise LocalError(f"{self._waiting} cannot be written: {error}; look after the disk") from error

    # --------------------------------------------------------------------------------------------------- what is asked

    def before(self, place: Place, limit: int, channel: str | None = None) -> list[tuple[Place, EntryView]]:
        """See :meth:`History.before`. Waits for the server.

        Raises:
            Refused: ``history_unavailable``.
        """
        return self._read(lambda reading: read_before(reading, place, limit, channel))

    def last(self) -> Place:
        """See :meth:`History.last`. Raises as :meth:`before`."""
        return self._read(read_last)

    def sums(self, until: Mapping[str, int]) -> dict[str, Sums]:
        """See :meth:`History.sums`. Raises as :meth:`before`."""
        return self._read(lambda reading: read_sums(reading, until))

    def after(self, place: Place, limit: int) -> list[tuple[Place, EntryView]]:
        """See :meth:`History.after`. Raises as :meth:`before`."""
        return self._read(lambda reading: read_after(reading, place, limit))

    def _read(self, query: Callable[[sa.Connection], T]) -> T:
        try:
            self._write()
            with explained("the history cannot be read", "Look after its database"), self._engine.connect() as reading:
                return query(reading)
        except Outage as error:
            raise Refused("history_unavailable", f"{error}; nothing is lost, ask again when it answers") from None

    def prune(self, before_ms: int, *, in_use: bool = False) -> int:
        """See :meth:`History.prune`. Waits for the server, which reuses the room in its own time.

        Raises:
            Refused: ``history_unavailable``.
        """
        try:
            self._write()
            with explained("the history cannot be pruned", "Look after its database"), self._engine.begin() as writing:
                return delete_payments(writing, before_ms)
        except Outage as error:
            raise Refused("history_unavailable", f"{error}; nothing was deleted, ask again when it answers") from None

    def versions(self) -> dict[str, int]:
        """See :meth:`History.versions`. Nothing while the server is away: what is entered again is left alone."""
        if not self._prepared:
            return {}
        try:
            with explained("the history cannot be read", "Look after its database"), self._engine.connect() as reading:
                return read_versions(reading)
        except Outage:
            return {}

    def close(self) -> None:
        """Write the rest, or keep it in the file of what waits."""
        self._ending.set()
        self._wake.set()
        self._thread.join()
        try:
            self._write()
        except (Outage, LocalError) as error:
            _log.warning("%s; what it does not have waits in %s", error, self._waiting)
            with self._queueing:
                self._try_to_keep()
        finally:
            self._engine.dispose()

    # ------------------------------------------------------------------------------------------------------ the server

    def _run(self) -> None:
        pause_s, told = self._first_pause_s, False
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._ending.is_set():
                return
            try:
                self._write()
            except (Outage, LocalError) as error:
                if not told:
                    _log.warning("%s; the history is written later", error)
                told = True
                self._ending.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                self._wake.set()
            else:
                if told:
                    _log.warning("the history is written again")
                pause_s, told = self._first_pause_s, False

    def _write(self) -> None:
        """Write all that waits, oldest first.

        Raises:
            Outage: The server does not answer; what it does not have still waits.
            LocalError: The server does not want it.
        """
        with self._writing:
            if not self._prepared:
                self._prepare()
            while True:
                with self._queueing:
                    entries, contacts = _bulk(self._queue), dict(self._unsaved)
                    if not entries and not contacts:
                        self._drop_waiting()
                        return
                self._insert(entries, contacts)
                with self._queueing:
                    del self._queue[: len(entries)]
                    self._queued_bytes -= sum(map(_size, entries))
                    self._unsaved = {a: e for a, e in self._unsaved.items() if contacts.get(a) != e}

    def _insert(self, entries: list[Entry], contacts: dict[str, str]) -> None:
        with explained("the history cannot be written", "Look after its database"), self._engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            if entries:
                connection.execute(insert(entries_table).on_conflict_do_nothing(), entries)
            for address, endpoint in contacts.items():
                statement = insert(contacts_table).values(address=address, endpoint=endpoint)
                connection.execute(
                    statement.on_conflict_do_update(index_elements=["address"], set_={"endpoint": endpoint})
                )

    def _drop_waiting(self) -> None:
        if self._waiting.exists():
            self._waiting.unlink()
            sync_directory(self._waiting.parent)

    def _prepare(self) -> None:
        """Make the tables if they are missing, see whose they are, and learn the contacts."""
        remedy = "Check its URL and its rights"
        with explained("the history cannot be opened", remedy), self._engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_OPENING})")
            _owner.metadata.create_all(connection)
            prepare(connection)
            self._check_owner(connection)
            known = {row.address: row.endpoint for row in connection.execute(sa.select(contacts_table))}
        with self._queueing:
            self._contacts = known | self._contacts
        self._prepared = True

    def _check_owner(self, connection: sa.Connection) -> None:
        found: Any = connection.scalar(sa.select(_owner.c.value).where(_owner.c.name == "identity"))
        if found is None:
            connection.execute(_owner.insert(), {"name": "identity", "value": self._identity})
        elif found != self._identity:
            raise LocalError(
                f"the history's database is that of wallet {found}, this one is {self._identity}: give each a database "
                "(or a schema) of its own"
            )


def open_history(home: Home) -> History:
    """The history of a home, wherever its configuration says; the home must be locked by us.

    Raises:
        Refused: ``bad_config``.
        LocalError: It cannot be opened.
    """
    url = home.database_url()
    if url is None:
        return History(home.history_path)
    if (path := file_of(url)) is not None:
        return History(path)
    return ServerHistory(url, home.keystore().spending_address, home.path / "history.waiting")


def _read(path: Path) -> _Waiting:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=_Waiting)
    except FileNotFoundError:
        return _Waiting([], {})
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LocalError(
            f"{path} cannot be read: {error}; move it away and start again: entries of the history that the database "
            "does not have are in it"
        ) from None


def _size(entry: Entry) -> int:
    return ENTRY_BYTES + len(entry["commands"] or b"")


def _bulk(queue: list[Entry]) -> list[Entry]:
    """The first ones, as many as one database transaction takes; at least one, if there is any."""
    size = count = 0
    for entry in queue:
        size += _size(entry)
        if count and size > BULK_BYTES:
            break
        count += 1
    return queue[:count]


def _misses_payments() -> str:
    return (
        f"the history's database was away for so long that {MAX_QUEUED_BYTES} bytes wait for it, and no payment is "
        "entered any more. No money depends on it: start the wallet again once the database answers, and all are"
    )

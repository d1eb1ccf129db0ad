"""The history of a wallet: what one asks questions of, kept in SQLite behind the journal.

*Safety:* no payment depends on what is here; losing the file loses no money. `wallet.server_history` keeps it in
PostgreSQL.

Every entry has a `reference` that names its event for good, and an entry that is there already is left alone. The
layers below repeat their news after a crash (`layer2.driver.Observer`), so what was not written in time is written
then, once. Entries are collected and written in bulk, and the payments of one version are one row, which holds the
batch as it was signed: a wallet under load commits thousands at a time, and they are told apart when somebody looks.

Source: docs/design/architecture.md, "Two kinds of storage".
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from layer1.codec import decode, encode
from layer1.crypto import PublicKey, format_address
from layer1.errors import LocalError, check
from layer1.storage.database import cause
from layer2.messages import Command
from layer2.payments import Pay, read_command
from wallet.contacts import Contact, format_endpoint
from wallet.requests import CurrencyView, EntryView, HistoryView
from wallet.requests import History as Asked
from wallet.sqlite import open_file

tables = sa.MetaData()
entries_table = sa.Table(
    "entries",
    tables,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("reference", sa.String, unique=True, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("channel", sa.String),
    sa.Column("peer", sa.String),
    sa.Column("memo", sa.String),
    sa.Column("version", sa.BigInteger),
    sa.Column("member", sa.Integer),
    sa.Column("commands", sa.LargeBinary),
    sa.Column("payment_hash", sa.String),
    sa.Column("fee", sa.BigInteger),
    sa.Column("via", sa.String),
    sa.Index("versions", "channel", "version", postgresql_ops={"channel": "text_pattern_ops"}),
)
contacts_table = sa.Table(
    "contacts",
    tables,
    sa.Column("address", sa.String, primary_key=True),
    sa.Column("endpoint", sa.String, nullable=False),
)


SLICE = 500
"""Rows that are deleted at a time."""
SLICE_PAUSE_S = 0.005
"""In which whoever waits for the file gets it."""
PAYMENTS = "payments"
"""Kind of a row that stands for all payments of a version."""

NOTES = frozenset({"invoice_paid", "invoice_held", "spontaneous", "payment", "rebalanced", "forwarded"})
"""Kinds of entries that say what a payment was: its money moved by the entries of its locks, and is in no sum twice.

- ``invoice_paid``, ``invoice_held`` (for its owner to settle), ``spontaneous`` (without an invoice): ``amount`` is what
  came in.
- ``payment``: one of ours, or a part of it, by the channel it left by; ``amount`` (negative) is what its payee got,
  ``fee`` what forwarders kept. ``rebalanced``: the same from us to us; ``amount`` is 0.
- ``forwarded``: for others; ``amount`` is the fee that we earned, ``channel`` where the money came in, ``via`` where it
  went out.
"""

Place = tuple[int, int]
"""Of an entry among all: its row, and its number among what the row stands for. Later entries have higher ones."""
BEHIND = 2**31 - 1
"""A number behind all entries of a row."""
END: Place = (2**62, BEHIND)
"""Behind all that there will ever be."""
EPOCH_BITS = 40
"""Of a row's version: below these the version within the epoch (`layer2.events.Committed.ordinal`)."""
Entry = dict[str, Any]
"""A row of the table, without its id. Of payments it has our index as `member`, and `commands`: theirs, encoded."""


@dataclass
class Sums:
    """What the history says of one channel."""

    units: Counter[str] = field(default_factory=Counter)
    """By kind, signed as the entries are."""
    versions: Counter[int] = field(default_factory=Counter)
    """How many versions of each epoch are here; fewer than there were, once payments are pruned."""
    newest: int = 0
    """Up to which version."""
    fees: int = 0
    """That we paid for payments which left by it."""
    rebalancing: int = 0
    """Fees that we paid to bring money from it to another channel of ours."""
    earned_out: int = 0
    """Fees for what came in elsewhere and left by it; of what came in by it, ``units["forwarded"]``."""

    def is_whole(self, epoch: int, version: int) -> bool:
        """Whether all versions up to this one are here, as far as it can be told."""
        current = self.versions[epoch] == version and (version == 0 or self.newest == epoch << EPOCH_BITS | version)
        return current and all(count > 0 for count in self.versions.values())


def now_ms() -> int:
    """This machine's clock, ms since 1970; in the history for people, never for a decision."""
    return time.time_ns() // 1_000_000


class History:
    """The file ``wallet.db`` of one home."""

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            LocalError: It cannot be opened.
        """
        self._path = path
        self._queue: list[Entry] = []
        self._queueing = threading.Lock()
        """Held to look at or change what waits: who asks may be in another thread than who enters."""
        remedy = "move it away and start again, most of it is made anew"
        self._engine = open_file(path, prepare, synced=False, remedy=remedy)

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
        """Take an entry, to be written by the next :meth:`flush`.

        Args:
            reference: Names the event for good.
            kind: As in `wallet.requests.EntryView`; one of :data:`NOTES` for what is said of a whole payment.
            amount: Minor units; negative for what left.
            channel: Its id, hex.
            peer: Address.
            memo: Of whoever paid, or asked to be paid.
            payment_hash: Of a conditional payment, hex.
            fee: Minor units that forwarders kept of a payment of ours.
            via: The channel by which a payment left that came in by `channel`, hex.
        """
        entry = _entry(reference, kind, amount=amount, channel=channel, peer=peer)
        self._take({**entry, "memo": memo, "payment_hash": payment_hash, "fee": fee, "via": via})

    def add_payments(self, channel: str, peer: str, version: int, member: int, commands: Sequence[Command]) -> None:
        """Take the payments of one version, to be written together.

        Args:
            channel: Its id, hex.
            peer: Address of the other member.
            version: Of the state that they led to.
            member: Our index in the agreement.
            commands: Of ``payments/2``, in order.
        """
        batch = encode(tuple(commands))
        self._take(
            _entry(
                f"{channel}:{version}", PAYMENTS, channel=channel, peer=peer, version=version, member=member,
                commands=batch,
            )
        )  # fmt: skip

    def _take(self, entry: Entry) -> None:
        with self._queueing:
            self._queue.append(entry)

    def flush(self) -> None:
        """Write what was added; what fails to be written stays in the queue.

        Raises:
            LocalError: The disk is full, or the file is damaged.
        """
        with self._queueing:
            rows, self._queue = self._queue, []
        if not rows:
            return
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(entries_table).on_conflict_do_nothing(), rows)
        except sa.exc.SQLAlchemyError as error:
            with self._queueing:
                self._queue = rows + self._queue
            raise LocalError(f"the history cannot be written to {self._path}: {cause(error)}") from None

    def keep(self) -> None:
        """Let nothing that was added be lost with this process: what comes next relies on it.

        Raises:
            LocalError: As for :meth:`flush`.
        """
        self.flush()

    def newest(self, limit: int, channel: str | None = None) -> tuple[EntryView, ...]:
        """The last `limit` entries, newest first; of the channels whose id starts with `channel`, if that is given."""
        return tuple(entry for _, entry in self.before(END, limit, channel))

    def before(self, place: Place, limit: int, channel: str | None = None) -> list[tuple[Place, EntryView]]:
        """The last `limit` entries before one, newest first; of some channels, as :meth:`newest`."""
        self.flush()
        with self._engine.connect() as connection:
            return read_before(connection, place, limit, channel)

    def page(self, request: Asked) -> list[tuple[Place, EntryView]]:
        """A page, newest first, as it is asked for.

        Raises:
            Refused: ``unknown_channel``, ``bad_parameter``.
        """
        page = self.before(place_of_name(request.before) if request.before else END, request.limit, request.channel)
        check_known(page, request.channel if not request.before else None)
        return page

    def last(self) -> Place:
        """Behind all entries that there are."""
        self.flush()
        with self._engine.connect() as connection:
            return read_last(connection)

    def sums(self, until: Mapping[str, int]) -> dict[str, Sums]:
        """What the entries of each channel add up to, and notes of none under "". Reads all: not for the event loop.

        Args:
            until: By channel, the version (over all epochs) behind which entries are left out: they came since.
        """
        self.flush()
        with self._engine.connect() as connection:
            return read_sums(connection, until)

    def after(self, place: Place, limit: int) -> list[tuple[Place, EntryView]]:
        """The next `limit` entries or some more, oldest first, after one that was seen."""
        self.flush()
        with self._engine.connect() as connection:
            return read_after(connection, place, limit)

    def prune(self, before_ms: int, *, in_use: bool = False) -> int:
        """Delete payments that are older, for good; how many versions of channels.

        The newest version of each channel stays, so that a restart does not enter it again; and so does all else.

        Args:
            before_ms: This machine's clock, ms since 1970.
            in_use: Whether payments are entered meanwhile. They wait for no more than a slice of the work; so the
                room is only used again then, and else it is given back.
        """
        self.flush()
        deleted, after = 0, 0
        while True:
            with self._engine.begin() as connection:
                ids = [row.id for row in connection.execute(_old_payments(before_ms, after))]
                connection.execute(sa.delete(entries_table).where(entries_table.c.id.in_(ids)))
            deleted += len(ids)
            if len(ids) < SLICE:
                break
            after = ids[-1]
            if in_use:
                time.sleep(SLICE_PAUSE_S)
        if not in_use:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM")
        return deleted

    def versions(self) -> dict[str, int]:
        """Per channel, up to which version its payments are here; one version's are written at once or not at all."""
        with self._engine.connect() as connection:
            return read_versions(connection)

    def settle(self) -> None:
        """Write everything and make it durable: what the journal drops after this is not lost here."""
        self.flush()
        with self._engine.connect() as connection:
            connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))

    def remember_contact(self, contact: Contact) -> None:
        """Keep where a peer was last reached."""
        endpoint = format_endpoint(contact.host, contact.port)
        statement = insert(contacts_table).values(address=format_address(contact.address), endpoint=endpoint)
        update = statement.on_conflict_do_update(index_elements=["address"], set_={"endpoint": endpoint})
        with self._engine.begin() as connection:
            connection.execute(update)

    def endpoint_of(self, address: PublicKey) -> str | None:
        """Where a peer was last reached, ``host:port``."""
        query = sa.select(contacts_table.c.endpoint).where(contacts_table.c.address == format_address(address))
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()

    def close(self) -> None:
        """Write the rest and close the file."""
        try:
            self.flush()
        finally:
            self._engine.dispose()


def prepare(connection: sa.Connection) -> None:
    """Make the tables, and the columns that an earlier release did not have."""
    tables.create_all(connection)
    known = {column["name"] for column in sa.inspect(connection).get_columns(entries_table.name)}
    for column in entries_table.columns:
        if column.name not in known:
            kind = column.type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {entries_table.name} ADD COLUMN {column.name} {kind}")


def read_before(
    connection: sa.Connection, place: Place, limit: int, channel: str | None
) -> list[tuple[Place, EntryView]]:
    """See :meth:`History.before`. A row may stand for many entries, or, as one of locks alone, for none."""
    query = sa.select(entries_table).where(entries_table.c.id <= place[0]).order_by(entries_table.c.id.desc())
    if channel is not None:
        query = query.where(entries_table.c.channel.startswith(channel.strip().lower(), autoescape=True))
    with connection.execution_options(yield_per=10).execute(query) as rows:
        placed = (each for row in rows.mappings() for each in reversed(_placed(row)))
        return list(islice((each for each in placed if each[0] < place), limit))


def read_last(connection: sa.Connection) -> Place:
    """See :meth:`History.last`."""
    newest: int | None = connection.execute(sa.select(sa.func.max(entries_table.c.id))).scalar_one()
    return newest or 0, BEHIND


def read_sums(connection: sa.Connection, until: Mapping[str, int]) -> dict[str, Sums]:
    """See :meth:`History.sums`."""
    found: dict[str, Sums] = {}
    over: set[str] = set()
    columns = entries_table.c
    counted = sa.or_(columns.channel.is_not(None), columns.kind.in_(NOTES))
    query = sa.select(entries_table).where(counted).order_by(columns.id)
    with connection.execution_options(yield_per=100).execute(query) as rows:
        for row in rows.mappings():
            sums, version = found.setdefault(row["channel"] or "", Sums()), row["version"]
            if version is not None and version > until.get(row["channel"], version):
                over.add(row["channel"])
            if row["kind"] == "forwarded" and row["via"] is not None:
                found.setdefault(row["via"], Sums()).earned_out += row["amount"]
            if row["channel"] in over and row["kind"] not in NOTES:
                continue
            for view in _views(row):
                sums.units[view.kind] += view.amount
                if view.kind == "rebalanced":
                    sums.rebalancing += view.fee or 0
                else:
                    sums.fees += view.fee or 0
            if version is not None:
                sums.versions[version >> EPOCH_BITS] += 1
                sums.newest = max(sums.newest, version)
    return found


def read_after(connection: sa.Connection, place: Place, limit: int) -> list[tuple[Place, EntryView]]:
    """See :meth:`History.after`. A row that stands for no entry, such as one of locks alone, is passed over."""
    query = sa.select(entries_table).where(entries_table.c.id >= place[0]).order_by(entries_table.c.id)
    found: list[tuple[Place, EntryView]] = []
    with connection.execution_options(yield_per=10).execute(query) as rows:
        for row in rows.mappings():
            found += [each for each in _placed(row) if each[0] > place]
            if len(found) >= limit:
                break
    return found


def _placed(row: Any) -> list[tuple[Place, EntryView]]:
    """What one row stands for, oldest first."""
    return [((row["id"], number), view) for number, view in enumerate(reversed(list(_views(row))))]


def name_of_place(place: Place) -> str:
    """By which others name it: `12-0`."""
    return f"{place[0]}-{place[1]}"


def place_of_name(text: str) -> Place:
    """What :func:`name_of_place` gave; or a row alone, which means behind all of it.

    Raises:
        Refused: ``bad_parameter``.
    """
    row, dash, number = text.partition("-")
    digits = all(part.isascii() and part.isdigit() and len(part) <= 15 for part in ((row, number) if dash else (row,)))
    check(digits, "bad_parameter", f"a place in the history is named such as 12-0, not {text[:80]!r}")
    return int(row), int(number) if dash else BEHIND


def _views(row: Any) -> Iterator[EntryView]:
    """What one row stands for, newest first."""
    common = {name: row[name] for name in EntryView.__struct_fields__}
    if row["commands"] is None:
        yield EntryView(**common)
        return
    commands = decode(row["commands"], tuple[Command, ...])
    for place in range(len(commands) - 1, -1, -1):
        command = commands[place]
        pay, ours = read_command(command.payload), command.member == row["member"]
        if not isinstance(pay, Pay):
            continue  # what becomes of a lock has a row of its own
        paid = {"kind": "paid", "amount": -pay.amount} if ours else {"kind": "received", "amount": pay.amount}
        memo = pay.memo.decode(errors="replace").replace("\0", "\ufffd") or None
        yield EntryView(**common | paid | {"memo": memo, "reference": f"{row['reference']}:{place}"})


def delete_payments(connection: sa.Connection, before_ms: int) -> int:
    """See :meth:`History.prune`; all at once, where nobody waits for it."""
    return connection.execute(sa.delete(entries_table).where(_is_old(before_ms))).rowcount


def _old_payments(before_ms: int, after: int) -> sa.Select[tuple[int]]:
    """Ids of the next slice."""
    column = entries_table.c.id
    return sa.select(column).where(_is_old(before_ms), column > after).order_by(column).limit(SLICE)


def _is_old(before_ms: int) -> sa.ColumnElement[bool]:
    columns, newest = entries_table.c, entries_table.alias()
    latest = sa.select(sa.func.max(newest.c.version)).where(newest.c.channel == columns.channel).scalar_subquery()
    return sa.and_(columns.version.is_not(None), columns.time_ms < before_ms, columns.version < latest)


def read_versions(connection: sa.Connection) -> dict[str, int]:
    """See :meth:`History.versions`."""
    columns = entries_table.c
    query = sa.select(columns.channel, sa.func.max(columns.version)).group_by(columns.channel)
    return {channel: version for channel, version in connection.execute(query) if channel and version}


def history_view(page: Sequence[tuple[Place, EntryView]], request: Asked, currency: CurrencyView) -> HistoryView:
    """A page of the history; a full one names the next, which may be empty."""
    more = len(page) == request.limit
    return HistoryView(
        entries=tuple(entry for _, entry in page),
        currency=currency,
        next=name_of_place(page[-1][0]) if more else None,
    )


def check_known(entries: Sequence[object], channel: str | None) -> None:
    """Tell a channel without news, of which there is none, from a mistyped one.

    Raises:
        Refused: ``unknown_channel``.
    """
    check(
        channel is None or bool(entries),
        "unknown_channel",
        f"nothing is of a channel whose id starts with {(channel or '')[:64]!r}: `wallet channel list` shows all",
    )


def _entry(
    reference: str,
    kind: str,
    *,
    amount: int = 0,
    channel: str | None = None,
    peer: str | None = None,
    version: int | None = None,
    member: int | None = None,
    commands: bytes | None = None,
) -> Entry:
    return {
        "reference": reference,
        "time_ms": now_ms(),
        "kind": kind,
        "amount": amount,
        "channel": channel,
        "peer": peer,
        "memo": None,
        "version": version,
        "member": member,
        "commands": commands,
        "payment_hash": None,
        "fee": None,
        "via": None,
    }

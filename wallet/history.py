"""The history of a wallet: what one asks questions of, kept in SQLite behind the journal.

*Safety:* no payment depends on what is here; losing the file loses no money.

Every entry has a `reference` that names its event for good, and an entry that is there already is left alone. The
layers below repeat their news after a crash (`layer2.driver.Observer`), so what was not written in time is written
then, once. Entries are collected and written in bulk: a wallet under load commits some hundred payments at a time.

Source: docs/design/architecture.md, "Two kinds of storage".
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from layer1.crypto import PublicKey, format_address
from layer1.errors import LocalError, check
from wallet.contacts import Contact, format_endpoint
from wallet.requests import EntryView

_tables = sa.MetaData()
_entries = sa.Table(
    "entries",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("reference", sa.String, unique=True, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("channel", sa.String),
    sa.Column("peer", sa.String),
    sa.Column("memo", sa.String),
    sa.Column("version", sa.BigInteger),
    sa.Index("versions", "channel", "version"),
)
_contacts = sa.Table(
    "contacts",
    _tables,
    sa.Column("address", sa.String, primary_key=True),
    sa.Column("endpoint", sa.String, nullable=False),
)


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
        self._queue: list[dict[str, Any]] = []
        self._engine = sa.create_engine(f"sqlite:///{path}")
        sa.event.listen(self._engine, "connect", _configure)
        try:
            _tables.create_all(self._engine)
        except sa.exc.SQLAlchemyError as error:
            self._engine.dispose()
            raise LocalError(
                f"{path} cannot be opened ({_cause(error)}): move it away and start again, most of it is made anew"
            ) from None

    def add(
        self,
        reference: str,
        kind: str,
        amount: int,
        *,
        channel: str | None = None,
        peer: str | None = None,
        memo: str | None = None,
        version: int | None = None,
    ) -> None:
        """Take an entry, to be written by the next :meth:`flush`; `version` is of a payment's state."""
        self._queue.append(
            {
                "reference": reference,
                "time_ms": now_ms(),
                "kind": kind,
                "amount": amount,
                "channel": channel,
                "peer": peer,
                "memo": memo,
                "version": version,
            }
        )

    def flush(self) -> None:
        """Write what was added; what fails to be written stays in the queue.

        Raises:
            LocalError: The disk is full, or the file is damaged.
        """
        if not self._queue:
            return
        rows, self._queue = self._queue, []
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_entries).on_conflict_do_nothing(), rows)
        except sa.exc.SQLAlchemyError as error:
            self._queue = rows + self._queue
            raise LocalError(f"the history cannot be written to {self._path}: {_cause(error)}") from None

    def newest(self, limit: int, channel: str | None = None) -> tuple[EntryView, ...]:
        """The last `limit` entries, newest first; of the channels whose id starts with `channel`, if that is given."""
        self.flush()
        query = sa.select(_entries).order_by(_entries.c.id.desc()).limit(limit)
        if channel is not None:
            query = query.where(_entries.c.channel.startswith(channel, autoescape=True))
        with self._engine.connect() as connection:
            rows: Sequence[Any] = connection.execute(query).mappings().all()
        return tuple(EntryView(**{name: row[name] for name in EntryView.__struct_fields__}) for row in rows)

    def versions(self) -> dict[str, int]:
        """Per channel, up to which version its payments are here; one version's are written at once or not at all."""
        query = sa.select(_entries.c.channel, sa.func.max(_entries.c.version)).group_by(_entries.c.channel)
        with self._engine.connect() as connection:
            return {channel: version for channel, version in connection.execute(query) if channel and version}

    def settle(self) -> None:
        """Write everything and make it durable: what the journal drops after this is not lost here."""
        self.flush()
        with self._engine.connect() as connection:
            connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))

    def remember_contact(self, contact: Contact) -> None:
        """Keep where a peer was last reached."""
        endpoint = format_endpoint(contact.host, contact.port)
        statement = insert(_contacts).values(address=format_address(contact.address), endpoint=endpoint)
        update = statement.on_conflict_do_update(index_elements=["address"], set_={"endpoint": endpoint})
        with self._engine.begin() as connection:
            connection.execute(update)

    def endpoint_of(self, address: PublicKey) -> str | None:
        """Where a peer was last reached, ``host:port``."""
        query = sa.select(_contacts.c.endpoint).where(_contacts.c.address == format_address(address))
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()

    def close(self) -> None:
        """Write the rest and close the file."""
        try:
            self.flush()
        finally:
            self._engine.dispose()


def check_known(entries: Sequence[EntryView], channel: str | None) -> None:
    """Tell a channel without news, of which there is none, from a mistyped one.

    Raises:
        Refused: ``unknown_channel``.
    """
    check(
        channel is None or bool(entries),
        "unknown_channel",
        f"nothing is of a channel whose id starts with {(channel or '')[:64]!r}: `wallet channel list` shows all",
    )


def _configure(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _cause(error: sa.exc.SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]

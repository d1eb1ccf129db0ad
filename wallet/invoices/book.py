"""The file ``invoices.db`` of one home: invoices of ours, what came without one, and what we pay.

*Safety:* an invoice is durable here, with its preimage, before anybody sees it; a payment before its lock is offered.
So no claim is ever without its preimage, and no invoice is paid twice.

The file is local and synced at each change that something relies on, whatever holds the history. With a standby each
record goes there too (`wallet.headship`), as the files of channels do.

Source: docs/design/architecture.md, "Two kinds of storage"; decision 038.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from layer1.codec import decode, encode
from layer1.crypto import Hash
from layer1.errors import LocalError, Refused, RemoteError
from layer1.storage.database import cause
from wallet.invoices.invoice import PREFIX, parse_invoice
from wallet.invoices.records import Gift, Issued
from wallet.paying.records import Payment
from wallet.sqlite import open_file

MIN_PREFIX = 4
"""Characters of a payment hash that a person may give instead of all 64."""

LOOKED_UP = 500
"""Hashes named in one query."""

tables = sa.MetaData()


def _table(name: str) -> sa.Table:
    """Records of one kind, found by payment hash, by whether they are unfinished, and in the order of their making."""
    return sa.Table(
        name,
        tables,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("hash", sa.String, unique=True, nullable=False),
        sa.Column("unfinished", sa.Boolean, nullable=False, index=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )


_issued, _payments, _gifts = _table("invoices"), _table("payments"), _table("spontaneous")
Record = Issued | Payment | Gift
_TABLES: dict[type[Record], sa.Table] = {Issued: _issued, Payment: _payments, Gift: _gifts}


class InvoiceBook:
    """All records of one home."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            LocalError: It cannot be opened.
        """
        self._path = path
        self.on_put: Callable[[bytes], None] = lambda _: None
        """Told each record that is written, once it is durable."""
        remedy = "it has the preimages of your invoices; put it back whole"
        self._engine = open_file(path, tables.create_all, synced=True, remedy=remedy)
        self._unsynced = open_file(path, tables.create_all, synced=False, remedy=remedy)
        self._owes_sync = False

    def put(self, record: Record, *, synced: bool = True) -> None:
        """Enter or replace a record; durable on return, or, of what the journal tells again, by the next sync.

        Raises:
            LocalError: The disk did not take it.
        """
        self.put_all((record,), synced=synced)

    def put_all(self, records: Sequence[Record], *, synced: bool = True) -> None:
        """The same of several, with one sync: all of them or none.

        Raises:
            LocalError: The disk did not take it.
        """
        try:
            with (self._engine if synced else self._unsynced).begin() as connection:
                for record in records:
                    name, data = record.payment_hash.hex(), encode(record)
                    values = {"hash": name, "unfinished": record.unfinished, "record": data}
                    row = insert(_TABLES[type(record)]).values(values)
                    connection.execute(row.on_conflict_do_update(index_elements=["hash"], set_=values))
        except sa.exc.SQLAlchemyError as error:
            raise LocalError(f"{self._path} cannot be written: {cause(error)}; look after the disk") from None
        self._owes_sync = not synced  # a commit that is synced takes those before it along
        for record in records:
            self.on_put(encode(record))

    def settle(self) -> None:
        """Make everything durable: what the journal drops after this is not lost here.

        Raises:
            LocalError: The disk did not take it.
        """
        if not self._owes_sync:
            return
        try:
            with self._engine.connect() as connection:
                connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
        except sa.exc.SQLAlchemyError as error:
            raise LocalError(f"{self._path} cannot be written: {cause(error)}; look after the disk") from None
        self._owes_sync = False

    def issued(self, payment_hash: Hash) -> Issued | None:
        """Our invoice of this hash."""
        return next(self._read(_issued, Issued, _issued.c.hash == payment_hash.hex()), None)

    def gift(self, payment_hash: Hash) -> Gift | None:
        """What came without an invoice, by this hash."""
        return next(self._read(_gifts, Gift, _gifts.c.hash == payment_hash.hex()), None)

    def payment(self, payment_hash: Hash) -> Payment | None:
        """Our payment of this hash."""
        return next(self._read(_payments, Payment, _payments.c.hash == payment_hash.hex()), None)

    def unfinished(self) -> list[Issued | Gift]:
        """What is paid to us by locks that stand, as far as is known here."""
        return [
            *self._read(_issued, Issued, _issued.c.unfinished),
            *self._read(_gifts, Gift, _gifts.c.unfinished),
        ]

    def among(self, hashes: Iterable[Hash]) -> Iterator[Issued | Gift]:
        """What is paid to us by one of these hashes."""
        names = [each.hex() for each in hashes]
        for start in range(0, len(names), LOOKED_UP):
            some = names[start : start + LOOKED_UP]
            yield from self._read(_issued, Issued, _issued.c.hash.in_(some))
            yield from self._read(_gifts, Gift, _gifts.c.hash.in_(some))

    def pending(self) -> list[Payment]:
        """Our payments whose fate is not known."""
        return list(self._read(_payments, Payment, _payments.c.unfinished))

    def newest_issued(self, limit: int) -> list[Issued]:
        """Our newest invoices, the newest first."""
        return list(self._read(_issued, Issued, sa.true(), limit))

    def newest_gifts(self, limit: int) -> list[Gift]:
        """What came without an invoice, the newest first."""
        return list(self._read(_gifts, Gift, sa.true(), limit))

    def newest_payments(self, limit: int) -> list[Payment]:
        """Our newest payments, the newest first."""
        return list(self._read(_payments, Payment, sa.true(), limit))

    def everything(self) -> Iterator[bytes]:
        """All records, encoded, for a standby."""
        for table in _TABLES.values():
            with self._engine.connect() as connection:
                for (data,) in connection.execute(sa.select(table.c.record).order_by(table.c.id)):
                    yield data

    def find_issued(self, text: str) -> Issued:
        """Our invoice whose hash starts with `text`.

        Raises:
            Refused: ``unknown_invoice`` or ``ambiguous_invoice``.
        """
        found: list[Issued] = list(self._read(_issued, Issued, _starts(_issued, _prefix(text)), 2))
        if not found:
            raise _unknown(text)
        if len(found) > 1:
            names = ", ".join(each.invoice.payment_hash.hex()[:16] for each in found)
            raise Refused("ambiguous_invoice", f"{text[:64]!r} is the start of {names}: give more characters")
        return found[0]

    def find_payment(self, text: str) -> Payment:
        """Our payment of an invoice, by its text, or by its payment hash or the start of that.

        Raises:
            Refused: ``unknown_payment`` or ``ambiguous_payment``; as `parse_invoice`.
        """
        name = text.strip().lower()
        name = parse_invoice(name).payment_hash.hex() if name.startswith(PREFIX) else name
        usable = len(name) >= MIN_PREFIX and set(name) <= set("0123456789abcdef")
        found = list(self._read(_payments, Payment, _starts(_payments, name), 2)) if usable else []
        if not found:
            raise Refused(
                "unknown_payment",
                f"this wallet has paid no invoice whose payment hash starts with {name[:64]!r} (at least {MIN_PREFIX} "
                "characters): `wallet invoice list` shows all",
            )
        if len(found) > 1:
            names = ", ".join(each.invoice.payment_hash.hex()[:16] for each in found)
            raise Refused("ambiguous_payment", f"{name[:64]!r} is the start of {names}: give more characters")
        only: Payment = found[0]
        return only

    def close(self) -> None:
        """Close the file."""
        self._unsynced.dispose()
        self._engine.dispose()

    def _read(self, table: sa.Table, kind: Any, where: Any, limit: int | None = None) -> Iterator[Any]:
        statement = sa.select(table.c.record).where(where).order_by(table.c.id.desc()).limit(limit)
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(statement).scalars().all()
            yield from (decode(data, kind) for data in rows)
        except (sa.exc.SQLAlchemyError, RemoteError) as error:
            why = cause(error) if isinstance(error, sa.exc.SQLAlchemyError) else str(error)
            raise LocalError(f"{self._path} cannot be read ({why}): put it back whole") from None


def _starts(table: sa.Table, prefix: str) -> sa.ColumnElement[bool]:
    """Hashes that start so, by the index, however many there are."""
    return sa.and_(table.c.hash >= prefix, table.c.hash < prefix + "g")


def _prefix(text: str) -> str:
    wanted = text.strip().lower()
    if len(wanted) < MIN_PREFIX or not set(wanted) <= set("0123456789abcdef"):
        raise _unknown(text)
    return wanted


def _unknown(text: str) -> Refused:
    return Refused(
        "unknown_invoice",
        f"no invoice of this wallet has a payment hash that starts with {text[:64]!r} (at least {MIN_PREFIX} "
        "characters): `wallet invoice list` shows all",
    )

"""What a store no longer holds: where it begins, and how blocks leave it.

Safety: where the store begins is written in the same SQL transaction that deletes, or before; so what is above is whole
at any moment, and what a crash left below is passed over by all who read blocks, and deleted later.

Blocks, transactions and histories go. Groups stay: the ledger's state keeps every group for ever, and the index is how
one is found there, and whom a later closing concerns.

Source: docs/design/architecture.md, "Two kinds of storage"; decision 026.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sql

from layer1.codec import decode
from layer1.crypto import Hash
from layer1.header import Header
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.transactions import ChangeGroup, CloseGroup, Output, Transaction
from layer1.storage import tables
from layer1.storage.rows import Rows, concerned, insert, paid

SLICE_TRANSACTIONS = 2_000
"""In one SQL transaction that deletes: a tenth of a second in which nothing is appended."""
NAMES_AT_ONCE = 500
"""Addresses in one statement: no database takes any number of them."""


class Base(NamedTuple):
    """The block on which the first stored one follows."""

    height: int
    id: Hash | None
    """None: genesis, which is not compared."""
    clock_ms: int
    """Ledger clock of that block: what executed later than this is here."""


GENESIS = Base(0, None, 0)


def read_base(connection: sql.Connection) -> Base:
    """Where the store begins."""
    found = connection.scalar(sql.select(tables.meta.c.value).where(tables.meta.c.name == "base"))
    if found is None:
        return GENESIS
    height, name, clock_ms = found.split()
    return Base(int(height), bytes.fromhex(name), int(clock_ms))


def write_base(connection: sql.Connection, header: Header) -> Base:
    """Let the store begin above this block. From now on it has a format that older releases refuse."""
    written = (("base", f"{header.height} {header.id.hex()} {header.clock}"), ("format", str(tables.PRUNED_FORMAT)))
    for name, value in written:
        if not connection.execute(tables.meta.update().where(tables.meta.c.name == name).values(value=value)).rowcount:
            connection.execute(tables.meta.insert(), {"name": name, "value": value})
    return Base(header.height, header.id, header.clock)


def headers_to_delete(connection: sql.Connection, last: int, limit: int) -> list[Header]:
    """Of the oldest blocks up to height ``last``: at most ``limit``, and no more than one slice holds."""
    blocks = tables.blocks.c
    chosen = sql.select(blocks.header, blocks.transactions).where(blocks.height <= last)
    headers: list[Header] = []
    transactions = 0
    for row in connection.execute(chosen.order_by(blocks.height).limit(limit)):
        transactions += row.transactions
        if headers and transactions > SLICE_TRANSACTIONS:
            break
        headers.append(decode(row.header, Header))
    return headers


def delete_up_to(connection: sql.Connection, height: int) -> None:
    """Delete the oldest blocks up to this one, with their transactions, and those in all histories."""
    addresses = sorted(_concerned(connection, height))
    for start in range(0, len(addresses), NAMES_AT_ONCE):
        some = tables.history.c.address.in_(addresses[start : start + NAMES_AT_ONCE])
        connection.execute(tables.history.delete().where(some, tables.history.c.height <= height))
    for table in (tables.transactions, tables.blocks):
        connection.execute(table.delete().where(table.c.height <= height))


def delete_all(connection: sql.Connection) -> None:
    """Delete every block, transaction and history: at once, however many there are."""
    emptied = (tables.history, tables.transactions, tables.blocks)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"TRUNCATE {', '.join(table.name for table in emptied)}")
        return
    for table in emptied:
        connection.execute(table.delete())


def add_groups(connection: sql.Connection, height: int, groups: Iterable[tuple[Hash, GroupAgreement]]) -> None:
    """Enter those that the index lacks, oldest first: they were opened up to this height, where exactly is unknown."""
    known = set(connection.scalars(sql.select(tables.groups.c.id)))
    rows = Rows(())
    for position, (name, agreement) in enumerate(groups):
        if name not in known:
            rows.add_group(name, agreement, height, position)
    for table, values in rows.by_table():
        insert(connection, table, values)


def agreement_of(connection: sql.Connection, group_id: Hash) -> GroupAgreement | None:
    """What the members of a group agreed on last, as far as the blocks here tell; None if it is not known here."""
    made = tables.transactions.c
    changes = sql.select(made.body).where(made.group_id == group_id, made.kind == "change")
    newest = connection.scalar(changes.order_by(made.height.desc(), made.position.desc()).limit(1))
    if newest is not None:
        payload = decode(newest, Transaction).payload
        assert isinstance(payload, ChangeGroup), "its kind says so"
        return payload.successor.agreement
    columns = tables.groups.c
    found = connection.scalar(sql.select(columns.agreement).where(columns.id == group_id))
    return None if found is None else decode(found, GroupAgreement)


def _concerned(connection: sql.Connection, height: int) -> set[bytes]:
    """All in whose history a transaction up to this height stands."""
    columns = tables.transactions.c
    chosen = sql.select(columns.body, columns.output).where(columns.height <= height)
    addresses: set[bytes] = set()
    for body, output in connection.execute(chosen):
        addresses |= _of_transaction(connection, decode(body, Transaction), decode(output, Output))
    return addresses


def _of_transaction(connection: sql.Connection, transaction: Transaction, output: Output) -> set[Any]:
    accepted = output.code == "ok"
    if isinstance(transaction.payload, CloseGroup) and accepted and output.group_id is not None:
        agreement = agreement_of(connection, output.group_id)
        return set() if agreement is None else paid(agreement)
    return concerned(transaction.payload, accepted=accepted)

"""The tables of the store, and their version.

Keys are chosen so that a bulk insert appends: blocks and transactions by height, an account's history by height under
its address. Only the index of transaction ids, which are hashes, is written in random places.

Source: docs/design/architecture.md, "Two kinds of storage".
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table

FORMAT_VERSION = 1
"""Rises with every change of a table. A program refuses a store of a newer format than its own."""
PRUNED_FORMAT = 2
"""Of a store that begins above a later block than genesis: older releases would take it for one with a gap."""

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(128), nullable=False),
)
"""``format``, ``chain``, ``replica``; ``durable``: the height up to which blocks were synced when a checkpoint was
taken; ``base``: height, id and ledger clock of the block above which the store begins, if it is not genesis."""

blocks = Table(
    "blocks",
    metadata,
    Column("height", BigInteger, primary_key=True, autoincrement=False),
    Column("id", LargeBinary(32), nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("finalization", LargeBinary, nullable=False),
    Column("path", LargeBinary, nullable=False),
    Column("batches", LargeBinary, nullable=False),
    Column("events", LargeBinary, nullable=False),
    Column("transactions", Integer, nullable=False),
)
"""One row per final block. ``path``, ``batches`` and ``events`` are encoded tuples; ``transactions`` counts.

``events`` holds what became of groups, settlements at their deadline among it, which no transaction shows.
"""

transactions = Table(
    "transactions",
    metadata,
    Column("height", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("id", LargeBinary(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("code", String(64), nullable=False),
    Column("group_id", LargeBinary(32)),
    Column("body", LargeBinary, nullable=False),
    Column("output", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""One row per executed transaction, its encoded self and output. Whom it concerns is in ``history``."""

transaction_ids = Index("transaction_ids", transactions.c.id, unique=True)
"""The ledger gives an id one output, ever."""

transaction_groups = Index(
    "transaction_groups",
    transactions.c.group_id,
    transactions.c.height,
    transactions.c.position,
    sqlite_where=transactions.c.group_id.is_not(None),
    postgresql_where=transactions.c.group_id.is_not(None),
)
"""What happened to a group, in order."""

history = Table(
    "history",
    metadata,
    Column("address", LargeBinary(32), primary_key=True),
    Column("height", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which transactions concern an account."""

groups = Table(
    "groups",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("opened_height", BigInteger, nullable=False),
    Column("opened_position", Integer, nullable=False),
    Column("agreement", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Every group ever opened; that of a group which a snapshot brought says by which block it was, at the latest. What
became of it is in the ledger's state, which alone is authoritative."""

group_order = Index("group_order", groups.c.opened_height, groups.c.opened_position)

members = Table(
    "members",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("opened_height", BigInteger, primary_key=True, autoincrement=False),
    Column("opened_position", Integer, primary_key=True, autoincrement=False),
    Column("group_id", LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
)
"""Groups by the keys that stand in their agreement: group keys, funding and payout addresses."""

"""The file ``api.db`` of one home: tokens, what they may still spend, keys of requests, webhooks, labels.

*Safety:* what is committed here is on the disk. Money moves only after the request that moves it, and what it takes
of its token's limit, are in here (`wallet.api.tokens`, `wallet.api.keys`).

The file belongs to this home, as the socket does: a standby has a file of its own.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from layer1.errors import LocalError
from layer1.storage.database import cause
from wallet.sqlite import open_file

REMEDY = "look after the disk; no money is in this file"

tables = sa.MetaData()
tokens_table = sa.Table(
    "tokens",
    tables,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("scopes", sa.String, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("limit_units", sa.BigInteger, nullable=False),
    sa.Column("period_limit_units", sa.BigInteger),
    sa.Column("period_ms", sa.BigInteger),
    sa.Column("spent_units", sa.BigInteger, nullable=False),
)
spends_table = sa.Table(
    "spends",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token", sa.String, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Index("spends_by_token", "token", "time_ms"),
    sqlite_autoincrement=True,  # never one id twice: who ends a reservation that is gone must not end another's
)
keys_table = sa.Table(
    "keys",
    tables,
    sa.Column("owner", sa.String, primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("spend", sa.Integer),
    sa.Column("status", sa.Integer),
    sa.Column("answer", sa.LargeBinary),
    sa.Index("keys_by_time", "time_ms"),
)
webhooks_table = sa.Table(
    "webhooks",
    tables,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("url", sa.String, nullable=False),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("private", sa.Boolean, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("trouble", sa.String),
)
deliveries_table = sa.Table(
    "deliveries",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("webhook", sa.String, nullable=False),
    sa.Column("event", sa.String, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("webhook", "event"),
    sa.Index("deliveries_by_time", "due_ms"),
    sqlite_autoincrement=True,  # an acknowledgement that comes after its webhook was removed is of no other message
)
marks_table = sa.Table(
    "marks",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)
labels_table = sa.Table(
    "labels",
    tables,
    sa.Column("subject", sa.String, primary_key=True),
    sa.Column("text", sa.String, nullable=False),
)


class Store:
    """The file, open. Used by the one process that holds the home's lock."""

    def __init__(self, path: Path) -> None:
        """Open or make it, for its owner alone.

        Raises:
            LocalError: It cannot be opened.
        """
        self._path = path
        self.engine = open_file(path, tables.create_all, synced=True, remedy=REMEDY)

    def damaged(self, error: sa.exc.SQLAlchemyError) -> LocalError:
        """What to tell when the file does not do what it should."""
        return LocalError(f"{self._path} cannot be used ({cause(error)}): {REMEDY}")

    def close(self) -> None:
        """Close it."""
        self.engine.dispose()

"""What a watchtower holds, on its disk.

*Safety:* what :meth:`TowerStore.write` was given is durable when it returns, all of it or nothing.

One row for each member of a group that entrusted something, replaced in place: the file is as long as what is held,
not as what was ever sent. Nothing is read at a start, and a turn's updates share one sync. Rows that the watch asks for
come by an index: those of a group, and groups in order within a class of challenge periods.

Source: docs/design/groups.md, rule 17; decision 032; architecture.md, "Two kinds of storage".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from layer1.codec import decode, encode
from layer1.crypto import Hash, PublicKey
from layer1.errors import LocalError, RemoteError
from layer1.storage.database import cause
from layer2.tower import Guarded, Load
from wallet.sqlite import open_file

tables = sa.MetaData()
guarded_table = sa.Table(
    "guarded",
    tables,
    sa.Column("group", sa.LargeBinary, primary_key=True),
    sa.Column("customer", sa.LargeBinary, primary_key=True),
    sa.Column("period_class", sa.Integer, nullable=False),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Index("classes", "period_class", "group"),
    sa.Index("customers", "customer"),
)
seen_table = sa.Table(
    "seen",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("height", sa.BigInteger, nullable=False),
)

PRAGMAS = ("cache_size=-65536", "wal_autocheckpoint=4096")
LOOKED_UP = 500
"""Groups named in one query."""

Name = tuple[Hash, PublicKey]
"""Which group, and whose: a customer has one member in it."""

_insert = insert(guarded_table)
_UPSERT = _insert.on_conflict_do_update(
    index_elements=["group", "customer"],
    set_={name: _insert.excluded[name] for name in ("period_class", "entry")},
)
_seen = insert(seen_table)
_SEEN = _seen.on_conflict_do_update(index_elements=["id"], set_={"height": _seen.excluded.height})


def period_class(period_ms: int) -> int:
    """Challenge periods within a factor of two are looked at equally often: 2^class ms at least."""
    return period_ms.bit_length() - 1


class TowerStore:
    """The file ``tower.db`` of one home.

    Attributes:
        groups: How many rows there are.
    """

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            LocalError: It cannot be opened.
        """
        self._path = path
        remedy = (
            "restore it from a backup. An older one holds older versions; customers bring newer ones when they come"
        )
        self._engine = open_file(path, tables.create_all, synced=True, remedy=remedy, pragmas=PRAGMAS)
        columns = guarded_table.c
        try:
            self._connection = self._engine.connect()
            counts = sa.select(columns.period_class, sa.func.count()).group_by(columns.period_class)
            self._classes: Counter[int] = Counter(dict(map(tuple, self._read(counts))))
        except sa.exc.SQLAlchemyError as error:
            self._engine.dispose()
            raise LocalError(f"{path} cannot be read ({cause(error)}): {remedy}") from None
        self.groups = self._classes.total()

    @property
    def classes(self) -> dict[int, int]:
        """How many rows there are of each class of challenge periods."""
        return {class_: count for class_, count in self._classes.items() if count > 0}

    @property
    def height(self) -> int | None:
        """Up to which block everything that was told of these groups has been dealt with; None at first."""
        rows = self._read(sa.select(seen_table.c.height))
        return None if not rows else int(rows[0][0])

    @property
    def synchronous(self) -> int:
        """SQLite's word for what a commit waits for; 2 is a sync."""
        with self._connection.begin():
            return int(self._connection.execute(sa.text("PRAGMA synchronous")).scalar_one())

    def get(self, group_id: Hash, customer: PublicKey) -> Guarded | None:
        """What this customer entrusted of a group."""
        columns = guarded_table.c
        rows = self._read(sa.select(columns.entry).where(columns.group == group_id, columns.customer == customer))
        return self._decoded(rows[0][0]) if rows else None

    def of_group(self, group_id: Hash) -> list[Guarded]:
        """What is held of a group, for whomever."""
        rows = self._read(sa.select(guarded_table.c.entry).where(guarded_table.c.group == group_id))
        return [self._decoded(entry) for (entry,) in rows]

    def holds(self, group_id: Hash) -> bool:
        """Whether anything is held of a group."""
        return bool(
            self._read(sa.select(guarded_table.c.period_class).where(guarded_table.c.group == group_id).limit(1))
        )

    def load(self, customer: PublicKey) -> Load:
        """How much is held, in all and of this customer."""
        count = sa.select(sa.func.count()).where(guarded_table.c.customer == customer)
        return Load(self.groups, int(self._read(count)[0][0]))

    def page(self, class_: int, after: Hash, limit: int) -> list[Hash]:
        """Groups of a class of challenge periods, in order, behind `after`."""
        columns = guarded_table.c
        query = sa.select(columns.group).distinct().where(columns.period_class == class_, columns.group > after)
        return [group for (group,) in self._read(query.order_by(columns.group).limit(limit))]

    def write(self, keep: Collection[Guarded] = (), drop: Iterable[Name] = (), height: int | None = None) -> None:
        """Replace, take in, and forget, at once; durable on return.

        Raises:
            LocalError: The disk did not confirm. Nothing of it may be relied on.
        """
        try:
            with self._connection.begin():
                change = self._forget(drop)
                change.update(self._take_in(keep))
                if height is not None:
                    self._connection.execute(_SEEN, {"id": 0, "height": height})
        except sa.exc.SQLAlchemyError as error:
            raise LocalError(f"{self._path} cannot be written: {cause(error)}; look after the disk") from None
        self._classes.update(change)
        self.groups += change.total()

    def _forget(self, drop: Iterable[Name]) -> Counter[int]:
        columns, change = guarded_table.c, Counter[int]()
        for group, customer in drop:
            gone = sa.delete(guarded_table).where(columns.group == group, columns.customer == customer)
            for class_ in self._connection.execute(gone.returning(columns.period_class)).scalars():
                change[class_] -= 1
        return change

    def _take_in(self, keep: Collection[Guarded]) -> Counter[int]:
        if not keep:
            return Counter()
        columns, change = guarded_table.c, Counter[int]()
        rows = [_row(each) for each in keep]
        named = sa.select(columns.group, columns.customer, columns.period_class)
        known = {
            (group, customer): class_
            for start in range(0, len(rows), LOOKED_UP)
            for group, customer, class_ in self._connection.execute(
                named.where(columns.group.in_([row["group"] for row in rows[start : start + LOOKED_UP]]))
            )
        }
        for row in rows:
            before = known.get((row["group"], row["customer"]))
            if before is not None:
                change[before] -= 1
            change[row["period_class"]] += 1
        self._connection.execute(_UPSERT, rows)
        return change

    def close(self) -> None:
        """Close the file. Harmless when repeated."""
        self._connection.close()
        self._engine.dispose()

    def _read(self, query: sa.Select[Any]) -> list[Any]:
        try:
            with self._connection.begin():
                return list(self._connection.execute(query).all())
        except sa.exc.SQLAlchemyError as error:
            raise LocalError(f"{self._path} cannot be read: {cause(error)}; look after the disk") from None

    def _decoded(self, entry: bytes) -> Guarded:
        try:
            return decode(entry, Guarded)
        except RemoteError as error:
            raise LocalError(f"{self._path} is damaged: {error}; restore it from a backup") from None


def _row(guarded: Guarded) -> dict[str, Any]:
    return {
        "group": guarded.group_id,
        "customer": guarded.customer,
        "period_class": period_class(guarded.period_ms),
        "entry": encode(guarded),
    }

"""The store: what one queries of a ledger's past. Written in bulk behind the journal, rebuildable from it.

What: final blocks go in at the end, in order, each list of them in one SQL transaction; blocks, transactions, account
histories and the index of groups come out, paged.

*Safety:* the store holds the blocks `oldest` .. `height` without a gap, each with everything that belongs to it.

A list of blocks is one SQL transaction, so a crash leaves all of it or nothing. A block that is here already is
skipped, so the driver may hand over again whatever it is unsure about; one that leaves a gap is refused. Losing the
last blocks in a crash of the machine (SQLite runs with synchronous=NORMAL) costs nothing but reading them again.

Each append looks at the end of what is there: a commit whose answer got lost with the connection counts if it
happened, and a server that comes back without blocks that it had confirmed is found out before a gap can arise.

It begins above genesis, or above a later block, its *base*: the oldest blocks may be deleted (:meth:`Store.prune`), and
a store may begin with the child of a block whose state came otherwise (:meth:`Store.begin_at`).

*Threads:* one thread appends and deletes, any number read; a reader sees whole lists only. `height` is a plain number,
raised after the commit, so whoever has read it finds everything from `oldest` up to it. Blocks that are deleted while
they are read are missing from the answer, whole.

*Source:* docs/design/architecture.md, "Two kinds of storage".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sql

from layer1.block import CommittedBlock
from layer1.codec import decode
from layer1.consensus.messages import Finalization
from layer1.crypto import Hash, PublicKey
from layer1.errors import LocalError
from layer1.header import Header
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.events import Event
from layer1.ledger.transactions import Output, Transaction
from layer1.storage import past, tables
from layer1.storage.database import DatabaseFault, Outage, explained, open_engine
from layer1.storage.past import Base, agreement_of, read_base
from layer1.storage.rows import Rows, insert

_OPENING = 0x7765646765
"""PostgreSQL's number for the lock that is held while tables are made: "wedge" in ASCII."""

Place = tuple[int, int]
"""(height, position): where a transaction stands."""


class NoStore(LocalError):
    """There is no store, and none was to be made."""


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """A block without its contents."""

    header: Header
    transactions: int
    """How many executed in it."""


@dataclass(frozen=True, slots=True)
class CertifiedHeader:
    """A final block's header, with the certificate and the path to the block that it names."""

    header: Header
    finalization: Finalization
    path: tuple[Header, ...]


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """An executed transaction, where it stands, and what became of it."""

    height: int
    position: int
    transaction: Transaction
    output: Output


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A group as it was opened."""

    id: Hash
    opened: Place
    agreement: GroupAgreement


class Store:
    """An open store. Close it when done."""

    def __init__(self, engine: sql.Engine) -> None:
        """Use :meth:`open`."""
        self._engine = engine
        self._writing = threading.Lock()
        self._listeners: set[Callable[[int], None]] = set()
        self._height = 0
        self._tip: Hash | None = None
        self._base = past.GENESIS

    @classmethod
    def open(
        cls, url: str | Path, chain_id: Hash | None = None, owner: PublicKey | None = None, *, create: bool = True
    ) -> Self:
        """Open a store, and make its tables if it is new.

        Args:
            url: A URL such as ``sqlite:////var/lib/ledger/blocks.db`` or ``postgresql://user:password@host/name``, or
                the path of an SQLite file.
            chain_id: The chain whose blocks these are. A store keeps it, and refuses another.
            owner: The replica whose store it is. A store on a server keeps it, and refuses another: two that write
                the same tables would take each other's blocks for their own.
            create: False to take only one that is there.

        Raises:
            NoStore: There is none, and none is to be made.
            LocalError: It cannot be opened, is of a newer format, or belongs to another chain or replica.
        """
        store = cls(open_engine(url))
        try:
            with explained("the store cannot be opened", "Check its URL and its rights"):
                store._prepare(chain_id, owner, create)
        except Outage as error:
            store.close()
            raise LocalError(f"{error}. Start again when the database answers") from error
        except BaseException:
            store.close()
            raise
        return store

    @property
    def height(self) -> int:
        """Height of the last stored block; of the base when there is none (genesis is not stored)."""
        return self._height

    @property
    def base(self) -> Base:
        """The block on which the first stored one follows; a transaction that executed after its clock is here.

        It rises before anything is deleted: whoever misses something and looks at it then, knows why.
        """
        return self._base

    def oldest(self) -> int:
        """Height of the first block that is kept, or, where there is none yet, of the next one."""
        return self._base.height + 1

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def on_append(self, listener: Callable[[int], None]) -> Callable[[], None]:
        """Call ``listener(height)`` after each append, in the appending thread. Returns what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    # ------------------------------------------------------------------------------------------------------ writing

    def append(self, blocks: Sequence[CommittedBlock]) -> None:
        """Store blocks, oldest first, in one transaction; those that are here already are skipped.

        Args:
            blocks: Each the child of the one before it, the first at most one above `height`.

        Raises:
            Outage: The database does not answer. Whether these are stored turns out when they are appended again.
            LocalError: A block is missing before one of these, one is not the child of the one before, or the
                database failed. Nothing was stored.
        """
        with self._writing:
            if not blocks or blocks[-1].header.height <= self._height:
                return
            first = max(blocks[0].header.height, self._height + 1)
            with explained(
                f"storing blocks {first} to {blocks[-1].header.height} failed",
                "Nothing of them was stored; make room or mend the database, and start again",
            ):
                self._height, self._tip = self._append(blocks)
        for listener in tuple(self._listeners):
            listener(self._height)

    def _append(self, blocks: Sequence[CommittedBlock]) -> tuple[int, Hash | None]:
        """In one SQL transaction; where the store ends then."""
        with self._engine.begin() as connection:
            height, tip = self._check_end(*_end(connection))
            fresh = [block for block in blocks if block.header.height > height]
            end = _check_chain(fresh, height, tip)
            self._insert(connection, Rows(fresh))
        return end

    def _check_end(self, height: int, tip: Hash | None) -> tuple[int, Hash | None]:
        """Compare the end of what the database has with what it confirmed to us. It may have more: see above."""
        if height < self._height:
            raise LocalError(
                f"the database ends at block {height}, and had confirmed block {self._height}: it lost some, as in a "
                "crash without sync or a change to a standby that was behind. Look after it, then start again: the "
                "journal, or else --rebuild, fills the gap"
            )
        if height == self._height and tip != self._tip:
            raise _other_history(height, tip, self._tip)
        return height, tip

    def make_durable(self, height: int) -> None:
        """Make sure that no loss of power takes any block up to this height.

        The log is synced as a whole by one commit: SQLite's with synchronous=FULL, which also comes before anything
        of it moves into the database file; PostgreSQL's with synchronous_commit=on, even if its operator turned it
        off for all others. Only a server that runs without fsync is not held to it.

        Raises:
            Outage: The database does not answer; ask again.
            LocalError: They are not here, or the database failed.
        """
        with self._writing:
            if self._height < height:
                raise LocalError(f"the store ends at block {self._height}, before block {height}: append it first")
            with explained("the store cannot be synced", "Look after its disk"), self._durably() as connection:
                name = tables.meta.c.name == "durable"
                if not connection.execute(tables.meta.update().where(name).values(value=str(height))).rowcount:
                    connection.execute(tables.meta.insert(), {"name": "durable", "value": str(height)})

    @contextmanager
    def _durably(self) -> Iterator[sql.Connection]:
        """A transaction whose commit syncs it, and all before it."""
        with self._engine.connect() as connection:
            sqlite = connection.dialect.name == "sqlite"
            if sqlite:
                connection.exec_driver_sql("PRAGMA synchronous=FULL")
                connection.commit()
            else:
                connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            self._check_end(*_end(connection))
            yield connection
            connection.commit()
            if sqlite:
                connection.exec_driver_sql("PRAGMA synchronous=NORMAL")

    def begin_at(self, header: Header, groups: Iterable[tuple[Hash, GroupAgreement]] = ()) -> None:
        """Begin above a final block whose state is known otherwise: the next one to be appended is its child.

        Every block up to it is deleted; those above it stay, if it is here. Durable when it returns, and may be done
        again, such as after a crash in the middle of it.

        Args:
            header: Of that block.
            groups: All that were opened up to it, in this order; the index takes those that it lacks.

        Raises:
            Outage: The database does not answer. Do it again.
            LocalError: Blocks are gone here that such a store would hold, this one here is another, or the database
                failed. Nothing was changed.
        """
        with self._writing:
            with explained("the store cannot begin anew", "Look after the database"), self._durably() as connection:
                empty = self._check_begin(connection, header)
                if empty:
                    past.delete_all(connection)
                past.add_groups(connection, header.height, groups)
                self._base = past.write_base(connection, header)
            if empty:
                self._height, self._tip = header.height, header.id
                self._give_room_back()
        while self.prune(header.height + 1, 1_000):
            pass
        for listener in tuple(self._listeners):
            listener(self._height)

    def _check_begin(self, connection: sql.Connection, header: Header) -> bool:
        """Whether no block stays."""
        base, (height, _) = read_base(connection), _end(connection)
        if header.height < max(base.height, 1):
            raise LocalError(
                f"the store begins above block {base.height} and cannot begin above block {header.height}: the blocks "
                "between are not here. Move it away, and it will begin anew"
            )
        columns = tables.blocks.c
        here = connection.scalar(sql.select(columns.id).where(columns.height == header.height))
        here = base.id if header.height == base.height else here
        if here is not None and bytes(here) != header.id:
            raise _other_history(header.height, bytes(here), header.id)
        return header.height >= height

    def _give_room_back(self) -> None:
        """Of an empty database; SQLite would keep it for itself. If somebody reads just now, it does."""
        if self._engine.dialect.name == "sqlite":
            with suppress(DatabaseFault, Outage), explained("", ""), self._engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM")

    def prune(self, below: int, limit: int) -> int:
        """Delete the oldest blocks below a height, in one SQL transaction; how many. The last block always stays.

        Args:
            below: What has this height, or a greater one, stays.
            limit: At most so many; fewer if they are large. Repeat until none is left.

        Raises:
            Outage: The database does not answer. Do it again.
            LocalError: The database failed; nothing was changed.
        """
        with (
            self._writing,
            explained("old blocks cannot be deleted", "Look after the database"),
            self._engine.begin() as connection,
        ):
            height, _ = self._check_end(*_end(connection))
            base = read_base(connection)
            headers = past.headers_to_delete(connection, max(min(below, height) - 1, base.height), limit)
            if not headers:
                return 0
            past.delete_up_to(connection, headers[-1].height)
            if headers[-1].height > base.height:
                self._base = past.write_base(connection, headers[-1])
        return len(headers)

    def _insert(self, connection: sql.Connection, rows: Rows) -> None:
        for close in rows.closes:
            agreement = rows.agreements.get(close.group_id) or agreement_of(connection, close.group_id)
            rows.add_close(close, agreement)
        for table, values in rows.by_table():
            insert(connection, table, values)

    def _prepare(self, chain_id: Hash | None, owner: PublicKey | None, create: bool) -> None:
        url = self._engine.url
        if not create and url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            raise NoStore(f"there is no database {url.database}")
        with self._engine.begin() as connection:
            if connection.dialect.name != "sqlite":  # of two that find it empty, one makes the tables
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_OPENING})")
            known = sql.inspect(connection).has_table(tables.meta.name)
            if known:
                _check_format(_meta(connection, "format"))
            elif not create:
                raise NoStore("the database holds no store")
            else:
                tables.metadata.create_all(connection)
                connection.execute(tables.meta.insert(), {"name": "format", "value": str(tables.FORMAT_VERSION)})
            _check_chain_id(connection, chain_id)
            if connection.dialect.name != "sqlite":
                _check_owner(connection, owner)
            self._height, self._tip = _end(connection)
            self._base = read_base(connection)

    # ------------------------------------------------------------------------------------------------------ reading

    @contextmanager
    def _reading(self) -> Iterator[sql.Connection]:
        """A connection to read by.

        Raises:
            Outage: The database does not answer, as in all that reads.
            LocalError: It failed.
        """
        with explained("the store cannot be read", "Look after the database"), self._engine.connect() as connection:
            yield connection

    def block(self, height: int) -> CommittedBlock | None:
        """A whole block, or None when it is not here."""
        found = self.blocks(height, 1)
        return found[0] if found and found[0].header.height == height else None

    def blocks(self, first: int, limit: int) -> list[CommittedBlock]:
        """Whole blocks from height ``first`` on that are kept, oldest first; for peers that catch up, and exports."""
        if first > self._height:  # a peer may ask for a number that no database takes
            return []
        wanted = sql.select(tables.blocks).where(tables.blocks.c.height >= max(first, self.oldest()))
        with self._reading() as connection:
            rows = connection.execute(wanted.order_by(tables.blocks.c.height).limit(limit)).all()
            if not rows:
                return []
            contents = self._contents(connection, rows[0].height, rows[-1].height)
            deleted = read_base(connection).height  # since we began: then their transactions were missing
        return [_block(row, contents[row.height]) for row in rows if row.height > deleted]

    def _contents(
        self, connection: sql.Connection, first: int, last: int
    ) -> dict[int, tuple[list[Transaction], list[Output]]]:
        place = tables.transactions.c
        chosen = sql.select(place.height, place.body, place.output).where(place.height.between(first, last))
        contents: dict[int, tuple[list[Transaction], list[Output]]] = {h: ([], []) for h in range(first, last + 1)}
        for height, body, output in connection.execute(chosen.order_by(place.height, place.position)):
            contents[height][0].append(decode(body, Transaction))
            contents[height][1].append(decode(output, Output))
        return contents

    def differences(self, blocks: Sequence[CommittedBlock]) -> list[str]:
        """The tables that hold something else than what these blocks give, which follow one another."""
        expected = Rows(blocks)
        first, last = blocks[0].header.height, blocks[-1].header.height
        with self._reading() as connection:
            for close in expected.closes:
                expected.add_close(
                    close, expected.agreements.get(close.group_id) or agreement_of(connection, close.group_id)
                )
            return [
                table.name
                for table, rows in expected.by_table()
                if sorted(rows) != sorted(tuple(row) for row in connection.execute(_between(table, first, last)))
            ]

    def faults(self) -> list[str]:
        """What the database says of its own files, tables and indexes; only SQLite is asked. Reads all of it."""
        if self._engine.dialect.name != "sqlite":
            return []
        with self._reading() as connection:
            lines = connection.exec_driver_sql("PRAGMA integrity_check(5)").scalars().all()
        return [line for line in lines if line != "ok"]

    def summaries(self, limit: int, before: int | None = None) -> list[BlockSummary]:
        """Blocks below height ``before`` (from the last one on without it), newest first."""
        blocks = tables.blocks.c
        chosen = sql.select(blocks.header, blocks.transactions).where(blocks.height >= self.oldest())
        chosen = chosen.order_by(blocks.height.desc()).limit(limit)
        if before is not None:
            chosen = chosen.where(blocks.height < before)
        with self._reading() as connection:
            rows = connection.execute(chosen).all()
        return [BlockSummary(decode(header, Header), count) for header, count in rows]

    def transaction(self, transaction_id: Hash) -> StoredTransaction | None:
        """A transaction by its id, or None when none of that id has executed here."""
        columns = tables.transactions.c
        chosen = sql.select(columns.height, columns.position, columns.body, columns.output)
        with self._reading() as connection:
            row = connection.execute(chosen.where(columns.id == transaction_id)).first()
        return None if row is None else _transaction(row)

    def outputs(self, height: int) -> tuple[Output, ...]:
        """All outputs of a block, in order; what a proof of one of them is made from."""
        columns = tables.transactions.c
        chosen = sql.select(columns.output).where(columns.height == height).order_by(columns.position)
        with self._reading() as connection:
            return tuple(decode(encoded, Output) for encoded in connection.scalars(chosen))

    def certified(self, height: int) -> CertifiedHeader | None:
        """A block's header and what makes it final, without its contents."""
        columns = tables.blocks.c
        chosen = sql.select(columns.header, columns.finalization, columns.path).where(columns.height == height)
        if height < self.oldest():
            return None
        with self._reading() as connection:
            row = connection.execute(chosen).first()
        if row is None:
            return None
        path = decode(row.path, tuple[Header, ...])
        return CertifiedHeader(decode(row.header, Header), decode(row.finalization, Finalization), path)

    def account_history(self, address: PublicKey, limit: int, before: Place | None = None) -> list[StoredTransaction]:
        """Transactions that concern an account, newest first, from below ``before`` on."""
        return self._listed(tables.history, tables.history.c.address == address, limit, before)

    def group_history(self, group_id: Hash, limit: int, before: Place | None = None) -> list[StoredTransaction]:
        """Transactions on a group that were accepted, newest first, from below ``before`` on."""
        columns = tables.transactions.c
        chosen = sql.select(columns.height, columns.position, columns.body, columns.output).where(
            columns.group_id == group_id
        )
        return self._fetch(_page(chosen, columns.height, columns.position, limit, before))

    def groups(self, limit: int, before: Place | None = None, member: PublicKey | None = None) -> list[StoredGroup]:
        """Groups, the newest first, from below ``before`` on; only those that name ``member``'s key, if given.

        Each once, as of the block that first named the key: the opening, or a change of the open group.
        """
        columns = tables.groups.c
        chosen = sql.select(columns.id, columns.opened_height, columns.opened_position, columns.agreement)
        if member is None:
            chosen = _page(chosen, columns.opened_height, columns.opened_position, limit, before)
        else:
            named = tables.members.c
            chosen = sql.select(columns.id, named.opened_height, named.opened_position, columns.agreement)
            chosen = chosen.join_from(tables.members, tables.groups, named.group_id == columns.id)
            chosen = chosen.where(named.key == member, ~_named_before(member))
            chosen = _page(chosen, named.opened_height, named.opened_position, limit, before)
        with self._reading() as connection:
            rows = connection.execute(chosen).all()
        return [StoredGroup(bytes(row[0]), (row[1], row[2]), decode(row[3], GroupAgreement)) for row in rows]

    def _listed(
        self, listing: sql.Table, condition: sql.ColumnElement[bool], limit: int, before: Place | None
    ) -> list[StoredTransaction]:
        columns = tables.transactions.c
        same_place = sql.and_(listing.c.height == columns.height, listing.c.position == columns.position)
        chosen = (
            sql.select(columns.height, columns.position, columns.body, columns.output)
            .join_from(listing, tables.transactions, same_place)
            .where(condition)
        )
        return self._fetch(_page(chosen, listing.c.height, listing.c.position, limit, before))

    def _fetch(self, chosen: sql.Select[Any]) -> list[StoredTransaction]:
        with self._reading() as connection:
            return [_transaction(row) for row in connection.execute(chosen).all()]


def _page(
    chosen: sql.Select[Any], height: sql.Column[Any], position: sql.Column[Any], limit: int, before: Place | None
) -> sql.Select[Any]:
    if before is not None:
        chosen = chosen.where(sql.tuple_(height, position) < before)
    return chosen.order_by(height.desc(), position.desc()).limit(limit)


def _named_before(member: PublicKey) -> sql.ColumnElement[bool]:
    """Whether an earlier row names this key for the same group: its opening, or a change before."""
    named, first = tables.members.c, tables.members.alias("first").c
    earlier = sql.tuple_(first.opened_height, first.opened_position) < sql.tuple_(
        named.opened_height, named.opened_position
    )
    same = sql.and_(first.key == member, first.group_id == named.group_id, earlier)
    return sql.exists().where(same).correlate(tables.members)


def _between(table: sql.Table, first: int, last: int) -> sql.Select[Any]:
    """The rows that blocks of these heights gave."""
    height = table.c.opened_height if "opened_height" in table.c else table.c.height
    return sql.select(table).where(height.between(first, last))


def _end(connection: sql.Connection) -> tuple[int, Hash | None]:
    """Height and id of the last block that is here; of the base if there is none."""
    blocks, base = tables.blocks.c, read_base(connection)
    chosen = sql.select(blocks.height, blocks.id).where(blocks.height > base.height)
    last = connection.execute(chosen.order_by(blocks.height.desc()).limit(1)).first()
    return (base.height, base.id) if last is None else (last.height, bytes(last.id))


def _check_chain(fresh: Sequence[CommittedBlock], height: int, tip: Hash | None) -> tuple[int, Hash | None]:
    """Whether these follow on a block; the last of them."""
    for block in fresh:
        header = block.header
        if header.height != height + 1:
            raise LocalError(f"block {header.height} cannot follow block {height}: append what is between first")
        if tip is not None and header.parent != tip:
            raise _other_history(height, tip, header.parent)
        height, tip = header.height, header.id
    return height, tip


def _other_history(height: int, here: Hash | None, named: Hash | None) -> LocalError:
    ids = [block_id.hex() if block_id else "none" for block_id in (here, named)]
    return LocalError(
        f"block {height} in this store is {ids[0]}, where {ids[1]} is final: it holds another history; move it away, "
        "and it will be filled anew"
    )


def _meta(connection: sql.Connection, name: str) -> str | None:
    value: str | None = connection.scalar(sql.select(tables.meta.c.value).where(tables.meta.c.name == name))
    return value


def _check_format(found: str | None) -> None:
    with suppress(ValueError, TypeError):
        if int(found or "") in {tables.FORMAT_VERSION, tables.PRUNED_FORMAT}:
            return
    raise LocalError(
        f"the store has format {found}, this program reads {tables.FORMAT_VERSION} and {tables.PRUNED_FORMAT}: use the "
        "program that wrote it, or move the store away, and it will be filled anew"
    )


def _check_chain_id(connection: sql.Connection, chain_id: Hash | None) -> None:
    if chain_id is None:
        return
    found = _meta(connection, "chain")
    if found is None:
        connection.execute(tables.meta.insert(), {"name": "chain", "value": chain_id.hex()})
    elif found != chain_id.hex():
        raise LocalError(
            f"the store belongs to chain {found}, this replica to chain {chain_id.hex()}: give each its own store"
        )


def _check_owner(connection: sql.Connection, owner: PublicKey | None) -> None:
    if owner is None:
        return
    found = _meta(connection, "replica")
    if found is None:
        connection.execute(tables.meta.insert(), {"name": "replica", "value": owner.hex()})
    elif found != owner.hex():
        raise LocalError(
            f"the store belongs to replica {found}, this replica is {owner.hex()}: give each a database (or a schema) "
            "of its own. In a copy that was made for this one, remove the row 'replica' of the table meta"
        )


def _block(row: sql.Row[Any], contents: tuple[Iterable[Transaction], Iterable[Output]]) -> CommittedBlock:
    return CommittedBlock(
        decode(row.header, Header),
        decode(row.finalization, Finalization),
        decode(row.path, tuple[Header, ...]),
        decode(row.batches, tuple[bytes, ...]),
        tuple(contents[0]),
        tuple(contents[1]),
        decode(row.events, tuple[Event, ...]),
    )


def _transaction(row: Any) -> StoredTransaction:
    return StoredTransaction(row.height, row.position, decode(row.body, Transaction), decode(row.output, Output))

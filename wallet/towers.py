"""The watchtowers that a wallet uses, and what they signed.

*Safety:* the newest receipt of each tower for each channel is kept, so that who breaks it can be shown to have.

Receipts of channels that are closed stay for a while, at most :data:`KEPT_RECEIPTS` of them in all: after that nobody
is blamed any more.

Source: docs/design/groups.md, rule 17; decision 032.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from layer1.codec import Struct, decode, encode
from layer1.crypto import Hash, PublicKey, format_address, parse_address
from layer1.errors import LocalError, Refused, RemoteError
from layer1.storage.database import cause
from layer2.promises import TowerReceipt
from wallet.contacts import Contact, format_endpoint, parse_contact, parse_endpoint
from wallet.sqlite import open_file

MAX_TOWERS = 8
"""Each gets each channel's newest version: more of them would cost more than they add."""
KEPT_RECEIPTS = 10_000
"""Of channels that are closed."""
MIN_PREFIX = 7
"""Characters of a tower's address, with ``wedge1``, that a person may give."""

tables = sa.MetaData()
towers_table = sa.Table(
    "towers",
    tables,
    sa.Column("address", sa.String, primary_key=True),
    sa.Column("endpoint", sa.String, nullable=False),
    sa.Column("bounty", sa.BigInteger, nullable=False),
    sa.Column("rely", sa.Boolean, nullable=False),
)
receipts_table = sa.Table(
    "receipts",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tower", sa.LargeBinary, nullable=False),
    sa.Column("group", sa.LargeBinary, nullable=False),
    sa.Column("receipt", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("tower", "group"),
)


@dataclass(frozen=True, slots=True)
class KnownTower:
    """One tower of this wallet."""

    contact: Contact
    bounty: int
    """Minor units that our DELEGATE promises, out of our part of another's bond."""
    rely: bool
    """Whether nothing is called committed before this tower has receipted it [F6]."""

    @property
    def address(self) -> PublicKey:
        """Its identity."""
        return self.contact.address


class TowerEntry(Struct):
    """One tower, as a standby is told of it."""

    contact: str
    bounty: int
    rely: bool


class TowerList(Struct, tag="towers/1"):
    """All towers of a wallet, for its standby: after a promotion they go on guarding (decision 031)."""

    towers: tuple[TowerEntry, ...]


class TowerBook:
    """The file ``towers.db`` of one home."""

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            LocalError: It cannot be opened.
        """
        self._path = path
        remedy = "move it away, start again, and add your watchtowers again"
        self._engine = open_file(path, tables.create_all, synced=False, remedy=remedy)
        self._receipts: dict[tuple[PublicKey, Hash], TowerReceipt] = {}
        self.on_change: Callable[[bytes], None] = lambda _: None
        """Told all towers, as `layer1.codec.encode` writes a :class:`TowerList`, when they have changed."""
        try:
            with self._engine.connect() as connection:
                self._towers = {tower.address: tower for tower in map(_tower, connection.execute(_ALL))}
                for (data,) in connection.execute(sa.select(receipts_table.c.receipt)):
                    receipt = decode(data, TowerReceipt)
                    self._receipts[receipt.tower, receipt.group_id] = receipt
        except (sa.exc.SQLAlchemyError, RemoteError, Refused) as error:
            self._engine.dispose()
            why = cause(error) if isinstance(error, sa.exc.SQLAlchemyError) else str(error)
            raise LocalError(f"{path} cannot be read ({why}): {remedy}") from None

    def __iter__(self) -> Iterator[KnownTower]:
        return iter(self._towers.values())

    def __len__(self) -> int:
        return len(self._towers)

    @property
    def relied_on(self) -> list[KnownTower]:
        """Towers whose receipts make a version committed."""
        return [tower for tower in self if tower.rely]

    def add(self, tower: KnownTower) -> None:
        """Take in a tower, or change it; durable on return.

        Raises:
            Refused: ``too_many``.
        """
        if tower.address not in self._towers and len(self._towers) >= MAX_TOWERS:
            raise Refused("too_many", f"there are {len(self._towers)} watchtowers, the most there can be: remove one")
        values = {
            "address": format_address(tower.address),
            "endpoint": format_endpoint(tower.contact.host, tower.contact.port),
            "bounty": tower.bounty,
            "rely": tower.rely,
        }
        self._write(insert(towers_table).values(values).on_conflict_do_update(index_elements=["address"], set_=values))
        self._towers[tower.address] = tower
        self.on_change(self.file())

    def remove(self, address: PublicKey) -> None:
        """Use a tower no more; what it signed is kept. Durable on return."""
        self._write(sa.delete(towers_table).where(towers_table.c.address == format_address(address)))
        self._towers.pop(address, None)
        self.on_change(self.file())

    def file(self) -> bytes:
        """All towers, for a standby. Receipts stay: its head entrusts everything anew when it is served."""
        return encode(TowerList(tuple(TowerEntry(str(t.contact), t.bounty, t.rely) for t in self)))

    def follow(self, told: TowerList) -> None:
        """Use these towers and no others, as the head does; durable on return.

        Raises:
            LocalError: The disk does not take it.
        """
        towers = [KnownTower(parse_contact(each.contact), each.bounty, each.rely) for each in told.towers]
        for address in self._towers.keys() - {tower.address for tower in towers}:
            self.remove(address)
        for tower in towers:
            if self._towers.get(tower.address) != tower:
                self.add(tower)

    def find(self, text: str) -> KnownTower:
        """The tower that a person means, by its contact, its address, or the start of it.

        Raises:
            Refused: ``unknown_watchtower``.
        """
        wanted = text.strip().partition("@")[0]
        found = [tower for tower in self if format_address(tower.address).startswith(wanted)]
        if len(wanted) < MIN_PREFIX or len(found) != 1:
            raise Refused(
                "unknown_watchtower",
                f"{len(found) if len(wanted) >= MIN_PREFIX else 0} watchtowers have an address that starts with "
                f"{wanted[:80]!r}: `wallet watchtower list` shows all",
            )
        return found[0]

    def receipt(self, tower: PublicKey, group_id: Hash) -> TowerReceipt | None:
        """The newest receipt of a tower for a channel."""
        return self._receipts.get((tower, group_id))

    def receipts_of(self, group_id: Hash) -> list[TowerReceipt]:
        """The newest receipt of each tower for a channel."""
        return [receipt for (_, group), receipt in self._receipts.items() if group == group_id]

    def is_receipted(self, group_id: Hash, epoch: int, version: int) -> bool:
        """Whether all towers that are relied on hold this version of a channel, or a later one.

        A later epoch began with what layer 1 took: nothing of an earlier one can be lost any more.
        """
        found = [self._receipts.get((tower.address, group_id)) for tower in self.relied_on]
        return all(each is not None and (each.epoch, each.version) >= (epoch, version) for each in found)

    def keep(self, receipt: TowerReceipt) -> None:
        """Put a receipt in place of the one before."""
        values = {"tower": receipt.tower, "group": receipt.group_id, "receipt": encode(receipt)}
        statement = insert(receipts_table).values(values)
        self._write(statement.on_conflict_do_update(index_elements=["tower", "group"], set_=values))
        self._receipts[receipt.tower, receipt.group_id] = receipt

    def prune(self, live: Collection[Hash]) -> None:
        """Forget the oldest receipts of channels that are not among `live`."""
        closed = [name for name in self._receipts if name[1] not in live]
        for tower, group in closed[: max(len(closed) - KEPT_RECEIPTS, 0)]:
            columns = receipts_table.c
            self._write(sa.delete(receipts_table).where(columns.tower == tower, columns.group == group))
            del self._receipts[tower, group]

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def _write(self, statement: sa.Executable) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(statement)
        except sa.exc.SQLAlchemyError as error:
            raise LocalError(f"{self._path} cannot be written: {cause(error)}; look after the disk") from None


_ALL = sa.select(towers_table.c.address, towers_table.c.endpoint, towers_table.c.bounty, towers_table.c.rely)


def _tower(row: Any) -> KnownTower:
    host, port = parse_endpoint(row.endpoint)
    return KnownTower(Contact(parse_address(row.address), host, port), row.bounty, row.rely)

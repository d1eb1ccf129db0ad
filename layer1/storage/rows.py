"""Rows for a bulk insert of blocks: what the tables keep of each transaction.

Built outside the SQL transaction, in one pass; every encoding is made once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from layer1.block import CommittedBlock
from layer1.codec import encode
from layer1.crypto import Hash, PublicKey
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.events import AccountChanged, Event
from layer1.ledger.transactions import CloseGroup, OpenGroup, Output, Report, Transaction, Transfer, Wedge
from layer1.storage import tables

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Close:
    """An accepted closing; it concerns the payout addresses of the group's agreement."""

    group_id: Hash
    height: int
    position: int


class Rows:
    """The rows of some blocks, by table."""

    def __init__(self, blocks: Sequence[CommittedBlock], events: Mapping[int, Sequence[Event]]) -> None:
        self.blocks: list[Row] = []
        self.transactions: list[Row] = []
        self.history: list[Row] = []
        self.groups: list[Row] = []
        self.members: list[Row] = []
        self.agreements: dict[Hash, GroupAgreement] = {}
        """Of the groups that these blocks open."""
        self.closes: list[Close] = []
        for block in blocks:
            self._add(block, events.get(block.header.height, ()))

    def by_table(self) -> Iterator[tuple[Table, list[Row]]]:
        """Each table with its rows."""
        yield tables.blocks, self.blocks
        yield tables.transactions, self.transactions
        yield tables.history, self.history
        yield tables.groups, self.groups
        yield tables.members, self.members

    def add_close(self, close: Close, agreement: GroupAgreement | None) -> None:
        """Enter a closing into the histories of those whom it pays."""
        if agreement is not None:
            self._concern({member.payout for member in agreement.members}, close.height, close.position)

    def _add(self, block: CommittedBlock, events: Sequence[Event]) -> None:
        header = block.header
        self.blocks.append(
            {
                "height": header.height,
                "id": header.id,
                "header": encode(header),
                "finalization": encode(block.finalization),
                "path": encode(block.path),
                "batches": encode(block.batches),
                "events": encode([event for event in events if not isinstance(event, AccountChanged)]),
                "transactions": len(block.transactions),
            }
        )
        for position, (transaction, output) in enumerate(zip(block.transactions, block.outputs, strict=True)):
            self._add_transaction(header.height, position, transaction, output)

    def _add_transaction(self, height: int, position: int, transaction: Transaction, output: Output) -> None:
        payload, accepted = transaction.payload, output.code == "ok"
        row: Row = {
            "height": height,
            "position": position,
            "id": output.transaction_id,
            "kind": payload.__struct_config__.tag,
            "code": output.code,
            "sender": None,
            "recipient": None,
            "group_id": output.group_id if accepted else None,
            "body": encode(transaction),
            "output": encode(output),
        }
        self.transactions.append(row)
        match payload:
            case Transfer(sender, recipient):
                row["sender"], row["recipient"] = sender, recipient
                self._concern({sender, recipient} if accepted else {sender}, height, position)
            case OpenGroup(agreement):
                self._concern({member.funding for member in agreement.members}, height, position)
                if accepted and output.group_id is not None:
                    self._add_group(output.group_id, agreement, height, position)
            case CloseGroup():
                if accepted and output.group_id is not None:
                    self.closes.append(Close(output.group_id, height, position))
            case Wedge() | Report():
                pass

    def _add_group(self, group_id: Hash, agreement: GroupAgreement, height: int, position: int) -> None:
        place = {"opened_height": height, "opened_position": position}
        self.agreements[group_id] = agreement
        self.groups.append({"id": group_id, "agreement": encode(agreement), **place})
        keys = {key for member in agreement.members for key in (member.key, member.funding, member.payout)}
        self.members.extend({"key": key, "group_id": group_id, **place} for key in keys)

    def _concern(self, addresses: set[PublicKey], height: int, position: int) -> None:
        for address in addresses:
            self.history.append({"address": address, "height": height, "position": position})

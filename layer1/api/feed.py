"""What became final, as numbered events: a block's transactions, what happened to groups and replicas, the block.

An event is named ``height-number``, its number being its place among *all* events of its block. So a reader may drop
off anywhere and resume after the last name that it saw, at this replica or at another one, with any filter.

Live readers and late ones read the same thing: the store, block by block. A block is rendered once and kept for a
while, since all live readers want the same ones; a reader that is slow holds a position, not a queue.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from layer1.api.context import Api
from layer1.api.event_views import KINDS, BlockEvent, GroupEvent, ReplicaEvent, TransactionEvent
from layer1.api.views import payload_view
from layer1.block import CommittedBlock
from layer1.codec import encode
from layer1.crypto import Hash, PublicKey
from layer1.errors import Refused
from layer1.ledger import events as ledger_events
from layer1.ledger.events import (
    GroupChanged,
    GroupClosed,
    GroupOpened,
    GroupReported,
    GroupWedged,
    LocksPaid,
    ReplicaMarked,
)
from layer1.ledger.transactions import (
    Appoint,
    ChangeGroup,
    Command,
    OpenGroup,
    Output,
    RegisterPreimages,
    Transaction,
    Transfer,
)
from layer1.proof import HeadProof

RENDERED = 16
"""Blocks kept rendered: the live readers are within these."""


@dataclass(frozen=True, slots=True)
class Item:
    """One rendered event."""

    kind: str
    group: Hash | None
    accounts: tuple[PublicKey, ...]
    text: bytes
    """As it goes over the wire."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a reader wants. With groups or accounts named, only those; and blocks, if their kind is wanted."""

    kinds: Collection[str] = KINDS
    groups: frozenset[Hash] = frozenset()
    accounts: frozenset[PublicKey] = frozenset()

    def wants(self, item: Item) -> bool:
        """Whether this reader gets `item`."""
        if item.kind not in self.kinds:
            return False
        if item.kind == "block" or not (self.groups or self.accounts):
            return True
        return item.group in self.groups or not self.accounts.isdisjoint(item.accounts)


class Feed:
    """Rendered blocks for all readers of one application."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._rendered: OrderedDict[int, asyncio.Task[tuple[Item, ...]]] = OrderedDict()

    async def items(self, height: int) -> tuple[Item, ...]:
        """The events of a stored block, in order.

        Raises:
            Refused: ``pruned``: it was thrown away in between.
        """
        task = self._rendered.get(height)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._api.read(self._render, height))
            self._rendered[height] = task
            while len(self._rendered) > RENDERED:
                self._rendered.popitem(last=False)
        return await asyncio.shield(task)

    def _render(self, height: int) -> tuple[Item, ...]:
        found = self._api.backend.store.block(height)
        if found is None:
            raise Refused("pruned", f"block {height} was stored here, and no longer is")
        return render(found)


def render(block: CommittedBlock) -> tuple[Item, ...]:
    """The events of one block, in order."""
    header = block.header
    rendered = _Rendered(header.height)
    for index, (transaction, output) in enumerate(zip(block.transactions, block.outputs, strict=True)):
        data = _transaction(header.height, index, transaction, output)
        rendered.add("transaction", data, output.group_id, _accounts(transaction))
    for event in block.events:
        if isinstance(event, ReplicaMarked):
            rendered.add("replica", _replica(header.height, event))
        elif isinstance(event, ledger_events.GroupEvent):
            rendered.add("group", _group(header.height, event), event.group_id)
    rendered.add("block", _block(block))
    return tuple(rendered.items)


class _Rendered:
    """Events of one block, numbered as they come."""

    def __init__(self, height: int) -> None:
        self._height = height
        self.items: list[Item] = []

    def add(
        self, kind: str, data: msgspec.Struct, group: Hash | None = None, accounts: tuple[PublicKey, ...] = ()
    ) -> None:
        """Render the next event."""
        name = b"%d-%d" % (self._height, len(self.items))
        text = b"id: %s\nevent: %s\ndata: %s\n\n" % (name, kind.encode(), msgspec.json.encode(data))
        self.items.append(Item(kind, group, accounts, text))


def _block(block: CommittedBlock) -> BlockEvent:
    header = block.header
    return BlockEvent(
        height=header.height,
        id=header.id.hex(),
        clock=header.clock,
        wall_time=header.wall_time,
        transactions=len(block.transactions),
        proof=encode(HeadProof(header, block.path, block.finalization)).hex(),
    )


def _accounts(transaction: Transaction) -> tuple[PublicKey, ...]:
    match transaction.payload:
        case Transfer(sender, recipient):
            return (sender, recipient)
        case Command(sender) | RegisterPreimages(sender):
            return (sender,)
        case Appoint(account):
            return (account,)
        case ChangeGroup(successor):
            return tuple(payment.account for payment in (*successor.deposits, *successor.withdrawals))
        case OpenGroup(agreement):
            return tuple(member.funding for member in agreement.members)
        case _:
            return ()


def _transaction(height: int, index: int, transaction: Transaction, output: Output) -> TransactionEvent:
    payload = payload_view(transaction.payload)
    return TransactionEvent(
        id=output.transaction_id.hex(),
        height=height,
        index=index,
        kind=str(payload.__struct_config__.tag),
        code=output.code,
        group=None if output.group_id is None else output.group_id.hex(),
        sender=getattr(payload, "sender", None),
        recipient=getattr(payload, "recipient", None),
        amount=getattr(payload, "amount", None),
    )


def _replica(height: int, event: ReplicaMarked) -> ReplicaEvent:
    mark = event.mark
    return ReplicaEvent(
        replica=mark.number,
        key=mark.replica.hex(),
        height=height,
        change="marked",
        transaction=mark.transaction_id.hex(),
        contradiction=mark.kind.value,
        evidence=mark.evidence_id.hex(),
    )


def _group(height: int, event: ledger_events.GroupEvent) -> GroupEvent:
    group = event.group_id.hex()
    if isinstance(event, LocksPaid):
        paid = [each.lock.id for each in event.locks]
        return GroupEvent(
            group=group, height=height, change="locks", transaction=None, version=event.version, locks=paid
        )
    made_by = None if event.transaction_id is None else event.transaction_id.hex()
    match event:
        case GroupOpened():
            return GroupEvent(group=group, height=height, change="opened", transaction=made_by, version=0)
        case GroupChanged(epoch=epoch):
            return GroupEvent(group=group, height=height, change="changed", transaction=made_by, version=0, epoch=epoch)
        case GroupWedged(version=version, deadline_ms=deadline):
            return GroupEvent(
                group=group, height=height, change="wedged", transaction=made_by, version=version, deadline=deadline
            )
        case GroupReported(version=version, deadline_ms=deadline, revealing=ended):
            return GroupEvent(
                group=group,
                height=height,
                change="reported",
                transaction=made_by,
                version=version,
                deadline=deadline,
                revealing=None if ended is None else ended.value,
            )
        case GroupClosed(version=version, reason=reason):
            return GroupEvent(
                group=group, height=height, change="closed", transaction=made_by, version=version, reason=reason.value
            )

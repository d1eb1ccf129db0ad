"""Blocks, transactions and accounts of a ledger as lines, for spreadsheets, databases and audits.

What comes out follows from the data directory alone; the replica may run meanwhile. Amounts are minor units, times
milliseconds, hashes and ids hexadecimal, addresses Bech32, as over HTTP. Accounts are those after the last block in the
database, whose state root they were compared with.

JSON lines carry nested fields; CSV has one column for each simple field, in the same order in every row.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, TextIO, assert_never

import msgspec

from layer1.api.views import address, header_view, payload_view
from layer1.block import CommittedBlock
from layer1.config import ReplicaConfig, load_machine, read_genesis
from layer1.dataformat import check_format
from layer1.errors import LocalError, RemoteError
from layer1.ledger.genesis import Genesis
from layer1.ledger.state import State
from layer1.replica import checkpoints
from layer1.replica.application import Application
from layer1.replica.restart import part_of
from layer1.storage.checkpoint import read_checkpoint
from layer1.storage.store import Store

BULK = 200
"""Blocks in one read of the database."""

Row = dict[str, Any]


class What(StrEnum):
    """What can be exported."""

    BLOCKS = "blocks"
    TRANSACTIONS = "transactions"
    ACCOUNTS = "accounts"


class Format(StrEnum):
    """How."""

    JSONL = "jsonl"
    CSV = "csv"


BLOCK_COLUMNS = ("height", "id", "parent", "view", "epoch", "clock", "wall_time", "state_root", "transactions")
TRANSACTION_COLUMNS = (
    "height", "index", "id", "kind", "code", "message", "group", "valid_until",
    "sender", "recipient", "amount", "clock", "wall_time",
)  # fmt: skip
ACCOUNT_COLUMNS = ("address", "balance", "height", "clock")


def export(
    config: ReplicaConfig,
    what: What,
    form: Format,
    out: TextIO,
    *,
    first: int = 1,
    last: int | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> int:
    """Write the lines of blocks `first` to `last`, or of all accounts; how many there were.

    Args:
        config: Of the replica.
        what: Which lines.
        form: How they are written.
        out: Where.
        first: Height of the first block.
        last: Height of the last block; all without it.
        tell: Told what is missing because it is not kept.

    Raises:
        LocalError: The database, or what accounts are reckoned from, cannot be read.
    """
    genesis = read_genesis(config.genesis)
    check_format(config.data)
    store = Store.open(config.database_url, genesis.chain_id, create=False)
    try:
        last = store.height if last is None else min(last, store.height)
        if what is not What.ACCOUNTS:
            first = _first_kept(store, first, last, tell)
        match what:
            case What.BLOCKS:
                return _write(_per_block(store, first, last, _block_rows), BLOCK_COLUMNS, form, out)
            case What.TRANSACTIONS:
                return _write(_per_block(store, first, last, _transaction_rows), TRANSACTION_COLUMNS, form, out)
            case What.ACCOUNTS:
                return _write(_account_rows(_state(config, genesis, store)), ACCOUNT_COLUMNS, form, out)
            case _:
                assert_never(what)
    finally:
        store.close()


def _write(rows: Iterator[Row], columns: tuple[str, ...], form: Format, out: TextIO) -> int:
    count = 0
    if form is Format.JSONL:
        for count, row in enumerate(rows, 1):  # noqa: B007 - what it ends with is the answer
            out.write(msgspec.json.encode(row).decode() + "\n")
        return count
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for count, row in enumerate(rows, 1):  # noqa: B007 - as above
        flat = {**row, **row.get("payload", {})}
        writer.writerow([flat.get(column) for column in columns])
    return count


def _first_kept(store: Store, first: int, last: int, tell: Callable[[str], object]) -> int:
    """Where the lines begin."""
    kept = store.oldest()
    if first < kept and first <= last:
        begin = f"the lines begin with block {kept}" if kept <= last else "no lines"
        tell(f"blocks {first} to {min(kept - 1, last)} are not kept here: {begin}")
    return max(first, kept)


def _per_block(store: Store, first: int, last: int, rows: Callable[[CommittedBlock], Iterator[Row]]) -> Iterator[Row]:
    height = max(first, 1)
    while height <= last and (blocks := store.blocks(height, min(BULK, last - height + 1))):
        if blocks[0].header.height != height:
            raise LocalError(f"block {height} was deleted meanwhile (history.keep_blocks): export again")
        for block in blocks:
            yield from rows(block)
        height = blocks[-1].header.height + 1


def _block_rows(block: CommittedBlock) -> Iterator[Row]:
    yield {**_plain(header_view(block.header)), "transactions": len(block.transactions)}


def _transaction_rows(block: CommittedBlock) -> Iterator[Row]:
    for index, (transaction, output) in enumerate(zip(block.transactions, block.outputs, strict=True)):
        payload = _plain(payload_view(transaction.payload))
        yield {
            "height": block.header.height,
            "index": index,
            "id": output.transaction_id.hex(),
            "kind": payload["kind"],
            "code": output.code,
            "message": output.message,
            "group": None if output.group_id is None else output.group_id.hex(),
            "valid_until": transaction.valid_until_ms,
            "clock": block.header.clock,
            "wall_time": block.header.wall_time,
            "payload": payload,
        }


def _account_rows(state: State) -> Iterator[Row]:
    for key, balance in state.snapshot().accounts:
        yield {"address": address(key), "balance": balance, "height": state.height, "clock": state.clock}


def _state(config: ReplicaConfig, genesis: Genesis, store: Store) -> State:
    """After the last block in the database: from the checkpoint if there is one, else from genesis."""
    machine = load_machine(config.machine)
    application, height = Application(genesis, machine), store.height
    pieces = read_checkpoint(config.checkpoint)
    if pieces is not None:
        application.resume(*checkpoints.load(genesis, pieces, machine))
    while (floor := application.floor.header).height < height:
        if floor.height + 1 < store.oldest():
            raise LocalError(
                f"block {store.oldest()} in the database follows on block {store.base.height}, and the newest state "
                f"here is that of block {floor.height}: put the checkpoint back; see layer1 verify"
            )
        for block in store.blocks(floor.height + 1, BULK):
            try:
                parts = tuple(part_of(encoded) for encoded in block.batches)
                application.validate(block.header, application.floor.header, parts)
            except RemoteError as error:
                raise LocalError(f"block {block.header.height} in the database: {error}; see layer1 verify") from error
            application.commit_alone(block)
    return application.floor.state


def _plain(view: msgspec.Struct) -> Mapping[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(view)
    return plain

"""Layer 1: what a block costs a replica, with few accounts and with many.

Everything that a replica does for a block of transfers but talk: decode, verify the signatures, execute, hash the new
state, journal and sync, make it final, store it. The tree is by hash, so the thousand accounts that a block touches are
spread over all of it.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.floors import Floors
from benchmarks.result import Result
from layer1.block import Batch, batch_digest
from layer1.codec import decode, encode
from layer1.consensus.messages import Finalization
from layer1.crypto import Hash, SigningKey
from layer1.journal import Journal
from layer1.ledger.admission import verify_transaction
from layer1.ledger.execute import OK
from layer1.ledger.genesis import Allocation, Currency, Genesis
from layer1.ledger.transactions import Transaction, Transfer, sign_transaction
from layer1.replica.application import Application, Part
from layer1.replica.records import BatchRecord, BlockRecord
from layer1.storage.store import Store

FEW, MANY = 1_000, 1_000_000
TRANSFERS = 500
"""In one block."""
BLOCKS = 20
GROWTH = 4 / 3
"""The most that a thousand times as many accounts may add to the time of a block."""


def measure(_: Floors) -> list[Result]:
    """Time per block with a million accounts beside that with a thousand."""
    few_ms, many_ms = times_per_block_ms(FEW, MANY)
    return [
        Result(
            f"a block of {TRANSFERS} transfers, {MANY:,} accounts (median)",
            many_ms,
            "ms",
            few_ms,
            f"the same with {FEW:,} accounts: decoded, verified, executed, journaled, stored; the mark is a third more",
            mark=few_ms * GROWTH,
        )
    ]


def times_per_block_ms(*accounts: int) -> list[float]:
    """Medians over blocks, on fresh ledgers with so many funded accounts; they take turns, so that noise hits all."""
    with tempfile.TemporaryDirectory(prefix="wedge-bench-") as folder:
        ledgers = [_Ledger(count, Path(folder) / str(count)) for count in accounts]
        gc.collect()
        gc.freeze()  # as a replica does once it has started
        times = [[ledger.time_block_ms() for ledger in ledgers] for _ in range(BLOCKS)]
        gc.unfreeze()
        for ledger in ledgers:
            ledger.replica.close()
    return [statistics.median(column) for column in zip(*times, strict=True)]


class _Ledger:
    """Funded accounts, a thousand of them with keys, and a replica."""

    def __init__(self, accounts: int, folder: Path) -> None:
        self._dice = random.Random(accounts)
        self._keys = [SigningKey.generate() for _ in range(min(accounts, 2 * TRANSFERS))]
        strangers = [self._dice.randbytes(32) for _ in range(accounts - len(self._keys))]
        self._genesis = _genesis([key.public for key in self._keys] + strangers)
        self.replica = _Replica(self._genesis, folder)

    def time_block_ms(self) -> float:
        """Make a batch of transfers, and take the time of ordering it."""
        self._dice.shuffle(self._keys)
        pairs = zip(self._keys[:TRANSFERS], self._keys[TRANSFERS:], strict=True)
        transfers = tuple(_transfer(self._genesis.chain_id, payer, payee.public) for payer, payee in pairs)
        encoded = encode(Batch(0, transfers))
        start = time.perf_counter()
        self.replica.order(encoded)
        return (time.perf_counter() - start) * 1e3


class _Replica:
    """The parts of a replica that a block goes through, without anybody to talk to."""

    def __init__(self, genesis: Genesis, folder: Path) -> None:
        self._genesis = genesis
        self._application = Application(genesis)
        folder.mkdir()
        self._journal = Journal.open(folder / "journal")
        self._store = Store.open(folder / "blocks.db", genesis.chain_id)

    def order(self, encoded: bytes) -> None:
        """One block of one batch, from its bytes to the database."""
        transactions = decode(encoded, Batch).transactions
        for transaction in transactions:
            verify_transaction(transaction, self._genesis.chain_id)
        part = Part(batch_digest(encoded), encoded, transactions)
        parent = self._application.floor.header
        view = parent.view + 1
        block = self._application.build(view, 0, parent, parent.wall_time + 1, [part])
        self._journal.append(encode(BatchRecord(encoded)))
        self._journal.append(encode(BlockRecord(block.header, block.digests)))
        self._journal.sync()
        self._store.append(self._application.commit([block.header], Finalization(0, view, block.id, ())))
        codes = {output.code for output in block.execution.outputs}
        if codes != {OK}:
            raise RuntimeError(f"transfers ended as {codes}: this is not the block to be measured")

    def close(self) -> None:
        """Give the files back."""
        self._journal.close()
        self._store.close()


def _genesis(addresses: Sequence[bytes]) -> Genesis:
    return Genesis(
        name="bench",
        salt=bytes(16),
        currency=Currency("WDG", 2),
        allocations=tuple(Allocation(address, 1_000_000) for address in sorted(addresses)),
        replicas=(SigningKey.generate().public,),
        fault_model="byzantine",
        wall_time=time.time_ns() // 1_000_000,
    )


def _transfer(chain_id: Hash, key: SigningKey, recipient: bytes) -> Transaction:
    bare = Transaction(Transfer(key.public, recipient, 1), 300_000, os.urandom(16))
    return Transaction(bare.payload, bare.valid_until_ms, bare.salt, (sign_transaction(bare, chain_id, key),))

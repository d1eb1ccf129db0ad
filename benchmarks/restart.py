"""Layer 1: how long a replica takes from its start until it would vote, after many blocks.

The history is made by the replica's own core, alone in a ledger of one, so that every block is built, journaled, voted
for, certified and final as usual; only the answer to "verify these signatures", which were made a moment before, is
given at once, and the disk is synced now and then. It ends just before the next checkpoint is due, which is the worst
moment for a restart. Then a process is started as people start it, and timed until it says that it listens; it must
stand at the last block, with the balance that was paid.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from itertools import count
from pathlib import Path

import msgspec

from benchmarks.floors import Floors
from benchmarks.result import Result
from layer1.block import CommittedBlock
from layer1.config import ReplicaConfig, load_config, read_genesis, read_key
from layer1.consensus.events import Now
from layer1.crypto import SigningKey, format_address
from layer1.devnet import Plan, home_of, initialize
from layer1.journal import Journal
from layer1.ledger.genesis import Allocation
from layer1.ledger.transactions import Transaction, Transfer, sign_transaction
from layer1.replica import events
from layer1.replica.checkpoints import Counted
from layer1.replica.core import ReplicaCore
from layer1.storage.checkpoint import CheckpointFile
from layer1.storage.store import Store

BLOCKS = 100_000
FEWER_BLOCKS = 10_000
"""With ``--quick``: what a restart does depends on the blocks since the last checkpoint and on the accounts, not on
all blocks."""
TRANSFERS = 10
"""In one block."""
ACCOUNTS = 10_000
SENDERS = 100
BLOCK_MS = 100
"""From one block to the next on the ledger clock: so ids of 3,000 blocks are remembered."""
VALID_MS = 300_000
FUNDS = 10**9
STORED = 200
"""Blocks in one database transaction."""
SYNCED = 1_000
"""Steps between two syncs of the journal."""
MARK_MS = 10_000
TIMEOUT_S = 120


def measure(_: Floors, blocks: int = BLOCKS) -> list[Result]:
    """Time from the start of a process until it takes part."""
    with tempfile.TemporaryDirectory(prefix="wedge-bench-") as folder:
        home = home_of(Path(folder) / "ledger", 0)
        history = _History(home)
        since = history.make(blocks)
        restart_ms = _restart_ms(home, history)
        floor_ms, read_bytes = _floor_ms(history.config)
    return [
        Result(
            f"restart with {blocks:,} blocks of {TRANSFERS} transactions and {ACCOUNTS:,} accounts",
            restart_ms,
            "ms",
            floor_ms,
            f"starting Python with this program's packages, then reading and hashing {read_bytes / 2**20:.1f} MiB of "
            f"checkpoint and journal; {since:,} blocks came after the checkpoint and are executed again",
            mark=MARK_MS,
        )
    ]


class _History:
    """A ledger of one replica, and what performs the effects of its core at once."""

    def __init__(self, home: Path) -> None:
        self._dice = random.Random(0)
        self._keys = [SigningKey.generate() for _ in range(SENDERS)]
        self._addresses = [self._dice.randbytes(32) for _ in range(ACCOUNTS - SENDERS)]
        allocations = [Allocation(key.public, FUNDS) for key in self._keys]
        allocations += [Allocation(address, 1) for address in self._addresses]
        initialize(home.parent, Plan(1, allocations=tuple(allocations)))
        self.config = load_config(home)
        self.genesis = read_genesis(self.config.genesis)
        self._journal = Journal.open(self.config.journal)
        self._store = Store.open(self.config.database_url, self.genesis.chain_id)
        self.core = ReplicaCore(self.genesis, read_key(self.config.key), 0)
        list(self.core.restore(self._journal.replay()))
        self._blocks: list[CommittedBlock] = []
        self._now_ms = 0
        self._steps = count(1)

    def make(self, blocks: int) -> int:
        """Make blocks, at least so many, until the next one would bring a checkpoint; how many came after the last."""
        self._step(events.Begin())
        height = 0
        while height < blocks or (height + 1) % self.config.checkpoints.blocks:
            submission = [self._transfer() for _ in range(TRANSFERS)]
            self._step(events.Submit([(transaction.id, transaction) for transaction in submission]))
            self._now_ms += BLOCK_MS
            self._step(events.Tick())
            height = self.core.application.floor.header.height
        self._store.append(self._blocks)
        self._journal.sync()
        self._journal.close()
        self._store.close()
        return height - self.core.checkpoint_height

    def _transfer(self) -> Transaction:
        key, recipient = self._dice.choice(self._keys), self._dice.choice(self._addresses)
        clock = self.core.application.floor.state.clock
        bare = Transaction(Transfer(key.public, recipient, 1), clock + VALID_MS, os.urandom(16))
        return Transaction(
            bare.payload, bare.valid_until_ms, bare.salt, (sign_transaction(bare, self.genesis.chain_id, key),)
        )

    def _step(self, event: events.Event) -> None:
        now = Now(self._now_ms, self.genesis.wall_time + self._now_ms)
        for effect in self.core.step(event, now):
            self._perform(effect)
        if next(self._steps) % SYNCED == 0:
            self._journal.sync()

    def _perform(self, effect: events.Effect) -> None:
        match effect:
            case events.Journal():
                self._journal.append(effect.record)
            case events.Verify():
                self._step(events.Verified(effect.job, ()))
            case events.Deliver():
                self._blocks.append(effect.block)
                if len(self._blocks) >= STORED:
                    self._store.append(self._blocks)
                    self._blocks = []
            case events.TakeCheckpoint():
                self._take(effect)
            case events.Shorten():
                self._journal.sync()
                self._journal.compact(effect.records)
            case _:
                pass  # there is nobody to talk to, and time passes by itself

    def _take(self, effect: events.TakeCheckpoint) -> None:
        self._store.append(self._blocks)
        self._blocks = []
        self._store.make_durable(effect.height)
        file = CheckpointFile(self.config.checkpoint)
        pieces = Counted(effect.pieces)
        for piece in pieces:
            file.add(piece)
        file.publish()
        self._step(events.Checkpointed(effect.height, pieces.pieces, pieces.size_bytes))


def _restart_ms(home: Path, history: _History) -> float:
    """From the start of `layer1 start` until it says that it listens."""
    command = [sys.executable, "-m", "layer1.cli", "start", "--home", str(home), "--json"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None, "piped"
            said = b"".join(iter(process.stdout.readline, b"}\n")) + b"}"
            took_ms = (time.perf_counter() - start) * 1e3
            if process.poll() is not None:
                raise RuntimeError(f"the replica ended with status {process.returncode}: {said.decode()}")
            _check(msgspec.json.decode(said)["api"], history)
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)
    return took_ms


def _check(port: int, history: _History) -> None:
    """It must have come back to the very state."""
    floor = history.core.application.floor
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=TIMEOUT_S) as answer:
        height = msgspec.json.decode(answer.read())["head"]["height"]
    if height < floor.header.height:
        raise RuntimeError(f"block {floor.header.height} was final, the replica came back at {height}")
    address = history._addresses[0]
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/accounts/{format_address(address)}", timeout=TIMEOUT_S
    ) as answer:
        found = int(msgspec.json.decode(answer.read())["balance"])
    if found != floor.state.balance(address):
        raise RuntimeError(f"an account had {floor.state.balance(address)}, after the restart it has {found}")


def _floor_ms(config: ReplicaConfig) -> tuple[float, int]:
    """Time to start a process with the same packages, and to read and hash what a restart must read; its bytes."""
    script = "import layer1.replica.driver"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True)
    paths = [config.checkpoint, *sorted(config.journal.glob("segment-*"))]
    size = 0
    for path in paths:
        data = path.read_bytes().rstrip(b"\0")
        hashlib.blake2b(data).digest()
        size += len(data)
    return (time.perf_counter() - start) * 1e3, size

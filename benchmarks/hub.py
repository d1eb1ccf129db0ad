"""A wallet with many channels: how long its restart takes, and what an idle channel costs.

Real channels on a real ledger, opened in bulk: each opening is signed by both members, entered in the wallet's book and
taken in by its host, as when a peer asks for one; only the talk about it is left out. Then a process is started that
opens the home and serves it, and timed until it takes links, and until it has looked at every channel on layer 1. Its
memory is compared with that of the same wallet when it had a hundred.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from msgspec.structs import replace

from benchmarks.floors import Floors
from benchmarks.result import Result
from examples.stage import PASSPHRASE, Play, stage
from layer1.client import LedgerClient
from layer1.crypto import SigningKey
from layer1.ledger.agreements import GroupAgreement, Member
from layer1.ledger.transactions import OpenGroup, Transaction, sign_transaction
from layer1.loop import run
from layer2.opening import OpeningPolicy
from wallet.book import ChannelBook, ChannelRecord, Stage
from wallet.home import Home
from wallet.wallet import Wallet

CHANNELS = 10_000
FEWER_CHANNELS = 1_000
"""With ``--quick``."""
DEPOSIT = 10
FEW = 100
"""Beside which memory is compared: what it takes to look at layer 1 at all is there by then."""
LIST = 250
"""Openings in one request."""
VALID_MS = 500_000
MARK_MS = 10_000
MARK_BYTES = 20_000
PERIOD_MS = 86_400_000
RECORD_BYTES = 700
"""Of a channel in the wallet's book: less than this nothing can be that knows the channel."""


@dataclass(frozen=True, slots=True)
class Started:
    """How a start went."""

    served_ms: float
    """Until it took links."""
    looked_ms: float
    """Until every channel was looked at on layer 1."""
    size_bytes: int
    """Resident, then."""


def measure(floors: Floors, channels: int = CHANNELS) -> list[Result]:
    """Restart and memory of a hub."""
    few, full = run(_measure(channels))
    checked_ms = channels * floors.verify_us / 1e3
    why = f"{channels:,} verifications of {floors.verify_us:.0f} us: as if of each channel one signature were checked"
    many = f"{channels:,} channels"
    return [
        Result(f"a wallet with {many} starts: until it is served", full.served_ms, "ms", checked_ms, why, MARK_MS),
        Result(
            f"a wallet with {many} starts: until it has looked at each on layer 1", full.looked_ms, "ms", checked_ms,
            why, MARK_MS,
        ),
        Result(
            "memory of an idle channel", (full.size_bytes - few.size_bytes) / (channels - FEW), "bytes", RECORD_BYTES,
            "agreement and opening, encoded", MARK_BYTES,
        ),
    ]  # fmt: skip


async def _measure(channels: int) -> tuple[Started, Started]:
    async with stage("hub", "peers") as play:
        await _open(play, 0, FEW)
        for _ in range(2):
            few = await asyncio.to_thread(_start, play.homes["hub"], FEW)
        await _open(play, FEW, channels)
        await asyncio.to_thread(_start, play.homes["hub"], channels)  # takes the groups in, which others do one by one
        return few, await asyncio.to_thread(_start, play.homes["hub"], channels)


async def _open(play: Play, first: int, end: int) -> None:
    """Have the ledger open them, and leave them in the wallet's book; it takes them in when it starts."""
    home = Home.find(play.homes["hub"])
    hub, peer = (Home.find(play.homes[name]).keystore().unlock(PASSPHRASE) for name in ("hub", "peers"))
    chain_id, book = play.net.genesis.chain_id, ChannelBook(home.channels_path)
    async with LedgerClient(play.net.urls, play.net.genesis) as client:
        until_ms = await client.clock() + VALID_MS
        for start in range(first, end, LIST):
            openings = []
            for number in range(start, min(start + LIST, end)):
                theirs = SigningKey.generate()
                keys, accounts = (hub.group_key(number), theirs), (hub.spending, peer.spending)
                agreement = _agreement(chain_id, keys, accounts, until_ms + 1)
                bare = Transaction(OpenGroup(agreement), until_ms, os.urandom(16))
                signed = tuple(sign_transaction(bare, chain_id, key) for key in accounts)
                openings.append(replace(bare, signatures=signed))
                book.put(ChannelRecord(openings[-1], 0, number, theirs.public, stage=Stage.OPENING))
            outputs = await client.submit_many(openings)
            refused = [output.message for output in outputs if output.code != "ok"]
            if refused:
                raise RuntimeError(f"the ledger refused to open a channel: {refused[0]}")


def _agreement(chain_id: bytes, keys: Sequence[SigningKey], accounts: Sequence[SigningKey], ms: int) -> GroupAgreement:
    members = tuple(
        Member(key.public, account.public, account.public, DEPOSIT, 0)
        for key, account in zip(keys, accounts, strict=True)
    )
    return GroupAgreement(chain_id, members, PERIOD_MS, "payments/2", ms, os.urandom(16))


def _start(home: Path, channels: int) -> Started:
    """Start a process that serves the home, and stop it when it has told all."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    start = time.perf_counter()
    process = context.Process(target=_serve_process, args=(home, channels, theirs))
    process.start()
    try:
        ours.recv()
        served_ms = (time.perf_counter() - start) * 1e3
        size_bytes: int = ours.recv()
        return Started(served_ms, (time.perf_counter() - start) * 1e3, size_bytes)
    finally:
        process.join(60)
        process.kill()


def _serve_process(home: Path, channels: int, pipe: Connection) -> None:
    run(_serve(home, channels, pipe))


async def _serve(home: Path, channels: int, pipe: Connection) -> None:
    async with Wallet.load(home, PASSPHRASE) as wallet:
        await wallet.serve("127.0.0.1:0", OpeningPolicy())
        pipe.send("served")
        views = await wallet.channels()
        if len(views) != channels or any(view.state != "open" for view in views):
            raise RuntimeError(f"{len(views)} channels, {sum(view.state == 'open' for view in views)} open; {channels}")
        del views
        gc.collect()
        pipe.send(_resident_bytes())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

"""What this machine can do at best: one signature, one check, one sync, one round trip.

The same keys, journal and link that the product uses, with nothing of the protocols around them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from layer1.crypto import ZERO_HASH, Kind, SigningKey, verify
from layer1.journal import Journal
from layer1.link import Link, LinkClosed, connect
from layer1.link_server import LinkServer
from layer1.loop import run

RECORD = bytes(300)
"""A typical record and message, bytes."""
ECHO, SILENT, EXCHANGE = b"\x00", b"\x01", b"\x02"
"""First byte of a message: answer the same, answer nothing, answer as the payee of a bare payment."""


@dataclass(frozen=True, slots=True)
class Floors:
    """Costs in microseconds."""

    sign_us: float
    verify_us: float
    sync_us: float
    round_trip_us: float
    """Between two processes, 300 bytes each way, over the authenticated link."""
    one_way_us: float
    """Per message of 300 bytes when they are streamed."""
    exchange_us: float
    """A bare payment by the primary (groups.md, rules 1 to 3): sign, sync, send; verify, sign, sync, answer; verify,
    sync. No queue, no state, no history.
    """


def measure() -> Floors:
    """Measure each primitive alone."""
    key = SigningKey.generate()
    signature = key.sign(Kind.STATE, ZERO_HASH, RECORD)
    with tempfile.TemporaryDirectory(prefix="wedge-bench-") as folder, Journal.open(Path(folder)) as journal:

        def commit() -> None:
            journal.append(RECORD)
            journal.sync()

        sync_us = best_of(commit, 500)
    round_trip_us, one_way_us, exchange_us = link_floor()
    return Floors(
        sign_us=best_of(lambda: key.sign(Kind.STATE, ZERO_HASH, RECORD), 2_000),
        verify_us=best_of(lambda: verify(key.public, signature, Kind.STATE, ZERO_HASH, RECORD), 2_000),
        sync_us=sync_us,
        round_trip_us=round_trip_us,
        one_way_us=one_way_us,
        exchange_us=exchange_us,
    )


def best_of(action: Callable[[], object], count: int, rounds: int = 5) -> float:
    """Median over rounds of the mean time of an action, us."""
    means = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(count // rounds):
            action()
        means.append((time.perf_counter() - start) / (count // rounds) * 1e6)
    return statistics.median(means)


def link_floor() -> tuple[float, float, float]:
    """(round trip, one way, bare exchange) between two processes, us; see `Floors`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    echo = context.Process(target=_echo_process, args=(theirs,), daemon=True)
    echo.start()
    try:
        port: int = ours.recv()
        return run(_measure_link(port))
    finally:
        echo.terminate()
        echo.join()


class _Party:
    """One side of a bare exchange: what neither side of a payment can do without."""

    def __init__(self, journal: Journal) -> None:
        self._key = SigningKey(bytes(32))
        self._journal = journal

    def say(self) -> bytes:
        """Sign, sync, and give what is to be sent."""
        signature = self._key.sign(Kind.STATE, ZERO_HASH, RECORD)
        message = EXCHANGE + signature + RECORD[65:]
        self._journal.append(message)
        self._journal.sync()
        return message

    def keep(self, message: bytes) -> None:
        """Make durable what completes the certificate: nobody may say committed before (rule 3)."""
        self._journal.append(message[1:65])
        self._journal.sync()

    def hear(self, message: bytes) -> None:
        """Verify what came."""
        if not verify(self._key.public, message[1:65], Kind.STATE, ZERO_HASH, RECORD):
            raise RuntimeError("a signature of our own does not verify")


def _echo_process(pipe: Connection) -> None:
    with tempfile.TemporaryDirectory(prefix="wedge-bench-") as folder, Journal.open(Path(folder)) as journal:
        run(_echo(pipe, _Party(journal)))


async def _echo(pipe: Connection, party: _Party) -> None:
    async def serve(link: Link) -> None:
        try:
            while True:
                message = await link.receive()
                if message[:1] == EXCHANGE:
                    party.hear(message)
                    link.send_nowait(party.say())
                elif message[:1] == ECHO:
                    link.send_nowait(message)
        except LinkClosed:
            return

    server = LinkServer(SigningKey.generate(), ZERO_HASH, lambda _key, _greeting: True, serve)
    pipe.send(await server.start())
    await asyncio.Event().wait()


async def _measure_link(port: int, count: int = 2_000, stream: int = 20_000) -> tuple[float, float, float]:
    link = await connect("127.0.0.1", port, SigningKey.generate(), ZERO_HASH, expect=None)
    start = time.perf_counter()
    for _ in range(count):
        await link.send(ECHO + RECORD[1:])
        await link.receive()
    round_trip = (time.perf_counter() - start) / count
    start = time.perf_counter()
    for _ in range(stream):
        await link.send(SILENT + RECORD[1:])
    await link.send(ECHO + RECORD[1:])
    await link.receive()
    one_way = (time.perf_counter() - start) / stream
    with tempfile.TemporaryDirectory(prefix="wedge-bench-") as folder, Journal.open(Path(folder)) as journal:
        party = _Party(journal)
        start = time.perf_counter()
        for _ in range(count):
            await link.send(party.say())
            answer = await link.receive()
            party.hear(answer)
            party.keep(answer)
        exchange = (time.perf_counter() - start) / count
    await link.close()
    return round_trip * 1e6, one_way * 1e6, exchange * 1e6

"""A TCP proxy in every link between replicas, which cuts it, stalls it one way or both, delays it, or makes it narrow.

It knows nothing of what passes: TLS and the link's handshake go through it from end to end. A *gate* is one direction
of one link. What waits at a closed gate arrives when it opens, as in a network that comes back before TCP gives up;
a cut resets the connections, and those that are tried meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations

from layer1.config import Address

CHUNK_BYTES = 65_536
QUEUED_CHUNKS = 256
"""Waiting at a gate, before the sender notices that nobody reads."""


@dataclass(slots=True)
class Gate:
    """One direction of a link."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    """0 for no limit."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.opened.set()

    def reset(self) -> None:
        """Let everything through at once."""
        self.delay_s = self.bytes_per_s = 0.0
        self.opened.set()

    def due(self, before: float, size: int) -> float:
        """When a chunk of this size has passed, if the one before it had at `before`; times of the loop, s."""
        at = max(before, asyncio.get_running_loop().time() + self.delay_s)
        return at + (size / self.bytes_per_s if self.bytes_per_s else 0.0)


class LinkProxy:
    """Stands where one replica dials another, and passes on."""

    def __init__(self, dialer: int, listener: int, target: Address) -> None:
        self.gates = {dialer: Gate(), listener: Gate()}
        """By the replica that sends."""
        self._ends = (dialer, listener)
        self._target = target
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._is_cut = False

    async def start(self) -> Address:
        """Listen on a free port; where the dialer is to be sent."""
        self._server = await asyncio.start_server(self._accept, self._target.host, 0)
        return Address(self._target.host, self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Reset all connections, and listen no more."""
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """Reset what is open and what is tried, until mended."""
        self._is_cut = True
        for connection in self._connections:
            connection.cancel()

    def mend(self) -> None:
        """As new."""
        self._is_cut = False
        for gate in self.gates.values():
            gate.reset()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        dialer, listener = self._ends
        writers = [near_out]
        try:
            if self._is_cut:
                return
            far_in, far_out = await asyncio.open_connection(self._target.host, self._target.port)
            writers.append(far_out)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(near_in, far_out, self.gates[dialer]))
                pumps.create_task(_pump(far_in, near_out, self.gates[listener]))
        except* OSError:
            pass  # one end went, so does the other
        finally:
            for writer in writers:
                writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: Gate) -> None:
    """Pass on in order, each chunk when it is due and the gate is open; ends with an error, as connections do."""
    queue = asyncio.Queue[tuple[float, bytes]](QUEUED_CHUNKS)
    filling = asyncio.create_task(_fill(queue, reader, gate))
    loop = asyncio.get_running_loop()
    try:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(due - loop.time())
            await gate.opened.wait()
            if not data:
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
    finally:
        filling.cancel()
        with suppress(asyncio.CancelledError):
            await filling


async def _fill(queue: asyncio.Queue[tuple[float, bytes]], reader: asyncio.StreamReader, gate: Gate) -> None:
    due, data = 0.0, b"-"
    while data:
        try:
            data = await reader.read(CHUNK_BYTES)
        except OSError:
            data = b""
        due = gate.due(due, len(data))
        await queue.put((due, data))


class Links:
    """All links of a cluster."""

    def __init__(self, targets: dict[int, Address]) -> None:
        """Make a proxy for each pair; `targets` says where each replica listens."""
        self._replicas = sorted(targets)
        self.proxies = {
            (dialer, listener): LinkProxy(dialer, listener, targets[listener])
            for dialer, listener in combinations(self._replicas, 2)
        }

    async def start(self) -> dict[tuple[int, int], Address]:
        """Where a dialer (first) is to be sent for a listener (second)."""
        return {pair: await proxy.start() for pair, proxy in self.proxies.items()}

    async def close(self) -> None:
        """End all connections."""
        await asyncio.gather(*(proxy.close() for proxy in self.proxies.values()))

    def between(self, one: int, other: int) -> LinkProxy:
        """The link of two replicas."""
        return self.proxies[min(one, other), max(one, other)]

    def silence(self, senders: Iterable[int], receivers: Iterable[int]) -> None:
        """Nothing gets from these to those."""
        receivers = list(receivers)
        for sender in senders:
            for receiver in receivers:
                if sender != receiver:
                    self.between(sender, receiver).gates[sender].opened.clear()

    def part(self, side: Iterable[int]) -> None:
        """Two sides that hear nothing of each other."""
        side = set(side)
        rest = [replica for replica in self._replicas if replica not in side]
        self.silence(side, rest)
        self.silence(rest, side)

    def cut(self, replica: int) -> None:
        """Reset all connections of one replica, and refuse new ones."""
        for pair, proxy in self.proxies.items():
            if replica in pair:
                proxy.cut()

    def slow(self, *, delay_s: float = 0.0, bytes_per_s: float = 0.0) -> None:
        """Delay and narrow every link."""
        for proxy in self.proxies.values():
            for gate in proxy.gates.values():
                gate.delay_s, gate.bytes_per_s = delay_s, bytes_per_s

    def heal(self) -> None:
        """As new."""
        for proxy in self.proxies.values():
            proxy.mend()

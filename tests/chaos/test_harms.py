"""What harms links and clocks does what it says; else every test here would pass on an unharmed ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from layer1.config import Address
from tests.chaos import skew
from tests.chaos.proxy import LinkProxy, Links

pytestmark = pytest.mark.slow

AWHILE_S = 0.15


@asynccontextmanager
async def _echo_behind(proxy_of: type[LinkProxy]) -> AsyncIterator[tuple[LinkProxy, Address]]:
    """A proxy between 0, which dials, and 1, which says back what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = proxy_of(0, 1, Address("127.0.0.1", server.sockets[0].getsockname()[1]))
    try:
        yield proxy, await proxy.start()
    finally:
        await proxy.close()
        server.close()


async def _said_back(reader: asyncio.StreamReader, size: int) -> bytes | None:
    """What comes back within a while."""
    try:
        async with asyncio.timeout(AWHILE_S):
            return await reader.readexactly(size)
    except TimeoutError:
        return None


@pytest.mark.parametrize("sender", [0, 1])
async def test_a_closed_gate_holds_one_direction_up_and_loses_nothing(sender: int) -> None:
    async with _echo_behind(LinkProxy) as (proxy, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.gates[sender].opened.clear()
        writer.write(b"two")
        assert await _said_back(reader, 3) is None
        proxy.mend()
        writer.write(b"three")
        assert await reader.readexactly(8) == b"twothree"
        writer.close()


async def test_links_are_late_and_narrow_as_asked() -> None:
    async with _echo_behind(LinkProxy) as (proxy, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        for delay_s, bytes_per_s, least_s in ((0.05, 0.0, 0.1), (0.0, 10_000.0, 0.2)):
            for gate in proxy.gates.values():
                gate.delay_s, gate.bytes_per_s = delay_s, bytes_per_s
            began = time.monotonic()
            writer.write(bytes(1_000))
            await reader.readexactly(1_000)
            assert time.monotonic() - began >= least_s * 0.95
        writer.close()


async def test_a_cut_resets_what_is_open_and_what_is_tried() -> None:
    async with _echo_behind(LinkProxy) as (proxy, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.cut()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        reader, writer = await asyncio.open_connection(address.host, address.port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        proxy.mend()
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        writer.close()


async def test_a_partition_closes_all_gates_between_two_sides_and_no_other() -> None:
    links = Links({index: Address("127.0.0.1", 1) for index in range(4)})
    links.part([0, 2])
    closed = {
        (sender, receiver)
        for sender in range(4)
        for receiver in range(4)
        if sender != receiver and not links.between(sender, receiver).gates[sender].opened.is_set()
    }
    assert closed == {(a, b) for a in range(4) for b in range(4) if (a in (0, 2)) != (b in (0, 2))}


def test_a_wrong_clock_follows_its_file(tmp_path: Path) -> None:
    skew.write(tmp_path / "skew", 0)
    clock = skew.skewed(tmp_path / "skew", lambda: 5_000_000_000)
    assert clock() == 5_000_000_000
    skew.write(tmp_path / "skew", -2_000)
    assert clock() == 3_000_000_000

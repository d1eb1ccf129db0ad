"""What strangers and liars tried against the kernel: hold our file descriptors, or stop whoever verifies."""

from __future__ import annotations

import asyncio
import socket

import pytest
from msgspec import structs

from layer1.consensus.messages import Finalization
from layer1.errors import RemoteError
from layer1.ledger.genesis import genesis_header, validate
from layer1.link import LinkLimits
from layer1.proof import HeadProof, Trust, verify_head
from tests.layer1.ledger.world import key, make_genesis
from tests.layer1.test_link import serving


async def is_open(stranger: socket.socket) -> bool:
    """Whether the other side has not hung up."""
    try:
        async with asyncio.timeout(0.05):
            return await asyncio.get_running_loop().sock_recv(stranger, 1) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False


@pytest.mark.slow
async def test_silent_connections_cannot_use_up_the_file_descriptors() -> None:
    """They never begin TLS, so nothing above TLS hears of them."""
    most = 4
    async with serving(limits=LinkLimits(max_unauthenticated=most)) as case:
        strangers = [socket.create_connection(("127.0.0.1", case.port)) for _ in range(5 * most)]
        try:
            for stranger in strangers:
                stranger.setblocking(False)
            await asyncio.sleep(0.1)
            still = await asyncio.gather(*map(is_open, strangers))
            assert sum(still) <= most
            assert still[-1], "the oldest gave way"
            link = await case.connect()
            await link.send(b"hello")
            assert await link.receive() == b"hello"
            await link.close()
        finally:
            for stranger in strangers:
                stranger.close()
        assert case.server.rejected["busy"] >= 4 * most


def test_a_large_replica_set_does_not_stop_who_verifies() -> None:
    genesis = make_genesis(max_step_ms=120_000)
    genesis = structs.replace(genesis, replicas=tuple(key(f"replica {i}").public for i in range(160)))
    validate(genesis)
    header = structs.replace(genesis_header(genesis), height=1, view=1)
    with pytest.raises(RemoteError, match="votes in a certificate"):
        verify_head(Trust(genesis), HeadProof(header, (), Finalization(0, 1, header.id, ())))

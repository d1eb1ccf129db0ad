"""A ledger for omission faults, made by the command: three real replicas, and one of them is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from layer1.crypto import format_address
from layer1.devnet import Devnet
from tests.e2e.town import ACCEPT, FUNDS, TREASURY, town

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def layer1(*arguments: str) -> str:
    """What the command says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "layer1.cli", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, err
    return out.decode()


async def test_wallets_pay_and_close_on_two_replicas_of_three(tmp_path: Path) -> None:
    """The leader is killed for good; two of three go on, and with them the channel closes."""
    directory = tmp_path / "ledger"
    money = f"{format_address(TREASURY.public)}={10 * FUNDS}"
    said = await layer1("init", str(directory), "--fault-model", "omission", "--allocate", money)
    assert "3 replicas, of which 1 may crash or be silent, and none may lie (omission)" in said
    assert "can fork this ledger" in said
    async with Devnet(directory) as net, town(tmp_path / "wallets", net) as place:
        bob = await place.serve("bob", *ACCEPT)
        channel = await place.open("--deposit", "500", "--bond", "50")
        await net.kill(0)
        paid = await place.wallet("alice", "pay", bob.contact, "0.25", "--count", "100")
        assert paid["committed"] == 100
        closed = await place.wallet("alice", "channel", "close", channel[:8])
        assert (closed["state"], closed["reason"], closed["paid_out"]) == ("closed", "final", 52_500)
        assert (await place.balances("bob"))[1] == 7_500
        shown = await layer1("status", "--api", net.urls[1])
        assert "2 of 3 replicas take part; none may fail besides" in shown
        assert "3 replicas, of which 1 may crash or be silent" in shown

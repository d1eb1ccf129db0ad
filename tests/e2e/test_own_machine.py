"""A ledger with a state machine of one's own, by the command line: `--machine`, from the first block to a newcomer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from layer1.client import LedgerClient, LedgerUnreachable
from layer1.config import CONFIG_NAME, load_config, read_genesis
from layer1.crypto import SigningKey, format_address
from layer1.devnet import Reservation, home_of
from layer1.ledger.genesis import Genesis
from tests.e2e.cluster import until
from tests.e2e.test_replica_set import layer1, two_ports

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ALICE = SigningKey(b"a" * 32)
MACHINE = "examples.own_machine:NAMES"


@asynccontextmanager
async def process(*arguments: object) -> AsyncIterator[None]:
    """`layer1` with these arguments, until the end of the block."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "layer1.cli", *map(str, arguments), stdin=asyncio.subprocess.PIPE
    )
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 15) == 0


async def test_a_devnet_runs_a_machine_of_ones_own_and_a_newcomer_must_name_it(tmp_path: Path) -> None:
    """Commands execute, values are proven; who joins without the machine, or with another one, gets no home."""
    net, ready, ports = tmp_path / "net", tmp_path / "ready.json", Reservation()
    options = ("--replicas", 1, "--allocate", f"{format_address(ALICE.public)}=1", "--ready-file", ready)
    async with process("devnet", net, "--machine", MACHINE, *options):
        await until(_exists(ready), "the devnet is ready")
        replicas = json.loads(ready.read_text())["replicas"]
        genesis = read_genesis(net / "genesis.json")
        assert genesis.machine == "names/1"
        async with LedgerClient([row["api"] for row in replicas], genesis) as ledger:
            output = await ledger.submit(await ledger.new_command(ALICE, b"wedge=hello"))
            assert (output.code, output.message) == ("ok", "taken")
        home = tmp_path / "new"
        where = (home, "--genesis", net / "genesis.json", "--api", replicas[0]["api"], "--base-port", two_ports(ports))
        for wrong in ((), ("--machine", "examples.own_machine:nobody"), ("--machine", "json.decoder:JSONDecoder")):
            refused = await layer1("join", *where, *wrong, code=1)
            assert "machine" in refused["error"]["message"]
            assert not home.exists()
        made = await layer1("join", *where, "--machine", MACHINE)
        with (home_of(net, 0) / CONFIG_NAME).open("a") as file:
            file.write(f"\n{made['peers_entry']}")
        os.kill(replicas[0]["pid"], signal.SIGHUP)
        async with process("start", "--home", home, "--under-devnet"):
            await until(
                _shows(load_config(home).url, genesis, ALICE.public + b"hello"), "the newcomer has the value", 30
            )
    ports.release()


def _exists(path: Path) -> Any:
    async def there() -> bool:
        return path.exists()  # noqa: ASYNC240 - a look at a local file

    return there


def _shows(url: str, genesis: Genesis, value: bytes) -> Any:
    async def there() -> bool:
        async with LedgerClient([url], genesis) as ledger:
            try:
                return (await ledger.value(b"wedge")).value == value
            except LedgerUnreachable:  # it is starting, or has not caught up
                return False

    return there

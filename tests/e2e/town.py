"""Wallets of real processes on a ledger, with money: what tests of whole wallets begin with."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layer1.client import LedgerClient
from layer1.crypto import SigningKey
from layer1.devnet import Devnet, Plan, initialize
from layer1.ledger.genesis import Allocation, Parameters
from wallet.life import Life
from wallet.wallet import Created, Wallet

BIN = Path(sys.executable).parent
FUNDS = 1_000_000
TREASURY = SigningKey(b"t" * 32)
PARAMETERS = Parameters(view_timeout_ms=300, heartbeat_ms=1_000)
"""A ledger of tests: it gives a leader up soon, and its clock goes on soon though nobody brings anything."""
ENVIRONMENT = {**os.environ, "WALLET_PASSPHRASE": "correct horse battery", "COLUMNS": "200", "NO_COLOR": "1"}
READY_S = 60.0
"""For a wallet to be served: no machine is so busy, and a test that is well does not notice."""
ACCEPT = ("--accept-deposit-up-to", "5000", "--accept-bond-up-to", "500", "--min-challenge-period", "1s")


def liars_copy(home: Path, copy: Path) -> None:
    """A copy of a home that pretends to be the original: an honest one asks its peers before it claims anything."""
    shutil.copytree(home, copy)
    for marked in (copy, copy / "witness"):
        if marked.is_dir():
            Life(marked).renew()


@dataclass
class Serving:
    """A `wallet serve` of this test."""

    process: asyncio.subprocess.Process
    contact: str
    api: str | None = None
    """Where programs with tokens ask."""

    async def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM; it must end by itself, and well."""
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(self.process.wait(), 10) == 0


@dataclass
class Town:
    """A ledger, and wallets with money on it."""

    folder: Path
    serving: dict[str, Serving] = field(default_factory=dict)
    made: dict[str, Created] = field(default_factory=dict)
    """Its wallets, with their phrases."""

    async def wallet(self, home: str, *arguments: str, code: int = 0) -> Any:
        """Run the command with ``--json``, and read what it says."""
        ended, said = await self.outcome(home, *arguments)
        assert ended == code, (arguments, ended, said)
        return said

    async def outcome(self, home: str, *arguments: str) -> tuple[int | None, Any]:
        """The same, however it ends: its exit code, and what it says."""
        process = await asyncio.create_subprocess_exec(
            BIN / "wallet",
            *arguments,
            "--json",
            env={**ENVIRONMENT, "WALLET_HOME": str(self.folder / home)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 90)
        assert b"Traceback" not in err, (arguments, process.returncode, out, err)
        return process.returncode, json.loads(out)

    async def serve(
        self, home: str, *arguments: str, verb: tuple[str, ...] = ("serve",), module: tuple[str, ...] = ()
    ) -> Serving:
        """Start `wallet serve`, or another verb that stays, and wait until it is there.

        Args:
            home: Of the wallet.
            arguments: Of the verb.
            verb: Which one.
            module: A module of tests that runs it in place of the command, with arguments of its own.
        """
        program = [sys.executable, "-m", *module] if module else [BIN / "wallet"]
        with (self.folder / f"{home}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *program,
                *verb,
                "--json",
                *arguments,
                env={**ENVIRONMENT, "WALLET_HOME": str(self.folder / home)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), READY_S))
        self.serving[home] = Serving(process, ready["contact"], ready.get("api"))
        return self.serving[home]

    async def open(self, *arguments: str, payer: str = "alice", payee: str = "bob") -> str:
        """Open a channel to a served wallet; its id."""
        contact = self.serving[payee].contact
        view = await self.wallet(payer, "channel", "open", contact, "--challenge-period", "4s", *arguments)
        assert view["state"] == "open"
        return str(view["id"])

    async def channel(self, home: str, name: str) -> dict[str, Any]:
        """What a wallet shows of a channel."""
        found: dict[str, Any] = await self.wallet(home, "channel", "show", name)
        return found

    async def balances(self, home: str) -> tuple[int, int]:
        """Spending and savings, proven."""
        view = await self.wallet(home, "show")
        return view["spending"]["balance"], view["savings"]["balance"]

    async def entries(self, home: str, kind: str) -> list[dict[str, Any]]:
        """Everything of one kind in a wallet's history."""
        listed = await self.wallet(home, "history", "--limit", "10000")
        return [entry for entry in listed["entries"] if entry["kind"] == kind]


@asynccontextmanager
async def funded(directory: Path, parameters: Parameters = PARAMETERS) -> AsyncIterator[Devnet]:
    """Four replicas, and a treasury for a thousand wallets."""
    allocations = (Allocation(TREASURY.public, 1_000 * FUNDS),)
    initialize(directory, Plan(allocations=allocations, parameters=parameters))
    async with Devnet(directory) as running:
        yield running


@asynccontextmanager
async def town(folder: Path, net: Devnet, names: Sequence[str] = ("alice", "bob")) -> AsyncIterator[Town]:
    """Wallets with money, each in a fresh home."""
    place = Town(folder)
    passphrase = ENVIRONMENT["WALLET_PASSPHRASE"]
    place.made |= {name: Wallet.create(folder / name, net.genesis, net.urls, passphrase) for name in names}
    async with LedgerClient(net.urls, net.genesis) as ledger:
        transfers = [await ledger.new_transfer(TREASURY, each.spending, FUNDS) for each in place.made.values()]
        assert {output.code for output in await ledger.submit_many(transfers)} == {"ok"}
    try:
        yield place
    finally:
        for served in place.serving.values():
            if served.process.returncode is None:
                await served.kill()

"""A hub whose head is lost, or thought lost, in the middle of payments: its standby goes on, and nobody misses one."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from layer1.client import LedgerClient
from layer1.crypto import parse_address
from layer1.devnet import Devnet
from layer1.errors import WedgeError
from tests.e2e.cluster import until
from tests.e2e.town import BIN, ENVIRONMENT, FUNDS, TREASURY, Town, town
from wallet.api.client import RemoteCommands
from wallet.home import Home
from wallet.requests import Pay
from wallet.server_history import open_history
from wallet.wallet import Wallet

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]
CUSTOMERS = ("alice", "bob")
DEPOSIT = 100_000
"""Units of each side of each channel."""


@dataclass
class Customer:
    """A process that pays the hub."""

    process: asyncio.subprocess.Process
    contact: str
    acknowledged: list[str] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Note what it says, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said, _, memo = line.decode().strip().partition(" ")
            if said == "ok":
                self.acknowledged.append(memo)

    async def stop(self) -> None:
        """End it; its journal has the rest."""
        self.process.kill()
        await self.process.wait()
        if self.reading is not None:
            await self.reading


@dataclass
class Hub:
    """A head, its standby, and two customers who pay it while it pays them."""

    place: Town
    head: asyncio.subprocess.Process
    standby: asyncio.subprocess.Process
    customers: dict[str, Customer]
    channels: dict[str, str]
    paid: list[str] = field(default_factory=list)
    """Memos of the hub's own payments that were acknowledged."""

    async def pay(self, home: str, run: str) -> None:
        """Pay a customer through the serving hub, one at a time, until it is gone."""
        commands, number = RemoteCommands.find(Home(self.place.folder / home)), 0
        assert commands is not None
        while True:
            request = Pay(target=self.channels["alice"], amount=1, memo=f"{run}-{number}")
            try:
                view = await commands.run(request)
            except WedgeError:
                return
            if view.committed:
                self.paid.append(request.memo)
            number += 1

    def acknowledged(self) -> int:
        """So many payments, of all customers."""
        return sum(len(customer.acknowledged) for customer in self.customers.values())

    async def promoted(self) -> dict[str, Any]:
        """Promote the standby, and wait until customers pay its home."""
        view: dict[str, Any] = await self.place.wallet("second", "standby", "promote")
        before = {name: len(customer.acknowledged) for name, customer in self.customers.items()}
        await _until(lambda: all(len(c.acknowledged) > before[n] + 50 for n, c in self.customers.items()))
        return view

    async def check(self) -> None:
        """Each payment that was acknowledged on either side is in the new head's history once, and the money fits."""
        await asyncio.gather(*(customer.stop() for customer in self.customers.values()))
        views = await asyncio.gather(*(self.place.channel("second", channel) for channel in self.channels.values()))
        for name, view in zip(self.channels, views, strict=True):
            assert view["can_send"] + view["can_receive"] + view["pending"] == 2 * DEPOSIT, name
        self.standby.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(self.standby.wait(), 15) == 0
        history = open_history(Home(self.place.folder / "second"))
        entries = history.newest(1_000_000)
        history.close()
        received = Counter(entry.memo for entry in entries if entry.kind == "received")
        sent = Counter(entry.memo for entry in entries if entry.kind == "paid")
        assert max([*received.values(), *sent.values()]) == 1, "a payment is there twice"
        for name, customer in self.customers.items():
            missing = set(customer.acknowledged) - set(received)
            assert not missing, (
                f"{len(missing)} payments of {name} were acknowledged and are lost: {sorted(missing)[:5]}"
            )
        assert not set(self.paid) - set(sent), "payments of the hub were acknowledged and are lost"


async def _until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds, "the customers go on")


@asynccontextmanager
async def hub(folder: Path, net: Devnet) -> AsyncIterator[Hub]:
    """All of it, paired, with open channels; customers wait for a word to begin."""
    passphrase = ENVIRONMENT["WALLET_PASSPHRASE"]
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(town(folder, net, CUSTOMERS))
        first = Wallet.create(folder / "first", net.genesis, net.urls, passphrase)
        Wallet.create(folder / "second", net.genesis, net.urls, passphrase, first.phrase)
        async with LedgerClient(net.urls, net.genesis) as ledger:
            transfer = await ledger.new_transfer(TREASURY, first.spending, FUNDS)
            assert (await ledger.submit(transfer)).code == "ok"
        standby, said = await _start(stack, place, "second", "standby", "serve")
        head, _ = await _start(stack, place, "first", "serve", "--standby", said["contact"])
        started = await asyncio.gather(*(_customer(stack, place, name) for name in CUSTOMERS))
        customers = dict(zip(CUSTOMERS, started, strict=True))
        terms = ("--deposit", "1000", "--peer-deposit", "1000", "--challenge-period", "30s")
        opening = (place.wallet("first", "channel", "open", each.contact, *terms) for each in started)
        channels = {name: view["id"] for name, view in zip(CUSTOMERS, await asyncio.gather(*opening), strict=True)}

        async def paired() -> bool:
            return bool((await place.wallet("second", "standby", "show"))["paired"])

        await until(paired, "the standby may be promoted")
        yield Hub(place, head, standby, customers, channels)


async def _start(
    stack: AsyncExitStack, place: Town, home: str, *arguments: str
) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    with (place.folder / f"{home}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            BIN / "wallet",
            *arguments,
            "--json",
            env={**ENVIRONMENT, "WALLET_HOME": str(place.folder / home)},
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    stack.push_async_callback(_end, process)
    assert process.stdout is not None
    said = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    assert "contact" in said, said
    return process, said


async def _customer(stack: AsyncExitStack, place: Town, name: str) -> Customer:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.e2e.customer",
        str(place.folder / name),
        name,
        env=ENVIRONMENT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    stack.push_async_callback(_end, process)
    assert process.stdout is not None
    contact = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
    parse_address(contact.partition("@")[0])
    return Customer(process, contact)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def begin(running: Hub) -> asyncio.Task[None]:
    """Customers pay the hub, and the hub pays one of them."""
    for name, customer in running.customers.items():
        assert customer.process.stdin is not None
        customer.process.stdin.write(f"{running.channels[name]}\n".encode())
        customer.reading = asyncio.create_task(customer.read())
    return asyncio.create_task(running.pay("first", "before"))


async def test_the_head_is_killed_in_the_middle_of_payments(
    tmp_path: Path, net: Devnet, record_property: Callable[[str, object], None]
) -> None:
    """Issue: SIGKILL of the head in the middle of 1,000 payments per second loses nothing acknowledged."""
    async with hub(tmp_path, net) as running:
        paying = begin(running)
        await _until(lambda: running.acknowledged() > 500)
        before, began = running.acknowledged(), time.monotonic()
        await _until(lambda: running.acknowledged() > before + 3_000)
        rate = (running.acknowledged() - before) / (time.monotonic() - began)
        record_property("payments_per_s", rate)
        running.head.kill()
        await running.head.wait()
        await paying
        view = await running.promoted()
        assert view["term"] == 2
        await asyncio.wait_for(_some_more(running), 30)
        await running.check()
        print(f"{rate:.0f} payments per second; {running.acknowledged()} acknowledged, {len(running.paid)} of the hub")
        refused = await running.place.wallet("first", "serve", code=1)
        assert refused["error"]["code"] == "fenced"


async def test_promoted_while_the_head_still_runs(tmp_path: Path, net: Devnet) -> None:
    """Adversary: a standby promoted while the head still runs; it sleeps through its own end, and wakes up fenced."""
    async with hub(tmp_path, net) as running:
        paying = begin(running)
        await _until(lambda: running.acknowledged() > 500)
        running.head.send_signal(signal.SIGSTOP)
        try:
            await running.promoted()
            await asyncio.wait_for(_some_more(running), 30)
        finally:
            running.head.send_signal(signal.SIGCONT)
        assert await asyncio.wait_for(running.head.wait(), 30) == 1
        assert running.head.stdout is not None
        assert json.loads(await running.head.stdout.read())["error"]["code"] == "fenced"
        await paying
        await asyncio.wait_for(_some_more(running), 30)
        await running.check()


async def _some_more(running: Hub) -> None:
    """The new head pays, too, and is paid."""
    before = len(running.paid)
    paying = asyncio.create_task(running.pay("second", f"after-{before}"))
    await _until(lambda: len(running.paid) > before + 20)
    paying.cancel()
    await asyncio.gather(paying, return_exceptions=True)

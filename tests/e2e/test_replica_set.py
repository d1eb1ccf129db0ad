"""The replica set changes under real processes: a newcomer, a new key, a leaver; and a channel that does not notice."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from layer1.cli import app
from layer1.client import LedgerClient, LedgerUnreachable
from layer1.config import CONFIG_NAME, load_config
from layer1.crypto import SigningKey
from layer1.devnet import Devnet, Plan, Reservation, home_of, initialize
from layer1.ledger.genesis import Allocation, Parameters
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT, FUNDS, TREASURY, town

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


async def layer1(*arguments: object, code: int = 0) -> Any:
    """A verb with ``--json``, in a loop of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, app, [*map(str, arguments), "--json"])
    assert result.exit_code == code, (arguments, result.output)
    return json.loads(result.output)


def two_ports(ports: Reservation) -> int:
    """The first of two ports in a row, both held for a child."""
    while True:
        first = ports.take("127.0.0.1", 0)
        if first < 65_535 and ports.take("127.0.0.1", first + 1) == first + 1:
            return first


class Growing:
    """A devnet, and replicas that join it."""

    def __init__(self, net: Devnet, ports: Reservation) -> None:
        self.net, self.ports = net, ports
        self.processes: dict[int, asyncio.subprocess.Process] = {}
        self.genesis = ("--genesis", net.genesis_path)
        self.apis = ("--api", net.urls[3])

    def home(self, number: int) -> Path:
        return home_of(self.net.directory, number)

    async def join(self, number: int) -> str:
        """What its operator does; two of the others let it in."""
        home, port = self.home(number), two_ports(self.ports)
        made = await layer1("join", home, *self.genesis, *self.apis, "--base-port", port)
        for friend in (2, 3):
            with (self.home(friend) / CONFIG_NAME).open("a") as file:
                file.write(f"\n{made['peers_entry']}")
            process = self.net.children[friend].process
            assert process is not None
            process.send_signal(signal.SIGHUP)
        with (home / "replica.log").open("ab") as log:
            self.processes[number] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "layer1.cli", "start", "--home", str(home), "--under-devnet",
                stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip
        return str(made["key"])

    async def caught_up(self, number: int) -> None:
        """Wait until a newcomer has what the others have."""
        async with (
            LedgerClient(self.net.urls[3:], self.net.genesis) as there,
            LedgerClient([load_config(self.home(number)).url], self.net.genesis) as here,
        ):

            async def level() -> bool:
                try:
                    return int((await here.status())["head"]["height"]) >= (await there.head()).height
                except LedgerUnreachable:  # it is starting
                    return False

            await until(level, f"replica {number} has caught up", 30)

    async def change(self, name: str, *what: object, by: tuple[int, ...]) -> dict[str, Any]:
        """Propose, let these homes sign, bring it."""
        path = self.net.directory / f"{name}.json"
        await layer1("replica", name, *what, *self.genesis, *self.apis, "--out", path)
        early = await layer1("replica", "submit", path, *self.genesis, *self.apis, code=1)
        assert early["error"]["code"] == "too_few_approvals"
        for place, number in enumerate(by):
            told = await layer1("replica", "sign", path, "--home", self.home(number), "--yes")
            assert told["complete"] is (place == len(by) - 1)
        changed: dict[str, Any] = await layer1("replica", "submit", path, *self.genesis, *self.apis)
        refused = await layer1("replica", "sign", path, "--home", self.home(by[0]), "--yes", code=1)
        assert refused["error"]["code"] == "wrong_epoch"
        return changed

    async def roles(self) -> dict[int, bool]:
        """By number, whether it is in the set."""
        listed = await layer1("replica", "list", *self.genesis, *self.apis)
        return {row["number"]: row["member"] for row in listed["replicas"] if row["number"] is not None}


@asynccontextmanager
async def growing(directory: Path) -> AsyncIterator[Growing]:
    parameters = Parameters(view_timeout_ms=300, heartbeat_ms=1_000)
    initialize(directory, Plan(allocations=(Allocation(TREASURY.public, 1_000 * FUNDS),), parameters=parameters))
    ports = Reservation()
    async with Devnet(directory) as net:
        place = Growing(net, ports)
        try:
            yield place
        finally:
            for process in place.processes.values():
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            ports.release()


async def test_one_joins_one_has_a_new_key_one_leaves_and_a_channel_does_not_notice(tmp_path: Path) -> None:
    """ "Add, remove, rotate a key; clients and light clients follow; open channels don't notice"."""
    async with growing(tmp_path / "ledger") as place, town(tmp_path, place.net) as wallets:
        await wallets.serve("bob", *ACCEPT)
        channel = await wallets.open("--deposit", "500", "--peer-deposit", "200", "--bond", "50")

        async def pay() -> None:
            paid = await wallets.wallet("alice", "pay", channel[:8], "0.10", "--count", "50")
            assert paid["committed"] == 50

        key, other = await place.join(4), await place.join(5)
        await asyncio.gather(place.caught_up(4), place.caught_up(5))
        status = await layer1("status", *place.apis)
        assert status["health"]["state"] == "healthy"

        async def both_are_listed() -> bool:
            listed = await layer1("replica", "list", *place.genesis, *place.apis)
            found = [(row["key"], row["connected"]) for row in listed["replicas"] if not row["member"]]
            return found == [(key, True), (other, True)]

        await until(both_are_listed, "both newcomers are listed as connected", 30)
        added, _ = await asyncio.gather(place.change("add", key, by=(0, 4, 1, 2)), pay())
        assert added["replicas"] == [0, 1, 2, 3, 4]
        rotated = await place.change("rotate", 0, other, by=(5, 1, 2, 3, 4))
        assert (rotated["replicas"], rotated["removed"]) == ([1, 2, 3, 4, 5], [0])
        removed, _ = await asyncio.gather(place.change("remove", 1, by=(2, 3, 4, 5)), pay())
        assert removed["replicas"] == [2, 3, 4, 5]
        assert await place.roles() == {2: True, 3: True, 4: True, 5: True, 0: False, 1: False}
        status = await layer1("status", *place.apis)
        assert [note.split(" at ")[0] for note in status["health"]["notes"]] == ["replica 0", "replica 1"]
        assert "listens: not in the replica set" in status["health"]["notes"][1]
        assert all("of the set are in epoch 3: its operator may stop it" in note for note in status["health"]["notes"])
        assert "replica 1 listens: it is not in the replica set" in place.net.log_path(1).read_text()
        await place.net.kill(0, 1)  # whoever left is not needed
        await pay()
        async with LedgerClient(place.net.urls[2:], place.net.genesis) as client:
            transfer = await client.new_transfer(TREASURY, SigningKey(b"x" * 32).public, 1)
            assert (await client.submit(transfer)).code == "ok"
        closed = await wallets.wallet("alice", "channel", "close", channel[:8])
        assert (closed["state"], closed["reason"], closed["paid_out"]) == ("closed", "final", 55_000 - 150 * 10)

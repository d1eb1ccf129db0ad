"""The guide docs/hosts.md, done: seven network namespaces for seven hosts, and its own commands in each."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from layer1.cli_status import _collect
from layer1.client import LedgerClient
from layer1.config import KEY_NAME, read_genesis
from layer1.crypto import format_address
from layer1.health import State, assess
from tests.chaos import namespaces
from tests.e2e.cluster import ALICE, BOB, FUNDS, until
from tests.guide import listed, steps

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging/systemd/layer1@.service"
HOMES = "/var/lib/layer1"
START_S = 75.0
"""How long seven replicas may take to start on a busy machine, and one to come back."""
SHIMS = {
    "layer1": 'exec "$PYTHON" -m layer1.cli "$@"',
    "chown": "exit 0",
    # scp -q -r SOURCE root@HOST:DIR
    "scp": 'at=${4#root@}; cp -r "$3" "$HOSTS/${at%%:*}${at#*:}"',
    # systemctl enable --now layer1@NAME: what the unit starts
    "systemctl": f"""name=${{3#layer1@}}
        command=$(sed -n 's/^ExecStart=//p' "$UNIT" | sed "s|%i|$name|g; s|{HOMES}|$HOSTS/$name{HOMES}|")
        case $command in /opt/layer1/.venv/bin/layer1*) exec layer1 ${{command#* }};; esac; exit 64""",
}
"""Instead of what a test has no right to, or no hosts for: a user of its own, machines to copy to, systemd."""


class Hosts:
    """Seven machines, each a namespace and a directory; and the founder's."""

    def __init__(self, directory: Path, prefixes: Mapping[int, Sequence[str]]) -> None:
        self.addresses = listed()
        self.directory, self.founder = directory / "hosts", directory / "founder"
        self._prefixes = dict(zip(self.addresses, prefixes.values(), strict=True))
        shims = directory / "shims"
        for path in (self.directory, self.founder, shims, *(self.homes(name) for name in self.addresses)):
            path.mkdir(parents=True, mode=0o700)
        for name, text in SHIMS.items():
            (shims / name).write_text(f"#!/bin/sh\n{text}\n")
            (shims / name).chmod(0o700)
        own = {"PATH": f"{shims}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
        self._environment = {**os.environ, **own, "HOSTS": str(self.directory), "UNIT": str(UNIT), "COLUMNS": "240"}

    def homes(self, name: str) -> Path:
        """Where a host has its replica's home."""
        return self.directory / name / HOMES[1:]

    def on_each(self, commands: str) -> dict[str, str]:
        """Do it on all hosts at once, and return what each is told."""
        running = {name: self._start(commands, name) for name in self.addresses}
        told = {name: process.communicate()[0] for name, process in running.items()}
        failed = {name: told[name] for name, process in running.items() if process.returncode}
        assert not failed, failed
        return told

    def at_founder(self, commands: str) -> str:
        """Do it where the ledger is made."""
        done = subprocess.run(
            ["sh", "-ec", commands],
            cwd=self.founder,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def status(self, commands: str) -> tuple[int, str]:
        """The guide's check: exit code and text."""
        done = subprocess.run(
            ["sh", "-ec", commands], env=self._environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    @contextmanager
    def started(self, commands: str) -> Iterator[None]:
        """What is started on each host runs until the end, whatever the end is."""
        running = []
        try:
            for name in self.addresses:
                with (self.directory / name / "log").open("wb") as log:
                    running.append(self._start(commands, name, log.fileno(), log.fileno(), as_one=True))
            yield
            ended = [name for name, process in zip(self.addresses, running, strict=True) if process.poll() is not None]
            assert not ended, f"{ended} ended; {self.tails()}"
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def tails(self) -> str:
        """The end of each log."""
        logs = {name: (self.directory / name / "log").read_text(errors="replace") for name in self.addresses}
        return "; ".join(f"{name}: {' | '.join(text.splitlines()[-3:])}" for name, text in logs.items())

    def _start(
        self, commands: str, name: str, out: int = subprocess.PIPE, err: int | None = None, *, as_one: bool = False
    ) -> subprocess.Popen[str]:
        """In the host's namespace and directory; `ada` stands for every host. None outlives the test."""
        own = commands.replace("ada", name).replace(HOMES, str(self.homes(name)))
        words = shlex.split(own) if as_one else ["sh", "-ec", own]
        prefix = ["setpriv", "--pdeathsig", "KILL", *self._prefixes[name]]
        return subprocess.Popen(
            [*prefix, *words], env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True,
            start_new_session=True,
        )  # fmt: skip


async def test_the_guide_takes_an_operator_from_nothing_to_seven_replicas_on_seven_hosts(tmp_path: Path) -> None:
    """No secret is at the founder's; a transfer is final; a host is cut off, is missed, and comes back."""
    if (reason := namespaces.why_not()) is not None:
        pytest.skip(reason)
    make_key, move_in, start = (commands for where, commands in steps() if where == "on each host, here ada")
    init, copy = (commands for where, commands in steps() if where == "at the founder")
    (check,) = (commands for where, commands in steps() if where == "anywhere")
    with namespaces.joined(7) as (cables, prefixes):
        hosts = Hosts(tmp_path, prefixes)
        assert list(hosts.addresses.values()) == [namespaces.host_of(index) for index in range(7)]

        keys = {name: told.strip() for name, told in hosts.on_each(make_key).items()}
        lines = (f"{name}={address} {keys[name]}\n" for name, address in hosts.addresses.items())
        (hosts.founder / "hosts.txt").write_text("".join(lines))
        told = hosts.at_founder(init.replace("ADDRESS=100000", f"{format_address(ALICE.public)}={FUNDS}"))
        genesis = read_genesis(hosts.founder / "ledger/genesis.json")
        assert genesis.chain_id.hex() in told and all(key in told for key in keys.values())
        assert not list(hosts.founder.rglob(KEY_NAME)), "no secret was here"
        hosts.at_founder(copy)
        for name, told in hosts.on_each(move_in).items():
            assert f"chain id: {genesis.chain_id.hex()}\n" in told, name
            assert f"public: {keys[name]}\n" in told and "in genesis: True\n" in told, name
            assert len(list(hosts.directory.joinpath(name).rglob(KEY_NAME))) == 1, "its own"

        with hosts.started(start):
            urls = {name: f"http://{address}:7001" for name, address in hosts.addresses.items()}

            async def well() -> bool:
                return assess(*await _collect([urls["ada"]], None)).state is State.HEALTHY

            await until(well, "all is well", START_S)
            assert hosts.status(check)[0] == 0
            async with LedgerClient(list(urls.values()), genesis) as client:
                await pay(client, 1)
                assert (await client.account(BOB.public)).value.balance == 1
                cables.unplug(6)
                await pay(client, 2)

            async def missed() -> bool:
                return assess(*await _collect([urls["ada"]], None)).state is State.DEGRADED

            await until(missed, "the host that is cut off is missed", START_S)
            code, text = hosts.status(check)
            assert code == 1 and "DEGRADED" in text
            cables.heal()
            await until(well, "all is well again", START_S)
            await until(lambda: has_been_paid(urls["gus"], 3), "gus has what was paid without it", START_S)


async def pay(client: LedgerClient, amount: int) -> None:
    """Alice pays Bob, finally."""
    output = await client.submit(await client.new_transfer(ALICE, BOB.public, amount))
    assert output.code == "ok", output


async def has_been_paid(url: str, amount: int) -> bool:
    """Whether this replica knows of all that Bob was paid."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/accounts/{format_address(BOB.public)}") as answer:
        return int((await answer.json())["balance"]) == amount

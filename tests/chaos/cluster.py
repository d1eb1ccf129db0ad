"""Four replica processes that a test may kill, stop, cut off, slow down, skew and corrupt.

As `tests.e2e.cluster`, which never harms a link: every replica that dials another one is sent to a proxy. A process
ends when its standard input does, so none outlives the test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from layer1.client import ClientLimits, LedgerClient
from layer1.config import GENESIS_NAME, Address, Peer, ReplicaConfig, load_config, read_genesis
from layer1.crypto import Domain, PublicKey, SigningKey, digest
from layer1.devnet import Plan, Reservation, home_of, initialize, rewrite
from layer1.ledger.genesis import Allocation, Genesis, Parameters
from tests.chaos import skew
from tests.chaos.proxy import Links
from tests.e2e.cluster import until

ROOT = Path(__file__).parents[2]
REPLICAS = 4
ACCOUNTS = 24
FUNDS = 1 << 46
"""Of each account: more than it can spend, see `history.EXPONENTS`."""
READY_S = 20.0
"""How long anything may take that must happen on a healed network; a busy machine is slow."""
PARAMETERS = Parameters(drift_bound_ms=1_000, heartbeat_ms=1_000, view_timeout_ms=400, term_views=8, max_step_ms=60_000)
"""Short times, so that a run sees many of each; ten times what a busy machine needs, so that only faults cost views."""


def account_key(index: int) -> SigningKey:
    """Of one of the accounts that have money."""
    return SigningKey(digest(Domain.GENESIS, b"chaos account %d" % index))


class Cluster:
    """The processes, their links and their clocks."""

    def __init__(
        self,
        directory: Path,
        genesis: Genesis,
        configs: Sequence[ReplicaConfig],
        links: Links,
        http: aiohttp.ClientSession,
        roles: Mapping[int, str],
        prefixes: Mapping[int, Sequence[str]],
    ) -> None:
        self.directory, self.genesis, self.links, self.http = directory, genesis, links, http
        self.roles = roles
        self.honest = [index for index in range(len(configs)) if index not in roles]
        self.stopped: set[int] = set()
        """Those that SIGSTOP holds."""
        self._configs = configs
        self._prefixes = prefixes
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    # ------------------------------------------------------------------------------------------------------- processes

    def spawn(self, index: int) -> None:
        """Start a process, if it does not run."""
        if self.is_running(index):
            return
        self.kill(index)  # what is left of one that ended by itself
        home, module = self._configs[index].home, ["tests.chaos.replica_process", "--skew", str(self._clock(index))]
        if index in self.roles:
            module += ["--role", self.roles[index], "--tally", str(self._tally(index))]
        with (home / "replica.log").open("ab") as log:
            self._processes[index] = subprocess.Popen(
                [*self._prefixes.get(index, ()), sys.executable, "-m", *module, "start", "--home", str(home),
                 "--under-devnet"],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
            )  # fmt: skip

    async def start(self, indices: Iterable[int] = range(REPLICAS)) -> None:
        """Start processes, and wait until each answers."""
        indices = list(indices)
        for index in indices:
            self.spawn(index)
        await self.answering(indices)

    async def answering(self, indices: Iterable[int]) -> None:
        """Wait until each of these answers."""

        async def answers() -> bool:
            assert all(self.is_running(index) for index in indices), "a replica ended at its start"
            return all([await self.status(index) for index in indices])

        await self.until(answers, f"replicas {list(indices)} answer")

    def is_running(self, index: int) -> bool:
        """Whether its process lives, stopped or not."""
        process = self._processes.get(index)
        return process is not None and process.poll() is None

    def kill(self, *indices: int) -> None:
        """SIGKILL; they are gone when this returns."""
        processes = [self._processes[index] for index in indices if index in self._processes]
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        for process in processes:
            with process:  # closes its standard input, and waits
                pass
        self.stopped.difference_update(indices)

    def pause(self, index: int) -> None:
        """SIGSTOP."""
        if self.is_running(index):
            os.killpg(self._processes[index].pid, signal.SIGSTOP)
            self.stopped.add(index)

    def resume(self, index: int) -> None:
        """SIGCONT."""
        if self.is_running(index):
            os.killpg(self._processes[index].pid, signal.SIGCONT)
        self.stopped.discard(index)

    def skew(self, index: int, offset_ms: int) -> None:
        """Set how far a wall clock is ahead; below 0 for behind."""
        skew.write(self._clock(index), offset_ms)

    def lies(self, index: int) -> int:
        """How often a Byzantine replica has lied."""
        return self._tally(index).stat().st_size

    def _tally(self, index: int) -> Path:
        return self._configs[index].home / "lies"

    def _clock(self, index: int) -> Path:
        return self._configs[index].home / "skew"

    def _tails(self) -> str:
        """The end of each log."""
        found = []
        for index, config in enumerate(self._configs):
            with suppress(OSError):
                lines = (config.home / "replica.log").read_text(errors="replace").splitlines()
                found.append(f"replica {index}: " + " | ".join(lines[-3:]))
        return "; ".join(found)

    def close(self) -> None:
        """Kill all processes."""
        self.kill(*self._processes)

    def heal(self) -> None:
        """Undo all harm: links, clocks and processes are as at the start."""
        self.links.heal()
        for index in range(len(self._configs)):
            self.skew(index, 0)
            self.resume(index)
            self.spawn(index)

    # --------------------------------------------------------------------------------------------------------- looking

    @property
    def urls(self) -> list[str]:
        """All APIs, in order."""
        return [f"http://{config.api}" for config in self._configs]

    def client(self, indices: Sequence[int] | None = None, limits: ClientLimits | None = None) -> LedgerClient:
        """A client of these replicas, or of all."""
        return LedgerClient(self.urls if indices is None else [self.urls[i] for i in indices], self.genesis, limits)

    def now_ms(self) -> int:
        """True time since the genesis, which the ledger clock follows."""
        return time.time_ns() // 1_000_000 - self.genesis.wall_time

    async def get(self, index: int, path: str) -> dict[str, Any]:
        """One answer of one replica; a refusal raises, such as that of a database that is busy just now."""
        limit = aiohttp.ClientTimeout(total=5)
        async with self.http.get(self.urls[index] + path, timeout=limit, raise_for_status=True) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def status(self, index: int) -> dict[str, Any]:
        """Of one replica: the head's fields and its own numbers."""
        found = await self.get(index, "/status")
        return {**found["details"], **found["head"]}

    async def headers(self, index: int) -> list[dict[str, Any]]:
        """All headers of final blocks, oldest first."""
        found: list[dict[str, Any]] = []
        path = "/blocks?limit=500"
        while True:
            page = await self.get(index, path)
            found += [item.get("header", item) for item in page["items"]]
            if page["next"] is None:
                return sorted(found, key=lambda header: int(header["height"]))
            path = f"/blocks?limit=500&cursor={page['next']}"

    async def accused(self, index: int) -> set[int]:
        """Replicas that this one holds evidence against."""
        return {int(item["replica"]) for item in (await self.get(index, "/evidence"))["items"]}

    async def one_chain(self, indices: Sequence[int]) -> None:
        """Wait until these replicas stand at one block."""

        async def same() -> bool:
            return len({(await self.status(index))["id"] for index in indices}) == 1

        await self.until(same, f"replicas {list(indices)} stand at one block")

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Ask again and again until the condition holds."""
        try:
            await until(condition, what, READY_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; the ends of the logs: {self._tails()}") from None


def prepare(directory: Path, parameters: Parameters) -> Genesis:
    """Make genesis and homes."""
    allocations = tuple(Allocation(account_key(i).public, FUNDS) for i in range(ACCOUNTS))
    return initialize(directory, Plan(replicas=REPLICAS, allocations=allocations, parameters=parameters))


def place(directory: Path, addresses: Mapping[int, tuple[Address, Address]]) -> list[ReplicaConfig]:
    """Tell every replica where all of them listen: (link, API)."""
    configs, keys = [], read_genesis(directory / GENESIS_NAME).replicas
    for index, (link, api) in addresses.items():
        config = load_config(home_of(directory, index))
        peers = tuple(Peer(keys[i], *_reached(other)) for i, other in addresses.items() if i != index)
        configs.append(_rewrite(replace(config, link=link, api=api, peers=peers)))
    return configs


def _reached(addresses: tuple[Address, Address]) -> tuple[Address, str]:
    return addresses[0], f"http://{addresses[1]}"


def _rewrite(config: ReplicaConfig) -> ReplicaConfig:
    rewrite(config)
    return config


def _send_to(
    index: int, config: ReplicaConfig, keys: Sequence[PublicKey], proxies: Mapping[tuple[int, int], Address]
) -> ReplicaConfig:
    """A configuration that dials proxies instead of replicas."""
    links = [proxies.get((index, keys.index(peer.key)), peer.link) for peer in config.peers]
    peers = tuple(replace(peer, link=link) for peer, link in zip(config.peers, links, strict=True))
    return _rewrite(replace(config, peers=peers))


@asynccontextmanager
async def cluster(
    directory: Path, *, roles: Mapping[int, str] | None = None, parameters: Parameters = PARAMETERS
) -> AsyncIterator[Cluster]:
    """Four running replicas with a proxy in each link.

    Args:
        directory: Of the test.
        roles: Of Byzantine replicas, by index.
        parameters: Of the ledger.
    """
    genesis, ports = prepare(directory, parameters), Reservation()
    host = "127.0.0.1"
    addresses = {
        index: (Address(host, ports.take(host, 0)), Address(host, ports.take(host, 0))) for index in range(REPLICAS)
    }
    links = Links({index: link for index, (link, _) in addresses.items()})
    try:
        proxies = await links.start()
        configs = [
            _send_to(index, config, genesis.replicas, proxies)
            for index, config in enumerate(place(directory, addresses))
        ]
        async with running(directory, genesis, configs, links, roles or {}) as net:
            yield net
    finally:
        await links.close()
        ports.release()


@asynccontextmanager
async def running(
    directory: Path,
    genesis: Genesis,
    configs: Sequence[ReplicaConfig],
    links: Links,
    roles: Mapping[int, str],
    prefixes: Mapping[int, Sequence[str]] | None = None,
) -> AsyncIterator[Cluster]:
    """Processes for these configurations; `prefixes` go before their commands."""
    async with aiohttp.ClientSession() as http:
        net = Cluster(directory, genesis, configs, links, http, roles, prefixes or {})
        for index in range(len(configs)):
            net.skew(index, 0)
        try:
            await net.start()
            yield net
        finally:
            net.close()

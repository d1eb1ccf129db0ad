"""A ledger on one machine: homes for n replicas, and all of them as child processes.

No port is fixed. The devnet binds a free port for every replica's link and API and holds it, not listening, for as long
as it runs; the children listen on the same ports. So two devnets never collide, and the port of a killed replica
refuses connections instead of hanging or answering for somebody else. A child ends when its standard input does, so
none outlives a killed devnet.

Source: docs/design/architecture.md, "Choices already made".
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from layer1.config import (
    CONFIG_NAME,
    GENESIS_NAME,
    KEY_NAME,
    Address,
    Peer,
    ReplicaConfig,
    load_config,
    load_machine,
    read_genesis,
    read_key,
    write_key,
)
from layer1.config_format import format_config
from layer1.consensus.quorum import FaultModel
from layer1.crypto import PublicKey, SigningKey
from layer1.errors import LocalError
from layer1.journal import Journal
from layer1.ledger.genesis import Allocation, Currency, Genesis, Parameters, to_json, validate

LOG_NAME = "replica.log"
LOCK_NAME = "devnet.lock"
START_S = 20.0
"""How long replicas may take to answer; a long journal needs longer, see `Devnet.start`."""
STOP_S = 10.0
"""How long replicas may take to stop before they are killed."""
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    """What `layer1 init` makes."""

    replicas: int = 4
    name: str = "devnet"
    currency: Currency = field(default_factory=lambda: Currency("WDG", 2))
    allocations: tuple[Allocation, ...] = ()
    parameters: Parameters = field(default_factory=Parameters)
    fault_model: FaultModel = "byzantine"
    """`omission` only where none of the replicas can lie: n > 2f suffices then, and one liar can fork the ledger."""
    host: str = "127.0.0.1"
    base_port: int = 0
    """Replica i listens on base_port + 2i for links and on the next one for HTTP; 0 leaves the choice to a devnet."""
    machine: str = ""
    """State machine that executes commands, as module:attribute; empty for none."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replica listens."""

    key: PublicKey
    link: Address
    api: Address


def home_of(directory: Path, index: int) -> Path:
    """A replica's home."""
    return directory / f"replica-{index}"


def homes_in(directory: Path) -> list[Path]:
    """The homes of a ledger: those that :func:`initialize` made, and those that were added in a row behind them."""
    homes: list[Path] = []
    while (home := home_of(directory, len(homes))).is_dir():
        homes.append(home)
    return homes


def initialize(directory: Path, plan: Plan) -> Genesis:
    """Make genesis, keys, configurations and empty journals for a new ledger.

    Raises:
        LocalError: The directory holds a ledger already, or cannot be written; the machine cannot be imported.
        Refused: The plan is not that of a valid ledger.
    """
    if (directory / GENESIS_NAME).exists():
        raise LocalError(f"{directory} holds a ledger already; choose another directory, or continue with that one")
    keys = sorted((SigningKey.generate() for _ in range(plan.replicas)), key=lambda key: key.public)
    genesis = make_genesis(plan, [key.public for key in keys])
    ports = [
        (plan.base_port + 2 * i, plan.base_port + 2 * i + 1) if plan.base_port else (0, 0) for i in range(len(keys))
    ]
    try:
        places = [Place(key.public, Address(plan.host, link), Address(plan.host, api)) for key, (link, api) in
                  zip(keys, ports, strict=True)]  # fmt: skip
        for index, key in enumerate(keys):
            home = home_of(directory, index)
            make_home(home, genesis, key, configure(home, places[index], places, plan.machine))
        (directory / GENESIS_NAME).write_text(to_json(genesis), encoding="utf-8")
    except OSError as error:
        raise LocalError(f"cannot write to {error.filename or directory}: {error.strerror or error}") from error
    return genesis


def make_genesis(plan: Plan, keys: Sequence[PublicKey]) -> Genesis:
    """The genesis of a new ledger of these replicas, which are numbered in the order of their keys.

    Raises:
        LocalError: The machine cannot be imported.
        Refused: The plan is not that of a valid ledger.
    """
    machine = load_machine(plan.machine)
    genesis = Genesis(
        name=plan.name,
        salt=os.urandom(16),
        currency=plan.currency,
        allocations=plan.allocations,
        replicas=tuple(sorted(keys)),
        fault_model=plan.fault_model,
        wall_time=time.time_ns() // 1_000_000,
        parameters=plan.parameters,
        machine="" if machine is None else machine.name,
    )
    validate(genesis)
    return genesis


def make_home(home: Path, genesis: Genesis, key: SigningKey | None, config: ReplicaConfig) -> None:
    """Make a replica's home; its journal is empty, for this key has signed nothing yet.

    Without a key, whoever has it puts it there before the start.
    """
    home.mkdir(parents=True, mode=0o700)
    if key is not None:
        write_key(home / KEY_NAME, key)
    (home / GENESIS_NAME).write_text(to_json(genesis), encoding="utf-8")
    (home / CONFIG_NAME).touch(0o600)
    (home / CONFIG_NAME).write_text(format_config(config), encoding="utf-8")
    Journal.open(config.journal).close()


def configure(home: Path, own: Place, places: Sequence[Place], machine: str = "") -> ReplicaConfig:
    """The configuration of one of these replicas, or of one more."""
    peers = tuple(Peer(place.key, place.link, f"http://{place.api}") for place in places if place.key != own.key)
    return ReplicaConfig(
        home=home,
        link=own.link,
        api=own.api,
        peers=peers,
        database_url="",
        data=home / "data",
        genesis=home / GENESIS_NAME,
        key=home / KEY_NAME,
        machine=machine,
    )


def readdress(text: str, planned: ReplicaConfig) -> str:
    """A configuration file with the addresses of `planned`, and everything else as it is; https stays https."""
    own = {"link": str(planned.link), "api": str(planned.api)}
    places = {peer.key.hex(): {"link": str(peer.link), "api": peer.api} for peer in planned.peers}
    lines, place = [], own
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition("="))
        if line.startswith("[["):
            place = {}
        elif name == "key" and place is not own:
            place = places.get(value.strip('"'), {})
        if name in place:
            url = place[name].replace("http:", "https:", 1) if value.startswith('"https:') else place[name]
            line = f'{name} = "{url}"'  # noqa: PLW2901 - the line as it is to be
        lines.append(line)
    return "\n".join(lines) + "\n"


def _settle(config: ReplicaConfig, own: Place, places: Sequence[Place]) -> ReplicaConfig:
    """Tell a replica where it listens now, and where its peers do; what else is in its file stays."""
    now = {place.key: place for place in places}
    peers = tuple(_moved(peer, now.get(peer.key)) for peer in config.peers)
    settled = replace(config, link=own.link, api=own.api, peers=peers)
    if settled != config:
        rewrite(settled)
    return settled


def _moved(peer: Peer, place: Place | None) -> Peer:
    if place is None:
        return peer
    scheme = "https" if peer.api.startswith("https:") else "http"
    return replace(peer, link=place.link, api=f"{scheme}://{place.api}")


def rewrite(config: ReplicaConfig) -> None:
    """Put the addresses of this configuration into its file."""
    path = config.home / CONFIG_NAME
    temporary = path.with_suffix(".new")
    temporary.touch(0o600)  # as the file itself may be: it may hold the password of a database
    temporary.write_text(readdress(path.read_text(encoding="utf-8"), config), encoding="utf-8")
    temporary.replace(path)


# ------------------------------------------------------------------------------------------------------------ processes


class Reservation:
    """Ports bound and held, for children of this user to listen on."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def take(self, host: str, wished: int) -> int:
        """A port that nobody else has: the wished one if it is free, else one that the system chooses."""
        held = (self._bind(host, wished) or self._bind(host, wished, lingering=True)) if wished else None
        held = held or self._bind(host, 0)
        if held is None:
            raise LocalError(f"no free port on {host}")
        # Bound without it, so that nobody else has the port; set afterwards, so that our child may join.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._sockets.append(held)
        port: int = held.getsockname()[1]
        return port

    def _bind(self, host: str, port: int, *, lingering: bool = False) -> socket.socket | None:
        """A socket with the port; with `lingering` also if closed connections of the run before linger on it.

        A lingering port keeps others out only once a child listens; the directory's lock keeps other devnets out.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        held = socket.socket(family, socket.SOCK_STREAM)
        if lingering:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind((host, port))
        except OSError:
            held.close()
            return None
        return held

    def release(self) -> None:
        """Give all of them back."""
        while self._sockets:
            self._sockets.pop().close()


@dataclass(slots=True)
class Child:
    """One replica process."""

    index: int
    """Its place in the devnet's directory."""
    config: ReplicaConfig
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Of its API."""
        return f"{self.config.http.scheme}://{self.config.api}"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.returncode is None


def _lock(directory: Path) -> int:
    """Keep the directory for this process; the system lets go of it when the process ends, however it does."""
    try:
        held = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalError(f"cannot write to {directory}: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise LocalError(f"another devnet runs {directory}: stop it first, or choose another directory") from None
    return held


class Devnet:
    """All replicas of a ledger as child processes. Use as ``async with Devnet(directory)``."""

    def __init__(self, directory: Path, on_exit: Callable[[int, int], None] | None = None) -> None:
        """Reserve ports, and put them into the configurations.

        Args:
            directory: Made by :func:`initialize`.
            on_exit: Told index and exit status of a replica that ends without being asked to.

        Raises:
            LocalError: Another devnet runs this ledger; its configurations are left alone.
        """
        self.directory = directory
        self.genesis = read_genesis(directory / GENESIS_NAME)
        self._on_exit = on_exit
        self._lock: int | None = _lock(directory)
        self._expected: set[int] = set()
        self._watchers: set[asyncio.Task[None]] = set()
        self._ports = Reservation()
        configs = [load_config(home) for home in homes_in(directory)]
        places = [self._reserve(config) for config in configs]
        self.children = [
            Child(index, _settle(config, own, places))
            for index, (config, own) in enumerate(zip(configs, places, strict=True))
        ]

    @property
    def genesis_path(self) -> Path:
        """The genesis file."""
        return self.directory / GENESIS_NAME

    @property
    def urls(self) -> list[str]:
        """All APIs, in order."""
        return [child.url for child in self.children]

    def _reserve(self, config: ReplicaConfig) -> Place:
        host, key = config.link.host, read_key(config.key).public
        link, api = self._ports.take(host, config.link.port), self._ports.take(host, config.api.port)
        return Place(key, Address(host, link), Address(host, api))

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(
        self, indices: Sequence[int] | None = None, timeout_s: float = START_S, options: Sequence[str] = ()
    ) -> None:
        """Start these replicas (all that do not run), and wait until each answers.

        Args:
            indices: Which ones; None for all.
            timeout_s: How long that may take.
            options: Of `layer1 start`, such as ``--rejoin``.

        Raises:
            LocalError: One ended, or did not answer in time; the text has the end of its log.
        """
        wanted = [child for child in self.children if (indices is None or child.index in indices)]
        for child in wanted:
            if not child.running:
                await self._spawn(child, options)
        await self.wait_ready(wanted, timeout_s)

    async def _spawn(self, child: Child, options: Sequence[str]) -> None:
        config = child.config
        self._expected.discard(child.index)
        with (config.home / LOG_NAME).open("ab") as log:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "layer1.cli", "start", "--home", str(config.home), "--under-devnet", *options,
                stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        watcher = asyncio.create_task(self._watch(child, child.process))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, child: Child, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        if child.index not in self._expected and self._on_exit is not None:
            self._on_exit(child.index, status)

    async def wait_ready(self, children: Sequence[Child], timeout_s: float = START_S) -> None:
        """Wait until each of these answers `/status`.

        Raises:
            LocalError: See :meth:`start`.
        """
        async with aiohttp.ClientSession() as http:
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.gather(*(self._wait_answer(http, child) for child in children))
            except TimeoutError:
                raise LocalError(
                    f"replicas did not answer within {timeout_s:g} s; see {LOG_NAME} in their homes"
                ) from None

    async def _wait_answer(self, http: aiohttp.ClientSession, child: Child) -> None:
        while child.running:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with http.get(f"{child.url}/status", timeout=aiohttp.ClientTimeout(total=2), ssl=False) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(POLL_S)
        raise LocalError(f"replica {child.index} ended at its start: {self.log_tail(child.index)}")

    def log_path(self, index: int) -> Path:
        """A replica's log."""
        return self.children[index].config.home / LOG_NAME

    def log_tail(self, index: int, lines: int = 5) -> str:
        """The end of a replica's log."""
        path = self.log_path(index)
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    async def kill(self, *indices: int) -> None:
        """SIGKILL these replicas, and wait until they are gone."""
        await self._end(indices, signal.SIGKILL, STOP_S)

    async def terminate(self, *indices: int) -> None:
        """Stop these replicas cleanly; kill what does not stop in time."""
        await self._end(indices, signal.SIGTERM, STOP_S)

    async def _end(self, indices: Sequence[int], how: signal.Signals, timeout_s: float) -> None:
        self._expected.update(indices)
        processes = [p for i in indices if (p := self.children[i].process) is not None and p.returncode is None]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(how)
        waits = [asyncio.create_task(process.wait()) for process in processes]
        if waits:
            _, late = await asyncio.wait(waits, timeout=timeout_s)
            for process in processes if late else ():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.gather(*waits)

    async def stop(self) -> None:
        """Stop all replicas and give the ports back. Harmless when repeated."""
        await self.terminate(*range(len(self.children)))
        await asyncio.gather(*self._watchers)
        self.release()

    def release(self) -> None:
        """Give the ports and the directory back."""
        self._ports.release()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def describe(self) -> dict[str, Any]:
        """What a script needs to use this ledger."""
        return {
            "chain_id": self.genesis.chain_id.hex(),
            "genesis": str(self.genesis_path.resolve()),
            "replicas": [
                {
                    "index": child.index,
                    "pid": None if child.process is None else child.process.pid,
                    "api": child.url,
                    "link": str(child.config.link),
                    "home": str(child.config.home.resolve()),
                }
                for child in self.children
            ],
        }

    def write_ready(self, path: Path) -> None:
        """Write :meth:`describe` to a file, all at once."""
        temporary = path.with_name(path.name + ".new")
        temporary.write_bytes(msgspec.json.encode(self.describe()) + b"\n")
        temporary.replace(path)

"""The configuration of a replica, its genesis file and its key: read, checked and written.

A replica lives in a directory, its *home*: `replica.toml`, `genesis.json`, `key` (mode 0600) and its data. Paths in the
file are relative to the home. A database URL with a password stands in the file, which then nobody else may read, or
in the environment variable `LAYER1_DATABASE_URL`; never on a command line, which everybody on the machine may read.

Source: docs/design/architecture.md, "Choices already made"; style.md, "Config".
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from importlib import import_module
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar, cast

from layer1.crypto import SEED_BYTES, PublicKey, SigningKey, parse_key
from layer1.disk import DiskPolicy
from layer1.errors import LocalError, Refused
from layer1.httpd.rates import RateLimit
from layer1.ledger.genesis import Genesis, from_json
from layer1.logs import LogPolicy
from layer1.replica.checkpoints import CheckpointPolicy
from layer1.replica.pruning import HistoryPolicy
from layer1.replica.shares import PoolLimits
from layer1.statemachine import StateMachine
from layer1.storage.database import holds_password, passwords_in

T = TypeVar("T")

CONFIG_NAME = "replica.toml"
GENESIS_NAME = "genesis.json"
KEY_NAME = "key"
DATABASE_VARIABLE = "LAYER1_DATABASE_URL"
BY_KEY = "is no key any more: replicas are known by their keys, so write key = ... for each of [[peers]], and no index"
NOT_IN_FILE = {"home", "reuse_port"}
"""Fields of :class:`ReplicaConfig` that no key of the file sets."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not self.host or not 0 <= self.port <= 65_535:
            raise ValueError(f"{self.host!r}:{self.port} is no address; write host:port with a port from 0 to 65535")

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port`; an IPv6 host stands in brackets.

        Raises:
            ValueError: It is something else.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            raise ValueError(f"{text[:80]!r} is no address; write host:port, such as 127.0.0.1:7001")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another replica."""

    key: PublicKey
    """Its public key, in hex: who it is, whatever its number."""
    link: Address
    """Where it listens for other replicas: host:port."""
    api: str = ""
    """URL of its API for readers of `/replicas`; empty if unknown."""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How the API is served."""

    certificate: Path | None = None
    """PEM: with `key`, the API is served over HTTPS; SIGHUP loads both again."""
    key: Path | None = None
    """PEM: the secret key of `certificate`; the replica's own key is another one, and stays where it is."""
    url: str = ""
    """Under which others reach the API, if it is not scheme, host and port of `api`; what `/replicas` lists."""
    metrics: Address | None = None
    """Where `/metrics` is served, and then nowhere else; None at the API."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            given, missing = ("certificate", "key") if self.key is None else ("key", "certificate")
            raise ValueError(f"http.{given} is given and http.{missing} is not; HTTPS needs both, HTTP none")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"http.url is {self.url[:80]!r}; write a URL such as https://ledger.example.org:7001")

    @property
    def scheme(self) -> str:
        """Of the API's URL."""
        return "http" if self.certificate is None else "https"


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """Everything that one replica process is told."""

    home: Path
    """Directory of the file."""
    link: Address
    """Where this replica listens for other replicas: host:port."""
    api: Address
    """Where this replica listens for HTTP: host:port."""
    peers: tuple[Peer, ...]
    """The other replicas, as far as their addresses are known. Who is in the set, the ledger says."""
    database_url: str = field(repr=False)
    """Where blocks and transactions are stored to be queried: an SQLAlchemy URL. SQLite in the data directory if it is
    not set, here or in $LAYER1_DATABASE_URL. It may hold a password: then nobody else may read this file."""
    data: Path
    """Journal, checkpoint and, by default, database. On a disk that tells the truth about a sync."""
    genesis: Path
    """Which ledger this is."""
    key: Path
    """The secret key of this replica, mode 0600. Two processes with one key destroy the ledger's safety."""
    machine: str = ""
    """The state machine that the genesis names, as module:attribute: code that this process imports and trusts. Not
    set where the genesis names none."""
    limits: PoolLimits = field(default_factory=PoolLimits)
    """How much is taken in before clients are asked to come again, and how it is packed into batches."""
    checkpoints: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    """When the state is written to disk, so that a start is short and the journal too."""
    history: HistoryPolicy = field(default_factory=HistoryPolicy)
    """What is kept of the past, and how a replica begins that is far behind."""
    log: LogPolicy = field(default_factory=LogPolicy)
    """What is logged, to standard error, and how. No secret ever is."""
    disk: DiskPolicy = field(default_factory=DiskPolicy)
    """When the disk counts as nearly full: first a warning, then a clean stop."""
    http: HttpOptions = field(default_factory=HttpOptions)
    """How the API is served, beyond its address."""
    rate: RateLimit = field(default_factory=RateLimit)
    """How often one network address may ask the API."""
    reuse_port: bool = False
    """Listen on ports that another process of this user reserved by binding them."""

    def __post_init__(self) -> None:
        metrics = self.http.metrics
        if metrics is not None and metrics.port and metrics in {self.api, self.link}:
            raise ValueError(f"http.metrics is {metrics}, and so is api or link; give it a port of its own")
        keys = [peer.key for peer in self.peers]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise ValueError(f"peers[{place}].key is that of peers[{keys.index(key)}], too; name each replica once")

    @property
    def journal(self) -> Path:
        """The journal's directory."""
        return self.data / "journal"

    @property
    def url(self) -> str:
        """Of the API, for others."""
        return self.http.url.rstrip("/") or f"{self.http.scheme}://{self.api}"

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint's file."""
        return self.data / "checkpoint"

    @property
    def snapshot(self) -> Path:
        """A peer's checkpoint on its way here."""
        return self.data / "snapshot"

    def peer(self, key: PublicKey) -> Peer | None:
        """The peer with this key."""
        return next((peer for peer in self.peers if peer.key == key), None)


def load_config(home: Path, *, reuse_port: bool = False) -> ReplicaConfig:
    """Read a replica's configuration.

    Raises:
        LocalError: A file or key is missing or wrong; the text names it.
    """
    path = home / CONFIG_NAME
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LocalError(f"{path} is missing; make a replica's home with: layer1 init DIR") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LocalError(f"{path} cannot be read: {error}") from None
    _check_secrecy(path, table.get("database_url"))
    try:
        return _config(home, _Table(table), reuse_port)
    except ValueError as error:
        raise LocalError(f"{path}: {error}") from None


def _check_secrecy(path: Path, url: object) -> None:
    """A password is for the replica's own user only, wherever it stands."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 and isinstance(url, str) and holds_password(url):
        raise LocalError(
            f"{path} has mode {mode:04o}, others may read it, and database_url holds a password; run: chmod 600 "
            f"{path}, or put the URL into ${DATABASE_VARIABLE}"
        )


def name_of(config: ReplicaConfig) -> str:
    """The first digits of this replica's public key, for its log; empty if it cannot be read."""
    with suppress(LocalError):  # as below
        return read_key(config.key).public.hex()[:16]
    return ""


def secrets_of(config: ReplicaConfig) -> list[str]:
    """What a log must never show: the key, and the password of the database."""
    found = []
    with suppress(LocalError):  # what is wrong with it is told by whoever needs it
        found.append(read_key(config.key).seed().hex())
    return found + passwords_in(config.database_url)


class _Table:
    """A TOML table that names the key in every complaint, and complains about keys that nobody asked for."""

    def __init__(self, values: Mapping[str, Any], name: str = "") -> None:
        self._values = dict(values)
        self._name = name

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        """Remove and return a value."""
        if key not in self._values and default is not None:
            return default
        value = self._values.pop(key, None)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            found = "missing" if value is None else f"{value!r}" if key != "database_url" else "something else"
            raise ValueError(f"{self._name}{key} is {found}; it must be of type {kind.__name__}")
        return value

    def address(self, key: str) -> Address:
        """Remove and return an address."""
        try:
            return Address.parse(self.take(key, str))
        except ValueError as error:
            raise ValueError(f"{self._name}{key}: {error}") from None

    def public_key(self, key: str) -> PublicKey:
        """Remove and return a public key."""
        text = self.take(key, str)
        try:
            return parse_key(text)
        except Refused as refusal:
            raise ValueError(f"{self._name}{key}: {refusal.message}") from None

    def retired(self, key: str, words: str) -> None:
        """Complain about a key that there was once."""
        if key in self._values:
            raise ValueError(f"{self._name}{key} {words}")

    def tables(self, key: str) -> list[_Table]:
        """Remove and return a list of tables."""
        items = self.take(key, list, [])
        if not all(isinstance(item, dict) for item in items):
            raise ValueError(f"{self._name}{key} is no list of tables; write [[{key}]]")
        return [_Table(item, f"{key}[{i}].") for i, item in enumerate(items)]

    def end(self) -> None:
        """Complain about what is left."""
        if self._values:
            raise ValueError(f"{self._name}{next(iter(self._values))} is not known; is it misspelt?")


def _config(home: Path, table: _Table, reuse_port: bool) -> ReplicaConfig:
    table.retired("index", BY_KEY)
    data = home / table.take("data", str, "data")
    url = os.environ.get(DATABASE_VARIABLE) or table.take("database_url", str, f"sqlite:///{data / 'ledger.sqlite'}")
    peers = []
    for item in table.tables("peers"):
        item.retired("index", BY_KEY)
        peers.append(Peer(item.public_key("key"), item.address("link"), item.take("api", str, "")))
        item.end()
    table.take("database_url", str, "")
    config = ReplicaConfig(
        home=home,
        link=table.address("link"),
        api=table.address("api"),
        peers=tuple(peers),
        database_url=url,
        data=data,
        genesis=home / table.take("genesis", str, GENESIS_NAME),
        key=home / table.take("key", str, KEY_NAME),
        machine=table.take("machine", str, ""),
        limits=_values(PoolLimits, table, "limits"),
        checkpoints=_values(CheckpointPolicy, table, "checkpoints"),
        history=_values(HistoryPolicy, table, "history"),
        log=_values(LogPolicy, table, "log"),
        disk=_values(DiskPolicy, table, "disk"),
        http=_http(home, _Table(table.take("http", dict, {}), "http.")),
        rate=_rate(_Table(table.take("rate", dict, {}), "rate.")),
        reuse_port=reuse_port,
    )
    table.end()
    return config


def _http(home: Path, table: _Table) -> HttpOptions:
    certificate, key = table.take("certificate", str, ""), table.take("key", str, "")
    url, metrics = table.take("url", str, ""), table.take("metrics", str, "")
    table.end()
    try:
        address = Address.parse(metrics) if metrics else None
    except ValueError as error:
        raise ValueError(f"http.metrics: {error}") from None
    return HttpOptions(home / certificate if certificate else None, home / key if key else None, url, address)


def _rate(table: _Table) -> RateLimit:
    default = RateLimit()
    exempt = []
    for text in table.take("exempt", list, [str(network) for network in default.exempt]):
        try:
            exempt.append(ip_network(str(text)))
        except ValueError as error:
            raise ValueError(f"rate.exempt: {error}; write networks such as 10.0.0.0/8 and ::1/128") from None
    numbers = {name: table.take(name, int, getattr(default, name)) for name in ("requests_per_s", "burst", "addresses")}
    table.end()
    return RateLimit(**numbers, exempt=tuple(exempt))


def _values(kind: Callable[..., T], outer: _Table, name: str) -> T:
    """A table of numbers and texts as a dataclass; what the table leaves out has its default."""
    table, default = _Table(outer.take(name, dict, {}), f"{name}."), cast("Any", kind())
    values = {}
    for item in fields(default):
        usual = getattr(default, item.name)
        values[item.name] = table.take(item.name, type(usual), usual)
    table.end()
    return kind(**values)


# ---------------------------------------------------------------------------------------------------- key and genesis


def write_key(path: Path, key: SigningKey) -> None:
    """Write a replica's key, readable by its owner only. An existing file is never overwritten."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="ascii") as stream:
        stream.write(key.seed().hex() + "\n")
        stream.flush()
        os.fsync(file)  # others rely on its public half from now on


def read_key(path: Path) -> SigningKey:
    """Read a replica's key.

    Raises:
        LocalError: It is missing, readable by others, or no key.
    """
    try:
        mode, text = stat.S_IMODE(path.stat().st_mode), path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise LocalError(f"the key {path} cannot be read: {error}") from None
    if mode & 0o077:
        raise LocalError(f"the key {path} has mode {mode:04o}, others may read it; run: chmod 600 {path}")
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise LocalError(f"the key {path} does not hold {SEED_BYTES} bytes in hex")
    return SigningKey(seed)


def read_genesis(path: Path) -> Genesis:
    """Read a genesis file.

    Raises:
        LocalError: It is missing, or not the genesis of a ledger.
    """
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, Refused) as error:
        raise LocalError(f"{path} is not the genesis of a ledger: {error}") from None


def load_machine(place: str) -> StateMachine | None:
    """Import the state machine at ``module:attribute``; None for an empty text.

    Raises:
        LocalError: There is none.
    """
    if not place:
        return None
    module, colon, attribute = place.partition(":")
    try:
        found: StateMachine = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        wrong = str(error) if colon else "there is no colon in it"
        raise LocalError(
            f"machine is {place!r}: {wrong}; write module:attribute, of a module that is installed or on PYTHONPATH"
        ) from None
    if not isinstance(getattr(found, "name", None), str) or not callable(getattr(found, "execute", None)):
        raise LocalError(f"machine {place!r} has no name or cannot execute; see layer1.statemachine.StateMachine")
    return found

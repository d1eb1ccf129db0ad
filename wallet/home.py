"""The directory of one wallet: what is where, and that one process at a time is in it.

    keystore.json   sealed keys; the addresses in clear                      (`wallet.keystore`)
    wallet.toml     URLs of the ledger, where to listen; yours to edit
    genesis.json    the ledger's genesis; its hash is the chain id
    journal/        what this wallet signed and holds certificates of        (`layer1.journal`)
    channels/       one file per channel: agreement, index of its key, peer  (`wallet.book`)
    ledger.light    what is believed of the ledger: replica sets, newest block  (`layer1.light`)
    towers.db       watchtowers that this wallet uses, and their receipts   (`wallet.towers`)
    invoices.db     invoices of ours with their preimages, and those paid    (`wallet.invoices.book`)
    tower.db        of a watchtower: what it guards                          (`wallet.watchtower.store`)
    wallet.db       history; most of it is rebuilt from the journal          (`wallet.history`)
    history.waiting what the history's server, if it has one, has not yet    (`wallet.server_history`)
    lock            held while a process is in here
    api.db          tokens and keys of the HTTP API, and what else it keeps   (`wallet.api.store`)
    control.path    where the socket of a running `wallet serve` is
    endpoint        where `wallet serve` listened last
    life, life.seen by which this home knows that its files are the originals  (`wallet.life`)

*Safety:* two processes that sign in one home would contradict themselves; the lock is held from before the journal is
opened until after it is closed.

A copy of a home is an older wallet, and knows that it is a copy (`wallet.life`): in each channel it claims and pays
nothing before all others there have shown what they hold, and then, if that is newer, signs nothing more in the
channel's epoch but its end (`layer2.recovering`). Only one home of a wallet may live: do not use the original any more.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import msgspec

from layer1.errors import Refused
from layer1.files import private_directory, write_durably
from layer1.ledger.genesis import Genesis, from_json, to_json
from layer1.light import LightClient
from layer1.storage.database import holds_password
from wallet.keystore import Keystore

VARIABLE = "WALLET_HOME"
DATABASE_VARIABLE = "WALLET_DATABASE_URL"


@dataclass(frozen=True, slots=True)
class Config:
    """The content of ``wallet.toml``."""

    ledger_urls: tuple[str, ...]
    listen: str | None = None
    """``host:port`` for `wallet serve`; None: where it listened last, else any port of 127.0.0.1."""
    ca: Path | None = None
    """PEM file of the authorities to trust for https; None for those of this system."""
    database_url: str | None = field(default=None, repr=False)
    """Where the history is, such as ``postgresql://user:password@host/name``; None: in ``wallet.db``."""

    def __post_init__(self) -> None:
        for url in self.ledger_urls:
            if not url.startswith(("http://", "https://")):
                raise Refused("bad_config", f"{url[:80]!r} is not a URL of a ledger, such as http://127.0.0.1:8080")
        if not self.ledger_urls:
            raise Refused("bad_config", "no ledger URL: give at least one, better one per replica")


@dataclass(frozen=True, slots=True)
class Home:
    """Paths and plain files of one home. Reading them needs neither the lock nor the passphrase."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make the directory; keys and ledger come after, by :meth:`Keystore.create` and :meth:`connect`.

        Raises:
            Refused: ``home_exists``.
        """
        home = cls(path.expanduser().absolute())
        if home.keystore_path.exists() or home.channels_path.exists():
            raise Refused("home_exists", f"{home.path} is a wallet already: choose another --home")
        private_directory(home.path)
        return home

    def connect(self, genesis: Genesis, config: Config) -> None:
        """Say which ledger this wallet is for, and where it is found. Again, to change where.

        Raises:
            Refused: ``wrong_chain``; a wallet stays with its ledger.
        """
        if self.genesis_path.exists() and self.genesis().chain_id != genesis.chain_id:
            raise Refused(
                "wrong_chain",
                f"this wallet is for chain {self.genesis().chain_id.hex()}, this ledger is {genesis.chain_id.hex()}: "
                "make another wallet for it",
            )
        if config.database_url is None and self.config_path.exists():
            with suppress(Refused):  # what cannot be read is written anew
                config = replace(config, database_url=self.config().database_url)
        write_durably(self.config_path, _toml(config).encode())
        write_durably(self.genesis_path, to_json(genesis).encode())

    @classmethod
    def find(cls, path: Path) -> Self:
        """A home that exists.

        Raises:
            Refused: ``no_wallet``.
        """
        home = cls(path.expanduser().absolute())
        if not home.keystore_path.is_file():
            raise Refused(
                "no_wallet", f"there is no wallet in {home.path}: make one with `wallet create`, or see --home"
            )
        return home

    @property
    def keystore_path(self) -> Path:
        """The sealed keys."""
        return self.path / "keystore.json"

    @property
    def config_path(self) -> Path:
        """The configuration."""
        return self.path / "wallet.toml"

    @property
    def genesis_path(self) -> Path:
        """The genesis."""
        return self.path / "genesis.json"

    @property
    def journal_path(self) -> Path:
        """The journal's directory."""
        return self.path / "journal"

    @property
    def channels_path(self) -> Path:
        """The channels' directory."""
        return self.path / "channels"

    @property
    def locks_path(self) -> Path:
        """Preimages that are to be claimed."""
        return self.path / "locks"

    @property
    def history_path(self) -> Path:
        """The database."""
        return self.path / "wallet.db"

    @property
    def towers_path(self) -> Path:
        """The watchtowers that this wallet uses, and what they signed."""
        return self.path / "towers.db"

    @property
    def invoices_path(self) -> Path:
        """Invoices of ours with their preimages, and those that we pay."""
        return self.path / "invoices.db"

    @property
    def light_path(self) -> Path:
        """What is believed of the ledger."""
        return self.path / "ledger.light"

    def light(self, *, keep: bool) -> LightClient:
        """What this wallet believes of its ledger so far.

        Args:
            keep: Write what is learnt to the home. Only whoever holds the lock may.

        Raises:
            Refused: ``no_ledger``, or ``bad_light_file``.
        """
        return LightClient.load(self.genesis(), self.light_path, keep=keep)

    @property
    def control_path(self) -> Path:
        """Names the control socket."""
        return self.path / "control.path"

    def keystore(self) -> Keystore:
        """The key file, locked."""
        return Keystore.load(self.keystore_path)

    @property
    def connected(self) -> bool:
        """Whether this wallet has a ledger."""
        return self.genesis_path.exists()

    def genesis(self) -> Genesis:
        """The genesis.

        Raises:
            Refused: ``no_ledger`` before :meth:`connect`, or ``bad_config``.
        """
        try:
            return from_json(self.genesis_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Refused("no_ledger", "this wallet has no ledger yet: `wallet connect --ledger URL`") from None
        except (OSError, UnicodeDecodeError, Refused) as error:
            raise Refused("bad_config", f"{self.genesis_path} cannot be read: {error}") from None

    def config(self) -> Config:
        """The configuration.

        Raises:
            Refused: ``bad_config``.
        """
        try:
            content = tomllib.loads(self.config_path.read_text(encoding="utf-8"))
            known = msgspec.convert(content, _ConfigFile)
        except (OSError, ValueError, RecursionError, msgspec.ValidationError) as error:
            raise Refused("bad_config", f"{self.config_path} cannot be read: {error}") from None
        ca = None if known.ca is None else self.path / known.ca
        return Config(tuple(known.ledger), known.listen, ca, known.database_url)

    def database_url(self) -> str | None:
        """Where the history is; None for the file in here. The environment goes before the configuration.

        Raises:
            Refused: ``bad_config``, also if others may read a password.
        """
        if url := os.environ.get(DATABASE_VARIABLE):
            return url
        url = self.config().database_url if self.config_path.exists() else None
        mode = stat.S_IMODE(self.config_path.stat().st_mode) if url else 0
        if url and mode & 0o077 and holds_password(url):
            raise Refused(
                "bad_config",
                f"{self.config_path} has mode {mode:04o}, others may read it, and database_url holds a password; run: "
                f"chmod 600 {self.config_path}, or put the URL into ${DATABASE_VARIABLE}",
            )
        return url

    def endpoint(self) -> str | None:
        """Where a serving wallet listens, or did last."""
        try:
            return (self.path / "endpoint").read_text(encoding="utf-8")
        except OSError:
            return None

    def remember_endpoint(self, endpoint: str) -> None:
        """Keep where we listen, so that contacts given away stay good after a restart."""
        if endpoint != self.endpoint():
            write_durably(self.path / "endpoint", endpoint.encode())

    def lock(self) -> HomeLock:
        """Enter the home.

        Raises:
            Refused: ``home_busy``; another process is in it.
        """
        return HomeLock(self.path / "lock")


class _ConfigFile(msgspec.Struct, forbid_unknown_fields=True):
    ledger: list[str]
    listen: str | None = None
    ca: str | None = None
    database_url: str | None = None


class HomeLock:
    """Held from construction until :meth:`release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            self._file = -1
            raise Refused(
                "home_busy", f"another process works in {path.parent}: wait for it to end, or stop it"
            ) from None

    def release(self) -> None:
        """Leave the home. Harmless when repeated."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def default_home() -> Path:
    """The home when neither ``--home`` nor the variable names one."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".wedge-wallet")


def _toml(config: Config) -> str:
    """TOML's basic strings are JSON's."""
    quote = msgspec.json.encode
    urls = "".join(f"    {quote(url).decode()},\n" for url in config.ledger_urls)
    text = f"# Replicas of the ledger: more are safer, one is enough.\nledger = [\n{urls}]\n"
    if config.ca is not None:
        text += f"\n# Whom to trust for https.\nca = {quote(str(config.ca.resolve())).decode()}\n"
    if config.database_url is not None:
        text += f"\n# Where the history is.\ndatabase_url = {quote(config.database_url).decode()}\n"
    if config.listen is not None:
        text += f"\n# Where `wallet serve` listens.\nlisten = {quote(config.listen).decode()}\n"
    return text

"""Makes the home of a replica that is to join: a new key, the genesis, and the peers that somebody named.

Safety: what a replica says of its peers is only where to look for them: who they are, each link proves by its key, and
which keys count, the ledger proves from the genesis.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from layer1.config import Address, Peer, ReplicaConfig, load_machine
from layer1.crypto import PublicKey, SigningKey, parse_key
from layer1.devnet import Place, configure, make_home
from layer1.errors import LocalError, Refused
from layer1.ledger.genesis import Genesis
from layer1.ledger.replicas import ReplicaSet
from layer1.ledger.state import check_named
from layer1.replica.numbers import number_in

MOST_KNOWN = 300
"""Replicas that somebody else's list is read for."""
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]{1,255}(/[A-Za-z0-9./_~-]{0,255})?")
_LINK = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
"""What may stand in a configuration file that we write, whoever says it."""


@dataclass(frozen=True, slots=True)
class Known:
    """A replica, as others know it."""

    key: PublicKey
    number: int | None
    """In the newest set that has it, proven; None if none has."""
    link: str | None
    api: str | None
    connected: bool
    """Whether one of those who were asked has a link with it, or is it."""


def known_replicas(listed: Iterable[Mapping[str, Any]], sets: Sequence[ReplicaSet]) -> list[Known]:
    """The replicas of the newest set, and those that answers of ``/replicas`` name besides, which may be hostile."""
    named: dict[PublicKey, list[Mapping[str, Any]]] = {key: [] for key in sets[-1].keys}
    for answer in listed:
        items = answer.get("items")
        for item in items[:MOST_KNOWN] if isinstance(items, list) else ():
            key = _key(item)
            if key is not None and (key in named or len(named) < MOST_KNOWN):
                named.setdefault(key, []).append(item)
    return [_known(key, items, sets) for key, items in named.items()]


def _key(item: object) -> PublicKey | None:
    if not isinstance(item, dict) or not isinstance(item.get("key"), str):
        return None
    try:
        return parse_key(item["key"])
    except Refused:
        return None


def _known(key: PublicKey, items: Sequence[Mapping[str, Any]], sets: Sequence[ReplicaSet]) -> Known:
    links = [str(item.get("link")) for item in items if _LINK.fullmatch(str(item.get("link") or ""))]
    apis = [str(item.get("api")) for item in items if _URL.fullmatch(str(item.get("api") or ""))]
    connected = any(item.get("connected") is True for item in items)
    return Known(key, number_in(sets, key), next(iter(links), None), next(iter(apis), None), connected)


def join(
    home: Path, genesis: Genesis, known: Sequence[Known], host: str, base_port: int, *, machine: str = ""
) -> tuple[ReplicaConfig, SigningKey]:
    """Make a home with a new key.

    Raises:
        LocalError: There is something already, it cannot be written, nobody says where any replica listens, or the
            state machine, as module:attribute, is not the one that the genesis names.
    """
    if home.exists():
        raise LocalError(f"{home} is there already: name a new directory for the home")
    check_named(genesis, load_machine(machine))
    peers = [peer for one in known if (peer := _peer(one)) is not None]
    if not peers:
        raise LocalError("nobody says where any replica listens for links: ask another one with --api URL")
    key = SigningKey.generate()
    own = Place(key.public, Address(host, base_port), Address(host, base_port + 1))
    config = replace(configure(home, own, [], machine), peers=tuple(peers))
    try:
        make_home(home, genesis, key, config)
    except OSError as error:
        raise LocalError(f"cannot write to {error.filename or home}: {error.strerror or error}") from error
    return config, key


def _peer(known: Known) -> Peer | None:
    try:
        return None if known.link is None else Peer(known.key, Address.parse(known.link), known.api or "")
    except ValueError:
        return None


def peers_table(key: PublicKey, config: ReplicaConfig) -> str:
    """What the others write into their configuration."""
    return f'[[peers]]\nkey = "{key.hex()}"\nlink = "{config.link}"\napi = "{config.url}"\n'

"""The file of a configuration, written: each key with what it means, and what is at its default as a comment.

What a key means stands once, beneath its field in the dataclass; here it becomes the comment above the key. So no key
can be without words, and no words without a key.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from layer1.config import NOT_IN_FILE, Address, Peer, ReplicaConfig
from layer1.crypto import PUBLIC_KEY_BYTES
from layer1.docstrings import field_texts

WIDTH = 110
EXAMPLES = {
    "database_url": '"postgresql://user:password@127.0.0.1:5432/replica0"  # then: chmod 600',
    "machine": '"names:MACHINE"',
    "certificate": '"api.pem"',
    "key": '"api.key"',
    "url": '"https://ledger.example.org:7001"',
    "metrics": '"127.0.0.1:9100"',
}
"""Of keys whose default is not a value that one writes: they are not set, and this is how one would."""


def format_config(config: ReplicaConfig) -> str:
    """The file of a configuration, with its defaults as comments."""
    simple = [item for item in fields(config) if item.name not in NOT_IN_FILE and item.name != "peers"]
    tables = [item for item in simple if is_table(getattr(config, item.name))]
    lines = [
        "# A replica. Paths are relative to this file's directory. Behind a single # stands a default, or an example",
        "# of what is not set: take the # away to set it. A key that nobody knows stops the replica.",
    ]
    for item in simple:
        if item not in tables:
            lines += ["", *_comment(ReplicaConfig, item.name), _line(item.name, *_shown(config, item.name))]
    for number, peer in enumerate(config.peers):
        lines += ["", "[[peers]]", *_peer(peer, documented=number == 0)]
    for item in sorted(tables, key=lambda item: item.name == "limits"):
        lines += ["", *_comment(ReplicaConfig, item.name), f"[{item.name}]", *_table(getattr(config, item.name))]
    return "\n".join(lines) + "\n"


def is_table(value: Any) -> bool:
    """Whether a field's value is a table in the file."""
    return is_dataclass(value) and not isinstance(value, Address)


def example() -> str:
    """The file of nobody's replica, with every key."""
    home = Path("/")
    peers = tuple(
        Peer(bytes([i]) * PUBLIC_KEY_BYTES, Address(f"replica{i}.example", 7000), f"http://replica{i}.example:7001")
        for i in range(1, 4)
    )
    config = ReplicaConfig(
        home=home, link=Address("127.0.0.1", 7000), api=Address("127.0.0.1", 7001), peers=peers,
        database_url="", data=home / "data", genesis=home / "genesis.json", key=home / "key",
    )  # fmt: skip
    return format_config(config)


def _peer(peer: Peer, *, documented: bool) -> Iterator[str]:
    for item in fields(peer):
        yield from _comment(Peer, item.name) if documented else ()
        yield _line(item.name, _toml(getattr(peer, item.name)), True)


def _table(value: Any) -> Iterator[str]:
    kind = type(value)
    default = kind()
    for item in fields(value):
        own = getattr(value, item.name)
        yield from _comment(kind, item.name)
        if own is None or own == "":
            yield _line(item.name, EXAMPLES[item.name], False)
        else:
            yield _line(item.name, _toml(own), own != getattr(default, item.name))


def _shown(config: ReplicaConfig, name: str) -> tuple[str, bool]:
    """A key's value, and whether it must be written."""
    if name == "database_url":
        return EXAMPLES[name], False
    value = getattr(config, name)
    if name == "machine" and not value:
        return EXAMPLES[name], False
    if isinstance(value, Path):
        relative = str(value.relative_to(config.home)) if value.is_relative_to(config.home) else str(value)
        return _toml(relative), relative not in {name, f"{name}.json"}
    return _toml(value), True


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return f'"{value.hex()}"'
    return str(value) if isinstance(value, int) else f'"{value}"'


def _line(name: str, value: str, written: bool) -> str:
    return f"{name} = {value}" if written else f"# {name} = {value}"


def _comment(kind: type, name: str) -> list[str]:
    words = field_texts(kind)[name].replace("`", "")
    return [f"## {line}" for line in textwrap.wrap(words, WIDTH, break_on_hyphens=False)]

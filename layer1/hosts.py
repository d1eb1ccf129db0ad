"""A ledger on several machines: one folder for each host, to be copied there, with no secret but that host's own.

Whoever makes the ledger needs to see no secret key at all: operators may make theirs at home (`layer1 key`) and send
the public half. Keys that are made here are each in one folder, and nowhere else.

Source: docs/hosts.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from layer1.config import CONFIG_NAME, GENESIS_NAME, KEY_NAME, Address
from layer1.crypto import PublicKey, SigningKey, parse_key
from layer1.devnet import Place, Plan, configure, make_genesis, make_home
from layer1.errors import LocalError, Refused, check
from layer1.ledger.genesis import Genesis, to_json

MOST_HOSTS = 100
README_NAME = "README.txt"
FORM = "write NAME=ADDRESS, NAME=ADDRESS:LINKPORT or NAME=ADDRESS:LINKPORT:APIPORT, an IPv6 address in brackets"
_HOST = re.compile(r"([^=]*)=(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?(?::([0-9]{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Of a folder, and of an instance of the systemd unit."""
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
"""RFC 1123, section 2.1."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine, and where its replica is reached."""

    name: str
    link: Address
    api: Address
    key: PublicKey | None = None
    """None: it is made with the folder."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What one host gets."""

    host: Host
    path: Path
    number: int
    """Of its replica."""
    key: PublicKey
    has_secret: bool
    """Whether the secret key is inside; else its operator has it, and adds it."""


# ------------------------------------------------------------------------------------------------------------- reading


def parse_host(text: str, link_port: int) -> Host:
    """Read `NAME=ADDRESS[:LINKPORT[:APIPORT]]`; the API has the port behind the link's if none is given.

    Raises:
        Refused: ``bad_host``; the text names it and says how to write one.
    """
    found = _HOST.fullmatch(text)
    check(found is not None, "bad_host", f"{text[:120]!r} is no host; {FORM}")
    assert found is not None  # for the type checker
    name, address, link, api = found.groups()
    words = "a name has up to 63 letters, digits, - and _, such as ada"
    check(_NAME.fullmatch(name) is not None, "bad_host", f"{name[:80]!r} is no name of a host; {words}")
    own = _parse_address(name, address)
    first = int(link) if link else link_port
    second = int(api) if api else first + 1
    for port in (first, second):
        check(1 <= port <= 65_535, "bad_host", f"{name} has port {port}; choose one from 1 to 65535")
    return Host(name, Address(own, first), Address(own, second))


def _parse_address(name: str, text: str) -> str:
    """An address that others can reach, in the one form in which it equals itself."""
    bare = text[1:-1] if text.startswith("[") else text
    try:
        address = ip_address(bare)
    except ValueError:
        labels = bare.removesuffix(".").split(".")
        right = all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit() and len(bare) <= 253 and bare == text
        check(
            right, "bad_host", f"{name} has the address {text[:80]!r}, which is no IP address and no DNS name; {FORM}"
        )
        return bare.removesuffix(".").lower()
    single = not (address.is_unspecified or address.is_multicast or "%" in bare)
    remedy = "give the one where all others reach it"
    check(single, "bad_host", f"{name} has the address {bare[:80]!r}, which is no single host's; {remedy}")
    return str(address)


def read_hosts(texts: Sequence[str], file: Path | None, keys: Sequence[str], link_port: int) -> tuple[Host, ...]:
    """The hosts of a command line and of a file, with the public keys that are given for them.

    Args:
        texts: As :func:`parse_host` reads them.
        file: Such a line for each host, with its public key behind it if there is one, and comments behind #.
        keys: `NAME=PUBLICKEY`, of any of these hosts.
        link_port: Where none is given.

    Raises:
        Refused: ``bad_host``, ``host_twice``, ``bad_key`` or ``key_twice``; the text names the host.
        LocalError: The file cannot be read.
    """
    hosts, given = [parse_host(text, link_port) for text in texts], [_parse_key_of(text) for text in keys]
    for place, words in _lines(file):
        check(
            len(words) <= 2,
            "bad_host",
            f"{place} has {len(words)} words; write a host, and its public key if it has one",
        )
        try:
            host = parse_host(words[0], link_port)
            hosts.append(host)
            given += [(host.name, parse_key(word)) for word in words[1:]]
        except Refused as refusal:
            raise Refused(refusal.code, f"{place}: {refusal.message}") from None
    check(file is None or bool(hosts), "bad_host", f"{file} names no host; {FORM}")
    check_hosts(hosts)
    return _with_keys(hosts, given)


def _lines(file: Path | None) -> Iterable[tuple[str, list[str]]]:
    if file is None:
        return
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise LocalError(f"{file} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if words := line.partition("#")[0].split():
            yield f"{file}, line {number}", words


def _parse_key_of(text: str) -> tuple[str, PublicKey]:
    name, _, key = text.partition("=")
    check(_NAME.fullmatch(name) is not None, "bad_key", f"{text[:120]!r}: write NAME=PUBLICKEY, as layer1 key shows it")
    try:
        return name, parse_key(key)
    except Refused as refusal:
        raise Refused(refusal.code, f"{name}: {refusal.message}") from None


def _with_keys(hosts: Sequence[Host], given: Iterable[tuple[str, PublicKey]]) -> tuple[Host, ...]:
    found: dict[str, PublicKey] = {}
    names = {host.name for host in hosts}
    for name, key in given:
        check(name in names, "bad_key", f"there is a key for {name}, and no such host; add --host {name}=ADDRESS")
        check(name not in found, "key_twice", f"{name} is given two keys; give the one that its operator has")
        other = next((other for other, its in found.items() if its == key), None)
        remedy = "two replicas with one key destroy the ledger; each makes its own with layer1 key"
        check(other is None, "key_twice", f"{other} and {name} have one key, {key.hex()}; {remedy}")
        found[name] = key
    return tuple(replace(host, key=found.get(host.name)) for host in hosts)


def check_hosts(hosts: Sequence[Host]) -> None:
    """See that no two hosts are in each other's way.

    Raises:
        Refused: ``host_twice`` or ``bad_host``; the text names both hosts.
    """
    check(
        len(hosts) <= MOST_HOSTS, "bad_host", f"there are {len(hosts)} hosts; a ledger starts with up to {MOST_HOSTS}"
    )
    names: dict[str, str] = {}
    taken: dict[Address, str] = {}
    for host in hosts:
        other = names.setdefault(host.name.lower(), host.name)
        check(
            other is host.name, "host_twice", f"{other} and {host.name} have one name; a folder needs a name of its own"
        )
        for what, address in (("links", host.link), ("the API", host.api)):
            use = f"{host.name} for {what}"
            first = taken.setdefault(address, use)
            check(first is use, "host_twice", f"{address} is taken twice, by {first} and by {use}; change one of them")
    near = [host.name for host in hosts if _is_loopback(host.link.host)]
    far = [host.name for host in hosts if host.name not in near]
    both = bool(near and far)
    check(
        not both,
        "bad_host",
        f"{near[:1]} is at a loopback address, where {far[:1]} does not reach it; give its address",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


# -------------------------------------------------------------------------------------------------------------- making


def make_folders(directory: Path, plan: Plan, hosts: Sequence[Host]) -> tuple[Genesis, tuple[Folder, ...]]:
    """Make a genesis, and a folder with a replica's home for each host.

    Args:
        directory: New, or with nothing of this ledger in it.
        plan: Of the ledger. Its addresses and number of replicas are those of the hosts.
        hosts: As :func:`read_hosts` returns them.

    Raises:
        LocalError: There is something already, or the directory cannot be written; the machine cannot be imported.
        Refused: The plan is not that of a valid ledger.
    """
    for path in (directory / GENESIS_NAME, *(directory / host.name for host in hosts)):
        if path.exists() or path.is_symlink():
            raise LocalError(f"{path} is there already; choose another directory for the new ledger")
    secrets = {host.name: SigningKey.generate() for host in hosts if host.key is None}
    places = {
        host.name: Place(secrets[host.name].public if host.key is None else host.key, host.link, host.api)
        for host in hosts
    }
    genesis = make_genesis(plan, [place.key for place in places.values()])
    folders = tuple(
        Folder(host, directory / host.name, genesis.replicas.index(places[host.name].key), places[host.name].key,
               host.name in secrets)
        for host in hosts
    )  # fmt: skip
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in folders:
            config = configure(folder.path, places[folder.host.name], list(places.values()), plan.machine)
            make_home(folder.path, genesis, secrets.get(folder.host.name), config)
            (folder.path / README_NAME).write_text(readme(folder, genesis), encoding="utf-8")
            _keep_private(folder.path)
        (directory / GENESIS_NAME).write_text(to_json(genesis), encoding="utf-8")
    except OSError as error:
        raise LocalError(f"cannot write to {error.filename or directory}: {error.strerror or error}") from error
    return genesis, folders


def _keep_private(folder: Path) -> None:
    """Whatever the umask is, and so that copies are private, too."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)


def readme(folder: Folder, genesis: Genesis) -> str:
    """What whoever opens the folder needs to know, in three lines."""
    host, chain = folder.host, genesis.chain_id.hex()
    key = f"Its file {KEY_NAME} is a secret" if folder.has_secret else f"Add its secret key as the file {KEY_NAME}"
    lines = (
        f"Host {host.name}: replica {folder.number} of {len(genesis.replicas)} of the ledger {genesis.name!r}, "
        f"chain {chain}, public key {folder.key.hex()}.",
        f"Copy this folder to {host.name} once, mode 0700, and delete it where it was made. {key}, mode 0600: two "
        "replicas with one key destroy the ledger.",
        f"Start: layer1 start --home FOLDER. Others reach it at {host.link} for links and at {host.api} for the API, "
        f"its peers are in {CONFIG_NAME}; the guide is docs/hosts.md.",
    )
    return "\n".join(lines) + "\n"

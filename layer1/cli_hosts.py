"""A ledger on several machines, on the command line: the options of ``layer1 init`` for it, and ``layer1 key``.

Source: docs/hosts.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from layer1.cli_faults import tolerance, warning
from layer1.config import KEY_NAME, read_key, write_key
from layer1.console import JsonOption, cells, guarded, print_json
from layer1.crypto import PublicKey, SigningKey
from layer1.devnet import Plan
from layer1.errors import LocalError, Refused
from layer1.hosts import Folder, Host, make_folders, read_hosts
from layer1.ledger.genesis import Genesis

ONE_MACHINE = "127.0.0.1"

HostsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--host",
        metavar="NAME=ADDRESS[:LINKPORT[:APIPORT]]",
        help="A host, which gets a folder and one replica. Repeatable. ADDRESS alone: all replicas are on this "
        "machine, and listen there.",
    ),
]
HostsFileOption = Annotated[
    Path | None,
    typer.Option("--hosts", metavar="FILE", help="Such a line for each host, with its public key behind it if known."),
]
KeysOption = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="NAME=PUBLICKEY", help="Of a host that made its key with `layer1 key`. Repeatable."),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("key", epilog="Example: layer1 key ada.key, on the host ada; then layer1 init ... --key ada=PUBLICKEY")(
        _key
    )


# ----------------------------------------------------------------------------------------------------------------- key


def _key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where it is, or is to be; mode 0600.")],
    *,
    json: JsonOption = False,
) -> None:
    """Make the secret key of a replica on its own host, and show its public key; of one that is there, show it."""
    public, made = guarded(lambda: _key_in(path), json=json)
    if json:
        print_json({"file": str(path), "key": public.hex(), "made": made})
        return
    print(public.hex())
    words = "The secret key is in" if made else "That is the public key of the secret key in"
    print(f"{words} {path}, which never leaves this host; the line above is for everybody.", file=sys.stderr)


def _key_in(path: Path) -> tuple[PublicKey, bool]:
    if path.exists():
        return read_key(path).public, False
    key = SigningKey.generate()
    try:
        write_key(path, key)
    except OSError as error:
        raise LocalError(f"cannot write to {path}: {error.strerror or error}") from error
    return key.public, True


# ---------------------------------------------------------------------------------------------------------------- init


def several_hosts(
    texts: Sequence[str] | None, file: Path | None, keys: Sequence[str] | None, replicas: int | None, base_port: int
) -> tuple[str, tuple[Host, ...]]:
    """Where the replicas of one machine listen, or the hosts if there are several.

    Raises:
        Refused: They are wrong, or not as many as replicas were asked for.
        LocalError: The file cannot be read.
    """
    if file is None and not keys and len(texts or ()) <= 1 and "=" not in "".join(texts or ()):
        return next(iter(texts or ()), ONE_MACHINE), ()
    hosts = read_hosts(texts or (), file, keys or (), base_port)
    if replicas not in {None, len(hosts)}:
        raise Refused(
            "replicas_differ", f"--replicas {replicas}, and there are {len(hosts)} hosts: each gets one; leave it out"
        )
    return ONE_MACHINE, hosts


def init_hosts(directory: Path, plan: Plan, hosts: Sequence[Host], *, json: bool) -> None:
    """Make the folders, and show them and what to do with them."""
    genesis, folders = guarded(lambda: make_folders(directory, plan, hosts), json=json)
    if json:
        print_json(
            {
                "chain_id": genesis.chain_id.hex(),
                "genesis": str(directory / "genesis.json"),
                "homes": [str(folder.path.resolve()) for folder in folders],
                "hosts": [_row(folder) for folder in folders],
            }
        )
        return
    _show(directory, genesis, folders)


def _row(folder: Folder) -> dict[str, str | int | bool]:
    return {
        "name": folder.host.name,
        "replica": folder.number,
        "link": str(folder.host.link),
        "api": str(folder.host.api),
        "key": folder.key.hex(),
        "has_secret": folder.has_secret,
    }


def _show(directory: Path, genesis: Genesis, folders: Sequence[Folder]) -> None:
    said = tolerance(len(folders), genesis.replica_set.faults, genesis.fault_model)
    print(f"A ledger of {said}, is in {directory}: a folder for each host.")
    print(warning(genesis.fault_model), end="")
    print(f"Chain {genesis.chain_id.hex()}.")
    table = Table("host", "replica", "link", "API", "secret key", "public key", box=None, pad_edge=False)
    for folder in folders:
        row = _row(folder)
        secret = f"{folder.path / KEY_NAME}" if folder.has_secret else "on the host"
        table.add_row(*cells((*(row[name] for name in ("name", "replica", "link", "api")), secret, row["key"])))
    Console(width=None if sys.stdout.isatty() else 240).print(table)
    print("Next: copy each folder to its host, once, and delete it here; genesis.json is for everybody.")
    if not all(folder.has_secret for folder in folders):
        print(f"There each operator adds the secret key as the file {KEY_NAME}, mode 0600.")
    print("On each host: layer1 start --home FOLDER. The guide, with firewall, clocks and units: docs/hosts.md.")

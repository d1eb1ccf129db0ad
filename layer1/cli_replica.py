"""The verbs of ``layer1 replica``, which change who runs the ledger, and ``layer1 join``, which makes a new home.

``add``, ``remove`` and ``rotate`` write a proposal file; a quorum of operators and every newcomer ``sign`` it in turn,
each at home; anybody may ``submit`` it then. What is shown and signed is checked against what the ledger proves.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from layer1.cli_evidence import GenesisOption
from layer1.client import LedgerClient, new_change
from layer1.config import load_config, read_genesis, read_key
from layer1.console import (
    DEFAULT_API,
    ApiOption,
    CaOption,
    JsonOption,
    cells,
    find_replicas,
    get_json,
    guarded,
    open_session,
    print_json,
    run_guarded,
)
from layer1.crypto import PublicKey, parse_key
from layer1.errors import Refused
from layer1.ledger.execute import OK
from layer1.ledger.genesis import Genesis
from layer1.ledger.records import Mark
from layer1.ledger.replicas import ReplicaSet, SetChange
from layer1.operating.joining import Known, join, known_replicas, peers_table
from layer1.operating.proposals import (
    DAY_MS,
    Missing,
    Proposal,
    check_proposal,
    describe,
    merge,
    read_proposal,
    request_of,
    sign_proposal,
    write_proposal,
)
from layer1.operating.roster import advice, role, roster

WAIT_S = 60.0
"""How long ``submit`` waits for the new epoch, once the change is final, beyond two heartbeats."""
POLL_S = 0.2
LINGER = (
    "A quorum of the new set has come to its epoch without them. They listen until their operators stop them, which "
    "each may do once its own line in `layer1 status` says so; then delete their keys."
)
"""What becomes of those who left, once the new set made a block."""

replica_app = typer.Typer(no_args_is_help=True, help="See who runs the ledger, and change it while it runs.")
OutOption = Annotated[
    Path, typer.Option("--out", help="A new file: the proposal, to be signed by one after the other.")
]
DaysOption = Annotated[float, typer.Option("--days", min=0.01, max=365, help="How long it may be brought.")]
MachineOption = Annotated[
    str,
    typer.Option(
        metavar="MODULE:ATTRIBUTE", help="Where the code of the ledger's own state machine is, if it has one."
    ),
]
KeysArgument = Annotated[list[str], typer.Argument(metavar="KEY...", help="Public keys, as `layer1 join` shows them.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(replica_app, name="replica")
    app.command(
        "join",
        epilog="Example: layer1 join replica-4 --genesis genesis.json --api http://HOST:7001 --host 10.0.0.5 "
        "--base-port 7000, then layer1 start --home replica-4, and have the key that it shows added",
    )(_join)


# ---------------------------------------------------------------------------------------------------------------- list


@replica_app.command("list", epilog="Example: layer1 replica list --genesis ledger/genesis.json")
def list_replicas(
    genesis: GenesisOption, api: ApiOption = None, *, ca: CaOption = None, json: JsonOption = False
) -> None:
    """Show who is in the replica set and since when, proven, and who listens.

    Addresses, and whether a replica is connected, are the word of the replica that is asked.
    """
    found: dict[str, Any] = run_guarded(_list(genesis, api or [DEFAULT_API], ca), json=json)
    if json:
        print_json(found)
        return
    print(f"Epoch {found['epoch']}: n = {found['n']}, f = {found['f']}, q = {found['q']}.")
    table = Table("number", "position", "in the set", "connected", "address", box=None, pad_edge=False)
    table.add_column("key", overflow="fold")
    for row in found["replicas"]:
        connected = "yes" if row["connected"] else "no"
        table.add_row(*cells((row["number"], row["position"], role(row), connected, row["link"], row["key"])))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    for said in advice(found["replicas"]):
        print(said)


async def _list(genesis: Path, apis: list[str], ca: Path | None) -> dict[str, Any]:
    ledger = await _ask(read_genesis(genesis), apis, ca)
    members = ledger.members
    return {
        "epoch": members.epoch,
        "n": len(members.seats),
        "f": members.faults,
        "q": members.quorum,
        "replicas": roster(ledger.known, ledger.sets, ledger.marks),
    }


# ------------------------------------------------------------------------------------------------------------- propose


@replica_app.command(
    "add",
    epilog="Example: layer1 replica add KEY --genesis ledger/genesis.json --out add.json, then `sign` at each home",
)
def add_replica(
    keys: KeysArgument,
    genesis: GenesisOption,
    out: OutOption,
    api: ApiOption = None,
    *,
    days: DaysOption = 7,
    ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Propose to add replicas. Their homes should run already, and listen."""
    _propose(guarded(lambda: _keys(keys), json=json), (), genesis, out, api, days=days, ca=ca, json=json)


@replica_app.command(
    "remove", epilog="Example: layer1 replica remove 3 --genesis ledger/genesis.json --out remove.json"
)
def remove_replica(
    numbers: Annotated[list[int], typer.Argument(metavar="NUMBER...", help="As `layer1 replica list` shows them.")],
    genesis: GenesisOption,
    out: OutOption,
    api: ApiOption = None,
    *,
    days: DaysOption = 7,
    ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Propose to remove replicas.

    Leave them running until `layer1 status` says of each that its operator may stop it: what the others lack may be on
    its disk.
    """
    _propose((), numbers, genesis, out, api, days=days, ca=ca, json=json)


@replica_app.command(
    "rotate", epilog="Example: layer1 replica rotate 2 KEY --genesis ledger/genesis.json --out rotate.json"
)
def rotate_replica(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Whose key is to be replaced.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The new public key.")],
    genesis: GenesisOption,
    out: OutOption,
    api: ApiOption = None,
    *,
    days: DaysOption = 7,
    ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Propose to replace a key: the old replica leaves and one with the new key, and a new number, comes."""
    _propose(guarded(lambda: _keys([key]), json=json), [number], genesis, out, api, days=days, ca=ca, json=json)


def _keys(texts: Sequence[str]) -> tuple[PublicKey, ...]:
    return tuple(map(parse_key, texts))


def _propose(
    add: Sequence[PublicKey],
    remove: Sequence[int],
    genesis: Path,
    out: Path,
    api: list[str] | None,
    *,
    days: float,
    ca: Path | None,
    json: bool,
) -> None:
    async def work() -> tuple[Proposal, list[str]]:
        ledger = await _ask(read_genesis(genesis), api or [DEFAULT_API], ca)
        change = SetChange(
            ledger.members.epoch, tuple(add), tuple(sorted(set(remove))), ledger.clock_ms + int(days * DAY_MS)
        )
        proposal = Proposal(ledger.genesis.chain_id, change)
        words = ledger.words(proposal)
        write_proposal(out, proposal, new=True)
        return proposal, words

    _, words = run_guarded(work(), json=json)
    if json:
        print_json({"file": str(out), "words": words})
        return
    print(*words, sep="\n")
    print(f"The proposal is in {out}. Next, at each home: layer1 replica sign {out} --home DIR")


# ------------------------------------------------------------------------------------------------------- sign, submit


@replica_app.command("sign", epilog="Example: layer1 replica sign add.json --home ledger/replica-0")
def sign(
    proposal: Annotated[Path, typer.Argument(metavar="PROPOSAL", help="The file; your signature is added to it.")],
    home: Annotated[Path, typer.Option("--home", help="Of the replica that approves, or that is to be added.")],
    api: ApiOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    *,
    ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Show a proposal, checked against the ledger as this home's replica sees it, and sign it with the home's key."""

    async def look() -> tuple[Proposal, ReplicaSet, list[str]]:
        config = load_config(home)
        found = read_proposal(proposal)
        ledger = await _ask(read_genesis(config.genesis), api or [config.url], ca)
        return found, ledger.members, ledger.words(found)

    found, members, words = run_guarded(look(), json=json)
    if not json:
        print(*words, sep="\n")

    def add_signature() -> Proposal:
        key = read_key(load_config(home).key)
        signed = sign_proposal(found, members, key)
        if not (yes or (not json and sys.stdin.isatty() and typer.confirm("Sign it?"))):
            raise Refused("not_confirmed", "nothing was signed: answer yes at a terminal, or give --yes")
        write_proposal(proposal, signed)
        return signed

    signed: Proposal = guarded(add_signature, json=json)
    missing = Missing.of(signed, members)
    if json:
        print_json({"file": str(proposal), "words": words, "missing": missing.words, "complete": not missing})
        return
    print(f"Signed. {missing.words[0].upper()}{missing.words[1:]}.")
    if not missing:
        print(f"Next, anywhere: layer1 replica submit {proposal} --genesis FILE --api URL")


@replica_app.command("submit", epilog="Example: layer1 replica submit add.json --genesis ledger/genesis.json")
def submit(
    proposals: Annotated[
        list[Path], typer.Argument(metavar="PROPOSAL...", help="The file, or copies of it that were signed apart.")
    ],
    genesis: GenesisOption,
    api: ApiOption = None,
    *,
    ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Bring a signed proposal to the ledger, and wait until the new replica set is in office."""
    told: dict[str, Any] = run_guarded(_submit(proposals, genesis, api or [DEFAULT_API], ca), json=json)
    if json:
        print_json(told)
        return
    print(f"Epoch {told['epoch']} has begun with the replicas {', '.join(map(str, told['replicas']))}.")
    if told["added"]:
        print("Each operator: name new replicas in [[peers]] of replica.toml, and send SIGHUP to the replica.")
    if told["removed"]:
        print(f"Removed: {', '.join(map(str, told['removed']))}. {LINGER}")


async def _submit(paths: Sequence[Path], genesis: Path, apis: list[str], ca: Path | None) -> dict[str, Any]:
    proposal = merge([read_proposal(path) for path in paths])
    ledger = await _ask(read_genesis(genesis), apis, ca)
    following = check_proposal(proposal, ledger.members, ledger.genesis.chain_id, ledger.clock_ms)
    request = request_of(proposal, ledger.members)
    async with await _client(ledger.genesis, apis, ca) as client:
        wait_s = WAIT_S + 2 * ledger.genesis.parameters.heartbeat_ms / 1000
        transaction = new_change(ledger.genesis, request, ledger.clock_ms)
        output = await client.submit(transaction)
        if output.code != OK:
            raise Refused(output.code, output.message)
        try:
            async with asyncio.timeout(wait_s):
                while (await client.head()).epoch < following.epoch:  # noqa: ASYNC110 - it is asked again and again
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise Refused(
                "no_new_epoch", f"the change is final, and the ledger makes no block of epoch {following.epoch} in "
                f"{wait_s:g} s: see that {following.quorum} of the replicas {list(following.numbers)} run",
            ) from None  # fmt: skip
    return {
        "epoch": following.epoch,
        "replicas": list(following.numbers),
        "added": [following.number_of(key) for key in proposal.change.add],
        "removed": list(proposal.change.remove),
        "transaction": transaction.id.hex(),
    }


# ---------------------------------------------------------------------------------------------------------------- join


def _join(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New home of the replica.")],
    genesis: GenesisOption,
    api: ApiOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; others reach it there.")] = "127.0.0.1",
    base_port: Annotated[int, typer.Option(min=1, max=65_000, help="For links; the API has the next one.")] = 7_000,
    *,
    machine: MachineOption = "",
    ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Make a home for a replica that is not in the set yet: a new key, and the peers that a running replica names.

    It listens, catches up, and becomes a member once a change that adds its key is final.
    """

    async def work() -> tuple[PublicKey, str]:
        ledger = await _ask(read_genesis(genesis), api or [DEFAULT_API], ca)
        config, key = join(directory, ledger.genesis, ledger.known, host, base_port, machine=machine)
        return key.public, peers_table(key.public, config)

    key, table = run_guarded(work(), json=json)
    if json:
        print_json({"home": str(directory.resolve()), "key": key.hex(), "peers_entry": table})
        return
    print(f"The home is {directory}, its public key {key.hex()}.")
    print(
        "Let one operator or more put this into replica.toml, and send SIGHUP to the replica, so that yours may listen:"
    )
    print(f"\n{table}\nThen: layer1 start --home {directory}")
    print(f"And once it has caught up: layer1 replica add {key.hex()} --genesis FILE --out add.json")


# ----------------------------------------------------------------------------------------------------- asking a ledger


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What is known of a ledger at one block: sets and marks proven, the rest the word of whoever was asked."""

    genesis: Genesis
    sets: Sequence[ReplicaSet]
    """By epoch."""
    clock_ms: int
    marks: Mapping[PublicKey, Mark]
    """Of members of the newest set."""
    known: Sequence[Known]

    @property
    def members(self) -> ReplicaSet:
        """The newest set."""
        return self.sets[-1]

    def words(self, proposal: Proposal) -> list[str]:
        """What a proposal does, once it was checked.

        Raises:
            Refused: As :func:`check_proposal`.
        """
        following = check_proposal(proposal, self.members, self.genesis.chain_id, self.clock_ms)
        up = {known.key for known in self.known if known.connected}
        return list(describe(proposal, self.members, following, up, self.clock_ms))


async def _ask(genesis: Genesis, apis: list[str], ca: Path | None) -> _Ledger:
    """The replica set as it is now."""
    async with await _client(genesis, apis, ca) as client:
        found = await client.marks()
        members = found.value.replica_set
        marks = {key: mark for key, mark in zip(members.keys, found.value.marks, strict=True) if mark is not None}
        sets = client.trust.sets[: members.epoch + 1]
    async with open_session(ca) as http:
        listed = [await get_json(http, f"{api.rstrip('/')}/replicas") for api in apis]
    return _Ledger(genesis, sets, found.header.clock, marks, known_replicas(listed, sets))


async def _client(genesis: Genesis, apis: list[str], ca: Path | None) -> LedgerClient:
    async with open_session(ca) as http:
        return LedgerClient(await find_replicas(http, apis), genesis, ca=ca)

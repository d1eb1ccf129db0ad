"""The verbs of ``layer1 light``: answers that are verified from the genesis on, and what they rest on.

A proof of an attack is shown, stored, and an exit code of its own: 4.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from layer1.api.views import group_view
from layer1.attack import Attack, AttackProof, verify_attack
from layer1.client import LedgerAttacked, LedgerClient, LedgerUnreachable, LightClient
from layer1.codec import decode, encode
from layer1.config import read_genesis
from layer1.console import (
    DEFAULT_API,
    ApiOption,
    CaOption,
    JsonOption,
    find_replicas,
    guarded,
    open_session,
    print_json,
    run_guarded,
    write_out,
)
from layer1.crypto import HASH_BYTES, Hash, format_address, parse_address
from layer1.errors import Refused, RemoteError
from layer1.files import write_durably
from layer1.header import Header
from layer1.ledger.genesis import Currency, Genesis
from layer1.light import Saved
from layer1.light_views import (
    Answer,
    account_text,
    attack_text,
    attack_view,
    ground,
    group_text,
    head_text,
    preimage_text,
    sets_text,
    transaction_text,
)
from layer1.proof import max_age_ms

light_app = typer.Typer(
    no_args_is_help=True,
    help="Ask the ledger, and trust nobody: answers are verified from the genesis on. Exit code 4: it is under attack.",
)
GenesisOption = Annotated[
    Path, typer.Option("--genesis", help="The ledger's genesis.json: the one thing that is trusted.")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="Keep what was seen in this file, and go on from it: one process at a time."),
]
ProofOption = Annotated[
    Path, typer.Option("--proof-file", help="Where the proof of an attack goes, should there be one.")
]
FollowOption = Annotated[bool, typer.Option("--follow", help="Go on, and print the answer again whenever it changes.")]
EXAMPLE = "Example: layer1 light {} --genesis ledger/genesis.json --api http://127.0.0.1:7001"

Question = Callable[[LedgerClient], Awaitable[tuple[Answer, Header]]]
"""What is to be found out: an answer, and the block that it stands in."""


@dataclass(frozen=True, slots=True)
class Asking:
    """The options of all verbs."""

    genesis: Path
    api: list[str] | None
    ca: Path | None
    state: Path | None
    proof_file: Path
    follow: bool
    json: bool


@light_app.command(epilog=EXAMPLE.format("account wedge1..."))
def account(
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    genesis: GenesisOption,
    api: ApiOption = None,
    *,
    ca: CaOption = None,
    state: StateOption = None,
    proof_file: ProofOption = Path("attack.proof"),
    follow: FollowOption = False,
    json: JsonOption = False,
) -> None:
    """Show the balance of an account."""
    key = guarded(lambda: parse_address(address), json=json)

    async def ask(client: LedgerClient) -> tuple[Answer, Header]:
        found = await client.account(key)
        return {"address": format_address(key), "balance": found.value.balance}, found.header

    asking = Asking(genesis, api, ca, state, proof_file, follow, json)
    run_guarded(_show(asking, ask, account_text), json=json)


@light_app.command(epilog=EXAMPLE.format("group ID"))
def group(
    group_id: Annotated[str, typer.Argument(metavar="ID")],
    genesis: GenesisOption,
    api: ApiOption = None,
    *,
    ca: CaOption = None,
    state: StateOption = None,
    proof_file: ProofOption = Path("attack.proof"),
    follow: FollowOption = False,
    json: JsonOption = False,
) -> None:
    """Show a group as the ledger has it, or that there is none."""
    name = guarded(lambda: _hash(group_id), json=json)

    async def ask(client: LedgerClient) -> tuple[Answer, Header]:
        found = await client.group(name)
        shown = None if found.value is None else msgspec.to_builtins(group_view(found.value))
        return {"id": name.hex(), "group": shown}, found.header

    asking = Asking(genesis, api, ca, state, proof_file, follow, json)
    run_guarded(_show(asking, ask, group_text), json=json)


@light_app.command(epilog=EXAMPLE.format("transaction ID"))
def transaction(
    transaction_id: Annotated[str, typer.Argument(metavar="ID")],
    genesis: GenesisOption,
    api: ApiOption = None,
    *,
    ca: CaOption = None,
    state: StateOption = None,
    proof_file: ProofOption = Path("attack.proof"),
    follow: FollowOption = False,
    json: JsonOption = False,
) -> None:
    """Show what became of a transaction. That nobody knows it proves nothing."""
    name = guarded(lambda: _hash(transaction_id), json=json)

    async def ask(client: LedgerClient) -> tuple[Answer, Header]:
        found = await client.output(name)
        if found is None:
            return {"id": name.hex(), "final": False}, await client.head()
        group_id = None if found.value.group_id is None else found.value.group_id.hex()
        shown = {"code": found.value.code, "message": found.value.message, "group": group_id}
        return {"id": name.hex(), "final": True, **shown}, found.header

    asking = Asking(genesis, api, ca, state, proof_file, follow, json)
    run_guarded(_show(asking, ask, transaction_text), json=json)


@light_app.command(epilog=EXAMPLE.format("preimage HASH"))
def preimage(
    hashed: Annotated[str, typer.Argument(metavar="HASH")],
    genesis: GenesisOption,
    api: ApiOption = None,
    *,
    ca: CaOption = None,
    state: StateOption = None,
    proof_file: ProofOption = Path("attack.proof"),
    follow: FollowOption = False,
    json: JsonOption = False,
) -> None:
    """Show the registered preimage of a SHA-256 and since when it is known, or that there is none."""
    name = guarded(lambda: _hash(hashed), json=json)

    async def ask(client: LedgerClient) -> tuple[Answer, Header]:
        found = await client.registration(name)
        known = found.value
        shown = None
        if known is not None:
            shown = {"preimage": known.preimage.hex(), "clock": known.clock_ms, "kept_from": known.kept_from_ms}
        return {"hash": name.hex(), "registered": shown}, found.header

    asking = Asking(genesis, api, ca, state, proof_file, follow, json)
    run_guarded(_show(asking, ask, preimage_text), json=json)


@light_app.command(epilog=EXAMPLE.format("head"))
def head(
    genesis: GenesisOption,
    api: ApiOption = None,
    *,
    ca: CaOption = None,
    state: StateOption = None,
    proof_file: ProofOption = Path("attack.proof"),
    follow: FollowOption = False,
    json: JsonOption = False,
) -> None:
    """Show the newest final block."""

    async def ask(client: LedgerClient) -> tuple[Answer, Header]:
        found = await client.head()
        return {"height": found.height, "id": found.id.hex(), "clock": found.clock}, found

    asking = Asking(genesis, api, ca, state, proof_file, follow, json)
    run_guarded(_show(asking, ask, head_text), json=json)


@light_app.command(epilog=EXAMPLE.format("sets"))
def sets(
    genesis: GenesisOption,
    api: ApiOption = None,
    *,
    ca: CaOption = None,
    state: StateOption = None,
    proof_file: ProofOption = Path("attack.proof"),
    follow: FollowOption = False,
    json: JsonOption = False,
) -> None:
    """Show every replica set from the genesis on, and which replicas of the newest are marked."""

    async def ask(client: LedgerClient) -> tuple[Answer, Header]:
        found = await client.marks()
        marks = zip(found.value.replica_set.numbers, found.value.marks, strict=True)
        marked = [number for number, mark in marks if mark is not None]
        return {"sets": [_set(client, known.epoch) for known in client.trust.sets], "marked": marked}, found.header

    asking = Asking(genesis, api, ca, state, proof_file, follow, json)
    run_guarded(_show(asking, ask, sets_text), json=json)


@light_app.command("check-proof", epilog="Example: layer1 light check-proof attack.proof --genesis ledger/genesis.json")
def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A proof, or what --state or a wallet keeps.")],
    genesis: GenesisOption,
    *,
    json: JsonOption = False,
) -> None:
    """Check a proof that the ledger was attacked, by the genesis alone. Exit code 0: it is one; 1: it is none."""
    found = guarded(lambda: _read_proof(file, read_genesis(genesis)), json=json)
    if json:
        print_json(attack_view(found))
    else:
        write_out(attack_text(found))


# ------------------------------------------------------------------------------------------------------------- asking


async def _show(asking: Asking, ask: Question, text: Callable[[Answer, Currency], str]) -> None:
    genesis = read_genesis(asking.genesis)
    light = LightClient(genesis) if asking.state is None else LightClient.load(genesis, asking.state)
    try:
        async with open_session(asking.ca) as http:
            urls = await find_replicas(http, asking.api or [DEFAULT_API])
        async with (
            LedgerClient(urls, genesis, ca=asking.ca, light=light) as client,
            aclosing(_answers(client, ask, follow=asking.follow)) as answers,
        ):
            async for shown in answers:
                _print(shown, text, genesis, asking)
    except LedgerAttacked as error:
        _tell_of_attack(error.attack, asking)
        raise


async def _answers(client: LedgerClient, ask: Question, *, follow: bool) -> AsyncGenerator[Answer, None]:
    """The answer, and again after each block that changed it."""
    last = await _answer(client, ask)
    yield last
    if not follow:
        return
    async with aclosing(client.events()) as events:
        async for event in events:
            if event.kind != "block":
                continue
            try:
                answer = await _answer(client, ask)
            except LedgerAttacked:
                raise
            except LedgerUnreachable as error:
                print(f"layer1: {error}", file=sys.stderr)
                continue
            if answer["answer"] != last["answer"]:
                last = answer
                yield answer


async def _answer(client: LedgerClient, ask: Question) -> Answer:
    """One answer with all that it rests on."""
    answer, header = await ask(client)
    agree = await client.witnesses(header)
    light = client.light
    return {
        "answer": answer,
        "block": {"height": header.height, "id": header.id.hex(), "clock": header.clock, "wall_time": header.wall_time},
        "head": {
            "height": light.head.height,
            "age_ms": light.age_ms,
            "max_age_ms": max_age_ms(client.genesis.parameters),
            "fresh": light.is_fresh,
        },
        "set": _set(client, header.epoch),
        "agree": agree,
        "asked": len(client.urls),
    }


def _set(client: LedgerClient, epoch: int) -> Answer:
    found = client.trust.set_of(epoch)
    boundary = client.trust.boundary(epoch)
    return {
        "epoch": epoch,
        "replicas": [{"number": seat.number, "key": seat.key.hex()} for seat in found.seats],
        "quorum": found.quorum,
        "faults": found.faults,
        "hash": found.hash.hex(),
        "ended_at": None if boundary is None else boundary.height,
    }


def _hash(text: str) -> Hash:
    try:
        name = bytes.fromhex(text)
    except ValueError:
        name = b""
    if len(name) != HASH_BYTES:
        raise Refused("bad_id", f"an id is {2 * HASH_BYTES} hexadecimal digits, not {text[:80]!r}")
    return name


# ------------------------------------------------------------------------------------------------------------- attacks


def _tell_of_attack(attack: Attack, asking: Asking) -> None:
    """Show it, and keep the proof; what stands there already is left."""
    encoded, path = encode(attack.proof), asking.proof_file
    if not asking.json:
        write_out(attack_text(attack))
    try:
        if path.exists() and path.read_bytes() != encoded:
            print(f"layer1: {path} holds something else and is left; see --proof-file", file=sys.stderr)
            return
        write_durably(path, encoded)
        print(f"layer1: the proof is in {path}; anybody checks it: layer1 light check-proof {path}", file=sys.stderr)
    except OSError as error:
        print(f"layer1: the proof was not written to {path}: {error}", file=sys.stderr)


def _read_proof(file: Path, genesis: Genesis) -> Attack:
    """A proof by itself, or in the file of a light client."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Refused("no_proof", f"{file} cannot be read: {error}") from error
    try:
        proof = decode(data, AttackProof)
    except RemoteError as error:
        try:
            kept = decode(data, Saved).attack
        except RemoteError:
            raise Refused("no_proof", f"{file} is no proof of an attack: {error}") from error
        if kept is None:
            raise Refused("no_proof", f"{file} is of a light client that saw no attack") from None
        proof = kept
    try:
        return verify_attack(genesis, proof)
    except RemoteError as error:
        raise Refused("no_proof", f"{file} proves nothing: {error}") from error


# ------------------------------------------------------------------------------------------------------------ printing


def _print(shown: Answer, text: Callable[[Answer, Currency], str], genesis: Genesis, asking: Asking) -> None:
    if asking.json and asking.follow:
        write_out(msgspec.json.encode(shown).decode() + "\n")
    elif asking.json:
        print_json(shown)
    else:
        write_out(text(shown["answer"], genesis.currency) + "\n" + ground(shown) + "\n")

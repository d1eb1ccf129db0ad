"""The verbs of ``layer1 evidence``: what replicas caught each other at, and bringing it before the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from layer1.client import LedgerClient, new_accusation
from layer1.codec import encode
from layer1.config import read_genesis
from layer1.consensus.certificates import view_of
from layer1.consensus.evidence import Evidence
from layer1.console import (
    DEFAULT_API,
    EXIT_FAILED,
    ApiOption,
    CaOption,
    JsonOption,
    find_replicas,
    open_session,
    print_json,
    run_guarded,
)
from layer1.crypto import PublicKey
from layer1.errors import Refused
from layer1.ledger.execute import OK
from layer1.ledger.records import Mark
from layer1.proof import MarksProof

evidence_app = typer.Typer(no_args_is_help=True, help="See which replicas contradicted themselves, and mark them.")
GenesisOption = Annotated[
    Path, typer.Option("--genesis", help="The ledger's genesis.json: what every answer is verified against.")
]


@evidence_app.command("list", epilog="Example: layer1 evidence list --genesis ledger/genesis.json")
def list_evidence(
    genesis: GenesisOption, api: ApiOption = None, *, ca: CaOption = None, json: JsonOption = False
) -> None:
    """Show proof of contradicting votes that any replica holds. Everything shown is verified."""
    rows = run_guarded(_list(genesis, api or [DEFAULT_API], ca), json=json)
    if json:
        print_json(rows)
    elif not rows:
        print("No replica holds evidence against another one.")
    else:
        table = Table("replica", "epoch", "what it did", "view", "evidence", "marked by", box=None, pad_edge=False)
        for row in rows:
            what = row["kind"].replace("_", " ")
            marked = row["marked"][:12] if row["marked"] else "nobody: it has left" if row["left"] else "nobody yet"
            table.add_row(str(row["replica"]), str(row["epoch"]), what, str(row["view"]), row["id"][:12], marked)
        Console().print(table)


@evidence_app.command("submit", epilog="Example: layer1 evidence submit --genesis ledger/genesis.json --replica 3")
def submit_evidence(
    genesis: GenesisOption,
    replica: Annotated[
        int | None, typer.Option(help="Number of the only one to mark. Otherwise all that are not marked.")
    ] = None,
    api: ApiOption = None,
    *,
    ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Bring evidence as a transaction, which marks the replica for good. Costs nothing; anybody may.

    The ledger marks replicas of its present set, whenever they did it: who has left is passed over.
    """
    rows = run_guarded(_submit(genesis, api or [DEFAULT_API], ca, replica), json=json)
    if json:
        print_json(rows)
    elif not rows:
        print("There is nothing to submit: nobody holds evidence against a replica of the set that is not marked.")
    else:
        for row in rows:
            said = "is marked" if row["code"] == OK else f"is not marked: {row['message']}"
            print(f"Replica {row['replica']} {said} (transaction {row['transaction']})")
    if any(row["code"] != OK for row in rows):
        raise typer.Exit(EXIT_FAILED)


async def _list(genesis: Path, apis: list[str], ca: Path | None) -> list[dict[str, Any]]:
    async with await _client(genesis, apis, ca) as client:
        marks = (await client.marks()).value
        return [
            {
                "replica": _number(client, item),
                "epoch": item.epoch,
                "left": _key(client, item) not in marks.replica_set.keys,
                "kind": item.kind.value,
                "view": view_of(item.first),
                "id": item.id.hex(),
                "encoded": encode(item).hex(),
                "marked": None if (mark := _mark_of(client, item, marks)) is None else mark.transaction_id.hex(),
            }
            for item in await client.evidence()
        ]


def _number(client: LedgerClient, evidence: Evidence) -> int:
    """Of the replica that cast the votes; its own for ever, as its position in a set is not."""
    return client.trust.set_of(evidence.epoch).numbers[evidence.replica]


def _mark_of(client: LedgerClient, evidence: Evidence, marks: MarksProof) -> Mark | None:
    """The mark of who cast the votes; None for none, and for who has left the set."""
    return dict(zip(marks.replica_set.keys, marks.marks, strict=True)).get(_key(client, evidence))


def _key(client: LedgerClient, evidence: Evidence) -> PublicKey:
    """Whose votes they are."""
    return client.trust.set_of(evidence.epoch).keys[evidence.replica]


async def _submit(genesis: Path, apis: list[str], ca: Path | None, replica: int | None) -> list[dict[str, Any]]:
    async with await _client(genesis, apis, ca) as client:
        marks = (await client.marks()).value
        found = {_key(client, item): item for item in await client.evidence()}
        told = []
        for place, seat in enumerate(marks.replica_set.seats):
            item = found.get(seat.key)
            if item is not None and marks.marks[place] is None and replica in {None, seat.number}:
                told.append(await _bring(client, seat.number, item.at(place)))
        return told


async def _bring(client: LedgerClient, number: int, evidence: Evidence) -> dict[str, Any]:
    transaction = new_accusation(client.genesis, evidence, await client.clock())
    try:
        output = await client.submit(transaction)
        code, message = output.code, output.message
    except Refused as refusal:
        code, message = refusal.code, refusal.message
    return {"replica": number, "transaction": transaction.id.hex(), "code": code, "message": message}


async def _client(genesis: Path, apis: list[str], ca: Path | None) -> LedgerClient:
    async with open_session(ca) as http:
        return LedgerClient(await find_replicas(http, apis), read_genesis(genesis), ca=ca)

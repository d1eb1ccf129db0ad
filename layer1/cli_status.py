"""The verb ``layer1 status``: asks every replica, and says in words how the ledger is doing."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer
from rich.console import Console
from rich.table import Table

from layer1.cli_faults import tolerance
from layer1.consensus.quorum import FaultModel, faulty, liars, quorum
from layer1.console import (
    DEFAULT_API,
    EXIT_FAILED,
    EXIT_UNREACHABLE,
    UNTRUSTED,
    ApiOption,
    CaOption,
    JsonOption,
    cells,
    find_replicas,
    get_json,
    listed,
    open_session,
    print_json,
    run_guarded,
)
from layer1.health import Bounds, Health, State, assess


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command(
        "status",
        epilog="Example: layer1 status --api http://127.0.0.1:7001. The other replicas are found through it.",
    )(_status)


def _status(
    api: ApiOption = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 unless the ledger is healthy.")] = False,
    *,
    ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Say how the ledger is doing: well or not, who is missing, whether to act."""
    rows, bounds = run_guarded(_collect(api or [DEFAULT_API], ca), json=json)
    health = assess(rows, bounds)
    if json:
        told = {"state": health.state, "summary": health.summary, "act": health.act, "findings": health.findings}
        told["notes"] = health.notes
        print_json({"health": told, "fault_model": bounds and bounds.fault_model, "replicas": rows})
    else:
        _tell(health, rows)
        if bounds is not None:
            print(f"{tolerance(bounds.replicas, bounds.faults, bounds.fault_model)}.")
    if health.state is State.UNKNOWN:
        raise typer.Exit(EXIT_UNREACHABLE)
    if check and health.state is not State.HEALTHY:
        raise typer.Exit(EXIT_FAILED)


def _tell(health: Health, rows: list[dict[str, Any]]) -> None:
    out = sys.stderr if health.state is State.UNKNOWN else sys.stdout
    print(f"{health.state.upper()}: {health.summary}", file=out)
    for finding in (*health.findings, *health.notes):
        print(f"  - {finding}", file=out)
    print(health.act, file=out)
    if health.state is not State.UNKNOWN:
        print()
        Console(width=None if sys.stdout.isatty() else 200).print(_table(rows))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("replica", "height", "lag", "from", "view", "leader", "peers", box=None, pad_edge=False)
    for name in ("API", "state"):
        table.add_column(name, overflow="fold")
    for row in rows:
        state = "certificate not trusted" if row["untrusted"] else row["error"]
        state = state or ("catching up" if row["catching_up"] else "marked" if row["marked"] else "ok")
        state = state if row["member"] else f"{row['error'] or 'listens'}: not in the replica set"
        peers = f"{row['peers_connected']}/{row['peers']}" if row["error"] is None else "-"
        begins = row["oldest_block"]
        shown = (row["index"], row["height"], row["lag"], begins, row["view"], row["leader"], peers, row["api"], state)
        table.add_row(*cells(shown))
    return table


# ------------------------------------------------------------------------------------------------------------- asking


async def _collect(apis: list[str], ca: Path | None) -> tuple[list[dict[str, Any]], Bounds | None]:
    """One row per replica that is named, or known to one that is; and what the genesis says of all."""
    async with open_session(ca) as http:
        found = await asyncio.gather(*(_row(http, api) for api in await find_replicas(http, apis)))
        rows = [row for row, _ in found]
        known = {index: api for _, others in found for index, api in others.items()}
        members = _members(rows)
        for row in rows:
            named = [index for index, api in known.items() if api == row["api"]]
            row["index"] = row["index"] if row["index"] is not None or not named else named[0]
            row["member"] = row["index"] in members if row["index"] is not None and members else row["member"]
        bounds = await _bounds(http, [row["api"] for row in rows if row["error"] is None], members)
    highest = max((row["height"] for row in rows if row["height"] is not None), default=0)
    lying = 0 if bounds is None else liars(bounds.replicas, _model(bounds.fault_model))
    for row in rows:
        row["marked"] = _is_marked(row, rows, lying)
        row["lag"] = None if row["height"] is None else highest - row["height"]
    return sorted(rows, key=lambda row: (row["index"] is None, row["index"], row["api"])), bounds


async def _row(http: aiohttp.ClientSession, api: str) -> tuple[dict[str, Any], dict[int, str]]:
    """What one replica says of itself, and where it knows the others."""
    found, told = await asyncio.gather(get_json(http, f"{api}/status"), get_json(http, f"{api}/replicas"))
    details, head = _table_in(found, "details"), _table_in(found, "head")
    others = {item["index"]: item for item in listed(told) if _number(item.get("index")) is not None}
    index, wall_time = _number(found.get("replica")), _number(head.get("wall_time"))
    numbers = (
        "view", "leader", "peers_connected", "peers", "vote_from", "disk_free_bytes", "waiting_for_database",
        "oldest_block",
    )  # fmt: skip
    row = {
        "index": index,
        "api": api,
        "height": _number(head.get("height")),
        "head_age_ms": None if wall_time is None else time.time_ns() // 1_000_000 - wall_time,
        **{name: _number(details.get(name)) for name in numbers},
        "epoch": _number(details.get("epoch")),
        "member": details.get("member") is not False,
        "members": [index for index, item in others.items() if item.get("member") is not False],
        "catching_up": details.get("catching_up") is True,
        "disk_low": details.get("disk_low") is True,
        "release": details.get("release"),
        "marks": [index for index, item in others.items() if item.get("marked")],
        "unlinked": {i: str(item.get("problem") or "") for i, item in others.items() if item.get("connected") is False},
        "error": None if head else str(found.get("error") or found.get("detail") or "no status"),
        "untrusted": str(found.get("error")).startswith(UNTRUSTED),
    }
    return row, {i: str(item["api"]).rstrip("/") for i, item in others.items() if item.get("api")}


def _is_marked(row: dict[str, Any], rows: list[dict[str, Any]], lying: int) -> bool:
    """Whether the ledger marked it: it says so itself, or more of the others than may lie."""
    sayers = [other for other in rows if row["index"] in other["marks"]]
    return row in sayers or len(sayers) > lying


def _members(rows: list[dict[str, Any]]) -> tuple[int, ...]:
    """Numbers of the replicas in the newest set that anybody tells of."""
    newest = max((row for row in rows if row["error"] is None), key=lambda row: row["epoch"] or 0, default=None)
    return tuple(sorted(newest["members"])) if newest is not None else ()


async def _bounds(http: aiohttp.ClientSession, apis: list[str], members: tuple[int, ...]) -> Bounds | None:
    for api in apis:
        found = await get_json(http, f"{api}/genesis")
        parameters, replicas = _table_in(found, "parameters"), found.get("replicas")
        heartbeat_ms, timeout_ms = (_number(parameters.get(name)) for name in ("heartbeat_ms", "view_timeout_ms"))
        size = len(members) or (len(replicas) if isinstance(replicas, list) else 0)
        if size and heartbeat_ms is not None and timeout_ms is not None:
            model = _model(found.get("fault_model"))
            return Bounds(size, quorum(size, model), heartbeat_ms, timeout_ms, faulty(size, model), model, members)
    return None


def _model(said: object) -> FaultModel:
    return "omission" if said == "omission" else "byzantine"


def _table_in(found: dict[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int | None:
    """A number, or None for anything else that a broken replica may say."""
    return value if type(value) is int else None

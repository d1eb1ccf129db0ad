"""The verbs of ``layer1 snapshot``: what a replica's newest state is, saved to a file, and loaded into another home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layer1.config import load_config
from layer1.console import JsonOption, guarded, print_json
from layer1.operating.snapshots import load_snapshot, save_snapshot, show_snapshot

snapshot_app = typer.Typer(
    no_args_is_help=True, help="Take the state of a ledger from one replica to another, verified from the genesis."
)
HomeArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A replica's home, made by `layer1 init`.")]


@snapshot_app.command("show", epilog="Example: layer1 snapshot show ledger/replica-0 --json")
def show(
    home: HomeArgument,
    *,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="A saved snapshot to show instead; verified against the genesis in DIR."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show the newest snapshot of a home: its block, who signed it, what it holds. All of it is verified first."""
    _tell(guarded(lambda: show_snapshot(load_config(home), file), json=json), "", json=json)


@snapshot_app.command("save", epilog="Example: layer1 snapshot save ledger/replica-0 ledger.snapshot")
def save(
    home: HomeArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
    *,
    json: JsonOption = False,
) -> None:
    """Save the newest snapshot of a home to a file, verified; also while the replica runs."""
    facts = guarded(lambda: save_snapshot(load_config(home), file), json=json)
    _tell(facts, f"It is saved. Elsewhere: layer1 snapshot load {file.name} DIR", json=json)


@snapshot_app.command("load", epilog="Example: layer1 snapshot load ledger.snapshot ledger/replica-3")
def load(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written by `layer1 snapshot save`, from anybody.")],
    home: HomeArgument,
    *,
    json: JsonOption = False,
) -> None:
    """Let a new or stopped replica go on from a file, verified against its genesis. Its journal stays, with all votes.

    The blocks in its database, which end below the snapshot, are deleted.
    """
    facts = guarded(lambda: load_snapshot(load_config(home), file), json=json)
    _tell(facts, f"It is in place. Start it with: layer1 start --home {home}", json=json)


def _tell(facts: dict[str, Any], done: str, *, json: bool) -> None:
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        print(f"{name.replace('_', ' ')}: {shown}")
    print("Verified: signed by a quorum, the replica sets from the genesis on, and every record under the state root.")
    if done:
        print(done)

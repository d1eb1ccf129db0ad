"""The verbs of `layer1` for a home: ``verify``, ``inspect``, ``reset``, ``export``, ``config``; and ``version``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from layer1.config import CONFIG_NAME, load_config
from layer1.config_format import example
from layer1.console import EXIT_FAILED, JsonOption, guarded, print_json
from layer1.errors import LocalError, Refused
from layer1.handshake import VERSION
from layer1.operating.exporting import Format, What, export
from layer1.operating.inspection import inspect_home
from layer1.operating.resetting import ResetPlan, plan_reset, reset_home
from layer1.operating.verification import Verdict, verify_home
from layer1.release import DATA_FORMAT, RELEASE
from layer1.replica.messages import WIRE_VERSION

HomeArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A replica's home, made by `layer1 init`.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.command(
        "verify", epilog="Example: layer1 verify ledger/replica-0. Exit code 0: all is sound; 1: see the text."
    )(_verify)
    app.command("inspect", epilog="Example: layer1 inspect ledger/replica-0 --json")(_inspect)
    app.command(
        "reset", epilog="Example: layer1 reset ledger/replica-0, then layer1 start --home ledger/replica-0 --rebuild"
    )(_reset)
    app.command("export", epilog="Example: layer1 export ledger/replica-0 transactions --format csv --output t.csv")(
        _export
    )
    app.command(
        "config",
        epilog="Example: layer1 config > replica.toml for the documented example, layer1 config DIR to check one",
    )(_config)
    app.command("version", epilog="Example: layer1 version --json")(_version)


# -------------------------------------------------------------------------------------------------------------- verify


def _verify(home: HomeArgument, *, json: JsonOption = False) -> None:
    """Check a stopped replica's data from genesis to head: journal, blocks, certificates, state, checkpoint."""

    def work() -> Verdict:
        with _bar(json) as progress:
            return verify_home(load_config(home), progress)

    verdict: Verdict = guarded(work, json=json)
    if json:
        print_json({"sound": verdict.sound, **_fields(verdict)})
    else:
        _tell(verdict, home)
    if not verdict.sound:
        raise typer.Exit(EXIT_FAILED)


def _fields(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in Verdict.__dataclass_fields__}


def _tell(verdict: Verdict, home: Path) -> None:
    for note in verdict.notes:
        print(f"note: {note}")
    for number, finding in enumerate(verdict.findings, 1):
        print(f"DAMAGE {number}: {finding.where}\n  what: {finding.what}\n  remedy: {finding.remedy}")
    count, records = len(verdict.findings), sum(verdict.records.values())
    compared = f"{verdict.compared_blocks} stored blocks from {verdict.first_block} on compared with their headers, "
    checked = (
        f"the replica in {home}: {compared if verdict.compared_blocks else ''}{verdict.stored_blocks} stored blocks "
        f"with {verdict.transactions} transactions executed anew, {records} journal records, checkpoint of block "
        f"{verdict.checkpoint_height or 0}, head {verdict.height}"
    )
    begins = "" if verdict.first_block == 1 else f" as far as blocks are kept, from {verdict.first_block} on"
    print(f"{f'SOUND{begins}' if verdict.sound else f'DAMAGED in {count} place' + 's' * (count > 1)}: {checked}")


@contextmanager
def _bar(json: bool) -> Iterator[Any]:
    """A progress bar on standard error, where somebody looks at it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=json or not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield progress


# ------------------------------------------------------------------------------------------------------------- inspect


def _inspect(home: HomeArgument, *, json: JsonOption = False) -> None:
    """Show what a replica's home holds; also while the replica runs."""
    facts = guarded(lambda: inspect_home(load_config(home)), json=json)
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            print(f"{name}")
            for key, item in value.items():
                print(f"  {key.replace('_', ' ')}: {_shown(item)}")
        else:
            print(f"{name}: {value}")


def _shown(item: object) -> str:
    if item is None or item == []:
        return "none"
    return ", ".join(map(str, item)) if isinstance(item, list) else str(item)


# --------------------------------------------------------------------------------------------------------------- reset


def _reset(
    home: HomeArgument,
    journal: Annotated[
        bool, typer.Option("--journal", help="Delete the journal, too: then the replica must start with --rejoin.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    *,
    json: JsonOption = False,
) -> None:
    """Delete what a stopped replica can have again: database and checkpoint. Key and configuration always stay."""
    config = guarded(lambda: load_config(home), json=json)
    plan: ResetPlan = guarded(lambda: plan_reset(config, journal=journal), json=json)
    deleted = [str(path) for path in (*plan.deleted, *([plan.journal] if plan.journal else []))]
    if not json:
        _explain(plan, deleted)
    if not yes and (json or not _agreed()):
        guarded(_not_agreed, json=json)
    guarded(lambda: reset_home(config, plan), json=json)
    if json:
        print_json({"deleted": deleted, "kept": list(plan.kept), "start": plan.start, "warning": plan.warning})
    else:
        print(f"Done. Start it with: {plan.start}")


def _explain(plan: ResetPlan, deleted: list[str]) -> None:
    print("To be deleted:", *(deleted or ["nothing"]), sep="\n  ")
    print("Kept:", *plan.kept, sep="\n  ")
    print(plan.warning)
    print(f"Afterwards: {plan.start}")


def _agreed() -> bool:
    return sys.stdin.isatty() and typer.confirm("Delete it?")


def _not_agreed() -> None:
    raise Refused("not_confirmed", "nothing was deleted: answer yes at a terminal, or give --yes")


# -------------------------------------------------------------------------------------------------------------- config


def _config(
    home: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="A replica's home to check.")] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Print the documented example of `replica.toml`; or check the one in a home, as a start does."""
    if home is None:
        text = example()
        print_json({"example": text}) if json else print(text, end="")
        return
    config = guarded(lambda: load_config(home), json=json)
    told = {"file": str(config.home / CONFIG_NAME), "peers": len(config.peers)}
    print_json(told) if json else print(f"{told['file']} is sound: {told['peers']} peers")


# ------------------------------------------------------------------------------------------------------------- version


def _version(*, json: JsonOption = False) -> None:
    """Show which release this is, and which versions of links and data it speaks and reads."""
    told = {
        "release": RELEASE,
        "wire_version": WIRE_VERSION,
        "link_version": VERSION,
        "data_format": DATA_FORMAT,
        "python": platform.python_version(),
    }
    if json:
        print_json(told)
        return
    for name, value in told.items():
        print(f"{name.replace('_', ' ')}: {value}")
    print(
        "Replicas of equal wire and link versions understand each other; data of this format or an older one is read."
    )


# -------------------------------------------------------------------------------------------------------------- export


def _export(
    home: HomeArgument,
    what: Annotated[What, typer.Argument(help="What to export.", show_default=False)],
    *,
    form: Annotated[Format, typer.Option("--format", help="One JSON object per line, or CSV.")] = Format.JSONL,
    output: Annotated[Path | None, typer.Option("--output", help="A new file; standard output without it.")] = None,
    first: Annotated[int, typer.Option("--from", min=1, help="First block.")] = 1,
    last: Annotated[int | None, typer.Option("--to", min=1, help="Last block; all without it.")] = None,
    json: JsonOption = False,
) -> None:
    """Write blocks, transactions or accounts as JSON lines or CSV; also while the replica runs."""

    def work() -> int:
        config = load_config(home)
        with _opened(output) as out:
            return export(config, what, form, out, first=first, last=last, tell=_note)

    count = guarded(work, json=json)
    if json and output is not None:
        print_json({"lines": count, "file": str(output)})
    elif output is not None:
        print(f"{count} lines are in {output}")


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """A new file, or standard output for as long as somebody reads it."""
    if output is not None:
        with _new_file(output) as out:
            yield out
        return
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails again when it ends
        raise typer.Exit(EXIT_FAILED) from None


def _new_file(output: Path) -> TextIO:
    try:
        return output.open("x", encoding="utf-8", newline="")
    except OSError as error:
        raise LocalError(f"cannot write to {output}: {error.strerror}; name a file that is not there yet") from error

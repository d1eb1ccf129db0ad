"""What the command prints and how it ends: views and errors, for people or as JSON, and progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from layer1.console import write_out
from layer1.errors import Refused
from layer1.ledger.genesis import Currency
from wallet.exits import as_refusal, exit_of
from wallet.render import Shown, render
from wallet.requests import Progress, Report, View, no_report
from wallet.texts import folded, plain, plain_lines

PIPE_COLUMNS = 300
"""A pipe has no width: addresses stay whole there, for whoever cuts them out."""


@dataclass(slots=True)
class Output:
    """Where a command speaks."""

    json: bool = False

    def show(self, view: Shown, currency: Currency | None) -> None:
        """Print an answer."""
        if self.json:
            self.line(view)
        else:
            cut = sys.stdout.isatty() or "COLUMNS" in os.environ
            console = Console(width=None if cut else PIPE_COLUMNS)
            with console.capture() as captured:
                render(console, view, currency)
            write_out("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def say(self, text: str) -> None:
        """A sentence for people; with ``--json`` nothing."""
        if not self.json:
            console = Console(soft_wrap=True, highlight=False)
            console.print(folded(text, _columns(console)), markup=False)

    def line(self, value: View | dict[str, object]) -> None:
        """One line of JSON."""
        write_out(msgspec.json.encode(value).decode() + "\n")

    def fail(self, error: BaseException) -> NoReturn:
        """Say what happened and what to do, and end with the exit code that goes with it."""
        refusal = as_refusal(error)
        if refusal.code == "internal_error" and os.environ.get("WALLET_DEBUG"):
            raise error
        self.complain(refusal)
        raise typer.Exit(exit_of(refusal.code)) from None

    def complain(self, refusal: Refused) -> None:
        """Print an error: JSON to stdout, a sentence to stderr."""
        if self.json:
            self.line({"error": {"code": refusal.code, "message": refusal.message}})
        else:
            console = Console(stderr=True, soft_wrap=True, highlight=False)
            console.print(folded(f"wallet: {plain_lines(refusal.message)}", _columns(console)), markup=False)

    @contextmanager
    def progress(self) -> Iterator[Report]:
        """Shows on stderr what is being waited for, where there is somebody to see it."""
        console = Console(stderr=True)
        if self.json or not console.is_terminal:
            yield no_report
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bar(*columns, console=console, transient=True) as bar:
            yield _reporter(bar)


def _columns(console: Console) -> int:
    """Where sentences are broken; in a pipe nowhere, so that whoever reads it finds whole lines."""
    return console.width if console.is_terminal or "COLUMNS" in os.environ else sys.maxsize


def _reporter(bar: Bar) -> Report:
    task: TaskID | None = None

    def report(progress: Progress) -> None:
        nonlocal task
        if progress.lasting:
            bar.console.print(plain(progress.text), highlight=False, markup=False, soft_wrap=True)
            return
        if task is None:
            task = bar.add_task(progress.text, total=None)
        bar.update(task, description=progress.text, completed=progress.done, total=progress.total or None)

    return report

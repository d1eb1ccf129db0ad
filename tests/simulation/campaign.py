"""Many seeds on all cores, and a report of those that fail."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.simulation.result import Result
from tests.simulation.scenario import run

CHUNK = 10
"""Seeds that one process takes at a time."""


Run = Callable[[int], Result]
"""A kind of runs: by its number, what came of one. It must survive pickling."""


def replay_command(seed: int, kind: str = "") -> str:
    """What shows a run again; `kind` is an option of the command line with its value, or nothing."""
    return " ".join(filter(None, ("python -m tests.simulation", kind, f"--seed {seed}")))


@dataclass
class Tally:
    """What many runs came to."""

    runs: int = 0
    failures: list[Result] = field(default_factory=list)
    stats: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    kind: str = ""
    """As `replay_command` takes it."""

    def add(self, result: Result) -> None:
        """One more."""
        self.runs += 1
        self.stats.update(result.stats)
        self.stats["blocks"] += result.height
        self.stats["steps"] += result.steps
        self.stats["longest recovery, ms"] = max(self.stats["longest recovery, ms"], result.healed_ms)
        if result.error:
            self.failures.append(result)

    @property
    def seeds_per_minute(self) -> float:
        """Of wall time."""
        return 60 * self.runs / self.seconds if self.seconds else 0.0


def campaign(
    seeds: Iterable[int],
    console: Console,
    *,
    total: int | None,
    processes: int | None = None,
    kind: str = "",
    run_one: Run = run,
) -> Tally:
    """Run all these seeds of a kind; failures are printed as they are found. Ctrl-C ends it early."""
    tally, started = Tally(kind=kind), perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[rate]:.0f} seeds/min"))
    with Progress(*columns, *times, console=console) as progress:
        task = progress.add_task("simulating", total=total, rate=0.0)
        try:
            for result in _results(iter(seeds), processes or os.cpu_count() or 1, run_one):
                tally.add(result)
                tally.seconds = perf_counter() - started
                progress.update(task, advance=1, rate=tally.seeds_per_minute)
                if result.error:
                    _print_failure(console, result, kind)
        except KeyboardInterrupt:
            console.print("interrupted", style="dim")
    return tally


def print_tally(tally: Tally, console: Console) -> None:
    """The summary of a campaign."""
    counts = ", ".join(f"{count:,} {what}" for what, count in sorted(tally.stats.items()) if not what.endswith(", ms"))
    console.print(
        f"{tally.runs:,} seeds in {tally.seconds:.0f} s, {tally.seeds_per_minute:.0f} per minute; longest recovery "
        f"{tally.stats['longest recovery, ms']} ms",
        highlight=False,
    )
    console.print(counts, style="dim", highlight=False)
    console.print(f"{len(tally.failures)} violations", style="red" if tally.failures else "green", highlight=False)
    for result in tally.failures:
        console.print(f"  {replay_command(result.seed, tally.kind)}", highlight=False, markup=False)


def _print_failure(console: Console, result: Result, kind: str) -> None:
    console.print(f"{result.options}", style="red", highlight=False, markup=False)
    console.print(f"  {result.error[:1_000]}", highlight=False, markup=False)
    console.print(f"  {replay_command(result.seed, kind)}", highlight=False, markup=False)


def _results(seeds: Iterator[int], processes: int, run_one: Run) -> Iterator[Result]:
    """Results as they come, a few chunks ahead of the reader."""
    with ProcessPoolExecutor(processes, initializer=_prepare) as pool:
        waiting: set[Future[list[Result]]] = set()
        try:
            while True:
                while len(waiting) < 2 * processes and (chunk := list(islice(seeds, CHUNK))):
                    waiting.add(pool.submit(partial(_run_all, run_one), chunk))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare() -> None:
    gc.freeze()
    gc.disable()


def _run_all(run_one: Run, seeds: list[int]) -> list[Result]:
    results = [run_one(seed) for seed in seeds]
    gc.collect()
    return results

"""``python -m tests.simulation``: replay one seed with a readable trace, or run many and report those that fail."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from itertools import count

from rich.console import Console

from tests.simulation.campaign import campaign, print_tally
from tests.simulation.scenario import run


def _seeds(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="replay this run and print its trace")
    what.add_argument("--seeds", type=_seeds, metavar="A..B", help="run all seeds from A to B")
    what.add_argument("--soak", action="store_true", help="run fresh seeds until Ctrl-C")
    parser.add_argument("--quiet", action="store_true", help="with --seed: without the trace")
    parser.add_argument("--processes", type=int, default=None, help="instead of one per core")
    return parser


def _replay(seed: int, *, quiet: bool) -> int:
    result = run(seed, keep_trace=not quiet)
    for line in result.trace:
        print(line)
    print(result.options)
    print(f"height {result.height}, {result.steps} steps, recovered in {result.healed_ms} ms: {result.stats}")
    print(f"trace hash {result.trace_hash}")
    print(f"VIOLATION: {result.error}" if result.error else "no violation")
    return 1 if result.error else 0


def main(arguments: list[str] | None = None) -> int:
    """0 if nothing was violated, else 1."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _replay(options.seed, quiet=options.quiet)
    console = Console(stderr=True)
    seeds: Iterable[int] = options.seeds
    total: int | None = None
    if options.soak:
        first = int.from_bytes(os.urandom(5), "big")
        console.print(f"fresh seeds from {first} on; Ctrl-C ends it", highlight=False)
        seeds = count(first)
    else:
        total = len(options.seeds)
    tally = campaign(seeds, console, total=total, processes=options.processes)
    print_tally(tally, console)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.simulation``: replay one seed with a readable trace, or run many and report those that fail.

A seed stands for a ledger by itself, or for wallets over a ledger; ``--kind`` chooses one of them for all seeds.
With ``--groups`` it stands for a story of one group (`tests.simulation.stories`): its members, witnesses, watchtowers
and standbys, and an adversary; with ``--networks`` for one of channels between pairs (`tests.simulation.networks`):
conditional payments, who forwards them, and who attacks them.
With ``--twins`` the seeds are numbers of Twins scenarios (`tests.simulation.twins`): all small ones, or random ones.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from itertools import count

from rich.console import Console

from tests.simulation.campaign import Run, campaign, print_tally
from tests.simulation.kinds import KINDS, RunKind
from tests.simulation.networks.network import run_network
from tests.simulation.stories.story import run_story
from tests.simulation.twins import scenario as twins


def _seeds(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--kind", choices=tuple(KINDS), default="all", help="of runs; by default the seed chooses")
    kind.add_argument("--groups", action="store_true", help="stories of groups, over the ledger's state machine")
    kind.add_argument("--networks", action="store_true", help="stories of channels with conditional payments")
    kind.add_argument("--twins", choices=sorted(twins.KINDS), help="Twins scenarios instead of whole replicas")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--seed", type=int, help="replay this run and print its trace")
    what.add_argument("--seeds", type=_seeds, metavar="A..B", help="run all seeds from A to B")
    what.add_argument("--count", type=int, metavar="N", help="run the first N seeds")
    what.add_argument("--soak", action="store_true", help="run fresh seeds until Ctrl-C")
    parser.add_argument("--quiet", action="store_true", help="with --seed: without the trace")
    parser.add_argument("--processes", type=int, default=None, help="instead of one per core")
    return parser


def _replay(run_one: RunKind, seed: int, *, quiet: bool) -> int:
    result = run_one(seed, keep_trace=not quiet)
    for line in result.trace:
        print(line)
    print(result.options)
    print(f"height {result.height}, {result.steps} steps, recovered in {result.healed_ms} ms: {result.stats}")
    print(f"trace hash {result.trace_hash}")
    print(f"VIOLATION: {result.error}" if result.error else "no violation")
    return 1 if result.error else 0


def _replay_twins(kind: str, seed: int, *, quiet: bool) -> int:
    result = twins.simulate(twins.KINDS[kind](seed), keep_trace=not quiet)
    for line in result.trace:
        print(line)
    print(result.options)
    print(f"height {result.height}, {result.steps} steps, recovered in {result.healed_ms} ms: {result.stats}")
    print(f"VIOLATION: {result.error}" if result.error else "no violation")
    return 1 if result.error else 0


def _chosen(options: argparse.Namespace, parser: argparse.ArgumentParser) -> range:
    if options.seeds is not None:
        return range(options.seeds.start, options.seeds.stop)
    if options.count is not None:
        return range(options.count)
    if options.twins != "exhaustive":
        parser.error("one of --seed, --seeds, --count and --soak is needed")
    return range(twins.small_count())


def main(arguments: list[str] | None = None) -> int:
    """0 if nothing was violated, else 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.seed is not None:
        if options.twins:
            return _replay_twins(options.twins, options.seed, quiet=options.quiet)
        return _replay(_kind(options)[1], options.seed, quiet=options.quiet)  # type: ignore[arg-type]  # no Twins
    kind, run_one = _kind(options)
    if options.twins == "exhaustive" and (options.soak or _chosen(options, parser).stop > twins.small_count()):
        parser.error(f"there are {twins.small_count()} small scenarios, 0..{twins.small_count() - 1}")
    console = Console(stderr=True)
    seeds: Iterable[int]
    total: int | None = None
    if options.soak:
        first = int.from_bytes(os.urandom(5), "big")
        console.print(f"fresh seeds from {first} on; Ctrl-C ends it", highlight=False)
        seeds = count(first)
    else:
        seeds = _chosen(options, parser)
        total = len(seeds)
    if options.twins == "exhaustive":
        console.print(twins.small_in_words(), highlight=False)
    tally = campaign(seeds, console, total=total, processes=options.processes, kind=kind, run_one=run_one)
    print_tally(tally, console)
    return 1 if tally.failures else 0


def _kind(options: argparse.Namespace) -> tuple[str, Run]:
    """The option that chooses a kind of runs, and the kind."""
    if options.groups:
        return "--groups", run_story
    if options.networks:
        return "--networks", run_network
    if options.twins is None:
        return (f"--kind {options.kind}" if options.kind != "all" else ""), KINDS[options.kind]
    runs: dict[str, Run] = {"exhaustive": twins.run_small, "random": twins.run_random}
    return f"--twins {options.twins}", runs[options.twins]


if __name__ == "__main__":
    sys.exit(main())

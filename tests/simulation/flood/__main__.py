"""``python -m tests.simulation.flood``: 10,000 groups are wedged with stale states at once; who answers in time?

Four floods: processors are what is scarce, or room in blocks; one replica floods the lane of disputes itself, or leaves
all reports out while it leads. ``--scale 50`` keeps the pressure with a 50th of everything, in seconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from layer1.ledger.genesis import Parameters
from tests.simulation.flood.machine import EXECUTE_US
from tests.simulation.flood.scenario import Flood, Options, Outcome, genesis_of
from tests.simulation.replica import VERIFY_US
from wallet.period import lane_ms, least_safe_ms

POLL_MS = 500
"""How soon the watchers here look again: they are served."""


def _floods(arguments: argparse.Namespace) -> list[Options]:
    common = {"scale": arguments.scale, "period_ms": arguments.period * 1_000, "seed": arguments.seed}
    floods = {
        "processors": Options(groups=arguments.groups, **common),
        "blocks": Options(groups=arguments.groups, scarce="blocks", **common),
        "flooder": Options(groups=arguments.groups, byzantine="flooder", **common),
        "censor": Options(groups=min(arguments.groups, 2_000), scarce="blocks", byzantine="censor", **common),
    }
    return [floods[name] for name in arguments.only or floods]


def _row(outcome: Outcome) -> tuple[str, ...]:
    options, groups = outcome.options, outcome.groups
    waits_s = sorted((group.reported_us - group.wedged_us) / 1e6 for group in groups if group.reported_ms is not None)
    disputes = 2 * len(waits_s) * options.scale
    scale = options.scale
    return (
        f"{options.groups:,} groups; scarce: {options.scarce}{f'; a {options.byzantine}' * bool(options.byzantine)}",
        f"{outcome.transfers_before * scale:,.0f} → {outcome.transfers_in * scale:,.0f}",
        f"{disputes / (outcome.lane_us / 1e6):,.0f}" if outcome.lane_us else "none",
        f"{statistics.median(waits_s):.1f}, {waits_s[-1]:.1f} s" if waits_s else "none",
        f"{outcome.left_ms / 1e3:.1f} s" if outcome.left_ms >= 0 else "none",
        f"{outcome.refused * scale:,}",
        f"{len(outcome.late) * scale:,}",
        f"{lane_ms(genesis_of(replace(options, scale=1)), options.groups) / 1e3:,.0f} s",
    )


def main(arguments: list[str] | None = None) -> int:
    """0 if every report was final before its deadline, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.flood", description=__doc__)
    parser.add_argument("--scale", type=int, default=1, help="divide everything by this (1)")
    parser.add_argument("--groups", type=int, default=10_000, help="before the scale (10,000)")
    parser.add_argument("--period", type=int, default=15, help="challenge period, seconds (15)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=("processors", "blocks", "flooder", "censor"))
    options = parser.parse_args(arguments)
    console, outcomes = Console(width=140), []
    for flood in _floods(options):
        began = time.perf_counter()
        outcomes.append(Flood(flood).run())
        console.print(f"{flood}: {time.perf_counter() - began:.0f} s of real time", style="dim", highlight=False)
    table = Table(
        "flood", "transfers/s, before → in it", "disputes/s", "wedge to report: median, slowest", "least left",
        "came again", "late", "the lane's bound",
    )  # fmt: skip
    for outcome in outcomes:
        table.add_row(*_row(outcome))
    console.print(table)
    console.print(
        f"4 replicas, each on one processor: {VERIFY_US} us for a signature, {EXECUTE_US} us for a transaction "
        f"besides. Every pool is full of transfers all the time; {options.period} s to answer.\n"
        f"Rule 18 asks for at least {least_safe_ms(genesis_of(Options()), POLL_MS, options.groups) / 1e3:.0f} s on a "
        f"ledger with default parameters (a heartbeat of {Parameters().heartbeat_ms // 1000} s), with all this, for "
        f"{options.groups:,} groups.",
        highlight=False,
    )
    for outcome in outcomes:
        if outcome.error:
            console.print(f"VIOLATION in {outcome.options}: {outcome.error}")
    return 1 if any(outcome.error or outcome.late for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
